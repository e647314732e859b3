//! One call, seen from one side.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;

use super::chunk::{Chunk, Small};
use super::streams::Removed;
use crate::code::Code;
use crate::metadata::Metadata;

/// Why a call ended before its time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The status to give to the application.
    pub code: Code,
    /// What happened, in a sentence.
    pub message: Arc<str>,
    /// The server's application never saw the request: it is safe to call again.
    pub retry_safe: bool,
}

impl Failure {
    /// A failure that may have had effects.
    pub fn new(code: Code, message: impl Into<Arc<str>>) -> Self {
        Self { code, message: message.into(), retry_safe: false }
    }
}

/// How the receiving direction of a stream ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// The client has sent everything.
    Requests,
    /// The server's status and trailing metadata.
    Trailers(Code, Metadata),
    /// Cut short.
    Failed(Failure),
}

/// A response's head.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ResponseHead {
    /// Metadata; data and trailers follow.
    Head(Metadata),
    /// A status with metadata, and that is all.
    TrailersOnly(Code, Metadata),
}

/// What there is to receive on a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Received {
    /// Nothing yet: an event will tell.
    Pending,
    /// The next bytes, cut anywhere.
    Data(Bytes),
    /// Nothing any more.
    End(End),
}

/// What of a stream is at hand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AtHand {
    /// The next data.
    pub data: Option<Bytes>,
    /// The end, if it comes right after.
    pub end: Option<End>,
}

#[derive(Debug)]
pub(super) struct Stream<T> {
    /// `None` once the application has let go of it.
    pub user: Option<T>,
    /// We have reset it and wait for the peer's answer.
    pub resetting: bool,
    /// It counts against the server's limit of streams.
    pub counted: bool,
    pub receive: Receive,
    pub send: Send,
    pub deadline: Option<u64>,
    /// Client: which of our descriptors holds the request, counted from 1.
    pub request_at: u64,
}

#[derive(Debug)]
pub(super) struct Receive {
    pub head: Option<ResponseHead>,
    pub head_seen: bool,
    pub queue: Queue,
    pub end: Option<End>,
    /// What the peer may still send.
    pub credit: u64,
    /// What the application took since we last told the peer.
    pub taken: u64,
}

/// Data in the order they came. Most streams never hold more than one chunk: that one needs no
/// allocation.
#[derive(Debug, Default)]
pub(super) struct Queue {
    first: Option<Chunk>,
    /// `None` for most: there is nothing to drop then.
    rest: Option<VecDeque<Chunk>>,
}

impl Queue {
    #[inline]
    pub fn push(&mut self, data: Chunk) {
        match (&self.first, &mut self.rest) {
            (None, None) => self.first = Some(data),
            (_, rest) => rest.get_or_insert_default().push_back(data),
        }
    }

    #[inline]
    pub fn pop(&mut self) -> Option<Chunk> {
        if self.first.is_some() {
            return self.first.take();
        }
        let next = self.rest.as_mut()?.pop_front();
        self.rest.take_if(|rest| rest.is_empty());
        next
    }

    pub fn bytes(&self) -> usize {
        self.first.iter().chain(self.rest.iter().flatten()).map(Chunk::len).sum()
    }

    /// The only data there are, if they are a small message: take them with [`pop`](Self::pop).
    #[inline]
    pub fn only_message(&self) -> Option<&Small> {
        match (&self.first, &self.rest) {
            (Some(Chunk::Message(message)), None) => Some(message),
            _ => None,
        }
    }

    #[inline]
    pub fn is_empty(&self) -> bool {
        self.first.is_none() && self.rest.is_none()
    }
}

#[derive(Debug)]
pub(super) struct Send {
    /// What we may still send.
    pub credit: u64,
    pub ended: bool,
    /// Waits for room in the ring or for a block.
    pub queued: bool,
    /// Waits for credit of its own.
    pub starved: bool,
}

impl<T> Stream<T> {
    /// Room for one.
    pub fn vacant() -> Self {
        Self {
            user: None,
            resetting: false,
            counted: false,
            receive: Receive {
                head: None,
                head_seen: false,
                queue: Queue::default(),
                end: None,
                credit: 0,
                taken: 0,
            },
            send: Send { credit: 0, ended: false, queued: false, starved: false },
            deadline: None,
            request_at: 0,
        }
    }

    /// What is vacant becomes a stream.
    #[inline]
    pub fn begin(&mut self, receive_window: u32, send_window: u32) {
        let Self { resetting, counted, receive, send, request_at, .. } = self;
        (*resetting, *counted, *request_at) = (false, true, 0);
        (receive.head_seen, receive.credit, receive.taken) = (false, receive_window.into(), 0);
        *send = Send { credit: send_window.into(), ended: false, queued: false, starved: false };
    }

    /// A stream becomes vacant.
    #[inline]
    pub fn end(&mut self) -> Removed<T> {
        let receive = &mut self.receive;
        receive.head = None;
        receive.end = None;
        receive.queue = Queue::default();
        Removed { user: self.user.take(), deadline: self.deadline.take() }
    }
}
