//! How long to wait between attempts that fail: gRPC's connection backoff.

use std::time::Duration;

use notnets_core::random;

/// After a first failure the next attempt waits so long, then 1.6 times as long, …
pub(super) const FIRST: Duration = Duration::from_secs(1);
/// … and at most so long.
pub(super) const LONGEST: Duration = Duration::from_secs(120);

/// The attempts that have failed since one did not.
#[derive(Debug, Default)]
pub(super) struct Backoff {
    failures: u32,
}

impl Backoff {
    /// Returns how long to wait after another failure.
    pub(super) fn fail(&mut self) -> Duration {
        let backoff = FIRST.mul_f64(1.6f64.powi(self.failures.min(20) as i32));
        self.failures = self.failures.saturating_add(1);
        jittered(backoff.min(LONGEST))
    }

    /// An attempt did not fail.
    pub(super) fn reset(&mut self) {
        self.failures = 0;
    }
}

/// Within a fifth of it: those that began together do not stay together.
pub(super) fn jittered(duration: Duration) -> Duration {
    let share = (random::word() >> 11) as f64 / (1u64 << 53) as f64;
    duration.mul_f64(0.8 + 0.4 * share)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_the_longest() {
        let mut backoff = Backoff::default();
        for n in 0..30 {
            let expected = FIRST.mul_f64(1.6f64.powi(n)).min(LONGEST).as_secs_f64();
            let wait = backoff.fail().as_secs_f64();
            assert!((expected * 0.8..=expected * 1.2).contains(&wait), "{n}: {wait}");
        }
        backoff.reset();
        assert!(backoff.fail() <= FIRST.mul_f64(1.2));
    }
}
