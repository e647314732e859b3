//! One call, seen from one side.

use std::sync::Arc;

use bytes::Bytes;

use super::queue::Queue;
use crate::clock::Timestamp;
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

/// What was received on a stream and not taken yet.
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
    /// We have reset it and wait for the peer's answer.
    pub resetting: bool,
    /// It counts against the server's limit of streams.
    pub counted: bool,
    pub receive: Receive,
    pub send: Send,
    pub deadline: Option<Timestamp>,
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
    pub fn end(&mut self) {
        let receive = &mut self.receive;
        receive.head = None;
        receive.end = None;
        receive.queue.clear();
        self.user = None;
        self.deadline = None;
    }
}
