//! The messages of a stream that are ready, encoded together.

use std::pin::Pin;
use std::task::{Context, Poll};

use notnets_memory::Gather;
use prost::Message;
use tonic::Status;
use tonic::codegen::tokio_stream::Stream;

use super::encoded;

/// So many bytes are sent before more messages are taken from a stream: as many as tonic's.
const FULL: usize = 32 * 1024;

/// A stream of messages on its way.
pub(super) struct Batch<S> {
    stream: Pin<Box<S>>,
    /// Messages that were taken, and are not sent.
    pub(super) bytes: Gather,
    limit: Option<usize>,
}

/// What came after the messages that were taken.
#[derive(Debug)]
pub(super) enum After {
    /// More will come.
    Pending,
    /// Others are left in the stream, until these are sent.
    Full,
    /// Nothing: the stream has ended. It is not polled again.
    End,
    /// The stream has failed, or a message can't be sent. It is not polled again.
    Failed(Status),
}

impl<S, M> Batch<S>
where
    S: Stream<Item = Result<M, Status>>,
    M: Message,
{
    /// Refuses messages of more bytes than `limit`.
    pub(super) fn new(stream: S, limit: Option<usize>) -> Self {
        Self { stream: Box::pin(stream), bytes: Gather::default(), limit }
    }

    /// Takes the messages that are ready. The task is woken for more if there are none.
    pub(super) fn fill(&mut self, cx: &mut Context<'_>) -> After {
        while self.bytes.len() < FULL {
            let message = match self.stream.as_mut().poll_next(cx) {
                Poll::Pending => return After::Pending,
                Poll::Ready(None) => return After::End,
                Poll::Ready(Some(message)) => message,
            };
            let appended = message.and_then(|message| encoded::append(&mut self.bytes, &message, self.limit));
            if let Err(status) = appended {
                return After::Failed(status);
            }
        }
        After::Full
    }

    /// Waits until there is something to send, or the stream has ended.
    pub(super) fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<After> {
        match self.fill(cx) {
            After::Pending if self.bytes.is_empty() => Poll::Pending,
            after => Poll::Ready(after),
        }
    }
}
