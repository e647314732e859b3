//! From what a call begins with to its response's head: opened, and opened again where that is safe.

use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Buf;
use notnets_core::call::{Buffered, End, Failure, ResponseHead};
use notnets_core::metadata::Metadata;

use super::hedges::Hedges;
use super::{Call, Opened, Opening};
use crate::link::Answer;
use crate::observe::AgainReason;
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
    excuse: Excuse,
}

#[derive(Debug)]
enum Phase {
    /// Waits for its turn, for a link, or for room on it.
    Opening,
    /// Waits for its turn, to be hedged if it can be.
    Configured,
    /// Waits for the first of several attempts.
    Hedged(Box<Hedges>),
    /// Waits for the response's head.
    Open(Call),
    /// Waits for its next attempt.
    Pausing,
    /// Could not be opened, or is answered.
    Over,
}

/// An answered call, its response's head and what has come with it.
pub(crate) type Answered = (Call, ResponseHead, Buffered);

impl<O: Outbound> Exchange<O> {
    #[inline]
    pub(crate) fn new(opening: Opening, outbound: O) -> Self {
        let mut exchange = Self { phase: Phase::Opening, opening, outbound, excuse: Excuse::default() };
        if exchange.opening.may_be_configured() {
            exchange.configure();
        }
        exchange
    }

