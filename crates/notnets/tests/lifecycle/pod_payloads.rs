//! Payloads that are shared between hosts of a pod: they are read where they lie, by whomever they were
//! passed on, whoever dies.

use std::time::Instant;

use bytes::Bytes;
use notnets::rpc::{Code, Method, Request, Status};
use notnets::{Channel, Endpoint, SharedBytes};
use notnets_memory::Coherence;

use crate::support::helper::Helper;
use crate::support::pod::Pod;
use crate::support::service::payload;
use crate::support::{LIMIT, eventually, trust, within};

const REGION: u64 = 48 << 20;
const LENGTH: usize = 1 << 20;
const BOTH: [Coherence; 2] = [Coherence::Hardware, Coherence::Software];

fn method(name: &str) -> Method {
    Method::new(format!("/lives.Sharer/{name}")).expect("it is a method")
}

/// A channel from a host to a name of the pod, whose server is trusted.
fn channel(pod: &Pod, host: u16, name: &str) -> Channel {
    let endpoint = Endpoint::from_shared(format!("notnets://pod0/{name}")).unwrap();
    endpoint.directory(pod.host(host)).connect_timeout(LIMIT).trust_peer_memory(trust()).connect_lazy()
}

async fn try_call(channel: &Channel, name: &str, message: impl Into<Bytes>) -> Result<Bytes, Status> {
    let reply = within(channel.unary_call(Request::new(method(name)), message.into())).await?;
    Ok(reply.message.into_bytes())
}

async fn call(channel: &Channel, name: &str, message: impl Into<Bytes>) -> Bytes {
    try_call(channel, name, message).await.expect("a reply")
}

/// What a server keeps, once it comes by reference: its first way is a copy, beside which it is shared.
async fn fetch(channel: &Channel) -> Bytes {
    let begin = Instant::now();
    loop {
        let bytes = call(channel, "Kept", "").await;
        assert!(bytes == payload(LENGTH));
        if SharedBytes::holds(&bytes) {
            return bytes;
        }
        assert!(begin.elapsed() < LIMIT, "what is kept comes as a copy");
    }
}

/// Has a server do something until it has its bytes by reference.
async fn until_shared(channel: &Channel, name: &str, message: &Bytes) {
    let begin = Instant::now();
    loop {
        let reply = call(channel, name, message.clone()).await;
        if reply == "shared" {
            return;
        }
        assert_eq!(reply, "copied");
        assert!(begin.elapsed() < LIMIT, "what is sent comes as a copy");
    }
}

