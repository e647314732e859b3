//! The `Probe` service: one method for each thing that a transport must carry.
//!
//! Handlers that never answer are known by a key that the client chooses, and
//! their start and end can be awaited, so that tests of cancellation need no
//! pauses.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tokio_stream::{Stream, StreamExt};
use tonic::{Code, Request, Response, Status, Streaming};

use pb::await_request::State;
use pb::probe_server::Probe;
use pb::{Anything, AwaitRequest, Chunk, EchoReply, EchoRequest, FailRequest, Handler, SplitRequest, Total};

/// The generated code.
#[allow(missing_docs)]
pub mod pb {
    tonic::include_proto!("notnets.probe");
}

/// For server reflection.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));

/// The service; clones share what they know of the handlers.
#[derive(Clone, Default)]
pub struct ProbeService {
    handlers: Arc<Mutex<HashMap<String, watch::Sender<Life>>>>,
}

/// What has happened to the handler of one key.
#[derive(Clone, Copy, Default)]
struct Life {
    started: bool,
    dropped: bool,
    sent: Total,
}

type Chunks = Pin<Box<dyn Stream<Item = Result<Chunk, Status>> + Send>>;

#[tonic::async_trait]
impl Probe for ProbeService {
    type SplitStream = Chunks;
    type ChatStream = Chunks;
    type WaitStreamStream = Chunks;
    type IgnoreStream = Chunks;

    async fn echo(&self, request: Request<EchoRequest>) -> Result<Response<EchoReply>, Status> {
        let mut metadata = HashMap::<String, String>::new();
        for (key, value) in request.metadata().clone().into_headers().iter() {
            let value = String::from_utf8_lossy(value.as_bytes());
            metadata
                .entry(key.to_string())
                .and_modify(|values| *values = format!("{values}, {value}"))
                .or_insert_with(|| value.into_owned());
        }
        Ok(Response::new(EchoReply { request: Some(request.into_inner()), metadata }))
    }

    async fn echo_anything(&self, request: Request<Anything>) -> Result<Response<Anything>, Status> {
        Ok(Response::new(request.into_inner()))
    }

    async fn fail(&self, request: Request<FailRequest>) -> Result<Response<EchoReply>, Status> {
        Err(status(request.into_inner()))
    }

    async fn split(&self, request: Request<SplitRequest>) -> Result<Response<Chunks>, Status> {
        let SplitRequest { count, size, fail, key } = request.into_inner();
        let life = self.life(&key);
        let data = vec![7; size as usize];
        let (send, chunks) = mpsc::channel(1);
        tokio::spawn(async move {
            for _ in 0..count {
                if send.send(Ok(Chunk { data: data.clone() })).await.is_err() {
                    return;
                }
                life.send_modify(|life| {
                    life.sent.chunks += 1;
                    life.sent.bytes += u64::from(size);
                });
            }
            if let Some(fail) = fail {
                let _ = send.send(Err(status(fail))).await;
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(chunks))))
    }

    async fn collect(&self, request: Request<Streaming<Chunk>>) -> Result<Response<Total>, Status> {
        let mut chunks = request.into_inner();
        let mut total = Total::default();
        while let Some(chunk) = chunks.message().await? {
            total.chunks += 1;
            total.bytes += chunk.data.len() as u64;
        }
        Ok(Response::new(total))
    }

    async fn chat(&self, request: Request<Streaming<Chunk>>) -> Result<Response<Chunks>, Status> {
        let guard = self.guard(&request_key(&request));
        let echoed = request.into_inner().map(move |chunk| {
            let _lives_as_long_as_the_stream = &guard;
            chunk
        });
        Ok(Response::new(Box::pin(echoed)))
    }

    async fn wait(&self, request: Request<Handler>) -> Result<Response<Total>, Status> {
        let _guard = self.guard(&request.into_inner().key);
        std::future::pending().await
    }

    async fn wait_stream(&self, request: Request<Handler>) -> Result<Response<Chunks>, Status> {
        let guard = self.guard(&request.into_inner().key);
        let first = tokio_stream::once(Ok(Chunk::default()));
        let rest = tokio_stream::pending().map(move |chunk| {
            let _lives_as_long_as_the_stream = &guard;
            chunk
        });
        Ok(Response::new(Box::pin(first.chain(rest))))
    }

    async fn ignore(&self, request: Request<Streaming<Chunk>>) -> Result<Response<Chunks>, Status> {
        let guard = self.guard(&request_key(&request));
        let unread = request.into_inner();
        let first = tokio_stream::once(Ok(Chunk::default()));
        let rest = tokio_stream::pending().map(move |chunk| {
            let _live_as_long_as_the_stream = (&guard, &unread);
            chunk
        });
        Ok(Response::new(Box::pin(first.chain(rest))))
    }

    async fn r#await(&self, request: Request<AwaitRequest>) -> Result<Response<Total>, Status> {
        let request = request.into_inner();
        let mut life = self.life(&request.key).subscribe();
        let reached = |life: &Life| match request.state() {
            State::Started => life.started,
            State::Dropped => life.dropped,
        };
        let sent = life.wait_for(reached).await.map_err(|error| Status::internal(error.to_string()))?.sent;
        Ok(Response::new(sent))
    }

    async fn progress(&self, request: Request<Handler>) -> Result<Response<Total>, Status> {
        let life = self.life(&request.into_inner().key);
        let sent = life.borrow().sent;
        Ok(Response::new(sent))
    }
}

impl ProbeService {
    fn life(&self, key: &str) -> watch::Sender<Life> {
        let mut handlers = self.handlers.lock().unwrap_or_else(PoisonError::into_inner);
        handlers.entry(key.to_owned()).or_insert_with(|| watch::channel(Life::default()).0).clone()
    }

    /// Marks the handler of `key` as started now and as dropped later.
    fn guard(&self, key: &str) -> Guard {
        let life = self.life(key);
        life.send_modify(|life| life.started = true);
        Guard { life }
    }
}

struct Guard {
    life: watch::Sender<Life>,
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.life.send_modify(|life| life.dropped = true);
    }
}

fn request_key<T>(request: &Request<T>) -> String {
    let key = request.metadata().get("key").and_then(|key| key.to_str().ok());
    key.unwrap_or_default().to_owned()
}

fn status(fail: FailRequest) -> Status {
    Status::with_details(Code::from(fail.code), fail.message, fail.details.into())
}
