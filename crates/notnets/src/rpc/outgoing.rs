//! A message on its way, which may have to wait for room.

use std::task::{Context, Poll};

use bytes::Buf;
use notnets_core::call::Sent;

use super::View;
use super::framing::{Framed, FramedMessage};

/// The message that is being sent, if there is one. It survives the future that sends it, so that a message
/// that was sent in part is never cut off there.
#[derive(Debug)]
pub(crate) struct Outgoing<M = Framed> {
    message: Option<M>,
    sent: usize,
}

impl<M> Default for Outgoing<M> {
    fn default() -> Self {
        Self { message: None, sent: 0 }
    }
}

impl<M: FramedMessage> Outgoing<M> {
    pub(crate) fn new(message: M, sent: usize) -> Self {
        Self { message: Some(message), sent }
    }

    /// The next message. The one before must have been sent.
    pub(crate) fn set(&mut self, message: M) {
        debug_assert!(self.message.is_none());
        *self = Self::new(message, 0);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.message.is_none()
    }

    /// Offers what is left to `send`, and counts what it took.
    pub(crate) fn offer<R>(&mut self, send: impl FnOnce(&mut View<'_>) -> R) -> R {
        let Self { message, sent } = self;
        let Some(framed) = message else { return send(&mut View::default()) };
        let mut rest = framed.view(*sent);
        let result = send(&mut rest);
        *sent = framed.len() - rest.remaining();
        if *sent == framed.len() {
            *message = None;
        }
        result
    }

    /// Sends what is left, as soon as there is room.
    pub(crate) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        mut send: impl FnMut(&mut Context<'_>, &mut View<'_>) -> Poll<Sent>,
    ) -> Poll<Sent> {
        if self.is_empty() {
            return Poll::Ready(Sent::All);
        }
        self.offer(|rest| send(cx, rest))
    }
}
