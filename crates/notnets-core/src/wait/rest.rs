//! Rests: a thread that has lost its core to other work polls no more for a while.
//!
//! The kernel gives a core to a thread that has slept as soon as it wakes, and takes it for a whole slice from
//! one that has polled.

use std::cell::Cell;

use crate::clock::Timestamp;

/// Another thread that kept the core for longer than this, in nanoseconds, runs unrelated work: a scheduler's
/// slice is 3 to 4 ms. Threads that only poll or answer return the core sooner, even where there are many.
const OTHER_WORK: u64 = 2_000_000;

/// The length of a rest, in nanoseconds. To poll again costs a slice, so it is twice as long when the core is
/// lost again soon, …
const FIRST: u64 = 20_000_000;
/// … and at most this.
const LONGEST: u64 = 1_000_000_000;
/// Soon is within the length of the last rest, or this if it is longer.
const SOON: u64 = 100_000_000;

/// The rests of a thread.
struct Rests {
    /// The end of the last one.
    until: Cell<Timestamp>,
    /// Its length.
    length: Cell<u64>,
}

thread_local! {
    static RESTS: Rests = const {
        Rests { until: Cell::new(Timestamp::ZERO), length: Cell::new(0) }
    };
}

/// Returns `true` while this thread rests.
#[inline]
pub(super) fn rests(now: Timestamp) -> bool {
    RESTS.with(|rests| now < rests.until.get())
}

/// Other threads had the core for that long until `now`, while this one polled.
#[inline]
pub(super) fn lost_core(now: Timestamp, away: u64) {
    if away > OTHER_WORK {
        RESTS.with(|rests| rests.begin(now));
    }
}

impl Rests {
    #[cold]
    fn begin(&self, now: Timestamp) {
        let length = self.length.get();
        let soon = now.nanos_since(self.until.get()) < length.max(SOON);
        let length = if soon { (length * 2).clamp(FIRST, LONGEST) } else { FIRST };
        self.length.set(length);
        self.until.set(now.add_nanos(length));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(nanos: u64) -> Timestamp {
        Timestamp::from_nanos(nanos)
    }

    #[test]
    fn others_that_poll_return_the_core_soon() {
        lost_core(at(1), OTHER_WORK);
        assert!(!rests(at(1)));
    }

    #[test]
    fn after_the_core_was_lost_to_other_work_nothing_is_polled_for_longer_each_time() {
        let mut now = 3_000_000_000;
        for rest in [FIRST, 2 * FIRST, 4 * FIRST] {
            lost_core(at(now), OTHER_WORK + 1);
            assert!(rests(at(now)) && rests(at(now + rest - 1)) && !rests(at(now + rest)));
            now += rest + SOON - 1;
        }
        for _ in 0..10 {
            lost_core(at(now), OTHER_WORK + 1);
            now += LONGEST;
        }
        assert!(!rests(at(now)));
        now += LONGEST;
        lost_core(at(now), OTHER_WORK + 1);
        assert!(!rests(at(now + FIRST)), "all went well for long");
    }
}
