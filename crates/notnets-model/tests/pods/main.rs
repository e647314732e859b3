//! Whole pods of 2 to 16 hosts without coherence, through kills, stops, cut-offs and returns, by seed:
//! nobody gets a wrong answer, reads what is another's or believes the dead; nothing is leaked; and each
//! step of an agent is one that the model allows. A million steps in all.
//!
//! `NOTNETS_SEED=7` takes another seed, and `NOTNETS_STEPS=50000` as many steps for each pod.

mod process;
mod sim;
mod trace;

use std::time::Instant;

use sim::{Counts, Outcome, Sim};

/// Steps between two times at which all come to rest.
const ROUND: u64 = 5_000;

fn run(hosts: usize, seed: u64, steps: u64) -> Outcome<Counts> {
    let mut sim = Sim::new(hosts, seed)?;
    while sim.counts.steps < steps {
        sim.live_through(ROUND.min(steps))?;
        sim.recover()?;
    }
    sim.end()?;
    Ok(sim.counts)
}

fn live(hosts: usize, steps: u64) {
    let number = |name: &str| Some(std::env::var(name).ok()?.parse::<u64>().expect("a number"));
    let seed = number("NOTNETS_SEED").unwrap_or(hosts as u64);
    let steps = number("NOTNETS_STEPS").unwrap_or(steps);
    println!("{hosts} hosts, seed {seed}");
    let begin = Instant::now();
    let counts =
        run(hosts, seed, steps).unwrap_or_else(|error| panic!("{hosts} hosts, seed {seed}: {error}"));
    println!("{:.1?}, {counts:#?}", begin.elapsed());
    assert!(counts.answers > 0 && counts.reads > 0 && counts.model_steps > 0, "they did nothing");
}

#[test]
fn two_hosts_live_through_anything() {
    live(2, 300_000);
}

#[test]
fn three_hosts_live_through_anything() {
    live(3, 300_000);
}

#[test]
fn four_hosts_live_through_anything() {
    live(4, 250_000);
}

#[test]
fn eight_hosts_live_through_anything() {
    live(8, 100_000);
}

#[test]
fn sixteen_hosts_live_through_anything() {
    live(16, 50_000);
}
