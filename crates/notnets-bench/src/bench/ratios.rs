//! `notnets bench ratios`: just what the goals need, in a few minutes.
//!
//! Compared cases are measured in turns. The baseline of a goal is the best that tonic does over a Unix
//! socket with a current-thread runtime or with two workers, and one connection or two; NotNets has one
//! configuration, its defaults on a current-thread runtime, for all goals but the one that is about
//! `Wait::Park`.

use notnets_cli_common::number::number;

use super::case::{Api, Case, Transport, Wait, Work};
use super::figures::{Figures, Row};
use super::goals::{self, Goal, Verdict};
use super::links;
use super::measure::{Effort, interleaved};
use super::progress::Progress;
use super::sizes::Size;
use crate::Result;

/// Just what the goals need, in a few minutes.
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

    /// Only these goals: core, p50, p99, throughput, …
    #[arg(long, value_delimiter = ',')]
    goals: Vec<String>,

    /// Keep server and client on cores of their own wherever there is one of each. Left alone, the kernel may
    /// put two processes that take turns on one core.
    #[arg(long)]
    pinned: bool,

    /// See in seconds that all works. The figures mean nothing.
    #[arg(long)]
    smoke: bool,
}

/// Measures and judges. A goal that is not met is not an error.
pub async fn run(args: Args) -> Result {
    let progress = Progress::new();
    let mut runner = Runner { args: &args, progress: &progress, rows: Vec::new(), verdicts: Vec::new() };
    runner.run().await?;
    progress.end();
    let Runner { rows, verdicts, .. } = runner;
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
}

