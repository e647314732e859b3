//! The clock of deadlines: `CLOCK_MONOTONIC`, which all processes of a host share.
//!
//! The state machines of this crate read no clock: their drivers read it here and pass in what it
//! shows.

use std::ops::{Add, Sub};
use std::time::Duration;

use rustix::time::{ClockId, Timespec, clock_gettime};

/// A point in time on a monotonic clock.
///
/// Sums and differences saturate: a time-out that is too long never ends, and a difference is never negative.
///
/// ```
/// use std::time::Duration;
/// use notnets_core::clock::Timestamp;
///
/// let start = Timestamp::from_nanos(1_000);
/// assert_eq!((start + Duration::from_micros(2)) - start, Duration::from_micros(2));
/// assert_eq!(start - (start + Duration::from_secs(1)), Duration::ZERO);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(u64);

impl Timestamp {
    /// The start of the clock, before which nothing happens.
    pub const ZERO: Self = Self(0);

    /// The point in time that is this number of nanoseconds after the start of the clock.
    #[inline]
    pub const fn from_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    /// Nanoseconds since the start of the clock.
    #[inline]
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// Nanoseconds since an earlier point in time; 0 if that is later than this one.
    #[inline]
    #[must_use]
    pub const fn nanos_since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }

    /// The point in time that is this number of nanoseconds later.
    #[inline]
    #[must_use]
    pub const fn add_nanos(self, nanos: u64) -> Self {
        Self(self.0.saturating_add(nanos))
    }
}

impl Add<Duration> for Timestamp {
    type Output = Self;

    fn add(self, duration: Duration) -> Self {
        self.add_nanos(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX))
    }
}

impl Sub for Timestamp {
    type Output = Duration;

    fn sub(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.nanos_since(earlier))
    }
}

/// Reads the clock.
#[inline]
pub fn now() -> Timestamp {
    let time = clock_gettime(ClockId::Monotonic);
    Timestamp(time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64)
}

/// The point in time that is this far from now.
pub fn after(duration: Duration) -> Timestamp {
    now() + duration
}

/// The time that is left until then; zero once it has passed.
pub fn until(time: Timestamp) -> Duration {
    time - now()
}

/// A duration as system calls take it.
pub fn timespec(duration: Duration) -> Timespec {
    Timespec { tv_sec: duration.as_secs() as i64, tv_nsec: duration.subsec_nanos().into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_and_differences_saturate() {
        let (early, late) = (Timestamp::from_nanos(5), Timestamp::from_nanos(u64::MAX - 5));
        assert_eq!(late + Duration::from_nanos(10), Timestamp::from_nanos(u64::MAX));
        assert_eq!(early + Duration::MAX, Timestamp::from_nanos(u64::MAX));
        assert_eq!((early - late, early.nanos_since(late)), (Duration::ZERO, 0));
        assert_eq!(late - early, Duration::from_nanos(u64::MAX - 10));
    }

    #[test]
    fn the_clock_goes_forward() {
        let start = now();
        assert!(after(Duration::from_secs(60)) > start && until(start) == Duration::ZERO);
    }
}
