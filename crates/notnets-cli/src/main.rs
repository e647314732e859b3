//! The `notnets` command.
#![forbid(unsafe_code)]

mod agent;
mod announce;
mod call;
mod doctor;
mod exporter;
mod failure;
mod generate;
mod health;
mod inspect;
mod load;
mod ls;
mod metadata;
mod observe;
mod place;
mod proxy;
mod region;
mod schema;
mod service_manager;
mod table;
mod target;
mod tls;
mod top;
mod units;
mod variables;

use std::fs::File;
use std::io;
use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};
use tracing_subscriber::EnvFilter;

use crate::failure::Failure;

/// gRPC over shared memory between the processes of one host
#[derive(Debug, Parser)]
#[command(
    name = "notnets",
    version,
    after_help = "\
Each option can be given by the environment as well: NOTNETS_CALL_TIMEOUT=2s for --timeout of `notnets call`,
NOTNETS_REGION_FORMAT_POD for --pod of `notnets region format`; NOTNETS_PROXY_JSON=true for one without a
value. What the command line says goes first. The directory of names is NOTNETS_DIR of all."
)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Be a host of a pod: keep its heartbeat, its names and its memory
    Agent(agent::Args),
    /// Call a method of a running service, with JSON for its messages
    Call(call::Args),
    /// Find out whether memory can carry a pod, and what to do if not
    Doctor(doctor::Args),
    /// Write completions for a shell
    Completions(generate::Completions),
    /// Show Prometheus what all processes of this host have counted
    Exporter(exporter::Args),
    /// Ask whether a server is serving, for probes
    Health(health::Args),
    /// Say what a process has counted: its links, methods and open calls, and what is remarkable
    Inspect(inspect::Args),
    /// Call a method again and again, and say how long that took
    Load(load::Args),
    /// List the names served on this host
    Ls(ls::Args),
    /// Write manual pages
    Man(generate::Man),
    /// Bridge between shared memory and HTTP/2
    Proxy(proxy::Args),
    /// Make the memory that the hosts of a pod share, and look at it
    Region(region::Args),
    /// Watch what the processes of this host do
    Top(top::Args),
    #[cfg(feature = "bench")]
    #[command(flatten)]
    Bench(notnets_bench::Command),
}

impl Command {
    /// What it logs unless `RUST_LOG` is set: more of what runs for long.
    fn log(&self) -> &'static str {
        match self {
            Self::Agent(_) | Self::Exporter(_) | Self::Proxy(_) => "warn,notnets=info",
            _ => "warn",
        }
    }
}

fn main() -> ExitCode {
    let (arguments, json) = parse();
    let filter =
        EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(arguments.command.log()));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr).init();
    let result = descriptors().and_then(|()| match arguments.command {
        Command::Agent(args) => run(agent::run(args)),
        Command::Doctor(args) => doctor::run(&args),
        Command::Call(args) => run(call::run(args)),
        Command::Completions(args) => args.run(command()),
        Command::Man(args) => args.run(command()),
        Command::Exporter(args) => run(exporter::run(args)),
        Command::Health(args) => run(health::run(args)),
        Command::Inspect(args) => inspect::run(&args),
        Command::Load(args) => run(load::run(args)),
        Command::Ls(args) => run(ls::run(args)),
        Command::Proxy(args) => run(proxy::run(args)),
        Command::Region(args) => region::run(args),
        Command::Top(args) => run(top::run(args)),
        // Its processes choose their own runtimes.
        #[cfg(feature = "bench")]
        Command::Bench(command) => command.run().map_err(Failure::from),
    });
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            failure.print(json);
            ExitCode::from(failure.exit_code())
        }
    }
}

/// The command line with all its commands, and the variables of their options.
fn command() -> clap::Command {
    variables::with_variables(Arguments::command())
}

/// The arguments, and whether the command is to speak to a program.
fn parse() -> (Arguments, bool) {
    let matches = command().get_matches();
    let arguments = Arguments::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
    let mut matches = &matches;
    while let Some((_, of_subcommand)) = matches.subcommand() {
        matches = of_subcommand;
    }
    (arguments, matches.try_get_one("json").ok().flatten() == Some(&true))
}

/// The files that a process of this command has open at least.
const DESCRIPTORS: usize = 16;

/// Finds out whether a runtime can be made: it panics where it finds no descriptor.
fn descriptors() -> Result<(), Failure> {
    let open = (0..DESCRIPTORS).map(|_| File::open("/dev/null"));
    open.collect::<io::Result<Vec<_>>>().map(drop).map_err(|error| {
        Failure::new(format!(
            "cannot open as many files as it needs, /dev/null {DESCRIPTORS} times: {error}; see `ulimit -n`"
        ))
    })
}

fn run(command: impl Future<Output = Result<(), Failure>>) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    runtime.map_err(|error| Failure::new(format!("cannot make a runtime: {error}")))?.block_on(command)
}
