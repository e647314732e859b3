//! Whether the agent gets its share of the processor: other hosts take one that does not for dead.

use std::time::Duration;

use notnets_core::clock::{self, Timestamp};

use super::log::TARGET;

/// Notices when the agent wakes too late, and whether others kept it from running.
#[derive(Debug)]
pub(super) struct Pulse {
    /// From this lateness on it is worth a line.
    tolerated: Duration,
    expected: Option<Timestamp>,
    waited: Duration,
}

impl Pulse {
    pub(super) fn new(tolerated: Duration) -> Self {
        Self { tolerated, expected: None, waited: waited_for_processor() }
    }

    /// The agent is about to sleep for no longer than this.
    pub(super) fn sleeps(&mut self, pause: Duration) {
        self.expected = Some(clock::now() + pause);
    }

    /// It runs again.
    pub(super) fn wakes(&mut self) {
        let Some(expected) = self.expected.take() else { return };
        let late = clock::now() - expected;
        if late < self.tolerated {
            return;
        }
        let waited = waited_for_processor();
        let is_starved = waited.saturating_sub(self.waited) >= late / 2;
        let why = if is_starved { "it waited for a processor" } else { "it was stopped, or the host was" };
        let late_ms = late.as_millis() as u64;
        tracing::warn!(target: TARGET, late_ms, "the agent came late: {why}");
        self.waited = waited;
    }

    /// Waits until now count no more.
    pub(super) fn forget(&mut self) {
        self.waited = waited_for_processor();
    }
}

/// How long this thread has been ready to run and did not.
fn waited_for_processor() -> Duration {
    let schedstat = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let nanos = schedstat.split_whitespace().nth(1).and_then(|nanos| nanos.parse().ok());
    Duration::from_nanos(nanos.unwrap_or(0))
}
