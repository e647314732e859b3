//! Payloads that are shared, not copied.

mod common;

use bytes::Bytes;
use common::within;
use notnets::rpc::{Handler, Method, Payload, Request, ServerCall, Status};
use notnets::{Channel, Endpoint, Server, SharedBytes};

const NAME: &str = "notnets:///shared";
const ECHO: Method = Method::from_static("/test.Test/Echo");
/// Answers with the address of the request's bytes, and their sum.
const LOOK: Method = Method::from_static("/test.Test/Look");
const MIB: usize = 1 << 20;

struct Test;

impl Handler for Test {
    async fn call(&self, call: &mut ServerCall) -> Result<(), Status> {
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
