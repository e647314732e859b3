//! `kill -9` of either side, also with a forked child that goes on holding all descriptors.

use std::time::{Duration, Instant};

use bytes::Bytes;
use tempfile::tempdir;
use tonic::{Code, Status};

use crate::support::client::Client;
use crate::support::helper::Helper;
use crate::support::{counters, eventually, is_retry_safe, within};

/// A death is noticed far sooner; this leaves room for a busy machine.
const AT_ONCE: Duration = Duration::from_secs(1);

/// How many are measured.
const DEATHS: usize = 20;

/// Kills a server amid calls of all kinds and returns how long it took until all had ended.
async fn killed_amid_calls(forks: bool) -> Duration {
    let directory = tempdir().unwrap();
    let mut server = Helper::server(directory.path(), "");
    let client = Client::connect(directory.path()).await;

    let caller = client.clone();
    let unary = tokio::spawn(async move { caller.text("hang", "").await.unwrap_err() });
    server.expect("hang began");
    let mut produced = within(client.stream("produce", "100000")).await.unwrap();
    server.expect("produce began");
    within(produced.message()).await.unwrap().expect("there is more");
    let produced = tokio::spawn(async move {
        loop {
            match produced.message().await {
                Ok(message) => assert!(message.is_some(), "it was produced for ever"),
                Err(status) => break status,
            }
        }
    });
    let (sender, requests) = tokio::sync::mpsc::channel(1);
    let requests = tokio_stream::wrappers::ReceiverStream::new(requests);
    let caller = client.clone();
    let counted = tokio::spawn(async move { caller.collect("count", requests).await.unwrap_err() });
    sender.send(Bytes::from("one")).await.unwrap();
    server.expect("count began");
    server.expect("count: one message");
    if forks {
        server.tell("fork");
        server.expect("forked");
    }

    let killed = Instant::now();
    server.kill();
    for call in [unary, produced, counted] {
        let status: Status = within(call).await.unwrap();
        assert_eq!(status.code(), Code::Unavailable, "{status:?}");
        assert!(status.message().contains("is gone"), "{status:?}");
    }
    let took = killed.elapsed();
    assert!(took < AT_ONCE, "it took {took:?}");

    // Nobody serves the name now, and as soon as somebody does the same channel is connected to it.
    let refused = within(client.text("echo", "x")).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unavailable, "{refused:?}");
    assert!(refused.message().contains("its server has ended"), "{refused:?}");
    let _server = Helper::server(directory.path(), "");
    let back = within(async {
        loop {
            match client.text("echo", "back").await {
                Ok(reply) => break reply,
                Err(status) => assert_eq!(status.code(), Code::Unavailable, "{status:?}"),
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    });
    assert_eq!(back.await, "back");
    took
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_servers_calls_end_at_once() {
    println!("calls ended {:?} after the kill", killed_amid_calls(false).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_servers_calls_end_at_once_while_its_forked_child_lives() {
    println!("calls ended {:?} after the kill", killed_amid_calls(true).await);
}

/// How soon calls of all kinds end, for many deaths.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn callers_of_many_killed_servers_know_soon() {
    let mut took = Vec::new();
    for _ in 0..DEATHS {
        took.push(killed_amid_calls(false).await);
    }
    println!("calls ended after a kill: {}", distribution(&mut took));
}

#[test]
fn handlers_of_many_killed_clients_are_dropped_soon() {
    let mut took: Vec<_> = (0..DEATHS).map(|_| client_killed_amid_calls(false)).collect();
    println!("handlers were dropped after a kill: {}", distribution(&mut took));
}

fn distribution(took: &mut [Duration]) -> String {
    took.sort_unstable();
    let [half, p90, most] = [5, 9, 10].map(|tenths| took[(took.len() * tenths / 10).min(took.len() - 1)]);
    format!("p50 {half:.1?}, p90 {p90:.1?}, at most {most:.1?} of {}", took.len())
}

/// The link's driver has not run since the server was killed.
#[tokio::test]
async fn the_first_call_after_a_restart_is_made_again_where_it_was_never_read() {
    let directory = tempdir().unwrap();
    let mut server = Helper::server(directory.path(), "");
    let client = Client::connect(directory.path()).await;
    for restart in 0..10 {
        let text = "x".repeat([1, 100, 20_000, 1_000_000][restart % 4]);
        assert_eq!(client.text("echo", text.clone()).await.unwrap(), text);
        server.kill();
        server = Helper::server(directory.path(), "");
        assert_eq!(client.text("echo", text.clone()).await.expect("nobody read it before"), text);
    }
    // Once.
    server.kill();
    let status = client.text("echo", "x").await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable, "{status:?}");
    assert!(status.message().contains("its server has ended") && is_retry_safe(&status), "{status:?}");
}

/// Kills a client amid calls: the server's handlers are dropped, and its link ends.
fn client_killed_amid_calls(forks: bool) -> Duration {
    let directory = tempdir().unwrap();
    let mut server = Helper::server(directory.path(), "");
    let mut client = Helper::client(directory.path(), "");
    client.tell("&hang");
    server.expect("hang began");
    client.tell("&produce 100000");
    server.expect("produce began");
    client.expect("produced");
    if forks {
        client.tell("fork");
        client.expect("forked");
    }
    assert_eq!(counters(directory.path()).links_open, 1);

    let killed = Instant::now();
    client.kill();
    let mut gone = [server.answer(), server.answer()];
    let took = killed.elapsed();
    gone.sort();
    assert_eq!(gone, ["hang is gone", "produce is gone"]);
    assert!(took < AT_ONCE, "it took {took:?}");
    eventually("the link is counted as closed", || counters(directory.path()).links_open == 0);
    took
}

#[test]
fn a_killed_clients_handlers_are_dropped_at_once() {
    println!("handlers were dropped {:?} after the kill", client_killed_amid_calls(false));
}

#[test]
fn a_killed_clients_handlers_are_dropped_at_once_while_its_forked_child_lives() {
    println!("handlers were dropped {:?} after the kill", client_killed_amid_calls(true));
}
