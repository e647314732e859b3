//! `notnets bench run`: one case, as often as one likes.

use std::time::Duration;

use notnets_cli_common::duration;

use super::case::{Api, Case, Transport, Wait, Work};
use super::measure::{Effort, interleaved};
use super::pod::{Pod, PodArgs};
use super::progress::Progress;
use super::sizes::Size;
use super::table;
use crate::Result;

/// One case, over one or several transports in turns.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// The transports; several are measured in turns.
    #[arg(long, value_delimiter = ',', default_value = "notnets")]
    transport: Vec<Transport>,

    /// The kind of call.
    #[arg(long, default_value = "echo")]
    work: Work,

    /// Bytes of the request (64, 16k, 1m), or a distribution: tiny, fleet, tail, bulk. Several are measured
    /// in turns.
    #[arg(long, value_delimiter = ',', default_value = "64")]
    payload: Vec<Size>,

    #[command(flatten)]
    pod: PodArgs,

    /// The level at which the caller sits over NotNets.
    #[arg(long, default_value = "tonic")]
    api: Api,

    /// How NotNets waits; several are measured in turns.
    #[arg(long, value_delimiter = ',', default_value = "adaptive")]
    wait: Vec<Wait>,

    /// Calls open at once in each client.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    outstanding: u32,

    /// With `--work burn`: the processor time that each handler takes.
    #[arg(long, value_name = "TIME", default_value = "200ms", value_parser = burn)]
    burn: Duration,

    /// Client processes.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    clients: u32,

    /// Servers that share a name, by which clients connect; several numbers are measured in turns. 0: one
    /// server, whose address clients have.
    #[arg(long, value_delimiter = ',', default_value = "0")]
    replicas: Vec<u32>,

    /// Additional idle connections.
    #[arg(long, default_value_t = 0)]
    links: u32,

    /// Busy processes beside servers and clients, which are there only while this case is measured.
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u32).range(..=1024))]
    neighbours: u32,

    /// A CPU quota for all servers and clients of a case together, in cores (0.6), by a control group.
    #[arg(long, value_name = "CORES", value_parser = super::cores)]
    quota: Option<f64>,

    /// Connections of each client.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    connections: u32,

    /// Workers of each process's runtime; 0 for tokio's current-thread runtime.
    #[arg(long, default_value_t = 0)]
    workers: usize,

    /// Keep servers and clients on cores of their own.
    #[arg(long)]
    pinned: bool,

    /// Make each payload once, in memory that is shared with the servers: calls only refer to it. By stubs of
    /// notnets-build.
    #[arg(long, requires = "api")]
    shared: bool,

    /// Let servers trust clients not to change what they lend, and read large payloads where they are.
    #[arg(long)]
    trusted: bool,

    /// Let the server read each byte of a payload (of echo, ask and chain).
    #[arg(long)]
    read: bool,

    /// Begin this number of calls per second, whatever comes back, and time them from when they were due.
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

/// A processor time for a handler.
fn burn(text: &str) -> std::result::Result<Duration, String> {
    let time = duration::parse(text)?;
    if time <= Duration::from_secs(10) { Ok(time) } else { Err("must be 10 s at most".into()) }
}

/// Measures the case.
pub async fn run(args: Args) -> Result {
    let progress = Progress::new();
    let pods = args.pod.pods(&[0])?;
    let cases = cases(&args, &pods);
    if args.pod.pod && !args.transport.contains(&Transport::NotNets) {
        return Err("only --transport notnets leads through a pod".into());
    }
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

fn cases(args: &Args, pods: &[Pod]) -> Vec<Case> {
    let mut cases = Vec::new();
    for &size in &args.payload {
        let case = Case {
            size,
            work: args.work,
            api: args.api,
            outstanding: args.outstanding,
            burn_ms: (args.work == Work::Burn).then_some(args.burn.as_secs_f64() * 1e3),
            clients: args.clients,
            links: args.links,
            neighbours: args.neighbours,
            quota: args.quota,
            connections: args.connections,
            workers: args.workers,
            pinned: args.pinned,
            shared: args.shared,
            trusted: args.trusted,
            read: args.read,
            rate: args.rate,
            ..Case::default()
        };
        for &transport in &args.transport {
            match transport {
                Transport::Floor => {
                    let Case { neighbours, quota, .. } = case;
                    cases.push(Case { neighbours, quota, ..Case::floor(args.work) });
                }
                Transport::Iceoryx2 | Transport::Iceoryx2Event => cases.push(case.iceoryx2(transport)),
                Transport::NotNets => {
                    for &replicas in &args.replicas {
                        cases.extend(ways(args, pods, &Case { replicas, ..case.clone() }));
                    }
                }
                other if args.api == Api::Stubs => {
                    cases.push(Case { api: Api::Tonic, ..case.over(other) });
                }
                other => cases.push(case.over(other)),
            }
        }
    }
    cases
}

/// The case over NotNets: within one host or in each of the pods, in each way to wait.
fn ways(args: &Args, pods: &[Pod], case: &Case) -> Vec<Case> {
    let places = if args.pod.pod { pods.iter().cloned().map(Some).collect() } else { vec![None] };
    let of = |pod: &Option<Pod>| {
        let of = |wait: &Wait| Case { wait: Some(*wait), pod: pod.clone(), ..case.clone() };
        args.wait.iter().map(of).collect::<Vec<_>>()
    };
    places.iter().flat_map(of).collect()
}
