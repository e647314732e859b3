//! Payloads that are shared, not copied.

mod common;

use bytes::Bytes;
use common::within;
use notnets::rpc::{Handler, Method, Payload, Request, ServerCall, Status};
use notnets::{Channel, Endpoint, Server, SharedBytes};

const NAME: &str = "notnets:///shared";
const ECHO: Method = Method::from_static("/test.Test/Echo");
const ECHO_ALL: Method = Method::from_static("/test.Test/EchoAll");
/// Answers with the address of the request's bytes, and their sum.
const LOOK: Method = Method::from_static("/test.Test/Look");
const MIB: usize = 1 << 20;

struct Test;

impl Handler for Test {
    async fn call(&self, call: &mut ServerCall) -> Result<(), Status> {
        if call.method.name() == "EchoAll" {
            while let Some(message) = call.requests.message().await? {
                call.responses.send(message).await?;
            }
            return Ok(());
        }
        let message = call.requests.only_message().await?;
        if call.method.name() == "Echo" {
            return call.responses.send_last(message).await;
        }
        let bytes = message.into_bytes();
        let look = [bytes.as_ptr() as u64, sum(&bytes)].map(u64::to_be_bytes).concat();
        call.responses.send_last(look).await
    }
}

fn sum(bytes: &[u8]) -> u64 {
    bytes.iter().map(|byte| u64::from(*byte)).sum()
}

struct Host {
    directory: tempfile::TempDir,
    task: tokio::task::JoinHandle<()>,
}

impl Host {
    async fn start(server: Server) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let bound =
            server.directory(directory.path()).add_rpc_service("test.Test", Test).bind(NAME).await.unwrap();
        Self { directory, task: tokio::spawn(async { bound.serve().await.unwrap() }) }
    }

    fn endpoint(&self) -> Endpoint {
        Endpoint::from_static(NAME).directory(self.directory.path())
    }

    async fn channel(&self) -> Channel {
        self.endpoint().connect().await.unwrap()
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn shared(len: usize) -> Bytes {
    SharedBytes::build(len, |bytes| bytes.iter_mut().zip(0..).for_each(|(byte, i)| *byte = (i % 251) as u8))
        .unwrap()
        .into()
}

async fn call(channel: &Channel, method: Method, payload: impl Into<Payload>) -> Bytes {
    let request = Request::new(method);
    let reply = within("a reply", channel.unary_call(request, payload)).await.unwrap();
    reply.message.into_bytes()
}

/// Where the handler has seen the request's bytes, which are those.
async fn look(channel: &Channel, bytes: &Bytes) -> *const u8 {
    let reply = call(channel, LOOK, bytes.clone()).await;
    assert_eq!(reply[8..], sum(bytes).to_be_bytes());
    u64::from_be_bytes(reply[..8].try_into().unwrap()) as usize as *const u8
}

#[tokio::test]
async fn shared_bytes_are_read_where_they_are() {
    let host = Host::start(Server::builder()).await;
    let channel = host.channel().await;
    let bytes = shared(MIB);
    // Both sides are this process, which maps each memory once.
    for part in [0..MIB, 100_000..MIB, 5..500_000, 0..16 << 10] {
        let part = bytes.slice(part);
        assert_eq!(look(&channel, &part).await, part.as_ptr());
    }
    let small = bytes.slice(0..(16 << 10) - 1);
    assert_ne!(look(&channel, &small).await, small.as_ptr(), "to copy it costs less");
    let private = Bytes::from(bytes.to_vec());
    assert_ne!(look(&channel, &private).await, private.as_ptr());
}

#[tokio::test]
async fn a_reply_that_returns_the_request_costs_no_copy() {
    let host = Host::start(Server::builder()).await;
    let channel = host.channel().await;
    let bytes = shared(4 * MIB - 100);
    let back = call(&channel, ECHO, bytes.clone()).await;
    assert_eq!((back.as_ptr(), back.len()), (bytes.as_ptr(), bytes.len()));
    assert!(SharedBytes::holds(&back));
}

/// What can be taken by a peer and is not is copied, and nothing is different but that.
#[tokio::test]
async fn a_side_that_shares_nothing_gets_copies() {
    for (server, client) in [(0, 1 << 30), (1 << 30, 0)] {
        let host = Host::start(Server::builder().max_shared_bytes(server)).await;
        let channel = host.endpoint().max_shared_bytes(client).connect().await.unwrap();
        let bytes = shared(MIB);
        assert_ne!(look(&channel, &bytes).await, bytes.as_ptr());
        assert_eq!(call(&channel, ECHO, bytes.clone()).await, bytes);
    }
}

#[tokio::test]
async fn one_payload_for_many_peers() {
    let host = Host::start(Server::builder()).await;
    let bytes = shared(MIB);
    let mut channels = Vec::new();
    for _ in 0..100 {
        let channel = host.channel().await;
        assert_eq!(look(&channel, &bytes).await, bytes.as_ptr());
        channels.push(channel);
    }
    for channel in &channels {
        assert_eq!(look(channel, &bytes).await, bytes.as_ptr());
    }
}

/// Several calls at once, of which each waits for the answer about a payload of its own or of others.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_payloads_at_once() {
    let host = Host::start(Server::builder()).await;
    let channel = host.channel().await;
    let payloads: Vec<Bytes> = (0..40).map(|i| shared(200_000 + i)).collect();
    let mut calls = tokio::task::JoinSet::new();
    for i in 0..400 {
        let (channel, bytes) = (channel.clone(), payloads[i % payloads.len()].clone());
        calls.spawn(async move {
            let back = call(&channel, ECHO, bytes.clone()).await;
            assert!(back == bytes, "{i}");
        });
    }
    while let Some(ended) = calls.join_next().await {
        ended.unwrap();
    }
    // A call that is dropped while it waits leaves nothing undone.
    for round in 0..50 {
        let bytes = shared(300_000 + round);
        let waits =
            tokio::time::timeout(std::time::Duration::ZERO, call(&channel, ECHO, bytes.clone())).await;
        drop(waits);
        assert!(call(&channel, ECHO, bytes.clone()).await == bytes);
    }
}

/// Messages of which some parts are shared, some are large and private, and some small.
#[tokio::test]
async fn streams_of_mixed_messages() {
    let host = Host::start(Server::builder()).await;
    let channel = host.channel().await;
    let large = shared(700_000);
    let (mut sender, mut receiver) = channel.streaming_call(Request::new(ECHO_ALL)).await.unwrap();
    let messages: Vec<Bytes> = (0..60)
        .map(|i| match i % 4 {
            0 => large.slice(i * 1000..),
            1 => Bytes::from(vec![i as u8; 500_000]),
            2 => Bytes::from(vec![i as u8; i]),
            _ => large.slice(i..i + 20_000),
        })
        .collect();
    let send = async {
        for message in &messages {
            sender.send(message.clone()).await.unwrap();
        }
        sender.finish().await.unwrap();
    };
    let receive = async {
        for (i, message) in messages.iter().enumerate() {
            let got = receiver.message().await.unwrap().expect("a message").into_bytes();
            assert!(got == *message, "message {i}");
            assert!(i % 4 != 0 || got.as_ptr() == message.as_ptr(), "message {i} is shared");
        }
        assert!(receiver.message().await.unwrap().is_none());
    };
    within("the streams", async { tokio::join!(send, receive) }).await;
}
