//! `notnets region`: makes the memory of a pod, and looks at it.

mod format;
mod report;

pub use report::presence;

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use notnets_memory::region::Region;
use notnets_pod::survey::survey;
use serde::Serialize;

use self::report::{Checked, Shown};
use crate::failure::Failure;

/// The arguments of the subcommand.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Divide memory that hosts share among them
    Format(format::Args),
    /// Show what a region is, and which hosts are there
    Show(PathArgs),
    /// Check all records of a region. Stops no process and changes nothing
    Fsck(PathArgs),
}

#[derive(Debug, clap::Args)]
struct PathArgs {
    /// The device, file or PCI bar, for example /dev/dax0.0
    path: PathBuf,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// Runs the subcommand.
///
/// # Errors
/// With a sentence, when there is no such region or it is damaged.
pub fn run(args: Args) -> Result<(), Failure> {
    match args.command {
        Command::Format(args) => format::run(&args),
        Command::Show(args) => {
            let region = open(&args.path)?;
            let shown = Shown::new(&args.path, &region, &survey(&region));
            print(&if args.json { json(&shown) } else { shown.text() });
            Ok(())
        }
        Command::Fsck(args) => {
            let region = open(&args.path)?;
            let checked = Checked::new(&args.path, &region, &survey(&region));
            print(&if args.json { json(&checked) } else { checked.text() });
            match checked.faults.len() {
                0 => Ok(()),
                n => Err(Failure::new(format!("{} has {n} faults", args.path.display()))),
            }
        }
    }
}

fn print(text: &str) {
    // A reader that has seen enough (`| head`) is not a failure.
    let _ = io::stdout().write_all(text.as_bytes());
}

fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("plain structs always serialise") + "\n"
}

fn open(path: &Path) -> Result<Region, Failure> {
    Region::open(path).map_err(|error| Failure::new(sentence(path, &error)))
}

/// Returns one sentence with the path and the error.
fn sentence(path: &Path, error: &impl ToString) -> String {
    let text = error.to_string();
    // Some sentences speak of "it", others go on from the path.
    let between = if text.starts_with("it") || text.starts_with("could") { ": " } else { " " };
    format!("{}{between}{text}", path.display())
}