/// A process on host 1 that has a payload to share, and a channel to it from host 0.
async fn owner(pod: &Pod) -> (Helper, Channel) {
    let owner = pod.sharer(1, "owner", "trust");
    let channel = channel(pod, 0, "owner");
    assert_eq!(call(&channel, "Make", LENGTH.to_string()).await, "shared");
    (owner, channel)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn payloads_go_from_host_to_host_by_reference() {
    for coherence in BOTH {
        let pod = Pod::new(coherence, 3, REGION);
        let (_owner, to_owner) = owner(&pod).await;
        let _keeper = pod.sharer(2, "keeper", "trust");
        let to_keeper = channel(&pod, 0, "keeper");
        let bytes = fetch(&to_owner).await;
        assert_eq!(fetch(&to_owner).await.as_ptr(), bytes.as_ptr(), "they lie in one place");
        until_shared(&to_keeper, "Keep", &bytes).await;
        assert_eq!(fetch(&to_keeper).await.as_ptr(), bytes.as_ptr(), "and there it is read on all hosts");
        assert_eq!([0, 1, 2].map(|host| pod.with_payloads(host)), [0, 1, 0]);
        // A part is a part of them.
        until_shared(&to_keeper, "Keep", &bytes.slice(..500_000)).await;
        // Back to where they come from.
        until_shared(&to_owner, "Keep", &bytes).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn what_an_owner_has_shared_stays_when_it_dies_and_is_free_when_nobody_reads_it() {
    for coherence in BOTH {
        let pod = Pod::new(coherence, 3, REGION);
        let (mut first, to_owner) = owner(&pod).await;
        let _keeper = pod.sharer(2, "keeper", "trust");
        let to_keeper = channel(&pod, 0, "keeper");
        let bytes = fetch(&to_owner).await;
        first.kill();
        let status = try_call(&to_owner, "Kept", "").await.unwrap_err();
        assert_eq!(status.code(), Code::UNAVAILABLE, "{status:?}");
        // Another process there writes payloads, but not to where these are.
        let second = owner(&pod).await;
        let others = fetch(&second.1).await;
        assert_ne!(others.as_ptr(), bytes.as_ptr());
        assert!(bytes == payload(LENGTH), "they have not changed");
        until_shared(&to_keeper, "Keep", &bytes).await;
        drop((bytes, others));
        assert_eq!(pod.with_payloads(1), 2);
        assert!(fetch(&to_keeper).await == payload(LENGTH), "who got them from a reader reads on");
        assert_eq!(call(&to_keeper, "Keep", "").await, "copied");
        assert_eq!(call(&second.1, "Keep", "").await, "copied");
        eventually("the memory is free", || pod.with_payloads(1) == 0);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_holder_that_dies_leaves_nothing() {
    for coherence in BOTH {
        let pod = Pod::new(coherence, 3, REGION);
        let (_owner, to_owner) = owner(&pod).await;
        let mut keeper = pod.sharer(2, "keeper", "trust");
        let to_keeper = channel(&pod, 0, "keeper");
        let bytes = fetch(&to_owner).await;
        until_shared(&to_keeper, "Keep", &bytes).await;
        // Neither its owner nor who passed them on refers to them, and who reads them does not end in order.
        drop(bytes);
        assert_eq!(call(&to_owner, "Keep", "").await, "copied");
        assert!(fetch(&to_keeper).await == payload(LENGTH));
        assert_eq!(pod.with_payloads(1), 1);
        keeper.kill();
        eventually("the memory is free", || pod.with_payloads(1) == 0);
        assert_eq!(call(&to_owner, "Make", LENGTH.to_string()).await, "shared");
        assert!(fetch(&to_owner).await == payload(LENGTH));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn who_got_them_from_a_dead_process_reads_on() {
    for coherence in BOTH {
        let pod = Pod::new(coherence, 3, REGION);
        let (mut first, to_owner) = owner(&pod).await;
        let mut middle = pod.sharer(2, "middle", "trust source=notnets://pod0/owner");
        let to_middle = channel(&pod, 0, "middle");
        until_shared(&to_middle, "Fetch", &Bytes::new()).await;
        let bytes = fetch(&to_middle).await;
        middle.kill();
        first.kill();
        let status = try_call(&to_middle, "Kept", "").await.unwrap_err();
        assert_eq!(status.code(), Code::UNAVAILABLE, "{status:?}");
        let second = owner(&pod).await;
        assert!(fetch(&second.1).await == payload(LENGTH));
        assert!(bytes == payload(LENGTH), "they have not changed");
        drop((bytes, to_owner));
        assert_eq!(call(&second.1, "Keep", "").await, "copied");
        eventually("the memory is free", || pod.with_payloads(1) == 0);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn what_a_process_may_not_hold_is_copied() {
    let pod = Pod::new(Coherence::Hardware, 2, REGION);
    let _keeper = pod.sharer(1, "keeper", "trust quota=1000000");
    let to_keeper = channel(&pod, 0, "keeper");
    let [large, small] = [LENGTH, 500_000].map(|len| SharedBytes::copy_from(&payload(len)).unwrap().into());
    until_shared(&to_keeper, "Keep", &small).await;
    for _ in 0..20 {
        assert_eq!(call(&to_keeper, "Keep", Bytes::clone(&large)).await, "copied");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn without_trust_they_are_copied() {
    let pod = Pod::new(Coherence::Hardware, 2, REGION);
    let (_owner, trusting) = owner(&pod).await;
    let endpoint = Endpoint::from_static("notnets://pod0/owner").directory(pod.host(0));
    let distrusting = endpoint.connect_timeout(LIMIT).connect_lazy();
    let shared = fetch(&trusting).await;
    for _ in 0..20 {
        let bytes = call(&distrusting, "Kept", "").await;
        assert!(!SharedBytes::holds(&bytes) && bytes == shared);
    }
    // Who trusts nobody can share all the same.
    until_shared(&distrusting, "Keep", &SharedBytes::copy_from(&payload(LENGTH)).unwrap().into()).await;
    assert_eq!(pod.with_payloads(0), 1);
}
