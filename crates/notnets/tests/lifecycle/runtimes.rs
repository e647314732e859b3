//! One channel and several runtimes: at once, and one after the other.

use bytes::Bytes;
use tempfile::tempdir;
use tokio::runtime::{Builder, Runtime};
use tonic::Code;

use crate::support::client::Client;
use crate::support::helper::Helper;
use crate::support::{counters, eventually, within};

fn current_thread() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

fn multi_thread() -> Runtime {
    Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

async fn calls(client: &Client, n: usize) {
    for i in 0..n {
        let text = format!("{i} {}", "x".repeat(i * 37 % 5000));
        assert_eq!(within(client.text("echo", text.clone())).await.unwrap(), text);
    }
    let messages = (0..50).map(|i: usize| Bytes::from(vec![7; i * 100]));
    let mut echoed = within(client.duplex("duplex", tokio_stream::iter(messages))).await.unwrap();
    for i in 0..50 {
        assert_eq!(within(echoed.message()).await.unwrap().unwrap().len(), i * 100);
    }
    assert!(within(echoed.message()).await.unwrap().is_none());
}

#[test]
fn a_channel_on_several_current_thread_runtimes_at_once() {
    let directory = tempdir().unwrap();
    let _server = Helper::server(directory.path(), "");
    let first = current_thread();
    let client = first.block_on(Client::connect(directory.path()));
    let threads: Vec<_> = (0..4)
        .map(|_| {
            let client = client.clone();
            std::thread::spawn(move || current_thread().block_on(calls(&client, 300)))
        })
        .collect();
    // The runtime that made the link is kept running for as long as others use it.
    first.block_on(async {
        calls(&client, 300).await;
        while !threads.iter().all(|thread| thread.is_finished()) {
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        }
    });
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    assert_eq!(counters(directory.path()).links_total, 1, "they share a link");
}

#[test]
fn a_channel_outlives_the_runtime_that_made_it() {
    let directory = tempdir().unwrap();
    let mut server = Helper::server(directory.path(), "");
    for make in [current_thread, multi_thread] {
        let first = make();
        let client = first.block_on(Client::connect(directory.path()));
        first.block_on(calls(&client, 10));
        let mut produced = first.block_on(client.stream("produce", "100000")).unwrap();
        server.expect("produce began");
        drop(first);
        // The server hears of it though the stream and the channel are still held.
        server.expect("produce is gone");
        for make in [multi_thread, current_thread] {
            make().block_on(calls(&client, 10));
        }
        // What was open when it ended has ended with it, and says so.
        let status = current_thread().block_on(async {
            loop {
                match within(produced.message()).await {
                    Ok(message) => assert!(message.is_some()),
                    Err(status) => break status,
                }
            }
        });
        assert_eq!(status.code(), Code::Unavailable, "{status:?}");
        assert!(
            status.message().contains("the runtime that this side of the link ran on has ended"),
            "{status:?}"
        );
    }
}

#[test]
fn a_link_is_closed_though_its_runtime_idles() {
    let directory = tempdir().unwrap();
    let _server = Helper::server(directory.path(), "");
    let first = current_thread();
    let client = first.block_on(Client::connect(directory.path()));
    assert_eq!(counters(directory.path()).links_open, 1);
    drop(client);
    eventually("the server's link ends", || counters(directory.path()).links_open == 0);
    drop(first);
}

#[test]
fn a_call_that_waits_for_a_link_survives_the_end_of_the_runtime_that_was_dialling() {
    let directory = tempdir().unwrap();
    let server = Helper::server(directory.path(), "");
    let (first, second) = (multi_thread(), multi_thread());
    let endpoint = crate::support::client::endpoint(directory.path());
    let client = first.block_on(async { Client::new(endpoint.connect_lazy()) });
    server.suspend();
    let caller = client.clone();
    first.spawn(async move { caller.text("echo", "first").await });
    // It waits for the first one's dial, or for one of its own.
    let call = second.spawn(async move { client.text("echo", "second").await });
    first.shutdown_background();
    server.signal(rustix::process::Signal::CONT);
    assert_eq!(second.block_on(within(call)).unwrap().unwrap(), "second");
}
