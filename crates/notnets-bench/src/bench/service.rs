//! The service that the benchmark's servers serve.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::watch;
use tokio::task::{JoinSet, block_in_place};
use tokio_stream::{Stream, StreamExt};
use tonic::{Request, Response, Status, Streaming};

use super::channel::Channel;
use super::load::unary::FILLER;
use super::proto::bench_client::BenchClient;
use super::proto::bench_server::Bench;
use super::proto::{Handler, Message, Moment, Question, Span, Total};
use crate::usage;

/// The largest payload there is, and some room for the message around it.
pub const MAX_MESSAGE: usize = 8 << 20;

/// A server's state. Its handlers do as little as they can.
pub struct Service<C> {
    filler: Bytes,
    upstream: Vec<BenchClient<C>>,
    held: Held,
    /// One of this number of replies is wrong.
    spoil: Option<u64>,
    served: AtomicU64,
}

impl<C: Channel> Service<C> {
    /// A service that asks `upstream` before it answers an echo.
    pub fn new(upstream: Vec<BenchClient<C>>, spoil: bool) -> Self {
        Self {
            filler: vec![0x5a; 4 << 20].into(),
            upstream,
            held: Held::default(),
            spoil: spoil.then_some(10),
            served: AtomicU64::new(0),
        }
    }

    /// Makes a reply of a length, for which nothing is allocated.
    fn reply(&self, bytes: u32, marker: u32) -> Message {
        Message { payload: self.filler.slice(..(bytes as usize).min(self.filler.len())), marker, read: false }
    }

    async fn ask_all(&self, message: &Message) -> Result<(), Status> {
        match &*self.upstream {
            [] => Ok(()),
            [only] => only.clone().echo(message.clone()).await.map(drop),
            many => {
                let mut calls = JoinSet::new();
                for client in many {
                    let mut client = client.clone();
                    let message = message.clone();
                    calls.spawn(async move { client.echo(message).await.map(drop) });
                }
                while let Some(ended) = calls.join_next().await {
                    ended.map_err(|error| Status::internal(error.to_string()))??;
                }
                Ok(())
            }
        }
    }
}

/// Reads a payload to its last byte.
fn read(payload: &[u8]) -> Result<(), Status> {
    let (words, rest) = payload.as_chunks::<8>();
    let expected = u64::from_le_bytes([FILLER; 8]);
    let differ = words.iter().fold(0, |differ, word| differ | (u64::from_le_bytes(*word) ^ expected));
    if differ == 0 && rest.iter().all(|byte| *byte == FILLER) {
        Ok(())
    } else {
        Err(Status::data_loss("the payload is not what the client sends"))
    }
}

type Messages = Pin<Box<dyn Stream<Item = Result<Message, Status>> + Send>>;

#[tonic::async_trait]
impl<C: Channel> Bench for Service<C> {
    async fn echo(&self, request: Request<Message>) -> Result<Response<Message>, Status> {
        let mut message = request.into_inner();
        self.ask_all(&message).await?;
        if message.read && self.upstream.is_empty() {
            read(&message.payload)?;
        }
        if let Some(every) = self.spoil
            && self.served.fetch_add(1, Ordering::Relaxed) % every == every - 1
        {
            message.marker = !message.marker;
        }
        Ok(Response::new(message))
    }

    async fn ask(&self, request: Request<Question>) -> Result<Response<Message>, Status> {
        let question = request.into_inner();
        if question.read {
            read(&question.payload)?;
        }
        Ok(Response::new(self.reply(question.reply_bytes, question.marker)))
    }

    async fn upload(&self, request: Request<Streaming<Message>>) -> Result<Response<Total>, Status> {
        let mut messages = request.into_inner();
        let mut total = Total::default();
        while let Some(message) = messages.message().await? {
            total.messages += 1;
            total.bytes += message.payload.len() as u64;
            total.marker = message.marker;
        }
        Ok(Response::new(total))
    }

    type DownloadStream = Messages;

    async fn download(&self, request: Request<Question>) -> Result<Response<Messages>, Status> {
        let question = request.into_inner();
        let message = self.reply(question.reply_bytes, question.marker);
        let messages = (0..question.count).map(move |_| Ok(message.clone()));
        Ok(Response::new(Box::pin(tokio_stream::iter(messages))))
    }

    type ChatStream = Messages;

    async fn chat(&self, request: Request<Streaming<Message>>) -> Result<Response<Messages>, Status> {
        // The message goes back at once: the handler is not woken for it a second time.
        Ok(Response::new(Box::pin(request.into_inner().map(|message| message))))
    }

    async fn burn(&self, request: Request<Span>) -> Result<Response<Moment>, Status> {
        usage::burn(request.into_inner().nanos);
        Ok(Response::new(Moment { nanos: usage::now() }))
    }

    async fn block(&self, request: Request<Span>) -> Result<Response<Moment>, Status> {
        let Span { nanos, in_place } = request.into_inner();
        let block = || std::thread::sleep(Duration::from_nanos(nanos));
        if in_place {
            block_in_place(block);
        } else {
            block();
        }
        Ok(Response::new(Moment { nanos: usage::now() }))
    }

    async fn hold(&self, request: Request<Handler>) -> Result<Response<Moment>, Status> {
        let _held = self.held.begin(request.into_inner().key);
        std::future::pending().await
    }

    async fn started(&self, request: Request<Handler>) -> Result<Response<Moment>, Status> {
        let nanos = self.held.wait(request.into_inner().key, |handler| handler.started).await;
        Ok(Response::new(Moment { nanos }))
    }

    async fn dropped(&self, request: Request<Handler>) -> Result<Response<Moment>, Status> {
        let key = request.into_inner().key;
        let nanos = self.held.wait(key, |handler| handler.dropped).await;
        self.held.forget(key);
        Ok(Response::new(Moment { nanos }))
    }
}

/// Handlers that never answer, and when they began and ended.
#[derive(Clone, Default)]
struct Held(Arc<Mutex<HashMap<u64, watch::Sender<Times>>>>);

#[derive(Clone, Copy, Default)]
struct Times {
    started: Option<u64>,
    dropped: Option<u64>,
}

impl Held {
    fn with<R>(&self, key: u64, act: impl FnOnce(&watch::Sender<Times>) -> R) -> R {
        let mut handlers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        act(handlers.entry(key).or_default())
    }

    /// Returns a guard that reports, when dropped, that the handler was.
    fn begin(&self, key: u64) -> impl Drop + Send + use<> {
        struct Guard(Held, u64);
        impl Drop for Guard {
            fn drop(&mut self) {
                let now = usage::now();
                self.0.with(self.1, |handler| handler.send_modify(|times| times.dropped = Some(now)));
            }
        }
        self.with(key, |handler| handler.send_modify(|times| times.started = Some(usage::now())));
        Guard(self.clone(), key)
    }

    async fn wait(&self, key: u64, what: impl Fn(&Times) -> Option<u64>) -> u64 {
        let mut handler = self.with(key, watch::Sender::subscribe);
        // The sender is in the map for as long as anybody waits.
        handler.wait_for(|times| what(times).is_some()).await.ok().and_then(|times| what(&times)).unwrap_or(0)
    }

    fn forget(&self, key: u64) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&key);
    }
}
