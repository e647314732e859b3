//! `notnets-hostile`: attacks servers and clients of NotNets, beside peers whose calls never fail.
#![forbid(unsafe_code)]

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use notnets_core::random;
use notnets_hostile::runs::{attack_clients, attack_servers};
use notnets_hostile::victims::{Error, call, serve};

/// Attack servers and clients of NotNets
#[derive(Debug, Parser)]
struct Arguments {
    #[command(subcommand)]
    part: Option<Part>,
    /// Descriptors that the victims take, two thirds of them servers
    #[arg(long, default_value_t = 10_000_000)]
    descriptors: u64,
    /// What decides all that happens; random if left out
    #[arg(long)]
    seed: Option<u64>,
}

#[derive(Debug, Subcommand)]
enum Part {
    #[command(hide = true)]
    Serve { directory: PathBuf },
    #[command(hide = true)]
    Call { directory: PathBuf },
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("notnets-hostile: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<(), Error> {
    if let Some(part) = &arguments.part {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
        return match part {
            Part::Serve { directory } => runtime.block_on(serve(directory)),
            Part::Call { directory } => runtime.block_on(call(directory)),
        };
    }
    let program = std::env::current_exe()?;
    let seed = arguments.seed.unwrap_or_else(random::word);
    println!("--seed {seed} --descriptors {}", arguments.descriptors);
    attack_servers(&program, seed, arguments.descriptors / 3 * 2)?;
    attack_clients(&program, seed, arguments.descriptors / 3)
}
