//! Calls and bytes of a user by the second.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::UserLimits;
use crate::clock::Timestamp;
use crate::log_pace::LogPace;
use crate::stats::Count;

/// What was not used of a rate in this time may be used at once.
const BURST: u64 = 1_000_000_000;
/// The longest time that a single message costs.
const MOST: u64 = 3600 * BURST;

/// Counts the calls and bytes of a user. Clones count together.
///
/// Both are buckets of tokens in the form of GCRA: a word has the time until which what was taken is paid
/// for. What is taken adds to it, and it may be ahead of the clock by no more than a second.
#[derive(Clone, Debug)]
pub struct Meter(Arc<Rates>);

#[derive(Debug)]
struct Rates {
    uid: u32,
    limits: UserLimits,
    calls: Bucket,
    bytes: Bucket,
    log: LogPace,
}

#[derive(Debug, Default)]
struct Bucket(AtomicU64);

/// A call that does not begin, as its user is over one of its rates.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("uid {uid} has its {limit} {rate} a second: later calls succeed (Server::user_limits)")]
pub struct OverRate {
    /// The user.
    pub uid: u32,
    /// What is counted.
    pub rate: Rate,
    limit: u64,
    /// If it is to be logged, how many before it were not.
    pub line: Option<u64>,
}

/// What is counted by the second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rate {
    /// Calls that begin.
    Calls,
    /// Bytes of requests.
    Bytes,
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Calls => "calls",
            Self::Bytes => "bytes",
        })
    }
}

/// What calls are counted as that were refused.
impl From<Rate> for Count {
    fn from(rate: Rate) -> Self {
        match rate {
            Rate::Calls => Self::OverCallRate,
            Rate::Bytes => Self::OverByteRate,
        }
    }
}

impl Meter {
    /// `None` if nothing is counted.
    pub(super) fn new(uid: u32, limits: UserLimits) -> Option<Self> {
        (limits.calls_per_second.is_some() || limits.bytes_per_second.is_some()).then(|| {
            Self(Arc::new(Rates {
                uid,
                limits,
                calls: Bucket::default(),
                bytes: Bucket::default(),
                log: LogPace::default(),
            }))
        })
    }

    /// Counts a call that begins with so many bytes.
    ///
    /// # Errors
    /// When its user is over a rate: then it must not run.
    pub fn begin_call(&self, bytes: u64, now: Timestamp) -> Result<(), OverRate> {
        let nanos = now.as_nanos();
        let UserLimits { calls_per_second, bytes_per_second, .. } = self.0.limits;
        if let Some(limit) = calls_per_second
            && !self.0.calls.take_if_there(cost(1, limit.into()), nanos)
        {
            return Err(self.over(Rate::Calls, limit.into(), now));
        }
        if let Some(limit) = bytes_per_second {
            // What has come has come. So it is what came before that decides.
            if self.0.bytes.take(0, nanos) > 0 {
                return Err(self.over(Rate::Bytes, limit, now));
            }
            self.0.bytes.take(cost(bytes, limit), nanos);
        }
        Ok(())
    }

    /// Counts more bytes of a call. Returns how long no more of them are to be taken.
    pub fn take(&self, bytes: u64, now: Timestamp) -> Duration {
        let limit = self.0.limits.bytes_per_second;
        let ahead = limit.map_or(0, |limit| self.0.bytes.take(cost(bytes, limit), now.as_nanos()));
        Duration::from_nanos(ahead)
    }

    /// Whether a new meter would let more pass.
    pub(super) fn is_owed(&self, now: Timestamp) -> bool {
        let Rates { calls, bytes, .. } = &*self.0;
        [calls, bytes].iter().any(|bucket| bucket.0.load(Ordering::Relaxed) > now.as_nanos())
    }

    #[cold]
    fn over(&self, rate: Rate, limit: u64, now: Timestamp) -> OverRate {
        OverRate { uid: self.0.uid, rate, limit, line: self.0.log.line(now) }
    }
}

/// The time that so many take, in nanoseconds.
fn cost(count: u64, per_second: u64) -> u64 {
    let nanos = u128::from(count) * u128::from(BURST) / u128::from(per_second.max(1));
    // With a rate of 0 nothing passes for long.
    if per_second == 0 { MOST } else { u64::try_from(nanos).unwrap_or(MOST).min(MOST) }
}

impl Bucket {
    /// Takes what costs so much, if that is there.
    fn take_if_there(&self, cost: u64, now: u64) -> bool {
        let taken = |paid: u64| Some(paid.max(now) + cost).filter(|paid| *paid <= now + BURST);
        self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, taken).is_ok()
    }

    /// Takes what costs so much, whether or not it is there. Returns by how much too much was taken.
    fn take(&self, cost: u64, now: u64) -> u64 {
        let taken = |paid: u64| Some(paid.max(now) + cost);
        let before = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, taken).unwrap_or(now);
        (before.max(now) + cost).saturating_sub(now + BURST)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meter(limits: UserLimits) -> Meter {
        Meter::new(1001, limits).expect("there is a rate")
    }

    fn at(millis: u64) -> Timestamp {
        Timestamp::from_nanos(3_600_000_000_000 + millis * 1_000_000)
    }

    #[test]
    fn as_many_calls_begin_as_in_a_second_and_then_one_by_one() {
        let meter = meter(UserLimits::default().calls_per_second(4));
        let begun = |now| (0..10).take_while(|_| meter.begin_call(0, now).is_ok()).count();
        assert_eq!([0, 0, 249, 250, 500, 1250, 9000].map(|millis| begun(at(millis))), [4, 0, 0, 1, 1, 3, 4]);
    }

    #[test]
    fn bytes_that_have_come_hold_up_those_that_follow() {
        let meter = meter(UserLimits::default().bytes_per_second(1000));
        assert_eq!(meter.take(1000, at(0)), Duration::ZERO);
        assert_eq!(meter.take(500, at(0)), Duration::from_millis(500));
        let over = meter.begin_call(1, at(499)).unwrap_err();
        assert_eq!(
            over.to_string(),
            "uid 1001 has its 1000 bytes a second: later calls succeed (Server::user_limits)"
        );
        // A large message may begin, and holds up the next for long.
        assert_eq!(meter.begin_call(10_000, at(500)), Ok(()));
        assert!(meter.begin_call(0, at(10_499)).is_err());
        assert_eq!(meter.begin_call(0, at(10_500)), Ok(()));
    }

    #[test]
    fn a_flood_is_a_line_a_second() {
        let meter = meter(UserLimits::default().calls_per_second(0));
        let line = |millis| meter.begin_call(0, at(millis)).unwrap_err().line;
        assert_eq!([0, 1, 999, 1000, 1001].map(line), [Some(0), None, None, Some(2), None]);
        assert!(Meter::new(1, UserLimits::default()).is_none(), "where there is no rate, nothing is counted");
    }
}
