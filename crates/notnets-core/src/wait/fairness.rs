//! Fairness: a waiting link shares its thread with other links, and its core with other processes.
//!
//! A thread that drives many links looks at each of them in turn, so none of them spins. When a whole round
//! has found nothing, the thread yields its core. That takes half a microsecond, and among processes that all
//! poll it is a switch to the next of them, many times cheaper than to park and be woken.
//!
//! Under contention every round ends with a yield, even a productive one. Otherwise a busy server would
//! starve the clients it is answering, for milliseconds on schedulers that put a yielding thread last. How
//! long the core was away shows what else runs there: nothing, others that poll and return it soon, or
//! unrelated work (`rest.rs`).

use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering};

use super::rest;
use crate::clock::{self, Timestamp};

/// Others ran on the core if it was away for longer than this, in nanoseconds.
const OTHERS_RAN: u64 = 1_500;
/// A peer that polls answers in less than this, in nanoseconds. A thread that has been idle for longer yields
/// its core.
const SOON: u64 = 10_000;
/// After others ran, this number of yields in a row has to return at once before the thread spins again.
const CONTENDED_YIELDS: u32 = 16;

/// A thread that always finds something yields its core at this interval, in nanoseconds: others may wait for
/// just the answers that it gives. When nobody wants the core, that takes half a microsecond.
const PROBE: u64 = 100_000;

/// Under contention a runtime looks at its sockets after this number of yields.
const SOCKETS_AFTER: u64 = 4;

/// A thread's knowledge of the links that it polls and of contention for its core.
struct Thread {
    /// The link that polled last.
    last: Cell<u64>,
    /// Counts what was found, on any link.
    found: Cell<u64>,
    /// Above zero while others want this core.
    contended: Cell<u32>,
    /// When it last found nothing, unless it has found something or given its core away since.
    looked_at: Cell<Option<Timestamp>>,
    /// Nanoseconds of polling without result since it last found something.
    idle: Cell<u64>,
    /// Counts how often it has yielded its core.
    yields: Cell<u64>,
    /// When it last did.
    yielded_at: Cell<Timestamp>,
}

thread_local! {
    static THREAD: Thread = const {
        Thread {
            last: Cell::new(0),
            found: Cell::new(0),
            contended: Cell::new(0),
            looked_at: Cell::new(None),
            idle: Cell::new(0),
            yields: Cell::new(0),
            yielded_at: Cell::new(Timestamp::ZERO),
        }
    };
}

/// For how long a link has been polled without result. The thread's work for other links and its time off the
/// core do not count.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct IdleTime {
    own: u64,
}

impl IdleTime {
    /// Records that nothing is there at `now`. Returns the nanoseconds for which the link itself has been
    /// polled without result, or its whole thread has, whichever is longer.
    #[inline]
    pub(super) fn idle_at(&mut self, now: Timestamp) -> u64 {
        THREAD.with(|thread| {
            if let Some(looked) = thread.looked_at.replace(Some(now)) {
                let look = now.nanos_since(looked);
                self.own += look;
                thread.idle.set(thread.idle.get() + look);
            }
            self.own.max(thread.idle.get())
        })
    }
}

/// Decides what a waiting link does with its thread and core.
#[derive(Debug)]
pub(super) struct Scheduler {
    id: u64,
    /// The thread's total of findings when this link last found nothing.
    found: u64,
    /// How often the core had been yielded by then.
    yields: u64,
}

/// The next step of a link that has found nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PollAction {
    /// Nobody else wants this thread or core.
    Spin,
    /// The thread's other links look first.
    Skip,
    /// All of them have looked: other processes may run.
    YieldCore,
}

impl Scheduler {
    pub(super) fn new() -> Self {
        static IDS: AtomicU64 = AtomicU64::new(1);
        Self { id: IDS.fetch_add(1, Ordering::Relaxed), found: 0, yields: u64::MAX }
    }

    /// Something was found.
    #[inline]
    pub(super) fn found() {
        THREAD.with(|thread| {
            thread.found.set(thread.found.get().wrapping_add(1));
            thread.looked_at.set(None);
            thread.idle.set(0);
        });
    }

    /// Returns what to do when nothing was found at `now`, after this many nanoseconds of polling without
    /// result.
    #[inline]
    pub(super) fn next_action(&mut self, now: Timestamp, idle: u64) -> PollAction {
        THREAD.with(|thread| {
            let found = thread.found.get();
            let fruitless = std::mem::replace(&mut self.found, found) == found;
            let yields = thread.yields.get();
            let whole_round = std::mem::replace(&mut self.yields, yields) == yields;
            let alone = thread.last.replace(self.id) == self.id;
            let contended = thread.contended.get() > 0;
            let yields_core = contended && (whole_round || alone)
                || fruitless && idle >= SOON
                || whole_round && now.nanos_since(thread.yielded_at.get()) >= PROBE;
            if yields_core {
                PollAction::YieldCore
            } else if alone && !contended {
                PollAction::Spin
            } else {
                PollAction::Skip
            }
        })
    }
}

