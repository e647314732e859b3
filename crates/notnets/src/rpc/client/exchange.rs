//! From what a call begins with to its response's head: opened, and opened again where that is safe.

use std::task::{Context, Poll, ready};

use bytes::Buf;
use notnets_core::call::{Buffered, Failure, ResponseHead};

use super::{Call, Opened, Opening};
use crate::link::Answer;
use crate::rpc::{Code, Status};

/// The beginning of a call. Kept until its response is there, for the call may be opened again.
pub(crate) trait Outbound {
    /// The method's path.
    fn method(&self) -> &str;

    /// The metadata, for a link that has announced this user agent.
    fn entries<'a>(&'a self, user_agent: &'a str) -> impl Iterator<Item = (&'a str, &'a [u8])>;

    /// Looks, once, for what of the messages is at hand.
    ///
    /// # Errors
    /// When they can't be had.
    fn prefetch(&mut self, cx: &mut Context<'_>) -> Result<(), Status>;

    /// All bytes that are at hand.
    fn data(&self) -> impl Buf + '_;

    /// Returns `true` if nothing comes after them.
    fn is_whole(&self) -> bool;

    /// The call is open, but the last `unsent` of these bytes are still to be sent, and what comes after
    /// them.
    fn send_rest(&mut self, call: &Call, unsent: usize);
}

/// A call until its response's head has come.
#[derive(Debug)]
pub(crate) struct Exchange<O> {
    phase: Phase,
    opening: Opening,
    outbound: O,
    /// It was opened again, as its server had ended.
    repeated: bool,
}

#[derive(Debug)]
enum Phase {
    /// Waits for its turn, for a link, or for room on it.
    Opening,
    /// Waits for the response's head.
    Open(Call),
    /// Could not be opened, or is answered.
    Over,
}

/// An answered call, its response's head and what has come with it.
pub(crate) type Answered = (Call, ResponseHead, Buffered);

impl<O: Outbound> Exchange<O> {
    pub(crate) fn new(opening: Opening, outbound: O) -> Self {
        Self { phase: Phase::Opening, opening, outbound, repeated: false }
    }

    /// Waits for the response's head.
    ///
    /// # Errors
    /// When the call could not be opened, or was cut short.
    pub(crate) fn poll_head(&mut self, cx: &mut Context<'_>) -> Poll<Result<Answered, Status>> {
        loop {
            let answer = match &mut self.phase {
                Phase::Opening => match ready!(poll_open(cx, &mut self.opening, &mut self.outbound)) {
                    Ok((call, answer)) => {
                        self.phase = Phase::Open(call);
                        answer
                    }
                    Err(status) => {
                        self.phase = Phase::Over;
                        self.opening.give_up();
                        return Poll::Ready(Err(status));
                    }
                },
                Phase::Open(call) => call.poll_head(cx),
                Phase::Over => {
                    let text = "a response was polled after it was given";
                    return Poll::Ready(Err(Status::new(Code::INTERNAL, text)));
                }
            };
            let answer = ready!(answer);
            let Phase::Open(call) = std::mem::replace(&mut self.phase, Phase::Over) else { continue };
            return Poll::Ready(match answer {
                Ok((head, buffered)) => Ok(answered(call, head, buffered)),
                Err(failure) if self.may_open_again(&failure, &call) => {
                    self.opening.reopen(call);
                    self.phase = Phase::Opening;
                    continue;
                }
                Err(failure) => Err(failure.into()),
            });
        }
    }

    /// Returns the beginning of the call.
    pub(crate) fn outbound(&mut self) -> &mut O {
        &mut self.outbound
    }

    /// Returns the beginning of the call, when it is not needed any more to open it again.
    pub(crate) fn into_outbound(self) -> O {
        self.outbound
    }

    /// Returns `true` if the server's application has certainly not seen the call: the server went away as it
    /// was made, or had ended. That it had ended is an excuse only once.
    #[cold]
    fn may_open_again(&mut self, failure: &Failure, call: &Call) -> bool {
        if !(failure.retry_safe && self.outbound.is_whole()) {
            return false;
        }
        call.is_draining()
            || (failure.code == Code::UNAVAILABLE && !std::mem::replace(&mut self.repeated, true))
    }
}

#[inline]
fn poll_open<O: Outbound>(
    cx: &mut Context<'_>,
    opening: &mut Opening,
    outbound: &mut O,
) -> Poll<Result<(Call, Poll<Answer>), Status>> {
    ready!(opening.poll_turn(cx))?;
    outbound.prefetch(cx)?;
    let Opened { call, unsent, answer } = ready!(opening.poll_open(cx, outbound))?;
    if let Some(unsent) = unsent {
        outbound.send_rest(&call, unsent);
    }
    Poll::Ready(Ok((call, answer)))
}

#[inline]
fn answered(mut call: Call, head: ResponseHead, buffered: Buffered) -> Answered {
    if buffered.end.is_some() {
        call.closed();
    }
    (call, head, buffered)
}
