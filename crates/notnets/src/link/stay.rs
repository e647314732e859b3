//! How long a task stays in one poll.
//!
//! On the only thread of a runtime other tasks wait meanwhile, so a poll is short. A runtime with several
//! workers wakes another of them for each task that comes again, and that takes the task over to its core: a
//! switch for each microsecond of polling. There a task stays in its poll, as long as its worker has nobody
//! else to run: what others wake can be run by other workers.

use std::time::Duration;

use notnets_core::clock::{self, Timestamp};

/// Rounds of a short poll.
const ROUNDS: u32 = 4;
/// The length of a long poll. Nobody may look at the runtime's sockets meanwhile, if all its workers do this.
const LONG: Duration = Duration::from_micros(700);

/// One poll.
#[derive(Debug)]
pub(super) struct Stay {
    is_long: bool,
    rounds: u32,
    until: Option<Timestamp>,
}

impl Stay {
    /// A long poll, or a short one.
    pub(super) fn new(is_long: bool) -> Self {
        Self { is_long, rounds: 0, until: None }
    }

    /// Returns `true` if it goes on when nothing is there.
    pub(super) fn is_long(&self) -> bool {
        self.is_long
    }

    /// Returns `true` if it goes on for another round. `others` are waiting for the thread.
    pub(super) fn on(&mut self, others: bool) -> bool {
        if !self.is_long {
            self.rounds += 1;
            return self.rounds < ROUNDS;
        }
        let now = clock::now();
        !others && now < *self.until.get_or_insert(now + LONG)
    }
}