/// Returns `true` if it is time for a runtime to look at its sockets before this thread's links look again.
/// Under contention it would take long to do so by itself.
#[inline]
pub fn sockets_are_due() -> bool {
    THREAD.with(|thread| thread.contended.get() > 0 && thread.yields.get().is_multiple_of(SOCKETS_AFTER))
}

/// Yields this thread's core to others.
pub fn yield_core() {
    let before = clock::now();
    std::thread::yield_now();
    let after = clock::now();
    let away = after.nanos_since(before);
    rest::lost_core(after, away);
    let others_ran = away > OTHERS_RAN;
    THREAD.with(|thread| {
        let contended = if others_ran { CONTENDED_YIELDS } else { thread.contended.get().saturating_sub(1) };
        thread.contended.set(contended);
        // A round begins anew.
        thread.found.set(thread.found.get().wrapping_add(1));
        thread.yields.set(thread.yields.get() + 1);
        thread.yielded_at.set(after);
        if others_ran {
            thread.looked_at.set(None);
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(nanos: u64) -> Timestamp {
        Timestamp::from_nanos(nanos)
    }

    /// Two links of a thread whose core nobody has ever wanted, and which was yielded at 0.
    fn quiet() -> (Scheduler, Scheduler) {
        Scheduler::found();
        (Scheduler::new(), Scheduler::new())
    }

    fn contend(want: u32) {
        THREAD.with(|thread| thread.contended.set(want));
    }

    #[test]
    fn a_link_alone_spins_and_many_look_in_turn() {
        let (mut a, mut b) = quiet();
        assert_eq!(
            [a.next_action(at(0), 0), a.next_action(at(0), 0), a.next_action(at(0), 0)],
            [PollAction::Skip, PollAction::Spin, PollAction::Spin]
        );
        assert_eq!(
            [b.next_action(at(0), 0), a.next_action(at(0), 0), b.next_action(at(0), 0)],
            [PollAction::Skip; 3]
        );
    }

    #[test]
    fn the_core_is_yielded_once_in_a_fruitless_round() {
        let (mut a, mut b) = quiet();
        assert_eq!([a.next_action(at(0), SOON), b.next_action(at(0), SOON)], [PollAction::Skip; 2]);
        assert_eq!(a.next_action(at(0), SOON), PollAction::YieldCore);
        yield_core();
        contend(0);
        assert_eq!(
            [b.next_action(at(0), SOON), a.next_action(at(0), SOON)],
            [PollAction::Skip; 2],
            "after a yield all look once more"
        );
        assert_eq!(b.next_action(at(0), SOON), PollAction::YieldCore);
        Scheduler::found();
        assert_ne!(a.next_action(at(0), SOON), PollAction::YieldCore, "something was found");
    }

    #[test]
    fn a_thread_that_always_finds_something_yields_the_core_now_and_then() {
        let (mut a, mut b) = quiet();
        let mut round = |now| {
            Scheduler::found();
            [a.next_action(at(now), 0), b.next_action(at(now), 0)]
        };
        assert_eq!(round(PROBE - 1), [PollAction::Skip; 2]);
        assert_eq!(round(PROBE - 1), [PollAction::Skip; 2]);
        assert_eq!(round(PROBE)[0], PollAction::YieldCore);
    }

    #[test]
    fn under_contention_each_round_ends_with_a_yield() {
        let (mut a, mut b) = quiet();
        contend(CONTENDED_YIELDS);
        assert_eq!([a.next_action(at(0), 0), b.next_action(at(0), 0)], [PollAction::Skip; 2]);
        Scheduler::found();
        assert_eq!(a.next_action(at(0), 0), PollAction::YieldCore, "whatever was found");
        assert_eq!(a.next_action(at(0), 0), PollAction::YieldCore, "only this link looks");
    }

    #[test]
    fn idle_time_is_polling_without_result() {
        Scheduler::found();
        let (mut a, mut b) = (IdleTime::default(), IdleTime::default());
        assert_eq!([a.idle_at(at(1_000)), a.idle_at(at(1_300))], [0, 300]);
        assert_eq!(b.idle_at(at(1_400)), 400, "the thread has found nothing for that long");
        Scheduler::found();
        // It works until 9000 for what it found, and looks on.
        assert_eq!([a.idle_at(at(9_000)), b.idle_at(at(9_100))], [300, 200]);
        Scheduler::found();
        assert_eq!([a.idle_at(at(20_000)), b.idle_at(at(20_050))], [300, 250], "each link for itself");
    }
}
