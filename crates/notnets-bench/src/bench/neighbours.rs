//! `notnets bench-neighbour`: a process that keeps a core busy beside a case.

use std::hint::black_box;

use super::control::Answer;
use super::process::{PATIENCE, Process};
use crate::orders::{answer, wait_for_end};
use crate::{Result, usage};

/// Busy processes, for as long as a round takes.
#[derive(Default)]
pub struct Neighbours(Vec<Process>);

impl Neighbours {
    /// Starts a number of them. They are busy when this returns.
    ///
    /// # Errors
    /// When one does not start.
    pub async fn start(count: u32) -> Result<Self> {
        let mut all = Vec::new();
        for _ in 0..count {
            all.push(Process::start("bench-neighbour")?);
        }
        for neighbour in &mut all {
            neighbour.answer(PATIENCE).await?;
        }
        Ok(Self(all))
    }

    /// Returns the nanoseconds that they have run so far.
    pub fn cpu_time(&self) -> u64 {
        self.0.iter().filter_map(|neighbour| usage::time_on_core(neighbour.pid)).sum()
    }

    /// Ends them and waits until they are gone.
    ///
    /// # Errors
    /// When one does not end as it should.
    pub async fn end(mut self) -> Result {
        self.0.iter_mut().for_each(Process::tell_to_end);
        for neighbour in self.0 {
            neighbour.end().await?;
        }
        Ok(())
    }
}

/// Counts until the input ends. Never waits, nor tells the processor that it would.
pub fn run() -> Result {
    std::thread::spawn(|| {
        wait_for_end();
        std::process::exit(0);
    });
    answer(&Answer::Ready(String::new()));
    let mut count = 0u64;
    loop {
        count = black_box(count.wrapping_add(1));
    }
}
