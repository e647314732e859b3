//! The waiting policy, in one place.
//!
//! A message through memory takes a fraction of a microsecond, waking a parked thread tens of them.
//! A wait therefore first polls the lane for a while, and parks when nothing comes. A link's history
//! decides whether the next wait polls at all: after polling without result some waits park at
//! once, twice as many after each further failure. A wait that takes longer than an answer usually does
//! yields the core meanwhile (`fairness.rs`), since another process may need it to answer. Where
//! another process keeps the core for long, polling may not pay off, and rests (`rest.rs`); so it
//! does where a CPU quota would be used up by it (`quota.rs`).

mod backoff;
mod fairness;
mod quota;
mod rest;

use std::fmt;
use std::str::FromStr;

use fairness::{IdleTime, PollAction, Scheduler};
pub use fairness::{sockets_are_due, yield_core};

use crate::clock::{self, Timestamp};

/// How a link waits for messages.
///
/// ```
/// # use notnets_core::Wait; // notnets::Wait for users
/// assert_eq!("park".parse(), Ok(Wait::Park));
/// assert_eq!(Wait::default().to_string(), "adaptive");
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Wait {
    /// Poll until nothing has come for a tenth of a second: fastest, and takes a core.
    Spin,
    /// Poll while that pays off, then park. The default.
    #[default]
    Adaptive,
    /// Park at once: least CPU, and each message costs a wake-up.
    Park,
}

/// A text that names no way of waiting.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a link waits by `spin`, `adaptive` or `park`")]
#[non_exhaustive]
pub struct UnknownWait;

impl fmt::Display for Wait {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Spin => "spin",
            Self::Adaptive => "adaptive",
            Self::Park => "park",
        })
    }
}

impl FromStr for Wait {
    type Err = UnknownWait;

    fn from_str(text: &str) -> Result<Self, UnknownWait> {
        match text {
            "spin" => Ok(Self::Spin),
            "adaptive" => Ok(Self::Adaptive),
            "park" => Ok(Self::Park),
            _ => Err(UnknownWait),
        }
    }
}

/// Waiting for a reply, polling for longer than this, in nanoseconds, cannot pay off. A wake-up across cores
/// takes some 50 µs; both sides have to poll at once for either to win, so each must outlast the other's
/// wake-up and its work.
const REPLY: u64 = 150_000;
/// A request may never come. Waiting for one, a link polls for about as long as being woken takes, in
/// nanoseconds, so that it never spends more than twice what the better choice would have cost.
const REQUEST: u64 = 40_000;
/// Between hosts no doorbell rings, and a side that is parked is woken by a watcher that sleeps for up to 500
/// µs. So polling pays off for longer, for a reply and for a request, in nanoseconds.
const REPLY_BETWEEN_HOSTS: u64 = 750_000;
const REQUEST_BETWEEN_HOSTS: u64 = 500_000;
/// `Wait::Spin` gives up when nothing has come for this number of nanoseconds.
const LINGER: u64 = 100_000_000;
/// One poll of a task spins for at most this number of nanoseconds before it lets other tasks run.
const ONE_POLL: u64 = 1_000;
/// After polling without result, at most this number of waits park at once before polling is tried again: it
/// then costs less than a microsecond for each wait.
const MAX_PENALTY: u32 = 256;

/// Decides how long to poll, from what has paid off.
#[derive(Debug)]
pub struct Budget {
    wait: Wait,
    /// The present wait, if there is one.
    idle: Option<IdleTime>,
    /// The number of next waits that park at once.
    parked_waits: u32,
    /// How many will after the next failure; doubles with each, and halves with each success.
    penalty: u32,
    /// How long a wait for a reply may poll, and one for a request.
    limits: (u64, u64),
    /// How long this wait may poll.
    limit: u64,
    /// A wait has polled for that long, and nothing came.
    in_vain: bool,
    scheduler: Scheduler,
}

/// The result of polling for a moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Polled {
    /// Something is there.
    Ready,
    /// Not yet.
    Nothing,
    /// Not yet, and others should have the core: call [`yield_core`], without a lock that anybody may want.
    Yield,
}

/// The kind of arrival that a link waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WaitFor {
    /// Something that the peer owes.
    Reply,
    /// Whatever the peer may want next.
    Request,
}

impl Budget {
    /// A budget that knows nothing of the link yet.
    pub fn new(wait: Wait) -> Self {
        Self {
            wait,
            idle: None,
            parked_waits: 0,
            penalty: 1,
            limits: (REPLY, REQUEST),
            limit: REPLY,
            in_vain: false,
            scheduler: Scheduler::new(),
        }
    }

    /// A link between hosts is among those that are polled.
    pub fn reach_other_hosts(&mut self) {
        self.limits = (REPLY_BETWEEN_HOSTS, REQUEST_BETWEEN_HOSTS);
    }

    /// Returns `true` if polling goes on when nothing is there at `now`; else it is time to park.
    #[inline]
    pub fn allows(&mut self, now: Timestamp, what: WaitFor) -> bool {
        let idle = self.idle_at(now);
        self.limit = if what == WaitFor::Reply { self.limits.0 } else { self.limits.1 };
        match self.wait {
            Wait::Spin if idle < LINGER => true,
            Wait::Spin => {
                self.in_vain = true;
                false
            }
            Wait::Park => false,
            Wait::Adaptive if self.parked_waits > 0 || rest::rests(now) || quota::rests(now) => false,
            Wait::Adaptive if idle < self.limit => true,
            Wait::Adaptive => {
                self.penalize();
                false
            }
        }
    }

    /// Returns `true` once after a wait has polled for as long as it may, and nothing came.
    #[inline]
    pub fn was_in_vain(&mut self) -> bool {
        std::mem::take(&mut self.in_vain)
    }

