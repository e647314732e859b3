//! CPU quotas: what is polled away is missing later in the period, when the whole group is stopped.
//!
//! So a process under a quota polls only while it leaves most of it to others: what it uses itself is a known
//! part of it, and nobody in the group was stopped since the last look.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::time::{ClockId, clock_gettime};

use super::backoff::{Lengths, Pause};
use crate::cgroup::{Group, Quota, Throttling};
use crate::clock::Timestamp;

/// The part of its quota that a process may use and still poll. The other side of its links may be under the
/// same quota.
const SHARE: f64 = 0.25;
/// Nanoseconds between looks while it polls. They take some microseconds.
const EVERY: u64 = 10_000_000;
/// Nanoseconds after which the quota itself is looked up again: it can be changed.
const FIND_EVERY: u64 = 1_000_000_000;
/// For how long nothing is polled where that has turned out too dear.
const RESTS_LAST: Lengths = Lengths { first: 100_000_000, longest: 2_000_000_000, soon: 100_000_000 };

/// When to look next, in nanoseconds of the clock.
static LOOK_AT: AtomicU64 = AtomicU64::new(0);
/// Until when nothing is polled.
static RESTS_UNTIL: AtomicU64 = AtomicU64::new(0);
static WATCH: Mutex<Watch> = Mutex::new(Watch::new());

/// Returns `true` while this process should not poll, because of a CPU quota.
#[inline]
pub(super) fn rests(now: Timestamp) -> bool {
    let nanos = now.as_nanos();
    if nanos >= LOOK_AT.load(Ordering::Relaxed) {
        look(now);
    }
    nanos < RESTS_UNTIL.load(Ordering::Relaxed)
}

#[cold]
fn look(now: Timestamp) {
    // One thread is enough for that.
    let Ok(mut watch) = WATCH.try_lock() else { return };
    watch.find(now, || Group::own()?.quota());
    let rest = watch.rest(now, cpu_nanos(), |quota| Throttling::of(&quota.directory).periods);
    let look_at = match (&watch.quota, rest) {
        (None, _) => watch.found_at.add_nanos(FIND_EVERY),
        (Some(_), None) => now.add_nanos(EVERY),
        (Some(_), Some(until)) => {
            RESTS_UNTIL.store(until.as_nanos(), Ordering::Relaxed);
            until
        }
    };
    LOOK_AT.store(look_at.as_nanos(), Ordering::Relaxed);
}

/// The processor time that this process has used, in nanoseconds.
fn cpu_nanos() -> u64 {
    let used = clock_gettime(ClockId::ProcessCPUTime);
    used.tv_sec.cast_unsigned() * 1_000_000_000 + used.tv_nsec.cast_unsigned()
}

/// A process that is watched for what it uses of its quota.
struct Watch {
    quota: Option<Quota>,
    found_at: Timestamp,
    /// The last look: when it was, and what had been used by then.
    at: Timestamp,
    cpu: u64,
    throttled: u64,
    last_rest: Pause,
}

impl Watch {
    const fn new() -> Self {
        Self {
            quota: None,
            found_at: Timestamp::ZERO,
            at: Timestamp::ZERO,
            cpu: 0,
            throttled: 0,
            last_rest: Pause::NONE,
        }
    }

    /// Looks the quota up, now and then.
    fn find(&mut self, now: Timestamp, find: impl FnOnce() -> Option<Quota>) {
        if self.found_at == Timestamp::ZERO || now.nanos_since(self.found_at) >= FIND_EVERY {
            self.quota = find();
            self.found_at = now;
        }
    }

    /// Looks at what was used since the last look. Returns until when nothing is to be polled, if so.
    fn rest(&mut self, now: Timestamp, cpu: u64, throttled: impl Fn(&Quota) -> u64) -> Option<Timestamp> {
        let quota = self.quota.as_ref()?;
        let throttled = throttled(quota);
        let used = cpu.saturating_sub(self.cpu) as f64 / now.nanos_since(self.at).max(1) as f64;
        let is_first = self.at == Timestamp::ZERO;
        let too_much = used > SHARE * quota.cores || throttled > self.throttled;
        self.at = now;
        self.cpu = cpu;
        self.throttled = throttled;
        if is_first || !too_much {
            return None;
        }
        self.last_rest = self.last_rest.next(now, RESTS_LAST);
        Some(self.last_rest.until())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MILLI: u64 = 1_000_000;

    fn quota(cores: f64) -> Watch {
        let mut watch = Watch::new();
        watch.find(at(1), || Some(Quota { cores, directory: "/".into() }));
        assert_eq!(watch.rest(at(1), 0, |_| 5), None, "nothing is known yet");
        watch
    }

    fn at(millis: u64) -> Timestamp {
        Timestamp::from_nanos(millis * MILLI)
    }

    #[test]
    fn without_a_quota_everything_may_be_used() {
        let mut watch = Watch::new();
        assert_eq!(watch.rest(at(1), 0, |_| 0), None);
        assert_eq!(watch.rest(at(2), 8 * MILLI, |_| 0), None);
    }

    #[test]
    fn one_that_uses_little_may_poll() {
        let mut watch = quota(2.0);
        for n in 1..100 {
            assert_eq!(watch.rest(at(1 + 10 * n), 4 * n * MILLI, |_| 5), None);
        }
    }

    #[test]
    fn one_that_uses_much_rests_longer_each_time() {
        let mut watch = quota(0.6);
        let mut now = 11;
        let mut cpu = 0;
        for rest in [100, 200, 400, 800, 1600, 2000, 2000] {
            cpu += 2 * (now - watch.at.as_nanos() / MILLI) * MILLI / 10;
            assert_eq!(watch.rest(at(now), cpu, |_| 5), Some(at(now + rest)), "{rest}");
            now += rest;
            assert_eq!(watch.rest(at(now), cpu, |_| 5), None, "it has used nothing meanwhile");
            now += 10;
        }
    }

    #[test]
    fn one_whose_group_was_stopped_rests_whoever_used_the_time() {
        let mut watch = quota(4.0);
        assert_eq!(watch.rest(at(11), 0, |_| 6), Some(at(111)));
        assert_eq!(watch.rest(at(111), 0, |_| 6), None);
        assert_eq!(watch.rest(at(900), 0, |_| 7), Some(at(1000)), "all went well for long");
    }

    #[test]
    fn a_quota_that_changes_is_noticed() {
        let mut watch = quota(4.0);
        watch.find(at(2), || None);
        assert!(watch.quota.is_some());
        watch.find(at(1 + FIND_EVERY / MILLI), || None);
        assert!(watch.quota.is_none());
    }

    #[test]
    fn this_process_uses_time() {
        let before = cpu_nanos();
        while cpu_nanos() == before {
            std::hint::spin_loop();
        }
    }
}
