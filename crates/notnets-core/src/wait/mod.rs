//! The waiting policy, in one place.
//!
//! A message through memory takes a fraction of a microsecond, waking a parked thread tens of them.
//! So whoever waits first polls the lane for a while, and parks when nothing comes. What has paid off
//! on a link decides whether the next wait polls at all: after polling in vain some waits park at
//! once, twice as many after each further failure. Who polls for longer than an answer usually takes
//! lets others have the core meanwhile (`turns.rs`), for they may have the answer. Where somebody
//! keeps it for long, polling is in vain, and ends.

mod turns;

use std::time::Duration;

use turns::{Turn, Turns, Vain};
pub use turns::{sockets_are_due, yield_core};

use crate::clock::{self, Timestamp};

/// How a link waits for messages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Wait {
    /// Poll until nothing has come for a tenth of a second: fastest, and takes a core.
    Spin,
    /// Poll while that pays off, then park. The default.
    #[default]
    Adaptive,
    /// Park at once: least CPU, and each message costs a wake-up.
    Park,
}

/// Polling longer than this can't pay. A wake-up across cores takes some 50 µs; both sides have to
/// poll at once for either to win, so each must outlast the other's wake-up and its work.
const ANSWER: u64 = 150_000;
/// Who waits for new work does not know that any comes: it polls for about as long as it takes to be
/// woken instead, so that it never spends more than twice what the better choice would have cost.
const WORK: u64 = 40_000;
/// Who had the core for so long while we waited has other work for it than our answer: the kernel lets
/// him have it for some 3 or 4 ms. Those who only poll or answer give it back sooner, even where there are
/// many of them.
const OTHER_WORK: Duration = Duration::from_millis(2);
/// `Wait::Spin` gives up when nothing has come for so long.
const LINGER: u64 = 100_000_000;
/// One poll of a task spins at most so long before it lets other tasks run.
const ONE_POLL: u64 = 1_000;
/// After polling in vain, up to so many waits park at once before polling is tried again: then it
/// costs less than a microsecond for each wait.
const LONGEST_PENALTY: u32 = 256;

/// How long to poll, from what has paid off.
#[derive(Debug)]
pub struct Budget {
    wait: Wait,
    /// The present wait, if there is one.
    since: Option<Vain>,
    /// So many waits park at once.
    parked_waits: u32,
    /// How many will after the next failure; doubles with each, and halves with each success.
    penalty: u32,
    /// How long this wait may poll.
    limit: u64,
    turns: Turns,
}

/// What came of a moment's polling.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Polled {
    /// Something is there.
    Ready,
    /// Not yet.
    Nothing,
    /// Not yet, and others should have the core: call [`yield_core`], without a lock that anybody may
    /// want, and [`Budget::yielded`].
    Yield,
}

/// What is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum For {
    /// Something that the peer owes.
    Answer,
    /// Whatever the peer may want next.
    Work,
}

impl Budget {
    /// Nothing has been waited for yet.
    pub fn new(wait: Wait) -> Self {
        Self { wait, since: None, parked_waits: 0, penalty: 1, limit: ANSWER, turns: Turns::new() }
    }

    /// Nothing is there at `now`: poll on, or park?
    #[inline]
    pub fn allows(&mut self, now: Timestamp, what: For) -> bool {
        let waited = self.waited(now);
        self.limit = if what == For::Answer { ANSWER } else { WORK };
        match self.wait {
            Wait::Spin => waited < LINGER,
            Wait::Park => false,
            Wait::Adaptive if self.parked_waits > 0 => false,
            Wait::Adaptive if waited < self.limit => true,
            Wait::Adaptive => {
                self.penalize();
                false
            }
        }
    }

    /// Polls for a moment from `now` on, unless others should have this thread or core.
    #[inline]
    pub fn poll(&mut self, now: Timestamp, mut ready: impl FnMut() -> bool) -> Polled {
        let waited = self.waited(now);
        let turn = match self.wait {
            Wait::Spin => Turn::Alone,
            _ => self.turns.turn(now, waited),
        };
        let ready = if turn == Turn::Alone { spin(ready) } else { ready() };
        match turn {
            _ if ready => Polled::Ready,
            Turn::Yield => Polled::Yield,
            Turn::Alone | Turn::Next => Polled::Nothing,
        }
    }

    /// The core was yielded, and others had it for so long ([`yield_core`]).
    pub fn yielded(&mut self, away: Duration) {
        if away > OTHER_WORK {
            self.penalize();
        }
    }

    /// Something came.
    #[inline]
    pub fn arrived(&mut self, now: impl FnOnce() -> Timestamp) {
        let Some(mut wait) = self.since.take() else { return Turns::found() };
        let in_time = self.parked_waits > 0 || wait.waited(now()) < self.limit;
        Turns::found();
        if self.parked_waits > 0 {
            self.parked_waits -= 1;
        } else if in_time {
            self.penalty = (self.penalty / 2).max(1);
        } else {
            // Polling lost the core in between: others have work for it.
            self.penalize();
        }
    }

    /// Something was there at once.
    #[inline]
    pub fn at_once(&mut self) {
        Turns::found();
    }

    /// For how long the present wait has been in vain.
    #[inline]
    fn waited(&mut self, now: Timestamp) -> u64 {
        self.since.get_or_insert_default().waited(now)
    }

    fn penalize(&mut self) {
        self.parked_waits = self.penalty;
        self.penalty = (self.penalty * 2).min(LONGEST_PENALTY);
    }
}

/// Spins until `ready` or until one poll's share of time is over. Returns whether it is ready.
#[inline]
fn spin(mut ready: impl FnMut() -> bool) -> bool {
    // PAUSE takes some 27 ns here; a look at the clock about as long, so it is looked at rarely.
    let until = clock::now().add_nanos(ONE_POLL);
    loop {
        for _ in 0..8 {
            if ready() {
                return true;
            }
            std::hint::spin_loop();
        }
        if clock::now() >= until {
            return false;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Timestamp = Timestamp::from_nanos(1);

    /// Lets waits of that length pass; returns how many of them were polled.
    fn waits(budget: &mut Budget, n: usize, duration: u64) -> usize {
        let mut now = START;
        (0..n)
            .filter(|_| {
                let polled = budget.allows(now, For::Answer);
                if polled && duration >= ANSWER {
                    assert!(
                        !budget.allows(now.add_nanos(ANSWER), For::Answer),
                        "no wait is polled for longer"
                    );
                }
                now = now.add_nanos(duration);
                budget.arrived(|| now);
                polled
            })
            .count()
    }

    #[test]
    fn polls_while_it_pays() {
        assert_eq!(waits(&mut Budget::new(Wait::Adaptive), 1000, 5_000), 1000);
    }

    #[test]
    fn parks_when_it_does_not_pay() {
        let mut budget = Budget::new(Wait::Adaptive);
        assert!(waits(&mut budget, 10_000, 1_000_000) < 50);
    }

    #[test]
    fn tries_again_when_waits_get_short() {
        let mut budget = Budget::new(Wait::Adaptive);
        waits(&mut budget, 10_000, 1_000_000);
        waits(&mut budget, 1_000, 5_000);
        assert_eq!(waits(&mut budget, 1000, 5_000), 1000);
    }

    #[test]
    fn the_user_overrules() {
        assert_eq!(waits(&mut Budget::new(Wait::Park), 10, 100), 0);
        let mut spin = Budget::new(Wait::Spin);
        assert!(spin.allows(START, For::Work) && spin.allows(START.add_nanos(LINGER - 1), For::Work));
        assert!(!spin.allows(START.add_nanos(LINGER), For::Work));
    }
}
