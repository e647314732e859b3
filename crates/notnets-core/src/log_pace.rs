//! Lines of a log that others cause, where no flood of causes is to flood the log.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::clock::Timestamp;

/// The time between two lines.
const PAUSE: Duration = Duration::from_secs(1);

/// Lets one line a second pass, and counts those between.
///
/// ```
/// use notnets_core::{clock, log_pace::LogPace};
///
/// let (pace, now) = (LogPace::default(), clock::now());
/// assert_eq!([pace.line(now), pace.line(now)], [Some(0), None]);
/// ```
#[derive(Debug, Default)]
pub struct LogPace(Mutex<Count>);

#[derive(Debug, Default)]
struct Count {
    next: Timestamp,
    unlogged: u64,
}

impl LogPace {
    /// Counts a cause of a line. Returns how many before it were not logged, if this one is to be.
    #[cold]
    pub fn line(&self, now: Timestamp) -> Option<u64> {
        let mut count = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if now < count.next {
            count.unlogged += 1;
            return None;
        }
        count.next = now + PAUSE;
        Some(std::mem::take(&mut count.unlogged))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_a_line_a_second() {
        let pace = LogPace::default();
        let begin = Timestamp::from_nanos(1);
        assert_eq!(pace.line(begin), Some(0));
        for _ in 0..1000 {
            assert_eq!(pace.line(begin), None);
        }
        assert_eq!(pace.line(begin + PAUSE), Some(1000));
        assert_eq!(pace.line(begin + PAUSE + PAUSE), Some(0));
    }
}
