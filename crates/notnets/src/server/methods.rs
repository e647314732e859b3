//! The methods that clients call: what serves each, and how long a look at its handlers takes.
//!
//! A handler that is soon done is best polled by the driver of its link, in place: a task of its own costs
//! half as much as the rest of the call. One that is not would hold up all others of the link. So each method
//! is observed: the first call of it runs as a task, and further ones do while a poll of its handlers takes
//! long.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use foldhash::HashMap;
use notnets_core::clock::{self, Timestamp};

use super::services::Target;

/// More than a server has methods; a client that calls what there isn't fills no memory.
const MAX: usize = 1024;

/// A handler counts as no more than this many times the average.
const OUTLIER: u32 = 8;

/// A method, as a server knows it.
pub(super) struct Method {
    pub(super) target: Target,
    pub(super) cost: Arc<Cost>,
}

/// The costs of a server's methods.
#[derive(Debug, Default)]
pub(super) struct Costs(Mutex<HashMap<Arc<str>, Arc<Cost>>>);

impl Costs {
    fn of(&self, path: &Arc<str>) -> Arc<Cost> {
        let mut costs = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(cost) = costs.get(path) {
            return Arc::clone(cost);
        }
        let cost = Arc::default();
        if costs.len() < MAX {
            costs.insert(Arc::clone(path), Arc::clone(&cost));
        }
        cost
    }
}

/// The methods that one client has called.
#[derive(Default)]
pub(super) struct Methods(Mutex<Called>);

#[derive(Default)]
struct Called {
    /// The one that was called last. A link has one text for all calls of a method.
    last: Option<(Arc<str>, Arc<Method>)>,
    all: HashMap<Arc<str>, Arc<Method>>,
}

impl Methods {
    /// The method with that path; its target is found by this when it is called for the first time.
    pub(super) fn get(&self, path: &Arc<str>, costs: &Costs, find: impl FnOnce() -> Target) -> Arc<Method> {
        let mut methods = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match &methods.last {
            Some((last, method)) if Arc::ptr_eq(last, path) => return Arc::clone(method),
            _ => {}
        }
        if let Some(method) = methods.all.get(path).map(Arc::clone) {
            methods.last = Some((Arc::clone(path), Arc::clone(&method)));
            return method;
        }
        let method = Arc::new(Method { target: find(), cost: costs.of(path) });
        if methods.all.len() < MAX {
            methods.all.insert(Arc::clone(path), Arc::clone(&method));
        }
        method
    }
}

/// How long a poll of a method's handlers takes: an average that forgets.
#[derive(Debug)]
pub(super) struct Cost(AtomicU32);

/// Nothing is known yet.
const UNKNOWN: u32 = u32::MAX;

impl Default for Cost {
    fn default() -> Self {
        Self(AtomicU32::new(UNKNOWN))
    }
}

impl Cost {
    /// Nanoseconds that a handler takes, if that is no more than this. What is not known is long.
    #[inline]
    pub(super) fn within(&self, limit: u32) -> Option<u32> {
        let nanos = self.0.load(Ordering::Relaxed);
        (nanos <= limit).then_some(nanos)
    }

    /// A handler was polled between these times.
    #[inline]
    pub(super) fn record(&self, from: Timestamp, to: Timestamp) {
        let nanos = u32::try_from(to.nanos_since(from)).unwrap_or(UNKNOWN).clamp(OUTLIER, UNKNOWN - 1);
        // Of two threads that record at once one is lost, which does no harm.
        let average = match self.0.load(Ordering::Relaxed) {
            UNKNOWN => nanos,
            // The thread may have lost its core in between: a single call says little.
            average => average - average / 8 + nanos.min(average.saturating_mul(OUTLIER)) / 8,
        };
        self.0.store(average, Ordering::Relaxed);
    }

    /// Records how long `poll` takes.
    pub(super) fn observe(&self, poll: &mut dyn FnMut()) {
        let from = clock::now();
        poll();
        self.record(from, clock::now());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHORT: u32 = 50_000;

    fn record(cost: &Cost, nanos: u64) {
        cost.record(Timestamp::ZERO, Timestamp::from_nanos(nanos));
    }

    #[test]
    fn a_method_is_short_once_it_was_seen_to_be() {
        let cost = Cost::default();
        assert_eq!(cost.within(SHORT), None);
        record(&cost, 2_000);
        assert_eq!(cost.within(SHORT), Some(2_000));
    }

    #[test]
    fn one_long_call_says_little_and_some_say_enough() {
        let cost = Cost::default();
        record(&cost, 2_000);
        record(&cost, 3_000_000_000);
        assert!(cost.within(SHORT).is_some());
        let mut calls = 1;
        while cost.within(SHORT).is_some() {
            record(&cost, 3_000_000_000);
            calls += 1;
        }
        assert!((3..20).contains(&calls), "{calls}");
    }

    #[test]
    fn a_method_that_was_long_is_short_again_after_a_while() {
        let cost = Cost::default();
        record(&cost, 3_000_000_000);
        let mut calls = 0;
        while cost.within(SHORT).is_none() {
            record(&cost, 2_000);
            calls += 1;
        }
        assert!((50..200).contains(&calls), "{calls}");
    }

    #[test]
    fn the_shortest_can_grow() {
        let cost = Cost::default();
        record(&cost, 0);
        for _ in 0..100 {
            record(&cost, 10_000_000);
        }
        assert_eq!(cost.within(SHORT), None);
    }

    #[test]
    fn the_longest_is_no_overflow_and_not_unknown() {
        let cost = Cost::default();
        for _ in 0..100 {
            record(&cost, u64::MAX);
            assert_eq!(cost.within(SHORT), None);
        }
        let cost = Cost(AtomicU32::new(UNKNOWN - 1));
        record(&cost, u64::MAX);
        assert_ne!(cost.0.load(Ordering::Relaxed), UNKNOWN);
    }

    #[test]
    fn what_clients_make_up_fills_no_memory() {
        let (methods, costs) = (Methods::default(), Costs::default());
        for n in 0..2 * MAX {
            let path = Arc::from(format!("/made.up/Method{n}"));
            methods.get(&path, &costs, || Target::Unknown);
        }
        assert_eq!(methods.0.lock().unwrap().all.len(), MAX);
        assert_eq!(costs.0.lock().unwrap().len(), MAX);
    }
}
