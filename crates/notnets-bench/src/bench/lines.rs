//! What it costs to write lines back, drop them and fetch them, on this machine.

use std::fmt::Write;

use notnets_cli_common::number::number;
use notnets_memory::line_costs::{LineCost, RUN, measure};
use serde_json::json;

use crate::Result;
use crate::machine::Machine;

/// The costs of lines.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Print a line of JSON for each instead of a table
    #[arg(long)]
    json: bool,
}

/// Measures, and prints.
pub fn run(args: &Args) -> Result {
    let costs = measure();
    print!("{}", if args.json { lines(&costs) } else { table(&costs)? });
    Ok(())
}

fn lines(costs: &[LineCost]) -> String {
    let line = |LineCost { what, single_ns, run_ns }: &LineCost| {
        json!({ "what": what, "single_ns": single_ns, "run_ns": run_ns }).to_string() + "\n"
    };
    costs.iter().map(line).collect()
}

fn table(costs: &[LineCost]) -> Result<String> {
    let mut text = format!("ns for each line: {}\n", Machine::look());
    let run = format!("{RUN} and a fence");
    writeln!(text, "{:<40}{:>18}{run:>18}", "", "one and a fence")?;
    for LineCost { what, single_ns, run_ns } in costs {
        writeln!(text, "{what:<40}{:>18}{:>18}", number(*single_ns), number(*run_ns))?;
    }
    Ok(text)
}
