//! Turns: who polls shares its thread with other links, and its core with other processes.
//!
//! A thread that drives many links looks at each in turn, so none of them spins. When a whole round
//! has found nothing, the thread offers its core to others: yielding takes half a microsecond, and
//! among processes that all poll it is a switch to the next of them, many times cheaper than to park
//! and be woken. Where others want the core, each round ends so, whatever was found: a server that
//! always finds something would keep it from the very clients it answers, and a kernel that lets who
//! yields wait for all others makes that milliseconds. How long the core was away tells what else runs there: nothing; others that poll,
//! and give it back soon; or somebody with work of his own, among whom polling is in vain.

use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::clock::{self, Timestamp};

/// The core was given to others if it was away for longer than this.
const OTHERS_RAN: u64 = 1_500;
/// An answer takes less than this from a peer that polls. A thread that has looked in vain for longer
/// offers its core.
const SOON: u64 = 10_000;
/// After others ran, so many yields in a row have to return at once before this thread spins again.
const CROWD: u32 = 16;

/// A thread that always finds something offers its core to others after so long: they may wait for just
/// the answers that it gives. When nobody wants it, that takes half a microsecond.
const PROBE: u64 = 100_000;

/// In a crowd a runtime looks at its sockets after so many offers of the core.
const SOCKETS_AFTER: u64 = 4;

/// What a thread knows of the links that it polls, and of those it shares its core with.
struct Thread {
    /// The link that polled last.
    last: Cell<u64>,
    /// Counts what was found, on any link.
    found: Cell<u64>,
    /// Above zero while others want this core.
    crowd: Cell<u32>,
    /// When it last looked in vain since it found something or gave its core away.
    looked: Cell<Option<Timestamp>>,
    /// For how many nanoseconds it has looked in vain since it last found something.
    vain: Cell<u64>,
    /// Counts how often it has offered its core.
    offers: Cell<u64>,
    /// When it last did.
    offered: Cell<Timestamp>,
}

thread_local! {
    static THREAD: Thread = const {
        Thread {
            last: Cell::new(0),
            found: Cell::new(0),
            crowd: Cell::new(0),
            looked: Cell::new(None),
            vain: Cell::new(0),
            offers: Cell::new(0),
            offered: Cell::new(Timestamp::ZERO),
        }
    };
}

/// How long a link has been waited for in vain: what its thread did meanwhile for other links, and what
/// others did with the core when it was given to them, does not count.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Vain {
    own: u64,
}

impl Vain {
    /// Nothing is there at `now`. Returns for how many nanoseconds the link itself has been looked at in
    /// vain, or its whole thread has found nothing, whichever is longer.
    #[inline]
    pub(super) fn waited(&mut self, now: Timestamp) -> u64 {
        THREAD.with(|thread| {
            if let Some(looked) = thread.looked.replace(Some(now)) {
                let look = now.nanos_since(looked);
                self.own += look;
                thread.vain.set(thread.vain.get() + look);
            }
            self.own.max(thread.vain.get())
        })
    }
}

/// One link's part in it.
#[derive(Debug)]
pub(super) struct Turns {
    id: u64,
    /// What had been found in all when this link last found nothing.
    found: u64,
    /// How often the core had been offered by then.
    offers: u64,
}

/// What a link may do that has found nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    /// Nobody else wants this thread or core: spin.
    Alone,
    /// Let the thread's other links look.
    Next,
    /// All of them have looked: let other processes run.
    Yield,
}

impl Turns {
    pub(super) fn new() -> Self {
        static IDS: AtomicU64 = AtomicU64::new(1);
        Self { id: IDS.fetch_add(1, Ordering::Relaxed), found: 0, offers: u64::MAX }
    }

    /// Something was found.
    #[inline]
    pub(super) fn found() {
        THREAD.with(|thread| {
            thread.found.set(thread.found.get().wrapping_add(1));
            thread.looked.set(None);
            thread.vain.set(0);
        });
    }

    /// Nothing was found at `now`, after so many nanoseconds of looking in vain.
    #[inline]
    pub(super) fn turn(&mut self, now: Timestamp, waited: u64) -> Turn {
        THREAD.with(|thread| {
            let found = thread.found.get();
            let in_vain = std::mem::replace(&mut self.found, found) == found;
            let offers = thread.offers.get();
            let a_round = std::mem::replace(&mut self.offers, offers) == offers;
            let alone = thread.last.replace(self.id) == self.id;
            let crowded = thread.crowd.get() > 0;
            let offer = crowded && (a_round || alone)
                || in_vain && waited >= SOON
                || a_round && now.nanos_since(thread.offered.get()) >= PROBE;
            match (offer, alone) {
                (true, _) => Turn::Yield,
                (false, true) if !crowded => Turn::Alone,
                _ => Turn::Next,
            }
        })
    }
}

