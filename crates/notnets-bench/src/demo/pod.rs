//! The shop in a pod: on each host a command that serves some of its services, and on any of them one that
//! is its customers. All find each other by their names in the pod, so that it does not matter which runs
//! where.

use std::io::Write;
use std::time::Duration;

use clap::{Subcommand, ValueEnum};
use notnets_cli_common::number::number;
use tokio::signal::unix::{SignalKind, signal};

use super::checks::Checks;
use super::journeys::Journey;
use super::load::{self, Order};
use super::positive;
use super::proto::storefront_client::StorefrontClient;
use super::services::Name;
use super::shop::ready;
use super::transport::{Connect, Transport, notnets_address};
use crate::Result;
use crate::child::Child;
use crate::latencies::QUANTILES;
use crate::runtime::runtime;

/// How long a service may take to start. A host may be an emulated one, on a busy machine.
const START: Duration = Duration::from_secs(300);

/// A part of the shop on one host of a pod.
#[derive(Clone, Debug, Subcommand)]
pub enum Part {
    /// Serve some of the shop's services in a pod, until asked to stop
    Serve(ServeArgs),
    /// Be the customers of a shop that is served in a pod, and check its replies
    Visit(VisitArgs),
}

/// The services to serve.
#[derive(Clone, Debug, clap::Args)]
pub struct ServeArgs {
    /// The pod's name.
    #[arg(long)]
    pod: String,
    /// Worker threads in each process; 0 for tokio's current-thread runtime.
    #[arg(long, default_value_t = 0)]
    workers: usize,
    /// Which services; without any, all.
    services: Vec<Name>,
}

/// The journeys of the customers.
#[derive(Clone, Debug, clap::Args)]
pub struct VisitArgs {
    /// The pod's name.
    #[arg(long)]
    pod: String,
    /// For how long they walk each journey, in seconds. Each customer walks it once at least.
    #[arg(long, default_value_t = 1.0, value_parser = positive)]
    seconds: f64,
    /// How many customers there are at the same time.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..))]
    callers: u32,
    /// The journeys of the customers.
    #[arg(long, num_args = 1.., value_delimiter = ',', default_values_t = Journey::value_variants().to_vec())]
    journeys: Vec<Journey>,
}

/// Runs a part of the shop.
pub fn run(part: &Part) -> Result {
    runtime(0)?.block_on(async {
        match part {
            Part::Serve(args) => serve(args).await,
            Part::Visit(args) => visit(args).await,
        }
    })
}

/// Starts a process for each service, prints their addresses, and ends them on SIGTERM or Ctrl-C.
async fn serve(args: &ServeArgs) -> Result {
    let mut terminated = signal(SignalKind::terminate())?;
    let directory = tempfile::Builder::new().prefix("notnets-demo-").tempdir()?;
    let names = if args.services.is_empty() { Name::value_variants() } else { &args.services };
    let mut processes = Vec::new();
    for name in names {
        let mut process = Child::start(|command| {
            command.args(["demo-service", name.as_str(), "--pod", &args.pod]);
            command.args(["--transport", Transport::NotNets.as_str()]);
            command.args(["--workers", &args.workers.to_string()]);
            command.arg("--directory").arg(directory.path());
            command.args(name.peers().iter().map(|peer| {
                let peer = peer.as_str();
                format!("--peer={peer}={}", notnets_address(&args.pod, peer))
            }));
        })?;
        let address = process.answer(START).await.and_then(ready);
        say(&format!("READY {}", address.map_err(|error| format!("{}: {error}", name.as_str()))?))?;
        processes.push(process);
    }
    tokio::select! {
        _ = terminated.recv() => {}
        interrupted = tokio::signal::ctrl_c() => interrupted?,
    }
    for process in processes.into_iter().rev() {
        process.end().await?;
    }
    Ok(())
}

/// Walks the journeys one after the other. A wrong reply is an error.
async fn visit(args: &VisitArgs) -> Result {
    let address = notnets_address(&args.pod, Name::Storefront.as_str());
    let shop = StorefrontClient::new(<notnets::Channel as Connect>::connect(&address).await?);
    let mut checks = Checks::default();
    say(&format!("{:<9}{:>11}{:>11}{:>11}", "journey", "walked", "p50 µs", "p99 µs"))?;
    for &journey in &args.journeys {
        let order = Order { journey, callers: args.callers, seconds: args.seconds, seed: 0 };
        let sample = load::run(&shop, order).await?;
        let at = |wanted| {
            let nth = QUANTILES.iter().position(|quantile| *quantile == wanted);
            number(nth.map_or(0.0, |nth| sample.quantiles_us[nth]))
        };
        say(&format!("{journey:<9}{:>11}{:>11}{:>11}", sample.requests, at(0.5), at(0.99)))?;
        checks.add(sample.checks);
    }
    let Checks { checked, wrong, first_wrong } = checks;
    say(&format!("{checked} replies checked against what they must be, {wrong} wrong."))?;
    match first_wrong {
        None => Ok(()),
        Some(first) => Err(format!("{wrong} of {checked} replies were wrong; the first: {first}").into()),
    }
}

/// Prints a line and flushes it.
fn say(line: &str) -> Result {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}")?;
    Ok(out.flush()?)
}
