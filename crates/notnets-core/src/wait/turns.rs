//! Turns: who polls shares its thread with other links, and its core with other processes.
//!
//! A thread that drives many links looks at each in turn, so none of them spins. When a whole round
//! has found nothing, the thread offers its core to others: yielding takes half a microsecond, and
//! among processes that all poll it is a switch to the next of them, many times cheaper than to park
//! and be woken. How long the core was away tells what else runs there: nothing; others that poll,
//! and give it back soon; or somebody with work of his own, among whom polling is in vain.

use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::clock;

/// The core was given to others if it was away for longer than this.
const OTHERS_RAN: u64 = 1_500;
/// After others ran, so many yields in a row have to return at once before this thread spins again.
const CROWD: u32 = 16;

/// What a thread knows of the links that it polls, and of those it shares its core with.
struct Thread {
    /// The link that polled last.
    last: Cell<u64>,
    /// Counts what was found, on any link.
    found: Cell<u64>,
    /// Above zero while others want this core.
    crowd: Cell<u32>,
}

thread_local! {
    static THREAD: Thread = const { Thread { last: Cell::new(0), found: Cell::new(0), crowd: Cell::new(0) } };
}

/// One link's part in it.
#[derive(Debug)]
pub(super) struct Turns {
    id: u64,
    /// What had been found in all when this link last found nothing.
    found: u64,
}

/// What a link may do that has found nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    /// Nobody else wants this thread or core: spin.
    Alone,
    /// Let the thread's other links look.
    Next,
    /// None of them has found anything: let other processes run.
    Yield,
}

impl Turns {
    pub(super) fn new() -> Self {
        static IDS: AtomicU64 = AtomicU64::new(1);
        Self { id: IDS.fetch_add(1, Ordering::Relaxed), found: 0 }
    }

    /// Something was found.
    #[inline]
    pub(super) fn found() {
        THREAD.with(|thread| thread.found.set(thread.found.get().wrapping_add(1)));
    }

    /// Nothing was found; `long` if for so long that another process may need this core for its
    /// answer.
    #[inline]
    pub(super) fn turn(&mut self, long: bool) -> Turn {
        THREAD.with(|thread| {
            let found = thread.found.get();
            let a_round = std::mem::replace(&mut self.found, found) == found;
            let alone = thread.last.replace(self.id) == self.id;
            let crowded = thread.crowd.get() > 0;
            match (alone, a_round && (crowded || long)) {
                (_, true) => Turn::Yield,
                (true, false) if !crowded => Turn::Alone,
                _ => Turn::Next,
            }
        })
    }
}

/// Offers this thread's core to others. Returns for how many nanoseconds they had it.
pub fn yield_core() -> u64 {
    let before = clock::now();
    std::thread::yield_now();
    let away = clock::now().saturating_sub(before);
    let others_ran = away > OTHERS_RAN;
    THREAD.with(|thread| {
        let crowd = if others_ran { CROWD } else { thread.crowd.get().saturating_sub(1) };
        thread.crowd.set(crowd);
    });
    // A round begins anew.
    Turns::found();
    if others_ran { away } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_alone_spins_and_many_look_in_turn() {
        let (mut a, mut b) = (Turns::new(), Turns::new());
        Turns::found();
        assert_eq!([a.turn(false), a.turn(false), a.turn(false)], [Turn::Next, Turn::Alone, Turn::Alone]);
        assert_eq!([b.turn(false), a.turn(false), b.turn(false)], [Turn::Next; 3]);
    }

    #[test]
    fn the_core_is_yielded_once_in_a_fruitless_round() {
        let (mut a, mut b) = (Turns::new(), Turns::new());
        Turns::found();
        assert_eq!([a.turn(true), b.turn(true)], [Turn::Next; 2]);
        assert_eq!(a.turn(true), Turn::Yield);
        yield_core();
        assert_eq!([b.turn(true), a.turn(true)], [Turn::Next; 2], "after a yield all look once more");
        assert_eq!(b.turn(true), Turn::Yield);
        Turns::found();
        assert_ne!(a.turn(true), Turn::Yield, "something was found");
    }
}
