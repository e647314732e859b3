//! How long the watcher sleeps between two looks at the lanes.

use std::time::{Duration, Instant};

/// After something came, lanes are looked at without pause for this long.
const SPIN: Duration = Duration::from_micros(20);
/// The first sleep after that; each next one is a quarter longer.
const NAP: Duration = Duration::from_micros(50);

/// Once nothing has come for this long, sleeps may take so many times as long.
const SILENCE: Duration = Duration::from_secs(1);
const SILENT: u32 = 4;

/// Nanoseconds by which the kernel may let a sleep take longer.
pub(crate) const TIMER_SLACK: u64 = 5000;

/// After so many spins in which nothing came only one time in [`SELDOM`] spins again.
const VAIN: u32 = 4;
const SELDOM: u32 = 16;

/// Spins at first after something came, where that pays off; then sleeps, longer each time.
#[derive(Debug)]
pub(crate) struct Backoff {
    last: Instant,
    spin: Duration,
    /// Spins in which nothing came, since one in which something did.
    vain: u32,
    nap: Duration,
}

impl Backoff {
    /// One that begins now, as if something had come.
    pub(crate) fn new(now: Instant) -> Self {
        Self { last: now, spin: SPIN, vain: 0, nap: NAP }
    }

    /// Begins anew, as something came.
    pub(crate) fn reset(&mut self, now: Instant) {
        self.vain = if self.spins(now) { 0 } else { self.vain.saturating_add(1) };
        let spins = self.vain < VAIN || self.vain.is_multiple_of(SELDOM);
        self.spin = if spins { SPIN } else { Duration::ZERO };
        self.last = now;
        self.nap = NAP;
    }

    /// The next sleep is a short one again.
    pub(crate) fn shorten(&mut self) {
        self.nap = NAP;
    }

    /// Returns `true` while it is too early to sleep.
    pub(crate) fn spins(&self, now: Instant) -> bool {
        now - self.last < self.spin
    }

    /// How long to sleep now, and at most `longest`, or some times that after a silence.
    pub(crate) fn next_nap(&mut self, longest: Duration, now: Instant) -> Duration {
        let is_silent = now.saturating_duration_since(self.last) >= SILENCE;
        let longest = if is_silent { longest * SILENT } else { longest };
        let nap = self.nap.min(longest);
        self.nap = (self.nap + self.nap / 4).min(longest);
        nap
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn naps_get_longer_up_to_the_limit_and_short_again() {
        let begin = Instant::now();
        let mut backoff = Backoff::new(begin);
        assert!(backoff.spins(begin) && !backoff.spins(begin + SPIN));
        let longest = Duration::from_micros(500);
        let naps: Vec<_> = (0..20).map(|_| backoff.next_nap(longest, begin)).collect();
        assert_eq!(naps[0], NAP);
        assert!(naps.is_sorted());
        assert_eq!(naps.last(), Some(&longest));
        let later = begin + SILENCE;
        let naps: Vec<_> = (0..10).map(|_| backoff.next_nap(longest, later)).collect();
        assert_eq!(naps.last(), Some(&(longest * SILENT)), "nothing has come for long");
        backoff.reset(later);
        assert!(backoff.spins(later));
        assert_eq!(backoff.next_nap(longest, later), NAP);
        assert_eq!(Backoff::new(begin).next_nap(Duration::from_micros(1), begin), Duration::from_micros(1));
    }

    #[test]
    fn it_spins_seldom_where_that_is_in_vain() {
        let mut now = Instant::now();
        let mut backoff = Backoff::new(now);
        let mut spins = |pause: Duration| {
            now += pause;
            backoff.reset(now);
            backoff.spins(now)
        };
        let vain = [(); 40].map(|()| spins(SPIN * 2));
        assert_eq!(vain.iter().filter(|spins| **spins).count(), 3 + 2, "{vain:?}");
        assert!((0..SELDOM).any(|_| spins(SPIN * 2)), "it tries again");
        assert!((0..20).all(|_| spins(SPIN / 2)), "it pays off");
    }
}