impl Runner<'_> {
    async fn run(&mut self) -> Result {
        if self.wants(&[goals::CORE]) {
            self.core().await?;
        }
        if self.wants(&[goals::P50, goals::P99]) {
            self.one_open().await?;
        }
        if self.wants(&[goals::THROUGHPUT, goals::CPU, goals::OPEN_LOOP]) {
            let best_rate = self.many_open().await?;
            if self.wants(&[goals::OPEN_LOOP]) {
                self.open_loop(best_rate * 0.2).await?;
            }
        }
        if self.wants(&[goals::PARK]) {
            self.park().await?;
        }
        if self.wants(&[goals::CLIENTS]) {
            self.clients().await?;
        }
        if self.wants(&[goals::CHAIN]) {
            self.chain().await?;
        }
        if self.wants(&[goals::IDLE_LINKS]) {
            self.idle_links().await?;
        }
        if self.wants(&[goals::CONNECT, goals::CANCEL]) {
            self.connect_and_cancel().await?;
        }
        if self.wants(&[goals::MEMORY, goals::IDLE_CPU]) {
            self.links().await?;
        }
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
        let one_of_each = |case: &Case| case.clients == 1 && case.work != Work::Chain;
        let place = |case: &Case| Case {
            pinned: case.pinned || self.args.pinned && one_of_each(case),
            ..case.clone()
        };
        let cases: Vec<_> = cases.iter().map(place).collect();
        let rows = interleaved(&cases, effort, self.progress).await?;
        self.rows.extend(rows.iter().cloned());
        Ok(rows)
    }

    /// As many idle links as the goals ask for.
    fn many_links(&self) -> u32 {
        if self.args.smoke { 20 } else { 1000 }
    }

    async fn core(&mut self) -> Result {
        let rows =
            self.measure(&[Case::core(), Case::floor(Work::Line), Case::floor(Work::Ring)], 0.3).await?;
        self.verdicts.push(judge(goals::CORE, &rows[0], &rows[1], p50, "µs"));
        Ok(())
    }

    async fn one_open(&mut self) -> Result {
        // A second connection would have nothing to carry.
        let rows = self.measure(&against_uds(&Case::default(), &[1]), 0.8).await?;
        for (goal, figure) in [(goals::P50, p50 as Of), (goals::P99, p99 as Of)] {
            let ours = &rows[0];
            let theirs = least(&rows[1..], figure);
            self.verdicts.push(judge(goal, theirs, ours, figure, "µs"));
        }
        Ok(())
    }

    /// Returns tonic's best rate.
    async fn many_open(&mut self) -> Result<f64> {
        let case = Case { outstanding: 64, ..Case::default() };
        let rows = self.measure(&against_uds(&case, &[1, 2]), 0.7).await?;
        let ours = &rows[0];
        let theirs = most(&rows[1..], calls_per_s);
        self.verdicts.push(judge(goals::THROUGHPUT, ours, theirs, calls_per_s, "calls/s"));
        let thrifty = least(&rows[1..], cpu);
        self.verdicts.push(judge(goals::CPU, thrifty, ours, cpu, "µs"));
        Ok(calls_per_s(&theirs.figures))
    }

    async fn open_loop(&mut self, rate: f64) -> Result {
        let case = Case { rate: Some(rate), ..Case::default() };
        let mut cases = vec![case.over(Transport::Null)];
        cases.extend(against_uds(&case, &[1, 2]));
        let rows = self.measure(&cases, 1.0).await?;
        let generator = &rows[0];
        let ours = &rows[1];
        let theirs = least(&rows[2..], p99);
        let mut verdict = judge(goals::OPEN_LOOP, theirs, ours, p99, "µs");
        let net = |row: &Row| cpu(&row.figures) - cpu(&generator.figures);
        let our_cpu = net(ours);
        let their_cpu = net(least(&rows[2..], cpu));
        if our_cpu > their_cpu {
            verdict.met = false;
            verdict.stretch_met = Some(false);
        }
        verdict.from += &format!(
            "; at {}/s, CPU without the generator's: ours {} µs per call, theirs at least {}",
            number(rate),
            number(our_cpu),
            number(their_cpu)
        );
        self.verdicts.push(verdict);
        Ok(())
    }

    async fn park(&mut self) -> Result {
        // Two cores for both: on one core, where the kernel may put two processes that take turns, a wake-up
        // is something else.
        let cases =
            [Case { wait: Some(Wait::Park), pinned: true, ..Case::default() }, Case::floor(Work::Socket)];
        let rows = self.measure(&cases, 0.5).await?;
        self.verdicts.push(judge(goals::PARK, &rows[0], &rows[1], p50, "µs"));
        Ok(())
    }

    async fn clients(&mut self) -> Result {
        let counts: &[u32] = if self.args.smoke { &[1, 2, 26] } else { &[1, 2, 8, 26, 64] };
        let case = |clients: &u32| Case { clients: *clients, ..Case::default() };
        let rows = self.measure(&counts.iter().map(case).collect::<Vec<_>>(), 0.6).await?;
        let crowd = rows.iter().find(|row| row.of.clients == 26).ok_or("26 clients were measured")?;
        let best = most(&rows, calls_per_s);
        let mut verdict = judge(goals::CLIENTS, crowd, best, calls_per_s, "calls/s");
        verdict.from += &format!(", by {} clients", best.of.clients);
        self.verdicts.push(verdict);
        Ok(())
    }

    async fn chain(&mut self) -> Result {
        let case = Case { work: Work::Chain, size: Size::Bytes(1024), ..Case::default() };
        let rows = self.measure(&against_uds(&case, &[1]), 0.8).await?;
        let ours = &rows[0];
        let theirs = least(&rows[1..], p50);
        self.verdicts.push(judge(goals::CHAIN, theirs, ours, p50, "µs"));
        Ok(())
    }

    async fn idle_links(&mut self) -> Result {
        let beside = Case { links: self.many_links(), ..Case::default() };
        let rows = self.measure(&[beside, Case::default()], 0.6).await?;
        self.verdicts.push(judge(goals::IDLE_LINKS, &rows[0], &rows[1], p50, "µs"));
        Ok(())
    }

    async fn connect_and_cancel(&mut self) -> Result {
        let works = [Work::Connect, Work::Cancel].map(|work| Case { work, ..Case::default() });
        let rows = self.measure(&works, 0.8).await?;
        let told = |us: f64| (us / 1000.0, format!("{} µs", number(us)));
        let (connect, connect_told) = told(p50(&rows[0].figures));
        let (cancel, cancel_told) = told(p99(&rows[1].figures));
        let disturbance = rows[0].figures.disturbance.max(rows[1].figures.disturbance);
        self.verdicts.push(goals::CONNECT.judge(connect, connect_told).disturbed_by(disturbance));
        self.verdicts.push(goals::CANCEL.judge(cancel, cancel_told).disturbed_by(disturbance));
        Ok(())
    }

    async fn links(&mut self) -> Result {
        let (repeats, seconds) = if self.args.smoke { (1, 0.2) } else { (self.args.repeats, 10.0) };
        self.progress.note("opening idle links");
        let memory = links::memory(&Case::default(), self.many_links(), repeats).await?;
        let kibibytes = |bytes: f64| bytes / 1024.0;
        let from = format!(
            "KiB: pages {}, page tables {}, kernel {} (the growth of the whole host's slabs)",
            number(kibibytes(memory.pss_per_link)),
            number(kibibytes(memory.page_tables_per_link)),
            number(kibibytes(memory.kernel_per_link))
        );
        self.verdicts.push(goals::MEMORY.judge(kibibytes(memory.bytes_per_link), from));
        self.progress.note("watching a server with idle links");
        let idle = links::idle(&Case::default(), self.many_links(), seconds).await?;
        let from = format!("{} µs of processor time in {} s", number(idle.cpu_us), idle.seconds);
        self.verdicts.push(goals::IDLE_CPU.judge(idle.wake_ups as f64, from));
        Ok(())
    }
}

fn wanted(args: &Args, goal: &Goal) -> bool {
    args.goals.is_empty() || args.goals.iter().any(|name| name == goal.goal)
}

/// The case over NotNets, and then over tonic's Unix socket in each way that could be its best.
fn against_uds(case: &Case, connections: &[u32]) -> Vec<Case> {
    let mut cases = vec![case.clone()];
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
    let Case { transport, api, work, workers, connections, clients, links, wait, .. } = &row.of;
    match transport {
        Transport::Floor => work.to_string(),
        Transport::NotNets if *api == Api::Core => "blocking API".to_owned(),
        Transport::NotNets if *wait == Some(Wait::Park) => "notnets, parked".to_owned(),
        Transport::NotNets if *clients > 1 => format!("{clients} clients"),
        Transport::NotNets if *links > 0 => format!("beside {links} links"),
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
