//! Progress on standard error.

use std::io::{IsTerminal, Write, stderr};

/// Shows progress: on a terminal in one line that changes, otherwise line by line.
#[derive(Debug)]
pub struct StatusLine {
    terminal: bool,
}

impl StatusLine {
    /// Creates a status line for wherever standard error goes.
    pub fn new() -> Self {
        Self { terminal: stderr().is_terminal() }
    }

    /// Shows a text.
    pub fn show(&self, text: &str) {
        // Progress that cannot be shown is not worth an error.
        let _ = if self.terminal { write!(stderr(), "\r\x1b[K{text}") } else { writeln!(stderr(), "{text}") };
    }

    /// Clears the line for the output that follows.
    pub fn clear(&self) {
        if self.terminal {
            let _ = write!(stderr(), "\r\x1b[K");
        }
    }
}
