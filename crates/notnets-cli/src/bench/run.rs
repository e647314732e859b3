//! `notnets bench run`: one case, as often as one likes.

use std::time::Duration;

use super::Result;
use super::case::{Api, Case, Transport, Wait, Work};
use super::measure::{Effort, interleaved};
use super::pod::{Coherence, Pod};
use super::progress::Progress;
use super::sizes::Size;
use super::table;
use crate::duration;

/// One case, over one or several transports in turns.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// What carries the calls; several are measured in turns.
    #[arg(long, value_delimiter = ',', default_value = "notnets")]
    transport: Vec<Transport>,

    /// What one call is.
    #[arg(long, default_value = "echo")]
    work: Work,

    /// Bytes of the request (64, 16k, 1m), or a distribution: tiny, fleet, tail, bulk. Several are measured in turns.
    #[arg(long, value_delimiter = ',', default_value = "64")]
    payload: Vec<Size>,

    /// Between two hosts of a pod that share a region in a file, instead of within one host.
    #[arg(long)]
    pod: bool,

    /// In a pod: who keeps the region coherent; several are measured in turns.
    #[arg(long, value_delimiter = ',', default_value = "hardware,software", requires = "pod")]
    coherence: Vec<Coherence>,

    /// In a pod: what fetching a line from the other host takes beyond what it takes here, a model of far memory
    /// (0ns, 115ns, 250ns, 400ns, 1us); several are measured in turns.
    #[arg(long, value_delimiter = ',', default_value = "0ns", value_parser = duration::parse, requires = "pod")]
    line_latency: Vec<Duration>,

    /// The level at which the caller sits.
    #[arg(long, default_value = "tonic")]
    api: Api,

    /// How NotNets waits; several are measured in turns.
    #[arg(long, value_delimiter = ',', default_value = "adaptive")]
    wait: Vec<Wait>,

    /// Calls open at once in each client.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    outstanding: u32,

    /// Client processes.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    clients: u32,

    /// Idle connections beside.
    #[arg(long, default_value_t = 0)]
    links: u32,

    /// Connections of each client.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    connections: u32,

    /// Workers of each process's runtime; 0 for tokio's current-thread runtime.
    #[arg(long, default_value_t = 0)]
    workers: usize,

    /// Keep servers and clients on cores of their own.
    #[arg(long)]
    pinned: bool,

    /// Begin so many calls per second, whatever comes back, and time them from when they were due.
    #[arg(long)]
    rate: Option<f64>,

    /// Seconds of one round.
    #[arg(long, default_value_t = 1.0, value_parser = super::seconds)]
    seconds: f64,

    /// Rounds; figures are their medians.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    repeats: u32,

    /// Print a line of JSON for each case instead of a table.
    #[arg(long)]
    json: bool,
}

/// Measures the case.
pub async fn run(args: Args) -> Result {
    let progress = Progress::new();
    let cases = cases(&args);
    // Before anything is measured.
    cases.iter().try_for_each(Case::check)?;
    let effort = Effort { seconds: args.seconds, repeats: args.repeats };
    let rows = interleaved(&cases, effort, &progress).await?;
    progress.end();
    if args.json {
        for row in &rows {
            println!("{}", serde_json::to_string(row)?);
        }
    } else {
        print!("{}", table::render(&rows));
    }
    Ok(())
}

fn cases(args: &Args) -> Vec<Case> {
    let mut cases = Vec::new();
    for &size in &args.payload {
        let case = Case {
            size,
            work: args.work,
            api: args.api,
            outstanding: args.outstanding,
            clients: args.clients,
            links: args.links,
            connections: args.connections,
            workers: args.workers,
            pinned: args.pinned,
            rate: args.rate,
            ..Case::default()
        };
        for &transport in &args.transport {
            match transport {
                Transport::NotNets if args.pod => cases.extend(in_pod(args, &case)),
                Transport::Floor => cases.push(Case::floor(args.work)),
                Transport::NotNets => {
                    cases.extend(args.wait.iter().map(|wait| Case { wait: Some(*wait), ..case.clone() }));
                }
                other => cases.push(case.over(other)),
            }
        }
    }
    cases
}

/// The case between hosts, in each way that was asked for.
fn in_pod(args: &Args, case: &Case) -> Vec<Case> {
    let mut cases = Vec::new();
    for &coherence in &args.coherence {
        for latency in &args.line_latency {
            let pod = Some(Pod { coherence, line_ns: latency.as_nanos() as u64 });
            cases.extend(args.wait.iter().map(|wait| Case { wait: Some(*wait), pod, ..case.clone() }));
        }
    }
    cases
}
