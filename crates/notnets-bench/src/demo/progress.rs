//! What the demo says while it runs, on standard error.

use std::io::{IsTerminal, Write, stderr};

use super::Args;
use super::journeys::Journey;
use super::load::{QUANTILES, Sample};
use super::transport::Transport;

/// Says how far the demo is: on a terminal in one line that changes, else line by line.
pub struct Progress {
    done: usize,
    all: usize,
    rounds: u32,
    terminal: bool,
}

impl Progress {
    /// Knows from the arguments how much there is to do.
    pub fn new(args: &Args) -> Self {
        let all = args.rounds as usize * args.journeys.len() * args.transports.len();
        Self { done: 0, all, rounds: args.rounds, terminal: stderr().is_terminal() }
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

    /// Leaves the line free for what follows.
    pub fn end(&self) {
        if self.terminal {
            let _ = write!(stderr(), "\r\x1b[K");
        }
    }
}
