//! A call's deadline where nobody else looks after it.
//!
//! The driver of a link ends the calls whose deadline passes. A caller that is polled elsewhere than the
//! driver does not rely on that: the driver's runtime may idle. It has a timer of its own while it waits.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use notnets_core::clock::{self, Timestamp};
use tokio::runtime::Id;
use tokio::time::Sleep;

use crate::client::{ClientLink, for_timers};

/// A timer in the runtime that the caller is polled in.
#[derive(Debug)]
pub(super) struct Timer {
    runtime: Id,
    sleep: Pin<Box<Sleep>>,
}

impl Timer {
    /// Waits until then. The timer is made anew when the caller has moved to another runtime: the one before
    /// may have ended.
    #[cold]
    pub(super) fn poll(timer: &mut Option<Box<Self>>, cx: &mut Context<'_>, until: Timestamp) -> Poll<()> {
        let Ok(runtime) = for_timers() else {
            // No thread can be started. Then it is at least looked at now and then.
            return if clock::until(until).is_zero() { Poll::Ready(()) } else { Poll::Pending };
        };
        let present = timer.take_if(|timer| timer.runtime == runtime.id());
        let timer = timer.insert(present.unwrap_or_else(|| {
            let _inside = runtime.enter();
            let sleep = Box::pin(tokio::time::sleep(clock::until(until)));
            Box::new(Self { runtime: runtime.id(), sleep })
        }));
        timer.sleep.as_mut().poll(cx)
    }
}

/// A call's deadline, for its waits on a link.
#[derive(Debug)]
pub(super) struct CallDeadline {
    at: Option<Timestamp>,
    timer: Option<Box<Timer>>,
}

impl CallDeadline {
    pub(super) fn new(at: Option<Timestamp>) -> Self {
        Self { at, timer: None }
    }

    /// The same deadline for another task.
    pub(super) fn again(&self) -> Self {
        Self::new(self.at)
    }

    /// Polls what ends when the call does, and ends the call if its deadline has passed meanwhile.
    #[inline]
    pub(super) fn poll<R>(
        &mut self,
        cx: &mut Context<'_>,
        link: &ClientLink,
        mut poll: impl FnMut(&mut Context<'_>) -> Poll<R>,
    ) -> Poll<R> {
        let polled = poll(cx);
        if polled.is_pending() && self.poll_passed(cx, link).is_ready() {
            return poll(cx);
        }
        polled
    }

    /// Waits until the call has ended for its deadline. Inside of the link's home that is the driver's work.
    #[inline]
    pub(super) fn poll_passed(&mut self, cx: &mut Context<'_>, link: &ClientLink) -> Poll<()> {
        match self.at {
            Some(at) if !link.home().is_present() => {
                let passed = Timer::poll(&mut self.timer, cx, at);
                if passed.is_ready() {
                    link.expire(at);
                }
                passed
            }
            _ => Poll::Pending,
        }
    }
}
