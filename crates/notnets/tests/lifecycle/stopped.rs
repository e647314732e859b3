//! A peer that hangs: stopped by `SIGSTOP`, it holds everything and does nothing.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::Poll;
use std::time::{Duration, Instant};

use bytes::Bytes;
use rustix::process::Signal;
use tempfile::tempdir;
use tonic::{Code, Request};

use crate::support::client::{Client, endpoint};
use crate::support::helper::Helper;
use crate::support::{counters, eventually, within};

const INTERVAL: Duration = Duration::from_millis(1000);
const TIMEOUT: Duration = Duration::from_millis(150);
/// What a busy machine may add.
const SLACK: Duration = Duration::from_millis(600);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keepalive_ends_a_stopped_servers_calls() {
    let directory = tempdir().unwrap();
    let mut server = Helper::server(directory.path(), "");
    let endpoint = endpoint(directory.path()).keep_alive_interval(INTERVAL).keep_alive_timeout(TIMEOUT);
    let client = Client::new(endpoint.connect().await.unwrap());
    let (unary, stream) = (client.clone(), client.clone());
    let unary = tokio::spawn(async move { unary.text("hang", "").await.unwrap_err() });
    server.expect("hang began");
    let stream = tokio::spawn(async move {
        let mut produced = stream.stream("produce", "1000").await.unwrap();
        loop {
            if let Err(status) = produced.message().await {
                break status;
            }
        }
    });
    server.expect("produce began");
    // Answered pings end nothing.
    tokio::time::sleep(2 * (INTERVAL + TIMEOUT)).await;
    assert!(!unary.is_finished() && !stream.is_finished());

    let stopped = Instant::now();
    server.suspend();
    for call in [unary, stream] {
        let status = within(call).await.unwrap();
        assert_eq!(status.code(), Code::Unavailable, "{status:?}");
        assert!(status.message().contains("does not answer (keepalive)"), "{status:?}");
    }
    let took = stopped.elapsed();
    println!(
        "calls ended {took:?} after the stop, with an interval of {INTERVAL:?} and a timeout of {TIMEOUT:?}"
    );
    assert!(took >= TIMEOUT && took < INTERVAL + TIMEOUT + SLACK, "{took:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn deadlines_hold_while_the_server_is_stopped() {
    let directory = tempdir().unwrap();
    let mut server = Helper::server(directory.path(), "");
    let client = Client::connect(directory.path()).await;
    server.suspend();
    // More calls than the ring has slots, so that some can't even be sent.
    let deadline = Duration::from_millis(300);
    let began = Instant::now();
    let calls: Vec<_> = (0..1000)
        .map(|_| {
            let client = client.clone();
            tokio::spawn(async move {
                let mut request = Request::new(Bytes::new());
                request.set_timeout(deadline);
                client.unary("hang", request).await.unwrap_err()
            })
        })
        .collect();
    for call in calls {
        let status = within(call).await.unwrap();
        assert_eq!(status.code(), Code::DeadlineExceeded, "{status:?}");
    }
    let took = began.elapsed();
    println!("1000 calls with a deadline of {deadline:?} ended within {took:?}");
    assert!(took >= deadline && took < deadline + SLACK, "{took:?}");

    // Once it goes on, it starts nothing that nobody waits for, and the link works as before.
    server.signal(Signal::CONT);
    assert_eq!(within(client.text("echo", "again")).await.unwrap(), "again");
    server.stop();
    server.expect("stopping");
    server.expect("stopped");
}

#[tokio::test]
async fn calls_cancelled_while_the_server_is_stopped_are_not_started() {
    let directory = tempdir().unwrap();
    let mut server = Helper::server(directory.path(), "");
    let client = Client::connect(directory.path()).await;
    assert_eq!(within(client.text("echo", "x")).await.unwrap(), "x");
    server.suspend();
    {
        let mut calls: Vec<_> = (0..50).map(|_| Box::pin(client.text("hang", ""))).collect();
        for call in &mut calls {
            assert!(poll_once(call.as_mut()).await.is_pending());
        }
    }
    server.signal(Signal::CONT);
    assert_eq!(within(client.text("echo", "again")).await.unwrap(), "again");
    server.stop();
    server.expect("stopping");
    server.expect("stopped");
}

async fn poll_once<F: Future>(mut future: Pin<&mut F>) -> Poll<F::Output> {
    poll_fn(|cx| Poll::Ready(future.as_mut().poll(cx))).await
}

/// A server and a client that was stopped while it was being streamed to.
async fn stopped_client(options: &str) -> (tempfile::TempDir, Helper, Helper) {
    let directory = tempdir().unwrap();
    let mut server = Helper::server(directory.path(), options);
    let mut stopped = Helper::client(directory.path(), "");
    stopped.tell("&drain 100000");
    server.expect("produce began");
    stopped.expect("drains");
    stopped.suspend();
    (directory, server, stopped)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stopped_client_is_no_concern_of_others() {
    let (directory, mut server, mut stopped) = stopped_client("").await;
    let client = Client::connect(directory.path()).await;
    let mut produced = within(client.stream("produce", "100000")).await.unwrap();
    server.expect("produce began");
    for _ in 0..200 {
        assert_eq!(within(client.text("echo", "x")).await.unwrap(), "x");
        assert_eq!(within(produced.message()).await.unwrap().unwrap().len(), 100_000);
    }
    assert_eq!(counters(directory.path()).links_open, 2, "without keepalive its link stays");
    stopped.signal(Signal::CONT);
    stopped.tell("echo on");
    stopped.expect("on");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_servers_keepalive_ends_a_stopped_clients_link() {
    let options = format!("keepalive={} keepalive_timeout={}", INTERVAL.as_millis(), TIMEOUT.as_millis());
    let (directory, mut server, mut stopped) = stopped_client(&options).await;
    let client = Client::connect(directory.path()).await;
    let began = Instant::now();
    server.expect("produce is gone");
    println!("the handler was dropped {:?} after the stop", began.elapsed());
    assert!(began.elapsed() < INTERVAL + TIMEOUT + SLACK, "{:?}", began.elapsed());
    eventually("only the other client's link is left", || counters(directory.path()).links_open == 1);
    assert_eq!(within(client.text("echo", "x")).await.unwrap(), "x");

    stopped.signal(Signal::CONT);
    let told = stopped.answer();
    assert!(told.starts_with("Unavailable: "), "{told}");
    stopped.tell("echo anew");
    stopped.expect("anew");
}
