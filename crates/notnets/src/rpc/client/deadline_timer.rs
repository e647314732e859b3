//! A call's deadline where nobody else looks after it.
//!
//! The driver of a link ends the calls whose deadline passes. A caller that is polled elsewhere than the
//! driver does not rely on that: the driver's runtime may idle. It has a timer of its own while it waits.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use notnets_core::call::StreamId;
use notnets_core::clock::{self, Timestamp};
use tokio::runtime::{Handle, Id};
use tokio::time::Sleep;

use crate::client::{ClientLink, for_timers};

/// A timer in the runtime that the caller is polled in.
#[derive(Debug)]
pub(super) struct DeadlineTimer {
    runtime: Id,
    until: Timestamp,
    sleep: Pin<Box<Sleep>>,
}

impl DeadlineTimer {
    fn new(runtime: &Handle, until: Timestamp) -> Self {
        let _inside = runtime.enter();
        let sleep = Box::pin(tokio::time::sleep(clock::until(until)));
        Self { runtime: runtime.id(), until, sleep }
    }

    /// Waits until then. The timer is made anew when the caller has moved to another runtime: the one before
    /// may have ended.
    pub(super) fn poll(timer: &mut Option<Box<Self>>, cx: &mut Context<'_>, until: Timestamp) -> Poll<()> {
        let Ok(runtime) = for_timers() else {
            // No thread can be started. Then it is at least looked at now and then.
            return if clock::until(until).is_zero() { Poll::Ready(()) } else { Poll::Pending };
        };
        let present = timer.take_if(|timer| timer.runtime == runtime.id());
        let timer = timer.insert(present.unwrap_or_else(|| Box::new(Self::new(&runtime, until))));
        timer.sleep.as_mut().poll(cx)
    }

    /// Looks at the deadline of an open call before it waits on its link, and ends the call if it has passed.
    /// Inside of the link's home that is the driver's work.
    #[inline(never)]
    pub(super) fn check(
        timer: &mut Option<Box<Self>>,
        cx: &mut Context<'_>,
        link: &ClientLink,
        call: StreamId,
    ) {
        if !link.home().is_present() {
            Self::check_elsewhere(timer, cx, link, call);
        }
    }

    #[cold]
    fn check_elsewhere(
        timer: &mut Option<Box<Self>>,
        cx: &mut Context<'_>,
        link: &ClientLink,
        call: StreamId,
    ) {
        let known = timer.as_ref().map(|timer| timer.until);
        if let Some(until) = known.or_else(|| link.deadline_of(call))
            && Self::poll(timer, cx, until).is_ready()
        {
            link.expire(until);
        }
    }
}
