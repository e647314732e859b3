//! How a thread waits that drives its links itself.

use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};

use notnets_core::clock::{self, Timestamp};
use notnets_core::wait::{Budget, Wait, WaitFor};

/// Looks at the lanes between two looks at the clock, which costs as much as one of them.
const LOOKS: u32 = 32;
/// A thread that polls looks at its sockets at this interval: to see the end of a peer, and
/// memory that it offers.
const SOCKETS_EVERY: Duration = Duration::from_micros(100);
/// A thread that finds something at each look does so after so many.
const SOCKETS_AFTER: u32 = 1024;

/// What to do when there is nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Look at the lanes again.
    Poll,
    /// Look at the clock's hands: deadlines may have passed.
    Clock(Timestamp),
    /// And at the sockets.
    Sockets(Timestamp),
    /// Arm, and sleep.
    Park,
}

/// One thread's waiting.
#[derive(Debug)]
pub struct Waiting {
    wait: Wait,
    budget: Budget,
    looks: u32,
    busy: u32,
    sockets_at: Option<Timestamp>,
}

impl Waiting {
    /// Waits that way, for as long as the budget allows.
    pub fn new(wait: Wait, budget: Budget) -> Self {
        Self { wait, budget, looks: 0, busy: 0, sockets_at: None }
    }

    /// A link between hosts is among those that are polled.
    pub fn reach_other_hosts(&mut self) {
        self.budget.reach_other_hosts();
    }

    /// Something came. Returns whether it is time for a look at the sockets.
    #[inline]
    pub fn arrived(&mut self) -> bool {
        if self.looks >= LOOKS {
            self.budget.arrived(1, clock::now);
            self.sockets_at = None;
        } else {
            self.budget.at_once(1);
        }
        self.looks = 0;
        self.busy += 1;
        self.busy.is_multiple_of(SOCKETS_AFTER)
    }

    /// Returns `true` once after it has polled for as long as it may, and nothing came.
    pub fn was_in_vain(&mut self) -> bool {
        self.budget.was_in_vain()
    }

    /// Nothing is there.
    #[inline]
    pub fn idle(&mut self) -> Next {
        self.looks += 1;
        if self.wait == Wait::Park {
            return Next::Park;
        }
        if !self.looks.is_multiple_of(LOOKS) {
            std::hint::spin_loop();
            return Next::Poll;
        }
        self.at_the_clock(clock::now())
    }

    #[cold]
    fn at_the_clock(&mut self, now: Timestamp) -> Next {
        let sockets_at = *self.sockets_at.get_or_insert(now + SOCKETS_EVERY);
        if !self.budget.allows(now, WaitFor::Reply) {
            Next::Park
        } else if now >= sockets_at {
            self.sockets_at = Some(now + SOCKETS_EVERY);
            Next::Sockets(now)
        } else {
            Next::Clock(now)
        }
    }
}

/// Sleeps until one of them is ready or until this point in time; not at all if that is the clock's start. A
/// signal ends it too: the caller looks again.
pub fn sleep(watched: &mut [PollFd<'_>], until: Option<Timestamp>) {
    let timeout = until.map(|until| {
        let left = if until == Timestamp::ZERO { Duration::ZERO } else { clock::until(until) };
        clock::timespec(left)
    });
    let _ = poll(watched, timeout.as_ref());
}

/// Was it found ready?
pub fn is_ready(watched: &PollFd<'_>) -> bool {
    watched.revents() != PollFlags::empty()
}
