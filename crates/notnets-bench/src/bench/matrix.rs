//! `notnets bench matrix`: one factor at a time around a base case, all of it in less than half an hour.

use std::path::PathBuf;

use notnets_cli_common::number::number;

use super::case::Case;
use super::factors::{self, Factor};
use super::figures::Measured;
use super::links::{self, IdleCost};
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

    /// Only these factors: floor, waiting, api, payload, small-reply, profile, outstanding, clients, links,
    /// open-loop, topology, streams, runtime, placement, lives, idle; between hosts also null,
    /// line-latency and memory, but no floor.
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

/// Measures all factors, printing as it goes, and writes the report.
pub async fn run(args: Args) -> Result {
    let pods = args.pod.pods(&pod::factors::LATENCIES)?;
    let mut factors = if args.pod.pod { pod::factors::all(&pods) } else { factors::all() };
    let known: Vec<_> = factors.iter().map(|factor| factor.name).chain([IDLE]).collect();
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
    let mut idle_costs = Vec::new();
    if args.wants(IDLE) {
        idle_costs = args.measure_idle(&idle_cases(&pods), &progress).await?;
        progress.end();
        print_idle(&args, &idle_costs)?;
    }
    std::fs::write(&args.report, report::render(&Machine::look(), &measured, &idle_costs))?;
    eprintln!("report: {}", args.report.canonicalize()?.display());
    Ok(())
}

/// The costs of idle links.
const IDLE: &str = "idle";

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

    async fn measure_idle(&self, over: &[Case], progress: &Progress) -> Result<Vec<IdleCost>> {
        let (links, seconds, repeats) = if self.quick { (50, 0.5, 1) } else { (1000, 10.0, 3) };
        let mut idle_costs = Vec::new();
        for case in over {
            progress.note(&format!("idle links over {}", case.way()));
            let memory = links::memory(case, links, repeats).await?;
            let idle = links::idle(case, links, seconds).await?;
            idle_costs.push(IdleCost { over: case.clone(), memory, idle });
        }
        Ok(idle_costs)
    }
}

/// The transports of idle links: all transports within one host, or NotNets there and between hosts.
fn idle_cases(pods: &[Pod]) -> Vec<Case> {
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

fn print_idle(args: &Args, idle_costs: &[IdleCost]) -> Result {
    if args.json {
        for IdleCost { memory, idle, .. } in idle_costs {
            println!("{}\n{}", serde_json::to_string(memory)?, serde_json::to_string(idle)?);
        }
        return Ok(());
    }
    println!("{IDLE}: what links cost that nobody uses");
    for IdleCost { over, memory, idle } in idle_costs {
        let [all, pss, tables, kernel] =
            [memory.bytes_per_link, memory.pss_per_link, memory.page_tables_per_link, memory.kernel_per_link]
                .map(|bytes| number(bytes / 1024.0));
        println!(
            "{:<8} {all} KiB for each of {} links (pages {pss}, page tables {tables}, kernel {kernel}); their server: \
             {} wake-ups and {} µs of processor time, its agent {} µs, in {} s",
            over.way(),
            memory.links,
            idle.wake_ups,
            number(idle.cpu_us),
            number(idle.agent_us),
            idle.seconds
        );
    }
    Ok(())
}
