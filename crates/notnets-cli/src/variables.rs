//! Options by environment variables: of each that a command has, one.

use clap::builder::BoolishValueParser;
use clap::{Arg, ArgAction, Command};

/// What the variables begin with.
const PREFIX: &str = "NOTNETS";
/// Options of all commands, and those that have a variable that libraries look at, too.
const WITHOUT: [&str; 3] = ["help", "version", "directory"];

/// Lets each option be given by a variable: `--wake-latency` of `notnets agent` by
/// `NOTNETS_AGENT_WAKE_LATENCY`. Those without a value are `true` or `false`.
pub fn with_variables(command: Command) -> Command {
    named(command, PREFIX)
}

fn named(command: Command, prefix: &str) -> Command {
    let name = |part: &str| format!("{prefix}_{}", part.to_uppercase().replace('-', "_"));
    command
        .mut_args(|arg| match arg.get_long() {
            Some(long) if !WITHOUT.contains(&long) => {
                let variable = name(long);
                with_variable(arg, variable)
            }
            _ => arg,
        })
        .mut_subcommands(|subcommand| {
            let prefix = name(subcommand.get_name());
            named(subcommand, &prefix)
        })
}

fn with_variable(arg: Arg, variable: String) -> Arg {
    // The command line is made once, and its names are static.
    let arg = arg.env(&*variable.leak()).hide_env(true);
    match arg.get_action() {
        ArgAction::SetTrue => arg.value_parser(BoolishValueParser::new()),
        _ => arg,
    }
}
