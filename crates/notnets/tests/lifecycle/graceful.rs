//! Servers that stop and start while clients hold channels.

use std::path::Path;
use std::time::{Duration, Instant};

use bytes::Bytes;
use notnets_core::link::rendezvous::Directory;
use rustix::process::Signal;
use tempfile::tempdir;
use tonic::Code;

use crate::support::client::{Client, endpoint, open_call};
use crate::support::helper::Helper;
use crate::support::{is_retry_safe, within};

fn is_gone(directory: &Path) -> bool {
    directory.read_dir().unwrap().next().is_none()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_in_flight_end_and_new_ones_are_refused() {
    let directory = tempdir().unwrap();
    let mut server = Helper::server(directory.path(), "");
    let client = Client::connect(directory.path()).await;
    let (sender, call) = open_call(&client, &mut server).await;

    server.stop();
    server.expect("stopping");
    let refused = within(async {
        loop {
            // Until the name is given up, which comes right after.
            match client.text("echo", "x").await {
                Err(status) => break status,
                Ok(_) => tokio::time::sleep(Duration::from_millis(1)).await,
            }
        }
    });
    let refused = refused.await;
    assert_eq!(refused.code(), Code::Unavailable, "{refused:?}");
    assert!(is_retry_safe(&refused), "{refused:?}");
    let refused = within(client.text("echo", "x")).await.unwrap_err();
    assert!(refused.message().contains("nobody serves the name `lives`"), "{refused:?}");
    assert!(is_retry_safe(&refused), "{refused:?}");
    assert!(is_gone(directory.path()), "the name is given back before the calls have ended");

    sender.send(Bytes::from("two")).await.unwrap();
    drop(sender);
    assert_eq!(within(call).await.unwrap().unwrap(), "2 messages of 6 bytes");
    server.expect("count is gone");
    server.expect("stopped");
    assert!(server.finish().success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_successor_takes_the_name_while_the_old_server_drains() {
    let directory = tempdir().unwrap();
    let mut old = Helper::server(directory.path(), "");
    let client = Client::connect(directory.path()).await;
    let (sender, call) = open_call(&client, &mut old).await;
    old.stop();
    old.expect("stopping");
    let new = loop {
        let mut new = Helper::start("server", directory.path(), "");
        match new.answer().as_str() {
            "serving" => break new,
            // The name is given up a moment after the signal.
            refused => assert!(refused.contains("is in use by the process with pid"), "{refused}"),
        }
    };
    // The old server may take calls until the client has heard that it goes away.
    client.until_answered_by(&new).await;
    drop(sender);
    assert_eq!(within(call).await.unwrap().unwrap(), "1 messages of 3 bytes");
    old.expect("count is gone");
    old.expect("stopped");
    assert!(old.finish().success());
    assert_eq!(within(client.text("pid", "")).await.unwrap(), new.pid().to_string());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lazy_channel_finds_a_server_that_comes_later() {
    let directory = tempdir().unwrap();
    let client = Client::new(endpoint(directory.path()).connect_lazy());
    let refused = within(client.text("echo", "x")).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unavailable, "{refused:?}");
    assert!(is_retry_safe(&refused), "{refused:?}");
    let _server = Helper::server(directory.path(), "");
    let reply = within(retried(&client));
    assert_eq!(reply.await, "x");
}

/// Makes a call until it succeeds. It may fail only where it is safe to make it again.
async fn retried(client: &Client) -> String {
    loop {
        match client.text("echo", "x").await {
            Ok(reply) => return reply,
            Err(status) => {
                assert_eq!(status.code(), Code::Unavailable, "{status:?}");
                assert!(is_retry_safe(&status), "{status:?}");
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_call_is_lost_over_rolling_restarts() {
    let directory = tempdir().unwrap();
    let mut server = Helper::server(directory.path(), "");
    let client = Client::connect(directory.path()).await;
    let callers: Vec<_> = (0..4)
        .map(|_| {
            let client = client.clone();
            tokio::spawn(async move {
                loop {
                    retried(&client).await;
                }
            })
        })
        .collect();
    for _ in 0..10 {
        server.stop();
        server.expect("stopping");
        server.expect("stopped");
        server = Helper::server(directory.path(), "");
        within(retried(&client)).await;
        assert!(callers.iter().all(|caller| !caller.is_finished()), "a call failed otherwise");
    }
    callers.iter().for_each(|caller| caller.abort());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_that_the_dead_server_never_read_can_be_made_again() {
    let directory = tempdir().unwrap();
    let mut server = Helper::server(directory.path(), "");
    let client = Client::connect(directory.path()).await;
    let caller = client.clone();
    let begun = tokio::spawn(async move { caller.text("hang", "").await.unwrap_err() });
    server.expect("hang began");
    server.suspend();
    let mut unread = tokio::spawn(async move { client.text("hang", "").await.unwrap_err() });
    let early = tokio::time::timeout(Duration::from_millis(50), &mut unread).await;
    assert!(early.is_err(), "nobody answers");
    server.kill();
    let (begun, unread) = (within(begun).await.unwrap(), within(unread).await.unwrap());
    assert_eq!((begun.code(), unread.code()), (Code::Unavailable, Code::Unavailable));
    assert!(!is_retry_safe(&begun), "it may have had effects: {begun:?}");
    assert!(is_retry_safe(&unread), "{unread:?}");
}

#[test]
fn clients_that_say_nothing_or_hang_do_not_keep_a_server_from_stopping() {
    let directory = tempdir().unwrap();
    let mut server = Helper::server(directory.path(), "");
    let silent = Directory::at(directory.path()).connect(&"lives".parse().unwrap()).unwrap();
    let mut hung = Helper::client(directory.path(), "");
    hung.tell("echo x");
    hung.expect("x");
    hung.suspend();
    let began = Instant::now();
    server.stop();
    server.expect("stopping");
    server.expect("stopped");
    println!("the server stopped after {:?}", began.elapsed());
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
    drop(silent);
    hung.signal(Signal::CONT);
    hung.tell("echo x");
    let told = hung.answer();
    assert!(told.starts_with("Unavailable: "), "{told}");
}
