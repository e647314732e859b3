//! The goals of waiting between hosts, where nothing rings: tails, many processes, and idle links.

use notnets_cli_common::number::number;

use super::super::case::Case;
use super::super::goals;
use super::super::links;
use super::super::pod::{Coherence, Memory, Pod};
use super::{Of, Runner, calls_per_s, judge, p50};
use crate::Result;

const CLIENTS: u32 = 64;

impl Runner<'_> {
    /// Measures those that are wanted.
    pub(super) async fn waiting(&mut self) -> Result {
        if self.wants(&[goals::POD_TAIL_HARDWARE, goals::POD_TAIL_SOFTWARE]) {
            self.pod_tails().await?;
        }
        if self.wants(&[goals::POD_CLIENTS_HARDWARE, goals::POD_CLIENTS_SOFTWARE]) {
            self.pod_clients().await?;
        }
        if self.wants(&[goals::POD_NULL]) {
            let far = Case { pod: Some(pod(Coherence::Hardware, Memory::UNCOUNTED)), ..Case::core() };
            let rows = self.measure(&[far, Case::core()], 0.3).await?;
            self.verdicts.push(judge(goals::POD_NULL, &rows[0], &rows[1], p50, "µs"));
        }
        let idle = [
            (goals::POD_IDLE_HARDWARE, Coherence::Hardware),
            (goals::POD_IDLE_SOFTWARE, Coherence::Software),
        ];
        for (goal, coherence) in idle {
            if self.wants(&[goal]) {
                self.pod_idle(goal, coherence).await?;
            }
        }
        Ok(())
    }

    async fn pod_tails(&mut self) -> Result {
        let case = |coherence| Case { pod: Some(pod(coherence, Memory::TYPICAL)), ..Case::default() };
        let rows = self.measure(&Coherence::ALL.map(case), 0.8).await?;
        for (goal, row) in [goals::POD_TAIL_HARDWARE, goals::POD_TAIL_SOFTWARE].into_iter().zip(&rows) {
            let (half, tail) = (row.figures.p50_us, row.figures.p99_us);
            let from = format!("p99 {} ÷ p50 {} µs", number(tail), number(half));
            self.verdicts.push(goal.judge(tail / half, from).disturbed_by(row.figures.disturbance));
        }
        Ok(())
    }

    async fn pod_clients(&mut self) -> Result {
        let clients = if self.args.smoke { 4 } else { CLIENTS };
        let near = Case { clients, ..Case::default() };
        let far = |coherence| Case { pod: Some(pod(coherence, Memory::TYPICAL)), ..near.clone() };
        let cases = [far(Coherence::Hardware), far(Coherence::Software), near.clone()];
        let rows = self.measure(&cases, 0.8).await?;
        for (goal, row) in [goals::POD_CLIENTS_HARDWARE, goals::POD_CLIENTS_SOFTWARE].into_iter().zip(&rows) {
            self.verdicts.push(judge(goal, row, &rows[2], calls_per_s as Of, "calls/s"));
        }
        Ok(())
    }

    async fn pod_idle(&mut self, goal: goals::Goal, coherence: Coherence) -> Result {
        let (links, seconds) = if self.args.smoke { (20, 0.2) } else { (1000, 5.0) };
        self.progress.note("watching a host with idle links");
        let case = Case { pod: Some(pod(coherence, Memory::TYPICAL)), ..Case::default() };
        let idle = links::idle(&case, links, seconds).await?;
        let percent = |cpu_us: f64| cpu_us / idle.seconds / 1e6 * 100.0;
        let from =
            format!("agent {} %, server {} %", number(percent(idle.agent_us)), number(percent(idle.cpu_us)));
        self.verdicts.push(goal.judge(percent(idle.agent_us + idle.cpu_us), from));
        Ok(())
    }
}

fn pod(coherence: Coherence, memory: Memory) -> Pod {
    Pod { coherence, memory, given: None }
}
