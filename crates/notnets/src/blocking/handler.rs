//! What a server's application sees of a call.

use std::time::Duration;

use super::Status;
use crate::PeerInfo;
use crate::message_prefix::Limit;
use notnets_core::clock::{self, Timestamp};
use notnets_core::metadata::Metadata;

/// A unary call's request.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// The path: `/package.Service/Method`.
    pub method: &'a str,
    /// The message, encoded.
    pub message: &'a [u8],
    /// The client's metadata.
    pub metadata: &'a Metadata,
    pub(super) deadline: Option<Timestamp>,
    /// Who calls.
    pub peer: &'a PeerInfo,
}

impl Request<'_> {
    /// The time that is left, if it is limited.
    pub fn time_left(&self) -> Option<Duration> {
        self.deadline.map(clock::until)
    }
}

/// What goes back, empty at first. Its memory is that of the reply before.
#[derive(Clone, Debug, Default)]
pub struct Reply {
    /// The message, encoded.
    pub message: Vec<u8>,
    /// What goes before it.
    pub metadata: Metadata,
    /// What goes after it.
    pub trailers: Metadata,
}

impl Reply {
    #[inline]
    pub(super) fn clear(&mut self) {
        self.message.clear();
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
}
