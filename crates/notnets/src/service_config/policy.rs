//! What is configured for a method.

use std::time::Duration;

use notnets_core::code::Code;
use notnets_core::random;

/// What is configured for a method.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct MethodConfig {
    /// A call waits until a server can be reached.
    pub(crate) wait_for_ready: bool,
    pub(crate) timeout: Option<Duration>,
    /// This or `hedging` at most.
    pub(crate) retry: Option<RetryPolicy>,
    pub(crate) hedging: Option<HedgingPolicy>,
}

/// When a call is made again.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct RetryPolicy {
    /// With the first.
    pub(crate) max_attempts: u32,
    pub(crate) initial_backoff: Duration,
    pub(crate) max_backoff: Duration,
    pub(crate) multiplier: f64,
    pub(crate) codes: Vec<Code>,
}

/// When a call is made several times at once.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct HedgingPolicy {
    /// With the first.
    pub(crate) max_attempts: u32,
    /// Between two attempts.
    pub(crate) delay: Duration,
    /// Those after which other attempts go on.
    pub(crate) non_fatal: Vec<Code>,
}

impl RetryPolicy {
    /// Returns how long to wait before a further attempt, which is the `nth` since the waits began, from 1.
    pub(crate) fn backoff(&self, nth: u32) -> Duration {
        let power = self.multiplier.powi(nth.saturating_sub(1).try_into().unwrap_or(i32::MAX));
        let longest = self.max_backoff.as_secs_f64();
        let seconds = (self.initial_backoff.as_secs_f64() * power).min(longest);
        // Between 0.8 and 1.2.
        let jitter = 0.8 + (random::word() >> 11) as f64 / (1u64 << 53) as f64 * 0.4;
        Duration::try_from_secs_f64(seconds * jitter).unwrap_or(self.max_backoff)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_up_to_the_longest() {
        let policy = RetryPolicy {
            max_attempts: 5,
            initial_backoff: Duration::from_millis(10),
            max_backoff: Duration::from_millis(50),
            multiplier: 2.0,
            codes: vec![Code::UNAVAILABLE],
        };
        for (nth, millis) in [(1, 10.0), (2, 20.0), (3, 40.0), (4, 50.0), (1000, 50.0)] {
            for _ in 0..100 {
                let waits = policy.backoff(nth).as_secs_f64() * 1000.0;
                assert!((millis * 0.8 - 1e-6..=millis * 1.2 + 1e-6).contains(&waits), "{nth}: {waits} ms");
            }
        }
    }
}
