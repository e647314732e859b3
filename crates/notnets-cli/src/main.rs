//! The `notnets` command.
#![forbid(unsafe_code)]

mod bridge;
mod call;
mod duration;
mod failure;
mod http2;
mod ls;
mod proxy;
mod target;

use std::io;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use tracing_subscriber::EnvFilter;

use crate::failure::Failure;

/// gRPC over shared memory between the processes of one host
#[derive(Debug, Parser)]
#[command(name = "notnets", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Call a method of a running service, with JSON for its messages
    Call(call::Args),
    /// List the names served on this host
    Ls(ls::Args),
    /// Bridge between shared memory and HTTP/2
    Proxy(proxy::Args),
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("warn"));
    tracing_subscriber::fmt().with_env_filter(filter).with_target(false).with_writer(io::stderr).init();
    match run(arguments.command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("notnets: {failure}");
            ExitCode::from(failure.exit_code())
        }
    }
}

#[tokio::main]
async fn run(command: Command) -> Result<(), Failure> {
    match command {
        Command::Call(args) => call::run(args).await,
        Command::Ls(args) => ls::run(args),
        Command::Proxy(args) => proxy::run(args).await,
    }
}
