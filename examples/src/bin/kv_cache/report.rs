//! What clients have measured, and a table of it.

use std::time::Instant;

use serde::{Deserialize, Serialize};

/// Something that a client has done.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Operation {
    micros: u64,
    bytes: usize,
    /// Those that went by reference.
    in_place: usize,
}

impl Operation {
    pub fn since(begin: Instant, bytes: usize, in_place: usize) -> Self {
        Self { micros: begin.elapsed().as_micros() as u64, bytes, in_place }
    }
}

/// What some clients have done.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Report {
    pub puts: Vec<Operation>,
    pub gets: Vec<Operation>,
    /// What was got, read whole.
    pub reads: Vec<Operation>,
    /// Blocks of prompts that were to be computed, those of them that were there, and those that were gone
    /// when they were needed.
    pub looked_up: usize,
    pub found: usize,
    pub evicted: usize,
}

impl Report {
    pub fn add(&mut self, other: Self) {
        self.puts.extend(other.puts);
        self.gets.extend(other.gets);
        self.reads.extend(other.reads);
        self.looked_up += other.looked_up;
        self.found += other.found;
        self.evicted += other.evicted;
    }

    /// Rows of a table, for what went over one transport.
    pub fn rows(&self, transport: &str) -> String {
        let rows = [("put", &self.puts), ("get", &self.gets), ("read", &self.reads)];
        let rows = rows.map(|(name, operations)| format!("{transport:<14}{name:<6}{}\n", row(operations)));
        let share = 100 * self.found / self.looked_up.max(1);
        let evicted = self.evicted;
        let last = format!(
            "{transport}: {share} % of blocks need not be computed, {evicted} were evicted too early\n"
        );
        rows.concat() + &last
    }
}

/// The heading of such a table.
pub fn heading() -> String {
    let columns = ["count", "p50 µs", "p99 µs", "GB/s", "MiB", "copied MiB"];
    format!("{:<20}{}", "", columns.map(|column| format!("{column:>12}")).concat())
}

fn row(operations: &[Operation]) -> String {
    let mut micros: Vec<u64> = operations.iter().map(|operation| operation.micros).collect();
    micros.sort_unstable();
    let at = |percent: usize| micros.get(micros.len() * percent / 100).copied().unwrap_or_default();
    let bytes: usize = operations.iter().map(|operation| operation.bytes).sum();
    let in_place: usize = operations.iter().map(|operation| operation.in_place).sum();
    let rate = bytes as f64 / 1e3 / micros.iter().sum::<u64>().max(1) as f64;
    format!(
        "{:>12}{:>12}{:>12}{rate:>12.1}{:>12}{:>12}",
        micros.len(),
        at(50),
        at(99),
        bytes >> 20,
        (bytes - in_place) >> 20,
    )
}
