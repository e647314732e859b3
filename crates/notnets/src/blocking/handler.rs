//! What a server's application sees of a call.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;

use super::Status;
use super::link::Link;
use crate::PeerInfo;
use crate::message_prefix::Limit;
use crate::observe::ServerCalls;
use notnets_core::clock::{self, Timestamp};
use notnets_core::metadata::Metadata;
use notnets_memory::LoanedBytes;

/// A reply's memory up to this size is kept for the next, also when none comes for long.
const KEPT: usize = 64 << 10;

/// A unary call's request.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// The path: `/package.Service/Method`.
    pub method: &'a str,
    /// The message, encoded. What is large is read where the client has put it, if that is possible: in
    /// [shared](crate::SharedBytes) memory, or that of a client that is
    /// [trusted](super::Builder::trust_peer_memory).
    pub message: &'a [u8],
    /// The client's metadata.
    pub metadata: &'a Metadata,
    pub(super) deadline: Option<Timestamp>,
    /// Who calls.
    pub peer: &'a PeerInfo,
    /// What holds the message, if it can be held.
    pub(super) held: Option<&'a Bytes>,
    pub(super) lender: &'a Lender<'a>,
}

impl Request<'_> {
    /// The time that is left, if it is limited.
    pub fn time_left(&self) -> Option<Duration> {
        self.deadline.map(clock::until)
    }

    /// The message, to be kept for as long as you like. It is not copied if it is large and is read where the
    /// client has put it, or was put together of parts: then these bytes hold that memory.
    pub fn to_bytes(&self) -> Bytes {
        let range = self.message.as_ptr_range();
        let within = |held: &&Bytes| held.as_ptr() <= range.start && range.end <= held.as_ptr_range().end;
        match self.held.filter(within) {
            Some(held) => held.slice_ref(self.message),
            None => Bytes::copy_from_slice(self.message),
        }
    }

    /// Gives memory of the client's link to write so many bytes in, which are then not copied when they are
    /// [sent](Reply::bytes). As [`Client::loan`](super::Client::loan) does on the other side.
    pub fn loan(&self, len: usize) -> LoanedBytes {
        self.lender.loan(len)
    }
}

/// Lends the memory of a link while a call on it is handled.
pub(super) struct Lender<'a>(Mutex<&'a mut Link>);

impl<'a> Lender<'a> {
    #[inline]
    pub fn new(link: &'a mut Link) -> Self {
        Self(Mutex::new(link))
    }

    fn loan(&self, len: usize) -> LoanedBytes {
        let mut link = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match link.session.live() {
            Some(calls) => calls.loan(len),
            None => LoanedBytes::private(len),
        }
    }
}

impl fmt::Debug for Lender<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lender").finish_non_exhaustive()
    }
}

/// What goes back, empty at first. Its memory is that of the reply before.
#[derive(Clone, Debug, Default)]
pub struct Reply {
    /// The message, encoded.
    pub message: Vec<u8>,
    /// The message, if it is there already, in place of [`message`](Self::message). Those of
    /// [shared](crate::SharedBytes) memory, of a [loan](Request::loan), and what was received in place are
    /// sent without being copied.
    pub bytes: Option<Bytes>,
    /// What goes before it.
    pub metadata: Metadata,
    /// What goes after it.
    pub trailers: Metadata,
}

impl Reply {
    #[inline]
    pub(super) fn payload(&self) -> &[u8] {
        self.bytes.as_deref().unwrap_or(&self.message)
    }

    /// Gives back what a large message took.
    pub(super) fn give_back(&mut self) {
        if self.message.capacity() > KEPT {
            self.message = Vec::new();
        }
    }

    #[inline]
    pub(super) fn clear(&mut self) {
        self.message.clear();
        self.bytes = None;
        self.metadata.clear();
        self.trailers.clear();
    }
}

/// A function that answers calls.
pub trait Handler {
    fn handle(&mut self, request: &Request<'_>, reply: &mut Reply) -> Result<(), Status>;
}

impl<F: FnMut(&Request<'_>, &mut Reply) -> Result<(), Status>> Handler for F {
    #[inline]
    fn handle(&mut self, request: &Request<'_>, reply: &mut Reply) -> Result<(), Status> {
        self(request, reply)
    }
}

/// A handler, and what it has at hand.
pub struct App<H> {
    pub handler: H,
    pub reply: Reply,
    /// Of a request.
    pub limit: Limit,
    /// Sees the calls.
    pub observer: Option<Arc<dyn ServerCalls>>,
}
