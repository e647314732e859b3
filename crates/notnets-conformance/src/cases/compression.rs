//! Compressed messages pass as they are, and shrink what is carried.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::task::{Context, Poll};

use http::{Request, Response};
use http_body_util::BodyExt;
use tonic::Code;
use tonic::body::Body;
use tonic::codec::CompressionEncoding::{self, Gzip, Zstd};
use tower_service::Service;

use crate::pb::{Chunk, DuplexRequest, UnaryReply, UnaryRequest};
use crate::rpc::{assert_alive, bulk, test};
use crate::{Observation, Rpc};

pub async fn gzip_both_ways<C: Rpc>(channel: C) -> Observation {
    both_ways(channel, Gzip, "gzip").await
}

pub async fn zstd_both_ways<C: Rpc>(channel: C) -> Observation {
    both_ways(channel, Zstd, "zstd").await
}

async fn both_ways<C: Rpc>(channel: C, encoding: CompressionEncoding, name: &str) -> Observation {
    const SIZE: usize = 1 << 20;
    let mut seen = Observation::new();
    let metered = Metered { inner: channel.clone(), sent: Arc::default(), received: Arc::default() };
    let mut client = test(&metered).send_compressed(encoding).accept_compressed(encoding);

    let request = UnaryRequest { body: vec![42; SIZE], reply_size: 100_000, outcome: None };
    let reply = client.unary(request).await.expect("a compressed call");
    assert_eq!(reply.metadata().get("grpc-encoding").expect("the reply is compressed"), name);
    seen.note_metadata("metadata", reply.metadata());
    let UnaryReply { body, checksum, metadata } = reply.into_inner();
    assert_eq!(body, crate::payload::pattern(checksum, 100_000));
    assert_eq!(checksum, crate::payload::checksum(0, &[42; SIZE]));
    let compression =
        metadata.iter().find(|entry| entry.key == "grpc-encoding").map(|entry| entry.value.as_slice());
    assert_eq!(compression, Some(name.as_bytes()), "the handler's request was compressed");
    let sent = metered.sent.load(Relaxed);
    assert!(sent > 0 && sent < SIZE / 10, "{sent} bytes were sent for a message of {SIZE}");

    metered.received.store(0, Relaxed);
    let request = DuplexRequest { sizes: vec![0; 1_000], ..Default::default() };
    let mut stream = client.duplex(tokio_stream::once(request)).await.expect("a stream").into_inner();
    for index in 0..1_000 {
        let chunk = stream.message().await.expect("no error").expect("each chunk");
        assert_eq!(chunk, Chunk { index, body: Vec::new() });
    }
    assert_eq!(stream.message().await.expect("a good end"), None);
    seen.note("bytes sent", sent);
    seen.note("bytes received", metered.received.load(Relaxed));
    seen
}

/// A server that knows no compression says so, and a client gets no compressed
/// reply that it did not ask for.
pub async fn compression_not_accepted<C: Rpc>(channel: C) -> Observation {
    let mut seen = Observation::new();
    let chunk = Chunk { index: 1, body: vec![1; 1_000] };
    let status = bulk(&channel).send_compressed(Zstd).echo(chunk).await.expect_err("it knows no zstd");
    assert_eq!(status.code(), Code::Unimplemented);
    seen.note_status("status", &status);

    let reply = test(&channel).unary(UnaryRequest { reply_size: 1_000, ..Default::default() }).await;
    let reply = reply.expect("a call without compression");
    assert!(reply.metadata().get("grpc-encoding").is_none());
    seen.note_metadata("metadata", reply.metadata());
    assert_alive(&channel).await;
    seen
}

/// Counts the bytes of the bodies that go through a channel.
#[derive(Clone)]
struct Metered<C> {
    inner: C,
    sent: Arc<AtomicUsize>,
    received: Arc<AtomicUsize>,
}

impl<C: Rpc> Service<Request<Body>> for Metered<C> {
    type Response = Response<Body>;
    type Error = C::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, C::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), C::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let received = Arc::clone(&self.received);
        let sent = Arc::clone(&self.sent);
        let response = self.inner.call(request.map(|body| counted(body, sent)));
        Box::pin(async move { Ok(response.await?.map(|body| counted(body, received))) })
    }
}

fn counted(body: Body, bytes: Arc<AtomicUsize>) -> Body {
    Body::new(body.map_frame(move |frame| {
        bytes.fetch_add(frame.data_ref().map_or(0, |data| data.len()), Relaxed);
        frame
    }))
}
