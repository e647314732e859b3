//! The well-behaved calls.

use std::time::Duration;

use bytes::Bytes;
use tokio_stream::StreamExt;
use tonic::metadata::{KeyAndValueRef, MetadataMap};
use tonic::{Code, Request, Response, Status, Streaming};

use super::probe::Probe;
use super::watched::{Replies, Requests, replies};
use crate::observation;
use crate::payload::{checksum, pattern};
use crate::pb::{
    Chunk, DuplexRequest, Entry, Nothing, Outcome, OutputRequest, Summary, UnaryReply, UnaryRequest,
    test_server,
};

/// Answers as it is told.
pub struct TestService {
    probe: Probe,
}

impl TestService {
    /// Counts its handlers with this probe.
    pub fn new(probe: Probe) -> Self {
        Self { probe }
    }
}

#[tonic::async_trait]
impl test_server::Test for TestService {
    type OutputStream = Replies<Chunk>;
    type DuplexStream = Replies<Chunk>;

    async fn empty(&self, request: Request<Nothing>) -> Result<Response<Nothing>, Status> {
        self.probe.enter(&request).finish();
        Ok(reply(copied(request.metadata()), Nothing {}))
    }

    async fn unary(&self, request: Request<UnaryRequest>) -> Result<Response<UnaryReply>, Status> {
        self.probe.enter(&request).finish();
        let metadata = observation::entries(request.metadata())
            .into_iter()
            .map(|(key, value)| Entry { key, value })
            .collect();
        let copied = copied(request.metadata());
        let UnaryRequest { body, reply_size, outcome } = request.into_inner();
        if let Some(outcome) = outcome {
            return Err(status(outcome, copied));
        }
        let checksum = checksum(0, &body);
        let body = pattern(checksum, reply_size as usize);
        Ok(reply(copied, UnaryReply { body, checksum, metadata }))
    }

    async fn output(&self, request: Request<OutputRequest>) -> Result<Response<Replies<Chunk>>, Status> {
        let handler = self.probe.enter(&request);
        let copied = copied(request.metadata());
        let OutputRequest { sizes, interval_ms, outcome } = request.into_inner();
        let interval = Duration::from_millis(interval_ms.into());
        let outcome = outcome.map(|outcome| status(outcome, copied.clone()));
        let chunks = replies(handler, async move |out| {
            for (index, size) in (0..).zip(sizes) {
                if !interval.is_zero() {
                    tokio::time::sleep(interval).await;
                }
                out.send(Chunk { index, body: pattern(index, size as usize) }).await;
            }
            outcome.map_or(Ok(()), Err)
        });
        Ok(reply(copied, chunks))
    }

    async fn input(&self, request: Request<Streaming<Chunk>>) -> Result<Response<Summary>, Status> {
        let handler = self.probe.enter(&request);
        let copied = copied(request.metadata());
        let mut chunks = Requests::new(request.into_inner(), &handler);
        let mut summary = Summary::default();
        while let Some(chunk) = chunks.next().await {
            summary.add(&chunk?);
        }
        handler.finish();
        Ok(reply(copied, summary))
    }

    async fn duplex(
        &self,
        request: Request<Streaming<DuplexRequest>>,
    ) -> Result<Response<Replies<Chunk>>, Status> {
        let handler = self.probe.enter(&request);
        let copied = copied(request.metadata());
        let in_trailers = copied.clone();
        let mut requests = Requests::new(request.into_inner(), &handler);
        let chunks = replies(handler, async move |out| {
            let mut index = 0;
            while let Some(request) = requests.next().await {
                let DuplexRequest { sizes, body, outcome } = request?;
                if let Some(outcome) = outcome {
                    return Err(status(outcome, in_trailers));
                }
                let seed = checksum(index, &body);
                for size in sizes {
                    out.send(Chunk { index, body: pattern(seed, size as usize) }).await;
                    index += 1;
                }
            }
            Ok(())
        });
        Ok(reply(copied, chunks))
    }

    async fn unimplemented(&self, _: Request<Nothing>) -> Result<Response<Nothing>, Status> {
        Err(Status::unimplemented("this handler implements nothing"))
    }
}

/// The request's `x-copy-*`.
fn copied(metadata: &MetadataMap) -> MetadataMap {
    let mut copied = MetadataMap::new();
    for entry in metadata.iter() {
        match entry {
            KeyAndValueRef::Ascii(key, value) if key.as_str().starts_with("x-copy-") => {
                copied.append(key.clone(), value.clone());
            }
            KeyAndValueRef::Binary(key, value) if key.as_str().starts_with("x-copy-") => {
                copied.append_bin(key.clone(), value.clone());
            }
            _ => {}
        }
    }
    copied
}

fn reply<T>(metadata: MetadataMap, message: T) -> Response<T> {
    Response::from_parts(metadata, message, http::Extensions::new())
}

/// The status that a request asks for.
pub fn status(outcome: Outcome, metadata: MetadataMap) -> Status {
    let Outcome { code, message, details } = outcome;
    Status::with_details_and_metadata(Code::from_i32(code), message, Bytes::from(details), metadata)
}
