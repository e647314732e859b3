//! One call, seen from one side.

use std::sync::Arc;

use bytes::Bytes;

use super::gathering::Gathering;
use super::queue::Queue;
use super::state::{Input, State};
use crate::clock::Timestamp;
use crate::code::Code;
use crate::messages::Messages;
use crate::metadata::Metadata;
use crate::stats::Counted;

/// Why a call ended before its time.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Failure {
    /// The status to give to the application.
    pub code: Code,
    /// The cause, in a sentence.
    pub message: Arc<str>,
    /// The server's application never saw the request, so that it is safe to call again.
    pub retry_safe: bool,
}

impl Failure {
    /// A failure that may have had effects.
    pub fn new(code: Code, message: impl Into<Arc<str>>) -> Self {
        Self { code, message: message.into(), retry_safe: false }
    }

    /// The failure, with [`retry_safe`](Self::retry_safe) set if the request is known not to have been seen.
    #[must_use]
    pub fn with_retry_safe(mut self, unseen: bool) -> Self {
        self.retry_safe |= unseen;
        self
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

/// The next thing to receive on a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Received {
    /// Nothing yet: an event will follow.
    Pending,
    /// The next bytes, cut anywhere.
    Data(Bytes),
    /// Nothing any more.
    End(End),
}

/// Data and end that a stream has received and the application has not taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Buffered {
    /// The next data.
    pub data: Option<Bytes>,
    /// The end, if it comes right after.
    pub end: Option<End>,
}

#[derive(Debug)]
pub(super) struct Stream<T> {
    /// `None` once the application has let go of it.
    pub user: Option<T>,
    pub state: State,
    pub receive: Receive,
    pub send: Send,
    pub deadline: Option<Timestamp>,
    /// Server: what the request's head takes.
    pub head_bytes: usize,
    pub counted: Counted,
    /// Client: which of our descriptors holds the request, counted from 1.
    pub request_at: u64,
}

#[derive(Debug)]
pub(super) struct Receive {
    pub head: Option<ResponseHead>,
    pub head_seen: bool,
    pub queue: Queue,
    /// A message that is put together; it is behind what is in the queue.
    pub gathering: Option<Box<Gathering>>,
    /// The end behind the last data.
    pub end: Option<End>,
    /// Bytes that the peer may still send.
    pub credit: u64,
    /// Bytes that the application took and that are not yet announced to the peer.
    pub taken: u64,
    /// Bytes of a message of which the rest has not come, or not been looked at.
    pub unfinished: u64,
    /// Where they end, of those that come.
    pub messages: Messages,
}

#[derive(Debug)]
pub(super) struct Send {
    pub flow: Outflow,
    /// Waits for room in the ring or for a block.
    pub queued: bool,
    /// Waits for credit of its own.
    pub starved: bool,
}

/// What flows out on a stream.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Outflow {
    /// Bytes that we may still send.
    pub credit: u64,
    /// Where they end, of those that are sent.
    pub messages: Messages,
}

impl Outflow {
    /// Of a stream that begins.
    #[inline]
    pub fn new(window: u32) -> Self {
        Self { credit: window.into(), messages: Messages::default() }
    }
}

impl Receive {
    /// Forgets the data that were not taken. Returns what they cost.
    #[inline]
    pub fn discard(&mut self) -> u64 {
        self.gathering = None;
        if self.queue.is_empty() {
            return 0;
        }
        std::iter::from_fn(|| self.queue.pop()).map(|data| data.cost).sum()
    }
}

impl<T> Stream<T> {
    /// Room for one.
    pub fn vacant() -> Self {
        Self {
            user: None,
            state: State::Vacant,
            receive: Receive {
                head: None,
                head_seen: false,
                queue: Queue::default(),
                gathering: None,
                end: None,
                credit: 0,
                taken: 0,
                unfinished: 0,
                messages: Messages::default(),
            },
            send: Send { flow: Outflow::default(), queued: false, starved: false },
            deadline: None,
            head_bytes: 0,
            counted: Counted::default(),
            request_at: 0,
        }
    }

    /// Turns a vacant slot into a stream.
    #[inline]
    pub fn begin(&mut self, receive_window: u32, send_window: u32) {
        self.state = State::Open;
        self.request_at = 0;
        self.receive.head_seen = false;
        self.receive.credit = receive_window.into();
        self.receive.taken = 0;
        self.receive.messages = Messages::default();
        self.send = Send { flow: Outflow::new(send_window), queued: false, starved: false };
    }

    /// All of a request is sent.
    #[inline]
    pub fn end_sent(&mut self) {
        if let Some(next) = self.state.next(Input::EndSent) {
            self.state = next;
        }
    }

    /// All of a request has come.
    #[inline]
    pub fn end_received(&mut self) {
        if let Some(next) = self.state.next(Input::EndReceived) {
            self.state = next;
            self.receive.end = Some(End::Requests);
        }
    }

    /// A stream becomes vacant.
    #[inline]
    pub fn end(&mut self) {
        let receive = &mut self.receive;
        receive.head = None;
        receive.end = None;
        if !receive.queue.is_empty() {
            receive.queue.clear();
        }
        receive.gathering = None;
        self.state = State::Vacant;
        self.user = None;
        self.deadline = None;
    }
}
