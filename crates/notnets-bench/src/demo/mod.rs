//! `notnets demo` runs a small web shop over TCP, Unix sockets and NotNets.
//!
//! Eight services are a process each, and one more process has the customers: they walk through the
//! shop, time each journey, and check each reply's contents. The services are
//! ordinary tonic services, with the stubs of `notnets-build` for all transports; only `transport` knows what
//! carries their calls.
//!
//! From the outside in: `measure` runs the rounds, a `shop` is a set of processes that are
//! given orders through `control`, which are `services` or customers, which put `load` on
//! the shop by walking `journeys`; `data` computes what each reply must be. The results go
//! into a `table` and a `report`. On the hosts of a `pod` there is one shop, and nothing to compare.

mod checks;
mod control;
mod data;
mod journeys;
mod load;
mod measure;
mod pod;
mod progress;
mod proto;
mod report;
mod services;
mod shop;
mod table;
mod transport;

use std::path::PathBuf;

use clap::ValueEnum;

pub use control::{ProcessArgs, ServiceArgs, customers, service};

use crate::Result;
use crate::machine::Machine;
use crate::plot::check_writable;
use crate::runtime::runtime;
use journeys::Journey;
use measure::Outcome;
use transport::Transport;

/// Run a small web shop over TCP, Unix sockets and NotNets, and compare.
#[derive(Clone, Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Args {
    #[command(subcommand)]
    part: Option<pod::Part>,

    /// How long to measure each journey over each transport, in seconds, over all rounds.
    #[arg(long, default_value_t = 3.6, value_parser = positive)]
    pub seconds: f64,

    /// How many times to go through all journeys and transports.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,

    /// How many customers there are at the same time.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..))]
    callers: u32,

    /// The transports to compare.
    #[arg(long, num_args = 1.., value_delimiter = ',', default_values_t = Transport::value_variants().to_vec())]
    transports: Vec<Transport>,

    /// The journeys of the customers.
    #[arg(long, num_args = 1.., value_delimiter = ',', default_values_t = Journey::value_variants().to_vec())]
    journeys: Vec<Journey>,

    /// Worker threads in each process; 0 for tokio's current-thread runtime.
    #[arg(long, default_value_t = 0)]
    workers: usize,

    /// Print one JSON object instead of a table.
    #[arg(long)]
    json: bool,

    /// Where to write the report.
    #[arg(long, default_value = "notnets-demo.html")]
    report: PathBuf,
}

/// Runs the demo. A wrong reply is an error, reported after the figures.
///
/// Makes a runtime of its own: call it from outside of any.
pub fn run(args: &Args) -> Result {
    if let Some(part) = &args.part {
        return pod::run(part);
    }
    check_writable(&args.report)?;
    let machine = Machine::look();
    let outcome = runtime(0)?.block_on(measure::run(args))?;

    if args.json {
        println!("{}", serde_json::to_string(&outcome)?);
    } else {
        print!("{}", table::render(args, &machine, &outcome));
    }
    std::fs::write(&args.report, report::render(args, &machine, &outcome))
        .map_err(|error| format!("cannot write the report to {}: {error}", args.report.display()))?;
    let path = args.report.canonicalize()?;
    // Standard output is for one object alone.
    if args.json {
        eprintln!("report: {}", path.display());
    } else {
        println!("\nReport with plots: {}", path.display());
    }

    verdict(&outcome)
}

/// A wrong reply makes the whole demo fail, however fast it came.
fn verdict(outcome: &Outcome) -> Result {
    let Outcome { replies_checked: checked, replies_wrong: wrong, first_wrong, .. } = outcome;
    match wrong {
        0 => Ok(()),
        _ => {
            let first = first_wrong.as_deref().unwrap_or_default();
            Err(format!("{wrong} of {checked} replies were wrong; the first: {first}").into())
        }
    }
}

fn positive(text: &str) -> std::result::Result<f64, String> {
    let seconds: f64 = text.parse().map_err(|error| format!("{error}"))?;
    if seconds > 0.0 && seconds < 1e6 { Ok(seconds) } else { Err("must be more than 0".into()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_reply_fails_the_demo() {
        let mut outcome =
            Outcome { journeys: Vec::new(), replies_checked: 9, replies_wrong: 0, first_wrong: None };
        assert!(verdict(&outcome).is_ok());
        outcome.replies_wrong = 1;
        outcome.first_wrong = Some("browse over TCP: got this, wanted that".into());
        let error = verdict(&outcome).unwrap_err().to_string();
        assert_eq!(error, "1 of 9 replies were wrong; the first: browse over TCP: got this, wanted that");
    }
}