    #[cold]
    fn configure(&mut self) {
        self.opening.configure(self.outbound.method());
        if self.opening.has_attempts() {
            self.phase = Phase::Configured;
        }
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
                    Err(status) => match self.fail_opening(status) {
                        None => continue,
                        Some(status) => return Poll::Ready(Err(status)),
                    },
                },
                Phase::Open(call) => call.poll_head(cx),
                Phase::Pausing => {
                    ready!(self.poll_pause(cx))?;
                    continue;
                }
                Phase::Configured => {
                    ready!(self.poll_configured(cx)).map_err(|status| self.observe_failure(status))?;
                    continue;
                }
                Phase::Hedged(hedges) => {
                    let answer = ready!(hedges.poll(cx, &self.opening, &self.outbound));
                    return Poll::Ready(self.end_hedges(answer));
                }
                Phase::Over => {
                    let text = "a response was polled after it was given";
                    return Poll::Ready(Err(Status::new(Code::INTERNAL, text)));
                }
            };
            let answer = ready!(answer);
            let Phase::Open(mut call) = std::mem::replace(&mut self.phase, Phase::Over) else { continue };
            return Poll::Ready(match answer {
                Ok((head, buffered)) => {
                    if self.opening.is_special() {
                        if self.is_failed_attempt(&head, &buffered) {
                            self.attempt_again(call);
                            continue;
                        }
                        self.observe(&mut call, &head, &buffered);
                    }
                    Ok(answered(call, head, buffered))
                }
                Err(failure) => match self.fail_open(failure, call) {
                    None => continue,
                    Some(status) => Err(status),
                },
            });
        }
    }

    /// The call is answered: for what sees it.
    #[cold]
    fn observe(&mut self, call: &mut Call, head: &ResponseHead, buffered: &Buffered) {
        if let Some(observation) = self.opening.take_observation() {
            call.observe_head(observation, head, buffered);
        }
    }

    /// The call has failed: for what sees it.
    #[cold]
    fn observe_failure(&mut self, status: Status) -> Status {
        if let Some(observation) = self.opening.take_observation() {
            observation.end(status.code());
        }
        status
    }

    /// Waits for the call's turn, and finds out whether it is hedged.
    #[cold]
    fn poll_configured(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Status>> {
        ready!(self.opening.poll_turn(cx))?;
        self.outbound.prefetch(cx)?;
        let hedging = self.opening.hedging(&self.outbound);
        self.phase = hedging.map_or(Phase::Opening, |plan| Phase::Hedged(Box::new(Hedges::new(plan))));
        Poll::Ready(Ok(()))
    }

    /// One of several attempts was answered, or all have failed.
    #[cold]
    fn end_hedges(&mut self, answer: Result<Answered, Status>) -> Result<Answered, Status> {
        self.phase = Phase::Over;
        let permit = self.opening.take_permit();
        let (mut call, head, buffered) = answer.map_err(|status| self.observe_failure(status))?;
        self.observe(&mut call, &head, &buffered);
        call.hold(permit);
        Ok(answered(call, head, buffered))
    }

    /// Returns the beginning of the call.
    pub(crate) fn outbound(&mut self) -> &mut O {
        &mut self.outbound
    }

    /// Returns the beginning of the call, when it is not needed any more to open it again.
    pub(crate) fn into_outbound(self) -> O {
        self.outbound
    }

    /// The call could not be opened. `None` if it is attempted again.
    #[cold]
    fn fail_opening(&mut self, status: Status) -> Option<Status> {
        if status.is_retry_safe() && self.may_attempt_again(status.code(), None) {
            self.phase = Phase::Pausing;
            return None;
        }
        self.phase = Phase::Over;
        self.opening.give_up();
        Some(self.observe_failure(status))
    }

    /// The call was cut short. `None` if it is opened again.
    #[cold]
    fn fail_open(&mut self, failure: Failure, call: Call) -> Option<Status> {
        if self.outbound.is_whole() && self.excuse.covers(&failure, &call) {
            if let Some(observation) = self.opening.observation() {
                observation.attempted_again(AgainReason::Transparent, failure.code, Duration::ZERO);
            }
            self.opening.reopen(call);
            self.phase = Phase::Opening;
            return None;
        }
        if self.may_attempt_again(failure.code, None) {
            self.attempt_again(call);
            return None;
        }
        Some(self.observe_failure(failure.into()))
    }

    #[cold]
    fn poll_pause(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Status>> {
        let paused = ready!(self.opening.poll_pause(cx)).map_err(|status| self.observe_failure(status));
        if paused.is_ok() {
            self.phase = Phase::Opening;
        } else {
            self.phase = Phase::Over;
            self.opening.give_up();
        }
        Poll::Ready(paused)
    }

    /// Returns `true` if this answer is an error after which the call is attempted again.
    #[cold]
    fn is_failed_attempt(&mut self, head: &ResponseHead, buffered: &Buffered) -> bool {
        if !self.opening.has_attempts() {
            return false;
        }
        if let ResponseHead::TrailersOnly(code, trailers) = head
            && *code != Code::OK
        {
            return self.may_attempt_again(*code, Some(trailers));
        }
        // What comes later is not known: a call whose answer has begun counts as one that ends well.
        if !has_failed(buffered) {
            self.opening.succeed();
        }
        false
    }

    /// Returns `true` if the policy of the method wants another attempt after this end of one.
    #[cold]
    fn may_attempt_again(&mut self, code: Code, trailers: Option<&Metadata>) -> bool {
        let none = Metadata::new();
        self.opening.fail(code, trailers.unwrap_or(&none), &self.outbound)
    }

    #[cold]
    fn attempt_again(&mut self, call: Call) {
        self.opening.reopen(call);
        self.phase = Phase::Pausing;
    }
}

/// Whether an attempt of a call is made again although it has failed.
#[derive(Debug, Default)]
pub(super) struct Excuse {
    /// It was opened again, as its server had ended.
    repeated: bool,
}

impl Excuse {
    /// Returns `true` if the server's application has certainly not seen the call: the server went away as it
    /// was made, or had ended. That it had ended is an excuse only once.
    #[cold]
    pub(super) fn covers(&mut self, failure: &Failure, call: &Call) -> bool {
        if !failure.retry_safe {
            return false;
        }
        call.is_draining()
            || (failure.code == Code::UNAVAILABLE && !std::mem::replace(&mut self.repeated, true))
    }
}

/// Returns `true` if what has come with a response's head ends the call with an error.
pub(super) fn has_failed(buffered: &Buffered) -> bool {
    matches!(&buffered.end, Some(End::Trailers(code, _)) if *code != Code::OK)
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
