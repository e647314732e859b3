//! The goals of a machine with nothing else to do, on the default runtime.

use notnets_cli_common::number::number;

use super::super::case::{Api, Case, Transport, Wait, Work};
use super::super::figures::Row;
use super::super::goals;
use super::super::links;
use super::super::sizes::Size;
use super::{Of, Runner, against_uds, calls_per_s, cpu, judge, least, most, over_uds, p50, p99};
use crate::Result;

impl Runner<'_> {
    /// Measures those that are wanted.
    pub(super) async fn quiet(&mut self) -> Result {
        if self.wants(&[goals::CORE]) {
            self.core().await?;
        }
        if self.wants(&[goals::P50, goals::P99, goals::STUBS_P50]) {
            self.one_open().await?;
        }
        let many =
            [goals::THROUGHPUT, goals::CPU, goals::STUBS_THROUGHPUT, goals::STUBS_CPU, goals::OPEN_LOOP];
        if self.wants(&many) {
            let best_rate = self.many_open().await?;
            if self.wants(&[goals::OPEN_LOOP]) {
                self.open_loop(best_rate * 0.2).await?;
            }
        }
        if self.wants(&[goals::PARK]) {
            self.park().await?;
        }
        if self.wants(&[goals::CLIENTS, goals::CLIENTS_UDS]) {
            self.clients().await?;
        }
        if self.wants(&[goals::CHAIN]) {
            self.chain().await?;
        }
        if self.wants(&[goals::NAMED]) {
            let case = Case::default();
            let rows = self.measure(&[Case { replicas: 1, ..case.clone() }, case], 0.8).await?;
            self.verdicts.push(judge(goals::NAMED, &rows[0], &rows[1], p50, "µs"));
        }
        if self.wants(&[goals::REPLICAS]) {
            let replicas = |replicas| Case { replicas, outstanding: 64, ..Case::default() };
            let rows = self.measure(&[replicas(4), replicas(1)], 0.8).await?;
            self.verdicts.push(judge(goals::REPLICAS, &rows[0], &rows[1], calls_per_s, "calls/s"));
        }
        if self.wants(&[goals::STREAMS]) {
            let over = |transport| Case::default().over(transport);
            let rows = self.measure(&[over(Transport::Uds), over(Transport::Streams)], 0.8).await?;
            self.verdicts.push(judge(goals::STREAMS, &rows[0], &rows[1], p50, "µs"));
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
        Ok(())
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
        let cases = [vec![own_stubs(&Case::default())], against_uds(&Case::default(), &[1])].concat();
        let rows = self.measure(&cases, 0.8).await?;
        let goals = [(goals::STUBS_P50, 0, p50 as Of), (goals::P50, 1, p50), (goals::P99, 1, p99)];
        for (goal, ours, figure) in goals {
            let theirs = least(&rows[2..], figure);
            self.verdicts.push(judge(goal, theirs, &rows[ours], figure, "µs"));
        }
        Ok(())
    }

    /// Returns tonic's best rate.
    async fn many_open(&mut self) -> Result<f64> {
        let case = Case { outstanding: 64, ..Case::default() };
        let cases = [vec![own_stubs(&case)], against_uds(&case, &[1, 2])].concat();
        let rows = self.measure(&cases, 0.7).await?;
        let theirs = most(&rows[2..], calls_per_s);
        let thrifty = least(&rows[2..], cpu);
        let goals = [(goals::STUBS_THROUGHPUT, goals::STUBS_CPU), (goals::THROUGHPUT, goals::CPU)];
        for ((rate, time), ours) in goals.into_iter().zip(&rows) {
            self.verdicts.push(judge(rate, ours, theirs, calls_per_s, "calls/s"));
            self.verdicts.push(judge(time, thrifty, ours, cpu, "µs"));
        }
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
        let counts = if self.wants(&[goals::CLIENTS]) { counts } else { &[26] };
        let case = |clients: &u32| Case { clients: *clients, ..Case::default() };
        let mut cases: Vec<_> = counts.iter().map(case).collect();
        cases.extend(over_uds(&case(&26), &[1]));
        let rows = self.measure(&cases, 0.6).await?;
        let (ours, theirs) = rows.split_at(counts.len());
        let crowd = ours.iter().find(|row| row.of.clients == 26).ok_or("26 clients were measured")?;
        let best = most(ours, calls_per_s);
        let mut verdict = judge(goals::CLIENTS, crowd, best, calls_per_s, "calls/s");
        verdict.from += &format!(", by {} clients", best.of.clients);
        self.verdicts.push(verdict);
        let theirs = most(theirs, calls_per_s);
        self.verdicts.push(judge(goals::CLIENTS_UDS, crowd, theirs, calls_per_s, "calls/s"));
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

/// The same case with the stubs that `notnets-build` generates.
fn own_stubs(case: &Case) -> Case {
    Case { api: Api::Stubs, ..case.clone() }
}
