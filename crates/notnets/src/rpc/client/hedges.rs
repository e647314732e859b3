//! A call that is made several times at once: the first answer counts.

use std::future::poll_fn;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, Bytes};
use notnets_core::call::ResponseHead;
use notnets_core::clock::{self, Timestamp};

use super::attempts::{pushback_of, too_late_to_repeat};
use super::deadline_timer::DeadlineTimer;
use super::exchange::{Answered, Excuse, has_failed};
use super::hedging::Hedging;
use super::{Call, Opened, Opening, Outbound};
use crate::observe::AgainReason;
use crate::rpc::{Code, Status};

/// The attempts of a hedged call. Those that are dropped are cancelled.
#[derive(Debug)]
pub(super) struct Hedges {
    plan: Hedging,
    open: Vec<Attempt>,
    /// How the last attempt ended that did not end the call.
    last_failed: Option<Outcome>,
    timer: Option<Box<DeadlineTimer>>,
}

type Outcome = Result<Answered, Status>;

#[derive(Debug)]
struct Attempt {
    opening: Opening,
    call: Option<Call>,
    excuse: Excuse,
}

impl Hedges {
    pub(super) fn new(plan: Hedging) -> Self {
        Self { plan, open: Vec::new(), last_failed: None, timer: None }
    }

    /// Waits for the head of the response that counts, or for the end of the last attempt. `opening` is the
    /// call's; each attempt is opened as it says.
    pub(super) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        opening: &Opening,
        outbound: &impl Outbound,
    ) -> Poll<Outcome> {
        loop {
            while let Some(previous) = self.plan.begin(clock::now()) {
                self.timer = None;
                if let (1.., Some(observation)) = (previous, opening.observation()) {
                    observation.attempted_again(AgainReason::Hedge, Code::OK, Duration::ZERO);
                }
                let opening = opening.attempt(previous);
                self.open.push(Attempt { opening, call: None, excuse: Excuse::default() });
            }
            if let Some(outcome) = self.poll_attempts(cx, outbound) {
                self.open.clear();
                return Poll::Ready(outcome);
            }
            if self.open.is_empty()
                && self.plan.next().is_none()
                && let Some(failed) = self.last_failed.take()
            {
                return Poll::Ready(failed);
            }
            ready!(self.poll_next(cx, opening.deadline()))?;
        }
    }

    /// Looks at all attempts. Returns how the call ends, if one of them ends it.
    fn poll_attempts(&mut self, cx: &mut Context<'_>, outbound: &impl Outbound) -> Option<Outcome> {
        let mut n = 0;
        while let Some(attempt) = self.open.get_mut(n) {
            let Poll::Ready(outcome) = attempt.poll(cx, outbound) else {
                n += 1;
                continue;
            };
            self.open.remove(n);
            if let Some(outcome) = self.end_attempt(outcome) {
                return Some(outcome);
            }
        }
        None
    }

    /// Returns how the call ends, if this end of an attempt ends it.
    fn end_attempt(&mut self, mut outcome: Outcome) -> Option<Outcome> {
        let (code, pushback) = match &mut outcome {
            Ok((call, ResponseHead::TrailersOnly(code, trailers), _)) if *code != Code::OK => {
                call.end();
                (*code, pushback_of(trailers))
            }
            Ok((_, _, buffered)) => {
                if !has_failed(buffered) {
                    self.plan.succeed();
                }
                return Some(outcome);
            }
            Err(status) => (status.code(), None),
        };
        let goes_on = self.plan.fail(code, pushback, clock::now());
        self.timer = None;
        if !goes_on {
            return Some(outcome);
        }
        self.last_failed = Some(outcome);
        None
    }

    /// Waits until the next attempt is due. While none is open the call's deadline is looked at here.
    ///
    /// # Errors
    /// `DEADLINE_EXCEEDED`.
    fn poll_next(&mut self, cx: &mut Context<'_>, deadline: Option<Timestamp>) -> Poll<Result<(), Status>> {
        let Some(next) = self.plan.next() else { return Poll::Pending };
        let too_late = deadline.filter(|deadline| self.open.is_empty() && *deadline <= next);
        ready!(DeadlineTimer::poll(&mut self.timer, cx, too_late.unwrap_or(next)));
        self.timer = None;
        Poll::Ready(if too_late.is_none() { Ok(()) } else { Err(too_late_to_repeat()) })
    }
}

impl Attempt {
    fn poll(&mut self, cx: &mut Context<'_>, outbound: &impl Outbound) -> Poll<Outcome> {
        loop {
            let answer = match &mut self.call {
                Some(call) => call.poll_head(cx),
                None => {
                    let Opened { call, unsent, answer } = ready!(self.opening.poll_open(cx, outbound))?;
                    if let Some(unsent) = unsent {
                        send_rest(&call, outbound, unsent);
                    }
                    self.call = Some(call);
                    answer
                }
            };
            let answer = ready!(answer);
            let Some(call) = self.call.take() else { continue };
            match answer {
                Ok((head, buffered)) => return Poll::Ready(Ok((call, head, buffered))),
                Err(failure) if self.excuse.covers(&failure, &call) => {}
                Err(failure) => return Poll::Ready(Err(failure.into())),
            }
        }
    }
}

/// Sends the last bytes of a request beside its response. It ends with the call.
fn send_rest(call: &Call, outbound: &impl Outbound, unsent: usize) {
    let mut data = outbound.data();
    data.advance(data.remaining() - unsent);
    let mut rest: Bytes = data.copy_to_bytes(unsent);
    let mut half = call.sending();
    let send = async move {
        poll_fn(|cx| half.poll_send(cx, &mut rest, true)).await;
    };
    if let Err(error) = call.spawn(send) {
        tracing::warn!(%error, "a request's message has no runtime to be sent in");
    }
}
