//! How long the watcher sleeps between two looks at the lanes.

use std::time::{Duration, Instant};

/// After something came, lanes are looked at without pause for this long.
const SPIN: Duration = Duration::from_micros(20);
/// The first sleep after that; each next one is a quarter longer.
const NAP: Duration = Duration::from_micros(50);

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

    /// Returns `true` while it is too early to sleep.
    pub(crate) fn spins(&self, now: Instant) -> bool {
        now - self.last < self.spin
    }

    /// How long to sleep now, and at most `longest`.
    pub(crate) fn next_nap(&mut self, longest: Duration) -> Duration {
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
        let naps: Vec<_> = (0..20).map(|_| backoff.next_nap(longest)).collect();
        assert_eq!(naps[0], NAP);
        assert!(naps.is_sorted());
        assert_eq!(naps.last(), Some(&longest));
        let later = begin + Duration::from_secs(1);
        backoff.reset(later);
        assert!(backoff.spins(later));
        assert_eq!(backoff.next_nap(longest), NAP);
        assert_eq!(Backoff::new(begin).next_nap(Duration::from_micros(1)), Duration::from_micros(1));
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
