//! What calls in messages send when they are opened, and what is left of that.

use std::task::Context;

use bytes::Buf;

use super::{Call, Outbound, SendHalf};
use crate::rpc::framing::{Framed, FramedMessage};
use crate::rpc::outgoing::Outgoing;
use crate::rpc::{Request, Status};

/// The beginning of a call.
pub(crate) trait RequestHead {
    /// The method's path.
    fn path(&self) -> &str;

    /// The metadata, for a link that has announced this user agent.
    fn entries<'a>(&'a self, user_agent: &'a str) -> impl Iterator<Item = (&'a str, &'a [u8])>;
}

impl RequestHead for Request {
    fn path(&self) -> &str {
        self.method.path()
    }

    fn entries<'a>(&'a self, _user_agent: &'a str) -> impl Iterator<Item = (&'a str, &'a [u8])> {
        self.metadata.iter()
    }
}

/// A request with its only message, which is kept until its response is there.
pub(crate) struct WholeRequest<H = Request, M = Framed> {
    head: H,
    message: M,
    /// The part of the message that did not fit when the call was opened, if there is one: how much of the
    /// message was sent. It goes beside the response.
    rest: Option<(SendHalf, usize)>,
}

impl<H, M: FramedMessage> WholeRequest<H, M> {
    pub(crate) fn new(head: H, message: M) -> Self {
        Self { head, message, rest: None }
    }

    /// Sends what is left of the message, as soon as there is room.
    pub(crate) fn poll_rest(&mut self, cx: &mut Context<'_>) {
        let Some((half, sent)) = &mut self.rest else { return };
        let mut rest = self.message.view(*sent);
        let polled = half.poll_send(cx, &mut rest, true);
        *sent = self.message.len() - rest.remaining();
        if polled.is_ready() {
            self.rest = None;
        }
    }

    /// Returns `true` if a part of the message is still to be sent.
    #[inline]
    pub(crate) fn has_rest(&self) -> bool {
        self.rest.is_some()
    }

    pub(crate) fn into_rest(self) -> Option<Box<Rest<M>>> {
        let (half, sent) = self.rest?;
        Some(Box::new(Rest { half, outgoing: Outgoing::new(self.message, sent) }))
    }
}

impl<H: RequestHead, M: FramedMessage> Outbound for WholeRequest<H, M> {
    fn method(&self) -> &str {
        self.head.path()
    }

    fn entries<'a>(&'a self, user_agent: &'a str) -> impl Iterator<Item = (&'a str, &'a [u8])> {
        self.head.entries(user_agent)
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
        self.0.path()
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
pub(crate) struct Rest<M = Framed> {
    half: SendHalf,
    outgoing: Outgoing<M>,
}

impl<M: FramedMessage> Rest<M> {
    /// Sends what is left, as soon as there is room. Returns `true` when nothing is left to do.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> bool {
        let Self { half, outgoing } = self;
        outgoing.poll(cx, |cx, rest| half.poll_send(cx, rest, true)).is_ready()
    }
}
