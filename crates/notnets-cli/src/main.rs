//! The `notnets` command.
#![forbid(unsafe_code)]

mod demo;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// gRPC over shared memory between the processes of one host
#[derive(Debug, Parser)]
#[command(name = "notnets", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a small web shop over TCP, Unix sockets and NotNets, and compare
    Demo(demo::Args),
    /// One of the demo's services
    #[command(hide = true)]
    DemoService(demo::ServiceArgs),
    /// The demo's customers
    #[command(hide = true)]
    DemoCustomers(demo::ProcessArgs),
}

fn main() -> ExitCode {
    let result = match Arguments::parse().command {
        Command::Demo(args) => demo::run(&args),
        Command::DemoService(args) => demo::service(args),
        Command::DemoCustomers(args) => demo::customers(args),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("notnets: {error}");
            ExitCode::FAILURE
        }
    }
}