    /// Polls for a moment from `now` on, unless others should have this thread or core.
    #[inline]
    pub fn poll(&mut self, now: Timestamp, mut ready: impl FnMut() -> bool) -> Polled {
        let idle = self.idle_at(now);
        let action = match self.wait {
            Wait::Spin => PollAction::Spin,
            _ => self.scheduler.next_action(now, idle),
        };
        let ready = if action == PollAction::Spin { spin(now, ready) } else { ready() };
        match action {
            _ if ready => Polled::Ready,
            PollAction::YieldCore => Polled::Yield,
            PollAction::Spin | PollAction::Skip => Polled::Nothing,
        }
    }

    /// Ends the present wait: that number of frames came.
    #[inline]
    pub fn arrived(&mut self, frames: usize, now: impl FnOnce() -> Timestamp) {
        rest::found(frames);
        let Some(mut wait) = self.idle.take() else { return Scheduler::found() };
        if self.parked_waits > 0 {
            self.parked_waits -= 1;
        } else {
            let now = now();
            let idle = wait.idle_at(now);
            if idle < self.limit {
                self.penalty = (self.penalty / 2).max(1);
            } else {
                // It was not polling that took so long.
                rest::lost_core(now, idle);
            }
        }
        Scheduler::found();
    }

    /// That number of frames was there without a wait.
    #[inline]
    pub fn at_once(&mut self, frames: usize) {
        rest::found(frames);
        Scheduler::found();
    }

    /// Nanoseconds for which the present wait has polled without result.
    #[inline]
    fn idle_at(&mut self, now: Timestamp) -> u64 {
        self.idle.get_or_insert_default().idle_at(now)
    }

    fn penalize(&mut self) {
        self.in_vain = true;
        self.parked_waits = self.penalty;
        self.penalty = (self.penalty * 2).min(MAX_PENALTY);
    }
}

/// Spins until `ready`, or until one poll's share of time is over. Returns `true` if it is ready.
#[inline]
fn spin(start: Timestamp, mut ready: impl FnMut() -> bool) -> bool {
    // PAUSE takes some 27 ns here; a look at the clock about as long, so it is looked at rarely.
    let until = start.add_nanos(ONE_POLL);
    loop {
        for _ in 0..8 {
            if ready() {
                return true;
            }
            std::hint::spin_loop();
        }
        let now = clock::now();
        if now >= until {
            rest::lost_core(now, now.nanos_since(until));
            return false;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Timestamp = Timestamp::from_nanos(1);

    /// Lets waits of that length pass; returns how many of them were polled.
    fn waits(budget: &mut Budget, n: usize, duration: u64) -> usize {
        let mut now = START;
        (0..n)
            .filter(|_| {
                let polled = budget.allows(now, WaitFor::Reply);
                if polled && duration >= REPLY {
                    assert!(
                        !budget.allows(now.add_nanos(REPLY), WaitFor::Reply),
                        "no wait is polled for longer"
                    );
                }
                now = now.add_nanos(duration);
                budget.arrived(1, || now);
                polled
            })
            .count()
    }

    #[test]
    fn ways_of_waiting_have_names() {
        for wait in [Wait::Spin, Wait::Adaptive, Wait::Park] {
            assert_eq!(wait.to_string().parse(), Ok(wait));
        }
        assert_eq!("sleep".parse::<Wait>(), Err(UnknownWait));
    }

    #[test]
    fn polls_while_it_pays() {
        assert_eq!(waits(&mut Budget::new(Wait::Adaptive), 1000, 5_000), 1000);
    }

    #[test]
    fn parks_when_it_does_not_pay() {
        let mut budget = Budget::new(Wait::Adaptive);
        assert!(waits(&mut budget, 10_000, 1_000_000) < 50);
    }

    #[test]
    fn polling_in_vain_is_told_once() {
        let end = START.add_nanos(LINGER);
        for (wait, in_vain) in [(Wait::Adaptive, true), (Wait::Park, false), (Wait::Spin, true)] {
            let mut budget = Budget::new(wait);
            budget.allows(START, WaitFor::Reply);
            assert!(!budget.was_in_vain(), "{wait}");
            assert!(!budget.allows(end, WaitFor::Reply));
            assert_eq!([budget.was_in_vain(), budget.was_in_vain()], [in_vain, false], "{wait}");
            budget.arrived(1, || end);
            let parks_at_once = !budget.allows(end, WaitFor::Reply);
            assert!(!(parks_at_once && budget.was_in_vain()), "{wait}");
        }
    }

    #[test]
    fn tries_again_when_waits_get_short() {
        let mut budget = Budget::new(Wait::Adaptive);
        waits(&mut budget, 10_000, 1_000_000);
        waits(&mut budget, 1_000, 5_000);
        assert_eq!(waits(&mut budget, 1000, 5_000), 1000);
    }

    #[test]
    fn between_hosts_polling_pays_for_longer() {
        let mut budget = Budget::new(Wait::Adaptive);
        budget.reach_other_hosts();
        assert!(budget.allows(START, WaitFor::Request));
        assert!(budget.allows(START.add_nanos(REQUEST_BETWEEN_HOSTS - 1), WaitFor::Request));
        assert!(!budget.allows(START.add_nanos(REQUEST_BETWEEN_HOSTS), WaitFor::Request));
    }

    #[test]
    fn the_user_overrules() {
        assert_eq!(waits(&mut Budget::new(Wait::Park), 10, 100), 0);
        let mut spin = Budget::new(Wait::Spin);
        assert!(
            spin.allows(START, WaitFor::Request)
                && spin.allows(START.add_nanos(LINGER - 1), WaitFor::Request)
        );
        assert!(!spin.allows(START.add_nanos(LINGER), WaitFor::Request));
    }
}
