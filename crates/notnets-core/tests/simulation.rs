//! Random calls between two sides, in random order, through lanes as small as they can be.
//!
//! Each seed is one world: geometry, windows and limits, what each call sends and how it ends, and in
//! which order everything happens. Tasks run only when they were woken and sides only when they were
//! rung, as on a real link, so a wake-up that is lost leaves a call unfinished. At the end nothing may
//! be left: no stream, no block, no credit, no frame that nobody takes.
//!
//! A seed that fails is printed. `NOTNETS_SEED=n cargo test -p notnets-core --test simulation` runs
//! that one alone, and `NOTNETS_SEEDS=n` as many as you like.

mod simulated;

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use simulated::world::{Mischief, World};

/// Runs a world for each seed, and says which one failed.
fn simulate(mischief: Mischief, seeds: u64) {
    let variable = |name| std::env::var(name).ok().and_then(|value| value.parse::<u64>().ok());
    let seeds = match variable("NOTNETS_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..variable("NOTNETS_SEEDS").unwrap_or(seeds),
    };
    for seed in seeds {
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| World::new(seed, mischief).run())) {
            eprintln!("{mischief:?} fails with NOTNETS_SEED={seed}");
            resume_unwind(panic);
        }
    }
}

#[test]
fn undisturbed_calls_all_end_well() {
    simulate(Mischief::None, 1000);
}

#[test]
fn calls_that_are_cut_short_leave_nothing_behind() {
    simulate(Mischief::Cuts, 1000);
}

#[test]
fn a_server_that_goes_away_ends_what_it_has_begun() {
    simulate(Mischief::GoAway, 700);
}

#[test]
fn calls_that_are_cut_short_while_the_server_goes_away_leave_nothing_behind() {
    simulate(Mischief::All, 700);
}
