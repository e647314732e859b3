//! Refused clients in the log, where no client can flood it.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use notnets_core::clock::{self, Timestamp};
use notnets_core::link::accept::Refused;
use notnets_core::link::admission::Rejection;
use notnets_core::stats::Stats;

use crate::log::{self, ADMISSION};

/// A refusal is logged at most once in this time; those between are counted.
const PAUSE: Duration = Duration::from_secs(1);

/// The refusals of a server.
#[derive(Debug, Default)]
pub(crate) struct Refusals(Mutex<Count>);

#[derive(Debug, Default)]
struct Count {
    next: Timestamp,
    unlogged: u64,
}

impl Refusals {
    /// Counts and logs that a client was refused. All clients are, of a server that stops: that is no
    /// warning.
    #[cold]
    pub(crate) fn log(&self, refused: &Refused, stats: Option<&Stats>) {
        let Refused { rejection, client } = refused;
        if let Some(stats) = stats {
            stats.refused(rejection);
        }
        log::refused(refused);
        if *rejection == Rejection::ShuttingDown {
            return;
        }
        let unlogged = self.0.lock().unwrap_or_else(PoisonError::into_inner).at(clock::now());
        let (pid, uid) = (client.and_then(|client| client.pid), client.map(|client| client.uid));
        match unlogged {
            None => {}
            Some(0) => tracing::warn!(target: ADMISSION, pid, uid, %rejection, "a client was refused"),
            Some(before) => {
                tracing::warn!(target: ADMISSION, pid, uid, %rejection, before, "a client was refused, as others before it");
            }
        }
    }
}

impl Count {
    /// Counts a refusal. Returns how many before were not logged, if this one is to be.
    fn at(&mut self, now: Timestamp) -> Option<u64> {
        if now < self.next {
            self.unlogged += 1;
            return None;
        }
        self.next = now + PAUSE;
        Some(std::mem::take(&mut self.unlogged))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_a_line_a_second() {
        let mut count = Count::default();
        let begin = Timestamp::from_nanos(1);
        assert_eq!(count.at(begin), Some(0));
        for _ in 0..1000 {
            assert_eq!(count.at(begin), None);
        }
        assert_eq!(count.at(begin + PAUSE), Some(1000));
        assert_eq!(count.at(begin + PAUSE + PAUSE), Some(0));
    }
}
