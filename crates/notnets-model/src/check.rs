//! Runs the checker, and tells what it found.

use std::fmt::Debug;
use std::hash::Hash;

use stateright::{Checker, HasDiscoveries, Model};

/// What the checker found.
#[derive(Clone, Debug)]
pub struct Report {
    /// How many different states there are, or were visited before a property broke.
    pub states: usize,
    /// The property that does not hold, and how it comes to that.
    pub broken: Option<Broken>,
}

/// A property that does not hold.
#[derive(Clone, Debug)]
pub struct Broken {
    /// Its name.
    pub property: &'static str,
    /// The steps to a state in which it does not hold, as few as there can be. None if it is one of those
    /// that must happen sometimes, without which a model proves nothing, and never does.
    pub steps: Vec<String>,
}

/// Visits all states of a model, or as many as it takes to break a property.
pub fn check<M>(model: M) -> Report
where
    M: Model + Send + Sync + 'static,
    M::State: Clone + Debug + Hash + PartialEq + Send + Sync + 'static,
    M::Action: Clone + Debug + PartialEq + Send + Sync + 'static,
{
    let checker = model.checker().finish_when(HasDiscoveries::AnyFailures).spawn_bfs().join();
    let mut found = checker.discoveries();
    let properties = checker.model().properties();
    let fails = |failure: bool| {
        properties.iter().find(|property| {
            property.expectation.discovery_is_failure() == failure
                && found.contains_key(property.name) == failure
        })
    };
    // A search that ends early has not seen all that happens sometimes.
    let broken = fails(true).or_else(|| fails(false)).map(|property| property.name);
    let steps = broken.and_then(|name| found.remove(name)).map(stateright::Path::into_actions);
    let steps = steps.unwrap_or_default().iter().map(|step| format!("{step:?}")).collect();
    Report { states: checker.unique_state_count(), broken: broken.map(|property| Broken { property, steps }) }
}
