//! The goals between hosts: large messages that are copied, streams of them, and memory. A model of far
//! memory: a line takes 250 ns, and each host reads and writes 20 GB/s.

use super::super::case::{Api, Case, Work};
use super::super::goals::{self, Goal};
use super::super::links;
use super::super::load::MESSAGES;
use super::super::pod::{Coherence, Memory, Pod};
use super::super::sizes::Size;
use super::{Runner, describe};
use crate::Result;
use notnets_cli_common::number::number;

const MIB: usize = 1 << 20;
const MEMORY: Memory = Memory { host_gb_per_s: Some(20.0), ..Memory::TYPICAL };

fn pod(coherence: Coherence) -> Option<Pod> {
    Some(Pod { coherence, memory: MEMORY, given: None })
}

impl Runner<'_> {
    /// Measures those that are wanted.
    pub(super) async fn pod(&mut self) -> Result {
        if self.wants(&[goals::POD_LARGE_HARDWARE, goals::POD_LARGE_SOFTWARE]) {
            self.copied_between_hosts().await?;
        }
        if self.wants(&[goals::POD_STREAM_HARDWARE, goals::POD_STREAM_SOFTWARE]) {
            self.streamed_between_hosts().await?;
        }
        if self.wants(&[goals::POD_MEMORY]) {
            self.memory_between_hosts().await?;
        }
        Ok(())
    }

    /// A mebibyte over and back. What the model itself takes is that of one run of lines each way.
    async fn copied_between_hosts(&mut self) -> Result {
        let within = Case { api: Api::Stubs, size: Size::Bytes(MIB), ..Case::default() };
        let far = Coherence::ALL.map(|coherence| Case { pod: pod(coherence), ..within.clone() });
        let rows = self.measure(&[vec![within], far.into()].concat(), 0.8).await?;
        let model = 2.0 * MEMORY.read_us(MIB);
        let base = rows[0].figures.p50_us;
        let goals = [goals::POD_LARGE_HARDWARE, goals::POD_LARGE_SOFTWARE];
        for (goal, row) in goals.into_iter().zip(&rows[1..]) {
            let p50 = row.figures.p50_us;
            let from = format!(
                "{} {} ÷ (within a host {} + model {}) µs",
                row.of.way(),
                number(p50),
                number(base),
                number(model)
            );
            let verdict = goal.judge(p50 / (base + model), from);
            let disturbance = row.figures.disturbance.max(rows[0].figures.disturbance);
            self.verdicts.push(verdict.disturbed_by(disturbance));
        }
        Ok(())
    }

    async fn streamed_between_hosts(&mut self) -> Result {
        let case = |coherence| Case {
            work: Work::Upload,
            api: Api::Stubs,
            size: Size::Bytes(MIB),
            pod: pod(coherence),
            ..Case::default()
        };
        let rows = self.measure(&Coherence::ALL.map(case), 0.8).await?;
        let bandwidth = MEMORY.host_gb_per_s.unwrap_or(f64::INFINITY);
        let goals: [Goal; 2] = [goals::POD_STREAM_HARDWARE, goals::POD_STREAM_SOFTWARE];
        for (goal, row) in goals.into_iter().zip(&rows) {
            let rate = row.figures.calls_per_s * (MESSAGES * MIB) as f64 / 1e9;
            let from = format!("{} {} ÷ {bandwidth} GB/s", describe(row), number(rate));
            self.verdicts.push(goal.judge(rate / bandwidth, from).disturbed_by(row.figures.disturbance));
        }
        Ok(())
    }

    async fn memory_between_hosts(&mut self) -> Result {
        let case = Case { pod: pod(Coherence::Software), ..Case::default() };
        let (links, repeats) = if self.args.smoke { (2, 1) } else { (1000, 3) };
        let memory = links::memory(&case, links, repeats).await?;
        let [all, pages, tables, kernel] =
            [memory.bytes_per_link, memory.pss_per_link, memory.page_tables_per_link, memory.kernel_per_link]
                .map(|bytes| bytes / 1024.0);
        let from =
            format!("pages {}, page tables {}, kernel {} KiB", number(pages), number(tables), number(kernel));
        self.verdicts.push(goals::POD_MEMORY.judge(all, from));
        Ok(())
    }
}
