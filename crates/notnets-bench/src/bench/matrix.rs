//! `notnets bench matrix`: one factor at a time around a base case, all of it in less than half an hour.

use std::path::PathBuf;

use notnets_cli_common::number::number;

use super::case::Case;
use super::factors::{self, Factor};
use super::figures::Row;
use super::links::{self, Idle, LinkMemory};
use super::measure::{Effort, interleaved};
use super::pod::{self, Pod, PodArgs};
use super::progress::Progress;
use super::{report, table};
use crate::Result;
use crate::machine::Machine;
use crate::plot::check_writable;

/// Each factor in turn around a base case.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// One short round of each case, and fewer levels: in two minutes.
    #[arg(long)]
    quick: bool,

    /// Only these factors: floor, waiting, api, payload, small-reply, profile, outstanding, clients, links, open-loop,
    /// topology, streams, runtime, placement, lives, idle; between hosts also null and line-latency, but no floor.
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

/// What idle links cost.
pub struct Resting {
    /// Over what.
    pub over: Case,
    /// Memory.
    pub memory: LinkMemory,
    /// Processor time.
    pub idle: Idle,
}

/// Measures all factors, printing as it goes, and writes the report.
pub async fn run(args: Args) -> Result {
    let pods = args.pod.pods(&pod::factors::LATENCIES)?;
    let mut factors = if args.pod.pod { pod::factors::all(&pods) } else { factors::all() };
    let known: Vec<_> = factors.iter().map(|factor| factor.name).chain([RESTING]).collect();
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
    let mut resting = Vec::new();
    if args.wants(RESTING) {
        resting = args.rest(&resting_cases(&pods), &progress).await?;
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

    async fn rest(&self, over: &[Case], progress: &Progress) -> Result<Vec<Resting>> {
        let (links, seconds, repeats) = if self.quick { (50, 0.5, 1) } else { (1000, 10.0, 3) };
        let mut resting = Vec::new();
        for case in over {
            progress.note(&format!("idle links over {}", case.way()));
            let memory = links::memory(case, links, repeats).await?;
            let idle = links::idle(case, links, seconds).await?;
            resting.push(Resting { over: case.clone(), memory, idle });
        }
        Ok(resting)
    }
}

/// What carries links that rest: all transports within one host, or NotNets there and between hosts.
fn resting_cases(pods: &[Pod]) -> Vec<Case> {
    let ours = Case::default();
    match pods {
        [] => factors::over_all(&ours),
        _ => pod::factors::beside(&ours, &pod::factors::typical(pods)),
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

fn print_resting(args: &Args, resting: &[Resting]) -> Result {
    if args.json {
        for Resting { memory, idle, .. } in resting {
            println!("{}\n{}", serde_json::to_string(memory)?, serde_json::to_string(idle)?);
        }
        return Ok(());
    }
    println!("{RESTING}: what links cost that nobody uses");
    for Resting { over, memory, idle } in resting {
        let [all, pss, tables, kernel] =
            [memory.bytes_per_link, memory.pss_per_link, memory.page_tables_per_link, memory.kernel_per_link]
                .map(|bytes| number(bytes / 1024.0));
        println!(
            "{:<8} {all} KiB for each of {} links (pages {pss}, page tables {tables}, kernel {kernel}); their server: \
             {} wake-ups and {} µs of processor time in {} s",
            over.way(),
            memory.links,
            idle.wake_ups,
            number(idle.cpu_us),
            idle.seconds
        );
    }
    Ok(())
}
