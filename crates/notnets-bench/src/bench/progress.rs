//! The benchmark's progress.

use super::case::Case;
use super::figures::Figures;
use crate::status_line::StatusLine;

/// Shows what was just measured.
#[derive(Debug)]
pub struct Progress {
    line: StatusLine,
}

impl Progress {
    /// Begins with nothing measured.
    pub fn new() -> Self {
        Self { line: StatusLine::new() }
    }

    /// Shows a text.
    pub fn note(&self, text: &str) {
        self.line.show(text);
    }

    /// Shows what was just measured.
    pub fn step(&self, round: u32, rounds: u32, case: &Case, figures: &Figures) {
        self.note(&format!(
            "round {} of {rounds}  {:<14} {:<13} {:<8} {:>4} × {:<4} {:>10.2} µs median {:>10.0} calls/s",
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

    /// Clears the line for the output that follows.
    pub fn end(&self) {
        self.line.clear();
    }
}
