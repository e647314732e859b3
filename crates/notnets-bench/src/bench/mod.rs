//! `notnets bench` measures what calls cost over NotNets, over tonic's HTTP/2, and at the floor.
//!
//! Clients and servers are processes of their own. The parent sends them orders as lines of JSON
//! (`control`), measures cases in turns (`measure`), and reports medians.
//!
//! From the outside in: a `case` defines what is measured; a `testbed` is its processes, each either a
//! `server` with the `service`, or a `client` whose `load` is the generator; `floor` is
//! what the machine can do at all, `iceoryx2` what a library for messages in shared memory does. Figures go
//! into a `table` and a `report`; `ratios` compares them with the `goals`, and `matrix` varies one factor at
//! a time. `neighbours` are busy processes beside a case, a `quota` is what its own processes have to share.

mod case;
mod channel;
mod client;
mod control;
mod core;
mod factors;
mod figures;
mod floor;
mod goals;
#[cfg_attr(not(feature = "iceoryx2"), path = "iceoryx2_missing.rs")]
mod iceoryx2;
mod lines;
mod links;
mod load;
mod matrix;
mod measure;
mod neighbours;
mod pod;
mod process;
mod progress;
mod proto;
mod quota;
mod ratios;
mod raw;
mod recorder;
mod report;
mod run;
mod server;
mod service;
mod sizes;
mod table;
mod testbed;

use clap::Subcommand;

use crate::runtime::runtime;
use crate::{Result, usage};
pub use client::run as client;
pub(crate) use iceoryx2::remove_remains;
pub use neighbours::run as neighbour;
pub use quota::run as quota;
pub use server::run as server;

/// Measure what calls cost.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Clone, Debug, Subcommand)]
enum What {
    /// One case, over one or several transports in turns
    Run(run::Args),
    /// Each factor in turn around a base case, with a report of plots
    Matrix(matrix::Args),
    /// Whether the goals are reached: ratios to tonic's HTTP/2 and to the floor, in some six minutes
    Ratios(ratios::Args),
    /// What it costs to write lines back, drop them and fetch them
    Lines(lines::Args),
}

/// Measures. A failed call or a wrong reply is an error.
///
/// Makes a runtime of its own: call it from outside of any.
pub fn run(args: Args) -> Result {
    usage::allow_descriptors();
    runtime(0)?.block_on(async {
        match args.what {
            What::Run(args) => run::run(args).await,
            What::Matrix(args) => matrix::run(args).await,
            What::Ratios(args) => ratios::run(args).await,
            What::Lines(args) => lines::run(&args),
        }
    })
}

/// A time to measure for.
fn seconds(text: &str) -> std::result::Result<f64, String> {
    let seconds: f64 = text.parse().map_err(|error| format!("{error}"))?;
    if seconds > 0.0 && seconds <= 3600.0 {
        Ok(seconds)
    } else {
        Err("must be more than 0, at most 3600".into())
    }
}

/// A CPU quota, in cores. The kernel takes no less than a hundredth.
fn cores(text: &str) -> std::result::Result<f64, String> {
    let cores: f64 = text.parse().map_err(|error| format!("{error}"))?;
    if (0.01..=1024.0).contains(&cores) { Ok(cores) } else { Err("must be 0.01 to 1024 cores".into()) }
}
