//! Lives, errors and limits, between real processes: what a user meets when servers and clients are
//! killed, stopped, forked, starved and restarted.
//!
//! The other process of each test is this test binary again, in a role (see [`support::helper`]).

mod support;

mod burst;
mod containers;
mod death;
mod descriptors;
mod errors;
mod forks;
mod graceful;
mod identity;
mod idle;
mod memory;
#[cfg(feature = "pod")]
mod pod_payloads;
#[cfg(feature = "pod")]
mod pods;
#[cfg(feature = "pod")]
mod poison;
mod remains;
mod removed;
mod replicas;
mod runtimes;
mod settings;
mod shared;
mod sizes;
mod stopped;
mod take_over;

/// Not a test by itself: the other process of the tests.
#[test]
fn helper_process() {
    support::helper::play();
}
