//! `notnets bench ratios`: just what the goals need, in some six minutes.
//!
//! Compared cases are measured in turns. The baseline of a goal is the best that tonic does over a Unix
//! socket with a current-thread runtime or with two workers, and one connection or two; NotNets has one
//! configuration, its defaults on a current-thread runtime, for all goals but the one that is about
//! `Wait::Park` and those of `runtimes`.
//!
//! | module | the goals |
//! | --- | --- |
//! | `quiet` | of a machine with nothing else to do |
//! | `large` | of large payloads, copied and shared |
//! | `pod` | between hosts |
//! | `waiting` | of waiting between hosts |
//! | `scarce` | beside busy loops, and under a CPU quota |
//! | `runtimes` | of runtimes with several workers |

mod large;
mod pod;
mod quiet;
mod runtimes;
mod scarce;
mod waiting;

use notnets_cli_common::number::number;

use super::case::{Api, Case, Transport, Wait, Work};
use super::figures::{Figures, Row};
use super::goals::{self, Goal, Verdict};
use super::measure::{Effort, interleaved};
use super::progress::Progress;
use crate::Result;

/// Just what the goals need, in some six minutes.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Print a line of JSON for each goal instead of a table.
    #[arg(long)]
    json: bool,

    /// Also print the cases behind the goals.
    #[arg(long)]
    cases: bool,

    /// Rounds; figures are their medians.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    repeats: u32,

    /// Only these goals: core, p50, p99, throughput, …; a name also stands for those that go on with a
    /// hyphen (neighbours, workers).
    #[arg(long, value_delimiter = ',')]
    goals: Vec<String>,

    /// Keep server and client on cores of their own wherever there is one of each. Left alone, the kernel may
    /// put two processes that take turns on one core.
    #[arg(long)]
    pinned: bool,

    /// Over NotNets, make the calls of all goals by the stubs that notnets-build generates, instead of by
    /// tonic's.
    #[arg(long)]
    own_stubs: bool,

    /// See in seconds that all works. The figures mean nothing.
    #[arg(long)]
    smoke: bool,
}

/// Measures and judges. A goal that is not met is not an error.
pub async fn run(args: Args) -> Result {
    if let Some(unknown) = args.goals.iter().find(|name| !goals::ALL.iter().any(|goal| goal.is_of(name))) {
        let known: Vec<_> = goals::ALL.iter().map(|goal| goal.goal).collect();
        return Err(format!("there is no goal {unknown}; there are {}", known.join(", ")).into());
    }
    let progress = Progress::new();
    let mut runner = Runner {
        args: &args,
        progress: &progress,
        rows: Vec::new(),
        verdicts: Vec::new(),
        remarks: Vec::new(),
    };
    runner.run().await?;
    progress.end();
    let Runner { rows, verdicts, remarks, .. } = runner;
    for remark in remarks {
        eprintln!("{remark}");
    }
    if args.json {
        let cases = rows.iter().filter(|_| args.cases).map(serde_json::to_string);
        for line in verdicts.iter().map(serde_json::to_string).chain(cases) {
            println!("{}", line?);
        }
    } else {
        print!("{}", goals::render(&verdicts));
        if args.cases {
            print!("\n{}", super::table::render(&rows));
        }
    }
    Ok(())
}

struct Runner<'a> {
    args: &'a Args,
    progress: &'a Progress,
    rows: Vec<Row>,
    verdicts: Vec<Verdict>,
    /// Sentences for the user, about goals that can't be measured.
    remarks: Vec<String>,
}

