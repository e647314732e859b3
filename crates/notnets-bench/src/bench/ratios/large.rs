//! The goals of large payloads, by our own stubs: copied, and shared.

use super::super::case::{Api, Case, Work};
use super::super::goals;
use super::super::pod::{Coherence, Memory, Pod};
use super::super::sizes::Size;
use super::{Runner, judge, least, over_uds, p50};
use crate::Result;

const MIB: usize = 1 << 20;

impl Runner<'_> {
    /// Measures those that are wanted.
    pub(super) async fn large(&mut self) -> Result {
        if self.wants(&[goals::LARGE, goals::LARGE_SHARED, goals::LARGE_UNREAD, goals::LARGE_SMALL]) {
            self.one_hop().await?;
        }
        if self.wants(&[goals::LARGE_CHAIN]) {
            self.three_hops().await?;
        }
        if self.wants(&[goals::LARGE_POD_HARDWARE, goals::LARGE_POD_SOFTWARE]) {
            self.between_hosts().await?;
        }
        Ok(())
    }

    async fn one_hop(&mut self) -> Result {
        let case = Case { work: Work::Ask, size: Size::Bytes(MIB), read: true, ..Case::default() };
        let ours = Case { api: Api::Stubs, ..case.clone() };
        let small = Case { size: Size::Bytes(64), read: false, ..ours.clone() };
        let shared = Case { shared: true, ..ours.clone() };
        let unread = Case { read: false, ..shared.clone() };
        // A second connection would have nothing to carry.
        let cases = [vec![ours, shared, unread, small], over_uds(&case, &[1])].concat();
        let rows = self.measure(&cases, 0.8).await?;
        let theirs = least(&rows[4..], p50);
        let goals = [goals::LARGE, goals::LARGE_SHARED, goals::LARGE_UNREAD];
        for (goal, row) in goals.into_iter().zip(&rows) {
            self.verdicts.push(judge(goal, theirs, row, p50, "µs"));
        }
        self.verdicts.push(judge(goals::LARGE_SMALL, &rows[2], &rows[3], p50, "µs"));
        Ok(())
    }

    async fn three_hops(&mut self) -> Result {
        let case = Case { work: Work::Chain, size: Size::Bytes(MIB), read: true, ..Case::default() };
        let ours = Case { api: Api::Stubs, shared: true, ..case.clone() };
        let rows = self.measure(&[vec![ours], over_uds(&case, &[1])].concat(), 0.8).await?;
        let theirs = least(&rows[1..], p50);
        self.verdicts.push(judge(goals::LARGE_CHAIN, theirs, &rows[0], p50, "µs"));
        Ok(())
    }

    async fn between_hosts(&mut self) -> Result {
        let goals = [
            (goals::LARGE_POD_HARDWARE, Coherence::Hardware),
            (goals::LARGE_POD_SOFTWARE, Coherence::Software),
        ];
        let mut cases = Vec::new();
        for (_, coherence) in goals {
            let pod = Some(Pod { coherence, memory: Memory::TYPICAL, given: None });
            let case =
                Case { work: Work::Ask, api: Api::Stubs, shared: true, trusted: true, ..Case::default() };
            let small = Case { pod, ..case };
            cases.extend([Case { size: Size::Bytes(MIB), ..small.clone() }, small]);
        }
        let rows = self.measure(&cases, 0.8).await?;
        for ((goal, _), rows) in goals.into_iter().zip(rows.chunks_exact(2)) {
            self.verdicts.push(judge(goal, &rows[0], &rows[1], p50, "µs"));
        }
        Ok(())
    }
}
