//! The clock of deadlines: nanoseconds of `CLOCK_MONOTONIC`, the same for all processes of a host.

use std::time::Duration;

use rustix::time::{ClockId, Timespec, clock_gettime};

/// Now.
#[inline]
pub fn now() -> u64 {
    let time = clock_gettime(ClockId::Monotonic);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// So long from now.
pub fn after(duration: Duration) -> u64 {
    now().saturating_add(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX))
}

/// How long it is until then; nothing if that has passed.
pub fn until(time: u64) -> Duration {
    Duration::from_nanos(time.saturating_sub(now()))
}

/// A duration as system calls take it.
pub fn timespec(duration: Duration) -> Timespec {
    Timespec { tv_sec: duration.as_secs() as i64, tv_nsec: duration.subsec_nanos().into() }
}
