//! The demo's progress.

use super::Args;
use super::journeys::Journey;
use super::load::Sample;
use super::transport::Transport;
use crate::latencies::QUANTILES;
use crate::status_line::StatusLine;

/// Shows how far the demo is.
pub struct Progress {
    done: usize,
    all: usize,
    rounds: u32,
    line: StatusLine,
}

impl Progress {
    /// Calculates from the arguments how much there is to do.
    pub fn new(args: &Args) -> Self {
        let all = args.rounds as usize * args.journeys.len() * args.transports.len();
        Self { done: 0, all, rounds: args.rounds, line: StatusLine::new() }
    }

    /// Shows a text.
    pub fn note(&self, text: &str) {
        self.line.show(text);
    }

    /// Shows what was just measured.
    pub fn step(&mut self, nth: u32, journey: Journey, transport: Transport, sample: &Sample) {
        self.done += 1;
        let percent = 100 * self.done / self.all;
        let median =
            QUANTILES.iter().position(|quantile| *quantile == 0.5).map_or(0.0, |at| sample.quantiles_us[at]);
        self.note(&format!(
            "{percent:3} %  round {} of {}  {journey:<9} {:<12} {median:>9.0} µs median {:>9.0} calls/s",
            nth + 1,
            self.rounds,
            transport.label(),
            sample.requests as f64 / sample.seconds,
        ));
    }

    /// Clears the line for the output that follows.
    pub fn end(&self) {
        self.line.clear();
    }
}
