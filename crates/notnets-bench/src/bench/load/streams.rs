//! The three kinds of streams.

use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;

use super::super::channel::Channel;
use super::super::control::Load;
use super::super::proto::bench_client::BenchClient;
use super::super::proto::{Message, Question, Total};
use super::Caller;
use super::unary::{Payloads, check};
use crate::Result;

/// Messages of one call.
pub const MESSAGES: usize = 32;

/// A call is a stream to the server, and its answer.
pub struct Upload<C>(BenchClient<C>, Payloads);

impl<C: Channel> Upload<C> {
    /// Streams of the sizes in the order.
    pub fn new(client: BenchClient<C>, load: &Load, task: usize) -> Self {
        Self(client, Payloads::new(load, task))
    }
}

impl<C: Channel> Caller for Upload<C> {
    async fn call(&mut self) -> Result {
        let Self(client, payloads) = self;
        let (payload, marker, sizes) = payloads.next();
        let message = Message { payload, marker, read: false };
        let messages = (0..MESSAGES).map(move |_| message.clone());
        let total = client.upload(tokio_stream::iter(messages)).await?.into_inner();
        let bytes = (MESSAGES * sizes.request) as u64;
        let expected = Total { messages: MESSAGES as u64, bytes, marker };
        if total == expected {
            Ok(())
        } else {
            Err(format!("a wrong reply: {total:?}, not {expected:?}").into())
        }
    }
}

/// A call is a question, and a stream from the server.
pub struct Download<C>(BenchClient<C>, Payloads);

impl<C: Channel> Download<C> {
    /// Streams of the sizes in the order.
    pub fn new(client: BenchClient<C>, load: &Load, task: usize) -> Self {
        Self(client, Payloads::new(load, task))
    }
}

impl<C: Channel> Caller for Download<C> {
    async fn call(&mut self) -> Result {
        let Self(client, payloads) = self;
        let (_, marker, sizes) = payloads.next();
        let reply_bytes = sizes.request as u32;
        let count = MESSAGES as u32;
        let question = Question { payload: bytes::Bytes::new(), marker, reply_bytes, count, read: false };
        let mut messages = client.download(question).await?.into_inner();
        let mut came = 0;
        while let Some(message) = messages.message().await? {
            check(&message, marker, sizes.request)?;
            came += 1;
        }
        if came == MESSAGES { Ok(()) } else { Err(format!("a wrong reply: {came} messages").into()) }
    }
}

/// A call is a message over and back on one long stream.
pub struct Chat<C> {
    client: BenchClient<C>,
    payloads: Payloads,
    stream: Option<(mpsc::Sender<Message>, Streaming<Message>)>,
}

impl<C: Channel> Chat<C> {
    /// Messages of the sizes in the order.
    pub fn new(client: BenchClient<C>, load: &Load, task: usize) -> Self {
        Self { client, payloads: Payloads::new(load, task), stream: None }
    }
}

impl<C: Channel> Caller for Chat<C> {
    async fn call(&mut self) -> Result {
        if self.stream.is_none() {
            let (say, said) = mpsc::channel(1);
            let heard = self.client.chat(ReceiverStream::new(said)).await?.into_inner();
            self.stream = Some((say, heard));
        }
        let Some((say, heard)) = &mut self.stream else { return Err("no stream".into()) };
        let (payload, marker, sizes) = self.payloads.next();
        say.send(Message { payload, marker, read: false }).await.map_err(|_| "the stream has ended")?;
        let reply = heard.message().await?.ok_or("the stream has ended")?;
        check(&reply, marker, sizes.request)
    }
}
