//! What a generated client's calls send.

use std::future::poll_fn;
use std::task::{Context, Poll};

use bytes::Buf;
use http::HeaderMap;
use notnets_core::call::Sent;
use notnets_memory::Gather;
use prost::Message;
use tonic::Status;
use tonic::codegen::tokio_stream::Stream;

use super::batch::{After, Batch};
use super::encoded;
use crate::http::{application_entries, boxed, from_tonic};
use crate::rpc::{self, Call, Outbound, RequestHead, SendHalf};

/// The beginning of a call.
pub(super) struct Head {
    path: &'static str,
    /// `None` if there are none. Boxed, for a head is moved about with its future, and most have none.
    headers: Option<Box<HeaderMap>>,
}

impl Head {
    #[inline]
    pub(super) fn new(path: &'static str, headers: HeaderMap) -> Self {
        Self { path, headers: boxed(headers) }
    }

    /// The application's headers, if there are any.
    #[inline]
    pub(super) fn headers(&self) -> Option<&HeaderMap> {
        self.headers.as_deref()
    }
}

impl RequestHead for Head {
    fn path(&self) -> &str {
        self.path
    }

    #[inline]
    fn entries<'a>(&'a self, user_agent: &'a str) -> impl Iterator<Item = (&'a str, &'a [u8])> {
        (self.headers().into_iter().flat_map(application_entries))
            .filter(move |(name, value)| !(*name == "user-agent" && *value == user_agent.as_bytes()))
    }
}

/// A request whose messages are a stream.
pub(super) struct StreamRequest<S> {
    head: Head,
    /// `None` once the messages are sent beside the response.
    batch: Option<Batch<S>>,
    after: Option<After>,
}

impl<S> StreamRequest<S> {
    pub(super) fn new(head: Head, batch: Batch<S>) -> Self {
        Self { head, batch: Some(batch), after: None }
    }
}

impl<S, M> Outbound for StreamRequest<S>
where
    S: Stream<Item = Result<M, Status>> + Send + 'static,
    M: Message + 'static,
{
    fn method(&self) -> &str {
        self.head.path()
    }

    fn entries<'a>(&'a self, user_agent: &'a str) -> impl Iterator<Item = (&'a str, &'a [u8])> {
        self.head.entries(user_agent)
    }

    fn prefetch(&mut self, cx: &mut Context<'_>) -> Result<(), rpc::Status> {
        if let (Some(batch), None) = (&mut self.batch, &self.after) {
            match batch.fill(cx) {
                After::Failed(status) => return Err(from_tonic(&status)),
                after => self.after = Some(after),
            }
        }
        Ok(())
    }

    fn data(&self) -> impl Buf + '_ {
        self.batch.as_ref().map(|batch| encoded::view(&batch.bytes)).unwrap_or_default()
    }

    fn is_whole(&self) -> bool {
        matches!(self.after, Some(After::End))
    }

    /// The rest goes beside the response, as both sides of a stream are independent.
    fn send_rest(&mut self, call: &Call, unsent: usize) {
        let (Some(mut batch), Some(after)) = (self.batch.take(), self.after.take()) else { return };
        batch.bytes.advance(batch.bytes.len() - unsent);
        if let Err(error) = call.spawn(send_stream(call.sending(), batch, after)) {
            tracing::warn!(%error, "a request's messages have no runtime to be sent in");
        }
    }
}

/// Sends a stream to its end, or that of its call. If it is dropped before (the stream has panicked, or the
/// runtime ends), the call fails.
async fn send_stream<S, M>(mut half: SendHalf, mut batch: Batch<S>, mut after: After)
where
    S: Stream<Item = Result<M, Status>>,
    M: Message,
{
    loop {
        let ended = matches!(after, After::End);
        if ended || !batch.bytes.is_empty() {
            let sent = send(&mut half, &mut batch.bytes, ended).await;
            if ended || sent == Sent::Stopped {
                return;
            }
        }
        if let After::Failed(status) = after {
            tracing::debug!(%status, "a request's stream failed");
            let status = from_tonic(&status);
            return half.fail(status.code(), status.message());
        }
        let next = poll_fn(|cx| match half.poll_stopped(cx) {
            Poll::Ready(()) => Poll::Ready(None),
            Poll::Pending => batch.poll_fill(cx).map(Some),
        });
        let Some(next) = next.await else { return };
        after = next;
    }
}

async fn send(half: &mut SendHalf, bytes: &mut Gather, end: bool) -> Sent {
    poll_fn(|cx| half.poll_send(cx, bytes, end)).await
}
