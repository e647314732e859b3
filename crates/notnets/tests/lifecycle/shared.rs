//! Payloads that are shared: what becomes of them when a process dies, or sends them back.

use std::path::Path;
use std::time::Instant;

use bytes::Bytes;
use notnets::rpc::{Code, Method, Request};
use notnets::{Channel, Endpoint, SharedBytes};
use tempfile::tempdir;

use crate::support::client::endpoint;
use crate::support::helper::Helper;
use crate::support::service::payload;
use crate::support::{LIMIT, NAME, within};

const OWN: Method = Method::from_static("/lives.Sharer/Own");
const ECHO: Method = Method::from_static("/lives.Sharer/Echo");
const MAKE: Method = Method::from_static("/lives.Sharer/Make");
const FETCH: Method = Method::from_static("/lives.Sharer/Fetch");
const KEPT: Method = Method::from_static("/lives.Sharer/Kept");
const KEEP: Method = Method::from_static("/lives.Sharer/Keep");

fn sharer(directory: &Path, options: &str) -> Helper {
    let mut sharer = Helper::start("sharer", directory, options);
    sharer.expect("serving");
    sharer
}

async fn call(channel: &Channel, method: Method, message: impl Into<Bytes>) -> Bytes {
    let reply = within(channel.unary_call(Request::new(method), message.into())).await.expect("a reply");
    reply.message.into_bytes()
}

#[tokio::test]
async fn what_a_dead_process_has_shared_stays_as_it_is() {
    const LENGTH: usize = 3 << 20;
    let directory = tempdir().unwrap();
    let mut owner = sharer(directory.path(), "");
    let channel = within(endpoint(directory.path()).connect()).await.unwrap();
    let bytes = call(&channel, OWN, LENGTH.to_string()).await;
    assert!(SharedBytes::holds(&bytes), "it is read where the owner has written it");
    let reader = {
        let bytes = bytes.clone();
        std::thread::spawn(move || (0..20).for_each(|round| assert!(bytes == payload(LENGTH), "{round}")))
    };
    owner.kill();
    let status = within(channel.unary_call(Request::new(ECHO), bytes.clone())).await.unwrap_err();
    assert_eq!(status.code(), Code::UNAVAILABLE, "{status:?}");
    reader.join().expect("the bytes have not changed");
    // They can be passed on, to a process that never saw their owner.
    let mut next = sharer(directory.path(), "");
    let channel = within(endpoint(directory.path()).connect()).await.unwrap();
    let back = call(&channel, ECHO, bytes.clone()).await;
    assert_eq!(back.as_ptr(), bytes.as_ptr(), "by reference, there and back");
    next.kill();
    assert!(back == payload(LENGTH));
}

#[tokio::test]
async fn who_got_them_from_a_dead_process_reads_on() {
    const LENGTH: usize = 3 << 20;
    let directory = tempdir().unwrap();
    let mut owner = sharer(directory.path(), "");
    let to_owner = within(endpoint(directory.path()).connect()).await.unwrap();
    assert_eq!(call(&to_owner, MAKE, LENGTH.to_string()).await, "shared");
    let options = format!("uri=notnets:///middle source={NAME}");
    let mut middle = sharer(directory.path(), &options);
    let to_middle = Endpoint::from_static("notnets:///middle").directory(directory.path());
    let to_middle = within(to_middle.connect()).await.unwrap();
    assert_eq!(call(&to_middle, FETCH, "").await, "shared");
    let bytes = call(&to_middle, KEPT, "").await;
    assert!(SharedBytes::holds(&bytes));
    middle.kill();
    owner.kill();
    assert!(bytes == payload(LENGTH), "they have not changed");
}

/// Over all links of a process.
#[tokio::test]
async fn what_a_process_may_not_hold_is_copied() {
    let directory = tempdir().unwrap();
    let _server = sharer(directory.path(), "quota=1500000");
    let shared = || Bytes::from(SharedBytes::copy_from(&payload(1 << 20)).unwrap());
    let (first, second) = (shared(), shared());
    let mut channels = Vec::new();
    for _ in 0..2 {
        channels.push(within(endpoint(directory.path()).connect()).await.unwrap());
    }
    assert_eq!(call(&channels[0], KEEP, first.clone()).await, "shared");
    assert_eq!(call(&channels[1], KEEP, first.clone()).await, "shared", "it is mapped once");
    assert_eq!(call(&channels[1], KEEP, second.clone()).await, "copied");
    // What is let go of makes room for what is shared anew.
    drop(first);
    drop(second);
    let begin = Instant::now();
    while call(&channels[1], KEEP, shared()).await != "shared" {
        assert!(begin.elapsed() < LIMIT, "what was let go of makes no room");
    }
}

/// Each process holds what the other has shared, which is the same memory: neither may wait for the other to
/// let go of it.
#[tokio::test]
async fn what_was_sent_back_is_let_go_of_by_both() {
    let directory = tempdir().unwrap();
    let server = sharer(directory.path(), "");
    let channel = within(endpoint(directory.path()).connect()).await.unwrap();
    let mapped = |pid: u32| {
        let maps = std::fs::read_to_string(format!("/proc/{pid}/maps")).expect("it lives");
        maps.lines().filter(|line| line.contains("/memfd:")).count()
    };
    let before = [server.pid(), std::process::id()].map(mapped);
    for round in 0..300 {
        let bytes = Bytes::from(SharedBytes::copy_from(&payload(200_000 + round)).unwrap());
        let back = call(&channel, ECHO, bytes.clone()).await;
        assert!(back.as_ptr() == bytes.as_ptr() && back == bytes, "round {round}");
    }
    let after = [server.pid(), std::process::id()].map(mapped);
    let grown = [0, 1].map(|at| after[at].saturating_sub(before[at]));
    // Other tests of this process have their links meanwhile.
    assert!(grown[0] < 40 && grown[1] < 200, "{grown:?} more mappings");
}