impl Runner<'_> {
    async fn run(&mut self) -> Result {
        self.quiet().await?;
        self.large().await?;
        self.pod().await?;
        self.waiting().await?;
        self.scarce().await?;
        self.runtimes().await?;
        let args = self.args;
        self.verdicts.retain(|verdict| wanted(args, &verdict.goal));
        Ok(())
    }

    fn wants(&self, goals: &[Goal]) -> bool {
        goals.iter().any(|goal| wanted(self.args, goal))
    }

    async fn measure(&mut self, cases: &[Case], seconds: f64) -> Result<Vec<Row>> {
        let effort = if self.args.smoke {
            Effort { seconds: 0.02, repeats: 1 }
        } else {
            Effort { seconds, repeats: self.args.repeats }
        };
        let several = [Work::Chain, Work::Burn, Work::Blocked, Work::BlockedWorker];
        let one_of_each = |case: &Case| case.clients == 1 && !several.contains(&case.work);
        let by_tonic = |case: &Case| case.transport == Transport::NotNets && case.api == Api::Tonic;
        let adapt = |case: &Case| Case {
            pinned: case.pinned || self.args.pinned && one_of_each(case),
            api: if self.args.own_stubs && by_tonic(case) { Api::Stubs } else { case.api },
            ..case.clone()
        };
        let cases: Vec<_> = cases.iter().map(adapt).collect();
        let rows = interleaved(&cases, effort, self.progress).await?;
        self.rows.extend(rows.iter().cloned());
        Ok(rows)
    }
}

fn wanted(args: &Args, goal: &Goal) -> bool {
    args.goals.is_empty() || args.goals.iter().any(|name| goal.is_of(name))
}

/// The case over NotNets, and then over tonic's Unix socket in each way that could be its best.
fn against_uds(case: &Case, connections: &[u32]) -> Vec<Case> {
    [vec![case.clone()], over_uds(case, connections)].concat()
}

fn over_uds(case: &Case, connections: &[u32]) -> Vec<Case> {
    let mut cases = Vec::new();
    for workers in [0, 2] {
        for &connections in connections {
            cases.push(Case { workers, connections, ..case.over(Transport::Uds) });
        }
    }
    cases
}

type Of = fn(&Figures) -> f64;

fn p50(figures: &Figures) -> f64 {
    figures.p50_us
}

fn p99(figures: &Figures) -> f64 {
    figures.p99_us
}

fn calls_per_s(figures: &Figures) -> f64 {
    figures.calls_per_s
}

fn cpu(figures: &Figures) -> f64 {
    figures.cpu_us_per_call
}

fn least(rows: &[Row], figure: Of) -> &Row {
    rows.iter().min_by(|a, b| figure(&a.figures).total_cmp(&figure(&b.figures))).expect("rows of cases")
}

fn most(rows: &[Row], figure: Of) -> &Row {
    rows.iter().max_by(|a, b| figure(&a.figures).total_cmp(&figure(&b.figures))).expect("rows of cases")
}

/// The ratio of a figure of two rows.
fn judge(goal: Goal, over: &Row, under: &Row, figure: Of, unit: &str) -> Verdict {
    let a = figure(&over.figures);
    let b = figure(&under.figures);
    let from = format!("{} {} ÷ {} {} {unit}", describe(over), number(a), describe(under), number(b));
    goal.judge(a / b, from).disturbed_by(over.figures.disturbance.max(under.figures.disturbance))
}

/// The label that distinguishes a row from others of its goal.
fn describe(row: &Row) -> String {
    let Case { transport, api, work, workers, connections, clients, replicas, links, wait, .. } = &row.of;
    match transport {
        Transport::Floor => work.to_string(),
        Transport::NotNets if *api == Api::Core => "blocking API".to_owned(),
        Transport::NotNets if *api == Api::Stubs => "own stubs".to_owned(),
        Transport::NotNets if *wait == Some(Wait::Park) => "notnets, parked".to_owned(),
        Transport::NotNets if *clients > 1 => format!("{clients} clients"),
        Transport::NotNets if *replicas > 0 => format!("{replicas} of a name"),
        Transport::NotNets if *links > 0 => format!("beside {links} links"),
        Transport::NotNets if *workers > 0 => format!("notnets, {workers} workers"),
        Transport::NotNets => "notnets".to_owned(),
        _ => {
            let runtime =
                if *workers == 0 { "current thread".to_owned() } else { format!("{workers} workers") };
            let connections = if *connections == 1 {
                "1 connection".to_owned()
            } else {
                format!("{connections} connections")
            };
            format!("{transport} ({runtime}, {connections})")
        }
    }
}
