//! What calls in messages send when they are opened, and what is left of that.

use std::task::Context;

use bytes::Buf;

use super::{Call, Outbound, SendHalf};
use crate::rpc::framing::Framed;
use crate::rpc::outgoing::Outgoing;
use crate::rpc::{Request, Status};

/// A request with its only message, which is kept until its response is there.
pub(super) struct WholeRequest {
    request: Request,
    message: Framed,
    /// The part of the message that did not fit when the call was opened, if there is one: how much of the
    /// message was sent. It goes beside the response.
    rest: Option<(SendHalf, usize)>,
}

impl WholeRequest {
    pub(super) fn new(request: Request, message: Framed) -> Self {
        Self { request, message, rest: None }
    }

    /// Sends what is left of the message, as soon as there is room.
    pub(super) fn poll_rest(&mut self, cx: &mut Context<'_>) {
        let Some((half, sent)) = &mut self.rest else { return };
        let mut rest = self.message.view(*sent);
        let polled = half.poll_send(cx, &mut rest, true);
        *sent = self.message.len() - rest.remaining();
        if polled.is_ready() {
            self.rest = None;
        }
    }

    pub(super) fn into_rest(self) -> Option<Box<Rest>> {
        let (half, sent) = self.rest?;
        Some(Box::new(Rest { half, outgoing: Outgoing::new(self.message, sent) }))
    }
}

impl Outbound for WholeRequest {
    fn method(&self) -> &str {
        self.request.method.path()
    }

    fn entries<'a>(&'a self, _user_agent: &'a str) -> impl Iterator<Item = (&'a str, &'a [u8])> {
        self.request.metadata.iter()
    }

    fn prefetch(&mut self, _cx: &mut Context<'_>) -> Result<(), Status> {
        self.rest = None;
        Ok(())
    }

    fn data(&self) -> impl Buf + '_ {
        self.message.view(0)
    }

    fn is_whole(&self) -> bool {
        true
    }

    fn send_rest(&mut self, call: &Call, unsent: usize) {
        self.rest = Some((call.sending(), self.message.len() - unsent));
    }
}

/// A request whose messages come later.
pub(super) struct StreamHead(pub(super) Request);

impl Outbound for StreamHead {
    fn method(&self) -> &str {
        self.0.method.path()
    }

    fn entries<'a>(&'a self, _user_agent: &'a str) -> impl Iterator<Item = (&'a str, &'a [u8])> {
        self.0.metadata.iter()
    }

    fn prefetch(&mut self, _cx: &mut Context<'_>) -> Result<(), Status> {
        Ok(())
    }

    fn data(&self) -> impl Buf + '_ {
        &[][..]
    }

    fn is_whole(&self) -> bool {
        false
    }

    fn send_rest(&mut self, _call: &Call, _unsent: usize) {}
}

/// A part of a message that is sent while the response is received.
pub(super) struct Rest {
    pub(super) half: SendHalf,
    pub(super) outgoing: Outgoing,
}
