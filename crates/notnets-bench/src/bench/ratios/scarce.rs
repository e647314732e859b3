//! The goals where processors are scarce: as many busy loops beside as there are cores, or a CPU quota.

use std::thread::available_parallelism;

use super::super::case::{Case, Work};
use super::super::goals;
use super::super::quota;
use super::{Of, Runner, against_uds, calls_per_s, judge, least, most, p50, p99};
use crate::Result;

/// Calls that an open loop begins in a second.
const RATE: f64 = 8000.0;
/// Cores for both sides together.
const QUOTA: f64 = 0.6;

impl Runner<'_> {
    /// Measures those that are wanted.
    pub(super) async fn scarce(&mut self) -> Result {
        if self.wants(&[goals::NEIGHBOURS_THROUGHPUT, goals::NEIGHBOURS_P99]) {
            self.one_open_beside().await?;
        }
        if self.wants(&[goals::NEIGHBOURS_OPEN_LOOP_P50, goals::NEIGHBOURS_OPEN_LOOP_P99]) {
            self.open_loop_beside().await?;
        }
        if self.wants(&[goals::NEIGHBOURS_16]) {
            self.many_open_beside().await?;
        }
        if self.wants(&[goals::NEIGHBOURS_CHAIN]) {
            self.chain_beside().await?;
        }
        if self.wants(&[goals::QUOTA]) {
            self.quota().await?;
        }
        Ok(())
    }

    async fn one_open_beside(&mut self) -> Result {
        let rows = self.measure(&against_uds(&beside(), &[1]), 0.8).await?;
        let (ours, theirs) = (&rows[0], &rows[1..]);
        let rate = most(theirs, calls_per_s);
        self.verdicts.push(judge(goals::NEIGHBOURS_THROUGHPUT, ours, rate, calls_per_s, "calls/s"));
        self.verdicts.push(judge(goals::NEIGHBOURS_P99, least(theirs, p99), ours, p99, "µs"));
        Ok(())
    }

    async fn open_loop_beside(&mut self) -> Result {
        let case = Case { rate: Some(RATE), ..beside() };
        let rows = self.measure(&against_uds(&case, &[1, 2]), 1.0).await?;
        let latencies =
            [(goals::NEIGHBOURS_OPEN_LOOP_P50, p50 as Of), (goals::NEIGHBOURS_OPEN_LOOP_P99, p99 as Of)];
        for (goal, figure) in latencies {
            self.verdicts.push(judge(goal, least(&rows[1..], figure), &rows[0], figure, "µs"));
        }
        Ok(())
    }

    async fn many_open_beside(&mut self) -> Result {
        let case = Case { outstanding: 16, ..beside() };
        let rows = self.measure(&against_uds(&case, &[1, 2]), 0.7).await?;
        let theirs = most(&rows[1..], calls_per_s);
        self.verdicts.push(judge(goals::NEIGHBOURS_16, &rows[0], theirs, calls_per_s, "calls/s"));
        Ok(())
    }

    async fn chain_beside(&mut self) -> Result {
        let case = Case { work: Work::Chain, ..beside() };
        let rows = self.measure(&against_uds(&case, &[1]), 0.8).await?;
        self.verdicts.push(judge(goals::NEIGHBOURS_CHAIN, least(&rows[1..], p50), &rows[0], p50, "µs"));
        Ok(())
    }

    async fn quota(&mut self) -> Result {
        if let Err(error) = quota::check(QUOTA).await {
            self.remarks.push(format!("{} was not measured: {error}", goals::QUOTA.goal));
            return Ok(());
        }
        let case = Case { quota: Some(QUOTA), rate: Some(RATE), ..Case::default() };
        let rows = self.measure(&against_uds(&case, &[1, 2]), 1.0).await?;
        let ours = &rows[0];
        let theirs = least(&rows[1..], p99);
        let mut verdict = judge(goals::QUOTA, theirs, ours, p99, "µs");
        let [our_periods, their_periods] = [ours, theirs].map(|row| row.figures.throttled_per_s);
        verdict.from += &format!("; throttled {their_periods:.1} and {our_periods:.1} times per second");
        self.verdicts.push(verdict);
        Ok(())
    }
}

/// The base case beside as many busy loops as there are cores.
fn beside() -> Case {
    let cores = available_parallelism().map_or(1, usize::from);
    Case { neighbours: cores as u32, ..Case::default() }
}
