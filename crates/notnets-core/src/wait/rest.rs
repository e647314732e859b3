//! Rests: a thread that has lost its core to other work may do better if it polls no more for a while.
//!
//! The kernel gives a core to a thread that has slept as soon as it wakes, and takes it for a whole slice
//! from one that has polled: beside unrelated work a call is fastest if its threads sleep in between. Among
//! processes that all poll a yield is a switch to the next of them, many times cheaper than a wake-up; but if
//! there are many, the core is away for long, too. Who else runs is not to be seen, so it is tried: what a
//! thread finds in the time in which it rests is compared with what it finds while it polls, time without the
//! core included. Where that is equal it rests: others can use the time.

use std::cell::Cell;

use super::backoff::{Lengths, Pause};
use crate::clock::Timestamp;

/// Others that kept the core for longer than this, in nanoseconds, may be unrelated work: a scheduler's slice
/// is 3 to 4 ms. Threads that only poll or answer return the core sooner, unless there are very many.
const OTHER_WORK: u64 = 2_000_000;

/// The lengths of rests. To poll again costs a slice each time that the core is lost. What was learned is
/// forgotten when it is not lost soon.
const RESTS_LAST: Lengths = Lengths { first: 20_000_000, longest: 1_000_000_000, soon: 250_000_000 };

/// What was found in more than this time, in nanoseconds, is half forgotten.
const MEMORY: u64 = 200_000_000;

/// What was found, in a time.
#[derive(Clone, Copy, Debug, Default)]
struct Tally {
    frames: u64,
    nanos: u64,
}

impl Tally {
    const NONE: Self = Self { frames: 0, nanos: 0 };

    fn add(self, frames: u64, nanos: u64) -> Self {
        let part = 1 + self.nanos / MEMORY;
        Self { frames: self.frames / part + frames, nanos: self.nanos / part + nanos }
    }

    /// Returns `true` if that is clearly more for the time. Nothing is more than what is not known.
    fn is_more_than(self, other: Self) -> bool {
        let own = u128::from(self.frames) * u128::from(other.nanos);
        let others = u128::from(other.frames) * u128::from(self.nanos);
        own * 10 > others * 11
    }
}

/// The rests of a thread.
struct Rests {
    /// What it has found while it polled, and while it rested.
    polling: Cell<Tally>,
    resting: Cell<Tally>,
    /// It rests now, until the end of the last rest.
    rests: Cell<bool>,
    last: Cell<Pause>,
    /// What it has found since it began to poll, or to rest.
    frames: Cell<u64>,
    since: Cell<Timestamp>,
}

thread_local! {
    static RESTS: Rests = const {
        Rests {
            polling: Cell::new(Tally::NONE),
            resting: Cell::new(Tally::NONE),
            rests: Cell::new(false),
            last: Cell::new(Pause::NONE),
            frames: Cell::new(0),
            since: Cell::new(Timestamp::ZERO),
        }
    };
}

/// Returns `true` while this thread rests.
#[inline]
pub(super) fn rests(now: Timestamp) -> bool {
    RESTS.with(|rests| rests.rests.get() && rests.go_on(now))
}

/// That number of frames was found.
#[inline]
pub(super) fn found(frames: usize) {
    RESTS.with(|rests| rests.frames.set(rests.frames.get() + frames as u64));
}

/// Other threads had the core for that long until `now`, while this one polled.
#[inline]
pub(super) fn lost_core(now: Timestamp, away: u64) {
    if away > OTHER_WORK {
        RESTS.with(|rests| rests.begin(now));
    }
}

impl Rests {
    /// Returns `true` if the rest is not over.
    #[cold]
    fn go_on(&self, now: Timestamp) -> bool {
        let until = self.last.get().until();
        if now < until {
            return true;
        }
        self.resting.set(self.tally(self.resting.get(), until));
        self.rests.set(false);
        self.since.set(now);
        false
    }

    #[cold]
    fn begin(&self, now: Timestamp) {
        // A link that polls in any case.
        if self.rests.get() {
            return;
        }
        let polling = self.tally(self.polling.get(), now);
        self.since.set(now);
        let last = self.last.get();
        if last.is_recent(now, RESTS_LAST) {
            self.polling.set(polling);
            if polling.is_more_than(self.resting.get()) {
                self.last.set(last.forgiven());
                return;
            }
        } else {
            self.polling.set(Tally::NONE);
            self.resting.set(Tally::NONE);
        }
        self.last.set(last.next(now, RESTS_LAST));
        self.rests.set(true);
    }

    /// Adds what was found until `now`.
    fn tally(&self, tally: Tally, now: Timestamp) -> Tally {
        tally.add(self.frames.take(), now.nanos_since(self.since.get()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Timestamp {
        Timestamp::from_nanos(millis * 1_000_000)
    }

    /// Loses the core at this time, in milliseconds. Returns for how many the thread rests then.
    fn lose(now: u64) -> u64 {
        lost_core(at(now), OTHER_WORK + 1);
        let left = |thread: &Rests| thread.last.get().until().nanos_since(at(now)) / 1_000_000;
        RESTS.with(|thread| if thread.rests.get() { left(thread) } else { 0 })
    }

    #[test]
    fn others_that_poll_return_the_core_soon() {
        lost_core(at(1), OTHER_WORK);
        assert!(!rests(at(1)));
    }

    #[test]
    fn where_polling_brings_no_more_rests_get_longer() {
        let mut now = 3_000;
        for length in [20, 40, 80, 160, 320, 640, 1000, 1000] {
            assert_eq!(lose(now), length);
            assert!(rests(at(now)) && rests(at(now + length - 1)));
            found(length as usize);
            now += length;
            assert!(!rests(at(now)));
            found(5);
            now += 5;
        }
        now += RESTS_LAST.longest / 1_000_000;
        assert_eq!(lose(now), 20, "all went well for long");
    }

    #[test]
    fn where_polling_brings_more_rests_are_tried_now_and_then() {
        found(100);
        assert_eq!(lose(3_000), 20);
        found(20);
        assert!(!rests(at(3_020)));
        for now in [3_030, 3_040, 3_050] {
            found(50);
            assert_eq!(lose(now), 0);
        }
        assert_eq!(lose(3_020 + RESTS_LAST.soon / 1_000_000), 20);
    }
}
