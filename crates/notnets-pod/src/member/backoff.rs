//! How long the watcher sleeps between two looks at the lanes.

use std::time::{Duration, Instant};

/// After something came, lanes are looked at without pause for this long.
const SPIN: Duration = Duration::from_micros(20);
/// The first sleep after that; each next one is a quarter longer.
const NAP: Duration = Duration::from_micros(50);

/// Spins at first after something came, then sleeps, longer each time.
#[derive(Debug)]
pub(super) struct Backoff {
    last: Instant,
    nap: Duration,
}

impl Backoff {
    /// One that begins now, as if something had come.
    pub(super) fn new(now: Instant) -> Self {
        Self { last: now, nap: NAP }
    }

    /// Begins anew, as something came.
    pub(super) fn reset(&mut self, now: Instant) {
        *self = Self::new(now);
    }

    /// Returns `true` while it is too early to sleep.
    pub(super) fn spins(&self, now: Instant) -> bool {
        now - self.last < SPIN
    }

    /// How long to sleep now, and at most `longest`.
    pub(super) fn next_nap(&mut self, longest: Duration) -> Duration {
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
}