/// Is it time for a runtime to look at its sockets before this thread's links look again? Where other
/// processes want the core, it is long until it would do so by itself.
#[inline]
pub fn sockets_are_due() -> bool {
    THREAD.with(|thread| thread.crowd.get() > 0 && thread.offers.get().is_multiple_of(SOCKETS_AFTER))
}

/// Offers this thread's core to others. Returns for how long they had it.
pub fn yield_core() -> Duration {
    let before = clock::now();
    std::thread::yield_now();
    let after = clock::now();
    let away = after.nanos_since(before);
    let others_ran = away > OTHERS_RAN;
    THREAD.with(|thread| {
        let crowd = if others_ran { CROWD } else { thread.crowd.get().saturating_sub(1) };
        thread.crowd.set(crowd);
        // A round begins anew.
        thread.found.set(thread.found.get().wrapping_add(1));
        thread.offers.set(thread.offers.get() + 1);
        thread.offered.set(after);
        if others_ran {
            thread.looked.set(None);
        }
    });
    if others_ran { Duration::from_nanos(away) } else { Duration::ZERO }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(nanos: u64) -> Timestamp {
        Timestamp::from_nanos(nanos)
    }

    /// Nobody has ever wanted this thread's core, and it was offered at 0.
    fn quiet() -> (Turns, Turns) {
        Turns::found();
        (Turns::new(), Turns::new())
    }

    fn crowd(want: u32) {
        THREAD.with(|thread| thread.crowd.set(want));
    }

    #[test]
    fn a_link_alone_spins_and_many_look_in_turn() {
        let (mut a, mut b) = quiet();
        assert_eq!(
            [a.turn(at(0), 0), a.turn(at(0), 0), a.turn(at(0), 0)],
            [Turn::Next, Turn::Alone, Turn::Alone]
        );
        assert_eq!([b.turn(at(0), 0), a.turn(at(0), 0), b.turn(at(0), 0)], [Turn::Next; 3]);
    }

    #[test]
    fn the_core_is_offered_once_in_a_fruitless_round() {
        let (mut a, mut b) = quiet();
        assert_eq!([a.turn(at(0), SOON), b.turn(at(0), SOON)], [Turn::Next; 2]);
        assert_eq!(a.turn(at(0), SOON), Turn::Yield);
        yield_core();
        crowd(0);
        assert_eq!(
            [b.turn(at(0), SOON), a.turn(at(0), SOON)],
            [Turn::Next; 2],
            "after a yield all look once more"
        );
        assert_eq!(b.turn(at(0), SOON), Turn::Yield);
        Turns::found();
        assert_ne!(a.turn(at(0), SOON), Turn::Yield, "something was found");
    }

    #[test]
    fn who_always_finds_something_offers_the_core_now_and_then() {
        let (mut a, mut b) = quiet();
        let mut round = |now| {
            Turns::found();
            [a.turn(at(now), 0), b.turn(at(now), 0)]
        };
        assert_eq!(round(PROBE - 1), [Turn::Next; 2]);
        assert_eq!(round(PROBE - 1), [Turn::Next; 2]);
        assert_eq!(round(PROBE)[0], Turn::Yield);
    }

    #[test]
    fn in_a_crowd_each_round_ends_with_an_offer() {
        let (mut a, mut b) = quiet();
        crowd(CROWD);
        assert_eq!([a.turn(at(0), 0), b.turn(at(0), 0)], [Turn::Next; 2]);
        Turns::found();
        assert_eq!(a.turn(at(0), 0), Turn::Yield, "whatever was found");
        assert_eq!(a.turn(at(0), 0), Turn::Yield, "none but this link looks");
    }

    #[test]
    fn a_wait_is_what_is_looked_in_vain() {
        Turns::found();
        let (mut a, mut b) = (Vain::default(), Vain::default());
        assert_eq!([a.waited(at(1_000)), a.waited(at(1_300))], [0, 300]);
        assert_eq!(b.waited(at(1_400)), 400, "the thread has found nothing for so long");
        Turns::found();
        // It works until 9000 for what it found, and looks on.
        assert_eq!([a.waited(at(9_000)), b.waited(at(9_100))], [300, 200]);
        Turns::found();
        assert_eq!([a.waited(at(20_000)), b.waited(at(20_050))], [300, 250], "each link for itself");
    }
}
