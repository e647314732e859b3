//! What the benchmark says while it runs, on standard error.

use std::io::{IsTerminal, Write, stderr};

use super::case::Case;
use super::figures::Figures;

/// Says what was just measured: on a terminal in one line that changes, else line by line.
#[derive(Debug)]
pub struct Progress {
    terminal: bool,
}

impl Progress {
    /// Looks where standard error goes.
    pub fn new() -> Self {
        Self { terminal: stderr().is_terminal() }
    }

    /// Says something.
    pub fn note(&self, what: &str) {
        // Nobody needs progress that cannot be shown.
        let _ = match self.terminal {
            true => write!(stderr(), "\r\x1b[K{what}"),
            false => writeln!(stderr(), "{what}"),
        };
    }

    /// Says what was just measured.
    pub fn step(&self, round: u32, rounds: u32, case: &Case, figures: &Figures) {
        self.note(&format!(
            "round {} of {rounds}  {:<8} {:<13} {:<8} {:>4} × {:<4} {:>10.2} µs median {:>10.0} calls/s",
            round + 1,
            case.work,
            case.way(),
            case.size,
            case.clients,
            case.outstanding,
            figures.p50_us,
            figures.calls_per_s,
        ));
    }

    /// Leaves the line free for what follows.
    pub fn end(&self) {
        if self.terminal {
            let _ = write!(stderr(), "\r\x1b[K");
        }
    }
}
