//! `notnets bench matrix`: one factor at a time around a base case, all of it in less than half an hour.

use std::path::PathBuf;

use super::case::Transport;
use super::factors::{self, Factor};
use super::figures::Row;
use super::links::{self, Idle, LinkMemory};
use super::measure::{Effort, interleaved};
use super::pod::{self, PodArgs};
use super::progress::Progress;
use super::{Result, report, table};
use crate::machine::Machine;
use crate::number::number;
use crate::plot::check_writable;

/// Each factor in turn around a base case.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// One short round of each case, and fewer levels: in two minutes.
    #[arg(long)]
    quick: bool,

    /// Only these factors: floor, waiting, api, payload, small-reply, profile, outstanding, clients, links, open-loop,
    /// topology, streams, runtime, placement, lives, idle; between hosts: null, line-latency, payload,
    /// outstanding, streams.
    #[arg(long, value_delimiter = ',')]
    factors: Vec<String>,

    #[command(flatten)]
    pod: PodArgs,

    /// Seconds of one round of one case.
    #[arg(long, value_parser = super::seconds)]
    seconds: Option<f64>,

    /// Rounds; figures are their medians.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    repeats: Option<u32>,

    /// Print lines of JSON instead of tables.
    #[arg(long)]
    json: bool,

    /// Where to write the report with plots.
    #[arg(long, default_value = "notnets-bench.html")]
    report: PathBuf,
}

/// Rows of a factor, each with the level it was measured at.
pub struct Measured {
    /// What was varied.
    pub factor: Factor,
    /// The rows.
    pub rows: Vec<(usize, Row)>,
}

/// What idle links cost, over each transport.
#[derive(Default)]
pub struct Resting {
    /// Memory.
    pub memory: Vec<LinkMemory>,
    /// Processor time.
    pub idle: Vec<Idle>,
}

/// Measures all factors, printing as it goes, and writes the report.
pub async fn run(args: Args) -> Result {
    let between_hosts = args.pod.pod;
    let pods = args.pod.pods(&pod::factors::LATENCIES)?;
    let mut factors = if between_hosts { pod::factors::all(&pods) } else { factors::all() };
    let known: Vec<_> =
        factors.iter().map(|factor| factor.name).chain((!between_hosts).then_some(RESTING)).collect();
    if let Some(unknown) = args.factors.iter().find(|name| !known.contains(&name.as_str())) {
        return Err(format!("there is no factor {unknown}; there are {}", known.join(", ")).into());
    }
    check_writable(&args.report)?;
    let progress = Progress::new();
    let mut measured = Vec::new();
    if args.quick {
        factors = factors::shortened(factors);
    }
    for factor in factors.into_iter().filter(|factor| args.wants(factor.name)) {
        let one = args.measure(factor, &progress).await?;
        progress.end();
        print_rows(&args, &one)?;
        measured.push(one);
    }
    let mut resting = Resting::default();
    if !between_hosts && args.wants(RESTING) {
        resting = args.rest(&progress).await?;
        progress.end();
        print_resting(&args, &resting)?;
    }
    std::fs::write(&args.report, report::render(&Machine::look(), &measured, &resting))?;
    eprintln!("report: {}", args.report.canonicalize()?.display());
    Ok(())
}

/// What costs without being used.
const RESTING: &str = "idle";

impl Args {
    fn wants(&self, factor: &str) -> bool {
        self.factors.is_empty() || self.factors.iter().any(|name| name == factor)
    }

    fn effort(&self) -> Effort {
        let (seconds, repeats) = if self.quick { (0.15, 1) } else { (0.8, 5) };
        Effort { seconds: self.seconds.unwrap_or(seconds), repeats: self.repeats.unwrap_or(repeats) }
    }

    async fn measure(&self, factor: Factor, progress: &Progress) -> Result<Measured> {
        let mut rows = Vec::new();
        for (nth, level) in factor.levels.iter().enumerate() {
            let measured = interleaved(&level.cases, self.effort(), progress).await?;
            rows.extend(measured.into_iter().map(|row| (nth, row)));
        }
        Ok(Measured { factor, rows })
    }

    async fn rest(&self, progress: &Progress) -> Result<Resting> {
        let (links, seconds, repeats) = if self.quick { (50, 0.5, 1) } else { (1000, 10.0, 3) };
        let mut resting = Resting::default();
        for transport in [Transport::Tcp, Transport::Uds, Transport::NotNets] {
            progress.note(&format!("idle links over {transport}"));
            resting.memory.push(links::memory(transport, links, repeats).await?);
            resting.idle.push(links::idle(transport, links, seconds).await?);
        }
        Ok(resting)
    }
}

fn print_rows(args: &Args, measured: &Measured) -> Result {
    let rows: Vec<_> = measured.rows.iter().map(|(_, row)| row.clone()).collect();
    if args.json {
        for row in &rows {
            println!("{}", serde_json::to_string(row)?);
        }
    } else {
        println!("{}: {}\n{}", measured.factor.name, measured.factor.what, table::render(&rows));
    }
    Ok(())
}

fn print_resting(args: &Args, resting: &Resting) -> Result {
    if args.json {
        for line in resting.memory.iter().map(serde_json::to_string) {
            println!("{}", line?);
        }
        for line in resting.idle.iter().map(serde_json::to_string) {
            println!("{}", line?);
        }
        return Ok(());
    }
    println!("{RESTING}: what links cost that nobody uses");
    for (memory, idle) in resting.memory.iter().zip(&resting.idle) {
        let [all, pss, tables, kernel] =
            [memory.bytes_per_link, memory.pss_per_link, memory.page_tables_per_link, memory.kernel_per_link]
                .map(|bytes| number(bytes / 1024.0));
        println!(
            "{:<8} {all} KiB for each of {} links (pages {pss}, page tables {tables}, kernel {kernel}); their server: \
             {} wake-ups and {} µs of processor time in {} s",
            memory.transport,
            memory.links,
            idle.wake_ups,
            number(idle.cpu_us),
            idle.seconds
        );
    }
    Ok(())
}
