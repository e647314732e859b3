//! What packages contain beside the command: completions for shells, manual pages. They are made of what the
//! command line is parsed by.

use std::io::{self, Write};
use std::path::PathBuf;

use clap::Command;
use clap_complete::Shell;

use crate::failure::Failure;

/// The arguments of `notnets completions`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  notnets completions bash >/usr/share/bash-completion/completions/notnets
  notnets completions zsh >/usr/share/zsh/site-functions/_notnets")]
pub struct Completions {
    /// The shell
    shell: Shell,
}

/// The arguments of `notnets man`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example:
  notnets man /usr/share/man/man1")]
pub struct Man {
    /// The directory that the pages are written to: one for the command, and one for each of its commands
    directory: PathBuf,
}

impl Completions {
    /// Writes them to standard output.
    ///
    /// # Errors
    /// When that can't be written.
    pub fn run(self, mut command: Command) -> Result<(), Failure> {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut command, "notnets", &mut script);
        let written = io::stdout().write_all(&script);
        written.map_err(|error| Failure::new(format!("cannot write the completions: {error}")))
    }
}

impl Man {
    /// Writes a file for each page.
    ///
    /// # Errors
    /// When one can't be written.
    pub fn run(self, command: Command) -> Result<(), Failure> {
        clap_mangen::generate_to(command, &self.directory).map_err(|error| {
            Failure::new(format!("cannot write pages to {}: {error}", self.directory.display()))
        })
    }
}
