//! The goals of runtimes with several workers.

use notnets_cli_common::number::number;

use super::super::case::{Case, Transport, Work};
use super::super::figures::Figures;
use super::super::goals;
use super::{Runner, calls_per_s, describe, judge, p50, p99};
use crate::Result;

/// Workers where handlers keep theirs.
const WORKERS: usize = 4;
/// Calls per second beside a handler that blocks. An open loop counts the calls that a stall delays, however
/// few are open at once.
const RATE: f64 = 1000.0;

impl Runner<'_> {
    /// Measures those that are wanted.
    pub(super) async fn runtimes(&mut self) -> Result {
        if self.wants(&[goals::WORKERS_P99]) {
            self.one_open_of_workers().await?;
        }
        if self.wants(&[goals::WORKERS_THROUGHPUT]) {
            self.many_open_of_workers().await?;
        }
        if self.wants(&[goals::BURN]) {
            self.burn().await?;
        }
        if self.wants(&[goals::BLOCKED]) {
            self.blocked().await?;
        }
        if self.wants(&[goals::BLOCKED_WORKER]) {
            self.blocked_worker().await?;
        }
        Ok(())
    }

    async fn one_open_of_workers(&mut self) -> Result {
        let workers = Case { workers: 2, ..Case::default() };
        let rows = self.measure(&[workers, Case::default()], 0.8).await?;
        let [ours, single] = [&rows[0], &rows[1]];
        let [ratio, alone] = [ours, single].map(|row| p99(&row.figures));
        let from =
            format!("{} {} µs; {} {} µs", describe(ours), number(ratio), describe(single), number(alone));
        self.verdicts.push(goals::WORKERS_P99.judge(ratio, from).disturbed_by(ours.figures.disturbance));
        Ok(())
    }

    async fn many_open_of_workers(&mut self) -> Result {
        let single = Case { outstanding: 64, ..Case::default() };
        let workers = Case { workers: 2, ..single.clone() };
        let rows = self.measure(&[workers, single], 0.7).await?;
        self.verdicts.push(judge(goals::WORKERS_THROUGHPUT, &rows[0], &rows[1], calls_per_s, "calls/s"));
        Ok(())
    }

    async fn burn(&mut self) -> Result {
        let burn_ms = if self.args.smoke { 1.0 } else { 200.0 };
        let case = Case { work: Work::Burn, burn_ms: Some(burn_ms), outstanding: 8, ..of_workers() };
        // A round is one batch.
        let rows = self.measure(&[case.clone(), case.over(Transport::Uds)], burn_ms / 1000.0).await?;
        self.verdicts.push(judge(goals::BURN, &rows[0], &rows[1], p50_ms, "ms"));
        Ok(())
    }

    async fn blocked(&mut self) -> Result {
        let case = Case { work: Work::Blocked, rate: Some(RATE), ..of_workers() };
        let rows = self.measure(&[case.clone(), case.over(Transport::Uds)], 1.0).await?;
        let [ours, theirs] = [&rows[0], &rows[1]];
        let [our_p99, their_p99] = [ours, theirs].map(|row| p99_ms(&row.figures));
        let from = format!(
            "{} {} ms; {} {} ms",
            describe(ours),
            number(our_p99),
            describe(theirs),
            number(their_p99)
        );
        let disturbance = ours.figures.disturbance.max(theirs.figures.disturbance);
        self.verdicts.push(goals::BLOCKED.judge(our_p99, from).disturbed_by(disturbance));
        Ok(())
    }

    async fn blocked_worker(&mut self) -> Result {
        let case = Case { work: Work::BlockedWorker, rate: Some(RATE), ..of_workers() };
        let rows = self.measure(&[case.clone(), case.over(Transport::Uds)], 1.0).await?;
        self.verdicts.push(judge(goals::BLOCKED_WORKER, &rows[0], &rows[1], p99_ms, "ms"));
        Ok(())
    }
}

fn p50_ms(figures: &Figures) -> f64 {
    p50(figures) / 1000.0
}

fn p99_ms(figures: &Figures) -> f64 {
    p99(figures) / 1000.0
}

fn of_workers() -> Case {
    Case { workers: WORKERS, ..Case::default() }
}
