//! The sending half of a call in messages.

use std::future::poll_fn;

use notnets_core::call::Sent;

use super::SendHalf;
use crate::rpc::framing::Framed;
use crate::rpc::outgoing::Outgoing;
use crate::rpc::{Code, Payload, Status};

/// The sending half of a call. Dropped before [`finish`](Self::finish), it fails the call with `CANCELLED`: a
/// server never takes what was cut off for all there is.
pub struct Sender {
    half: SendHalf,
    outgoing: Outgoing,
}

impl std::fmt::Debug for Sender {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sender").finish_non_exhaustive()
    }
}

impl Sender {
    pub(super) fn new(half: SendHalf) -> Self {
        Self { half, outgoing: Outgoing::default() }
    }

    /// Sends a message as soon as there is room for it. If the future is dropped before, the message goes out
    /// before the next.
    ///
    /// # Errors
    /// When the call is over: its [`Receiver`](super::Receiver) knows why.
    pub async fn send(&mut self, message: impl Into<Payload>) -> Result<(), Status> {
        let message = Framed::new(message.into())?;
        self.flush().await?;
        self.outgoing.set(message);
        self.flush().await
    }

    /// Says that no more messages come.
    ///
    /// # Errors
    /// When the call is over: its [`Receiver`](super::Receiver) knows why.
    pub async fn finish(mut self) -> Result<(), Status> {
        self.flush().await?;
        check(poll_fn(|cx| self.half.poll_send(cx, &mut &[][..], true)).await)
    }

    /// Waits until the call is over, and takes no more messages.
    pub async fn stopped(&mut self) {
        poll_fn(|cx| self.half.poll_stopped(cx)).await;
    }

    /// The half that it sends by.
    #[cfg(feature = "byte-stream")]
    pub(crate) fn into_half(self) -> SendHalf {
        self.half
    }

    async fn flush(&mut self) -> Result<(), Status> {
        let Self { half, outgoing } = self;
        check(poll_fn(|cx| outgoing.poll(cx, |cx, rest| half.poll_send(cx, rest, false))).await)
    }
}

fn check(sent: Sent) -> Result<(), Status> {
    if sent == Sent::Stopped {
        return Err(Status::new(Code::CANCELLED, "the call is over: its receiving half knows why"));
    }
    Ok(())
}
