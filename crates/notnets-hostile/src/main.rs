//! `notnets-hostile`: attacks servers and clients of NotNets, beside peers whose calls never fail.
#![forbid(unsafe_code)]

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand, ValueEnum};
use notnets_core::random;
use notnets_hostile::attacks::{ATTACKS, Attack};
use notnets_hostile::runs::{Plan, attack_clients, attack_servers};
use notnets_hostile::victims::{Error, call, serve, wait};

/// Attack servers and clients of NotNets
#[derive(Debug, Parser)]
struct Arguments {
    #[command(subcommand)]
    part: Option<Part>,
    /// Descriptors that the victims take, two thirds of them servers
    #[arg(long, default_value_t = 10_000_000)]
    descriptors: u64,
    /// Descriptors on one link at most: most attacks end theirs earlier, floods don't
    #[arg(long, default_value_t = 20_000)]
    on_a_link: u64,
    /// What decides all that happens; random if left out
    #[arg(long)]
    seed: Option<u64>,
    /// Only attacks whose names contain this, and nothing else on sockets, as in `flood(ping)`
    #[arg(long)]
    attack: Option<String>,
    /// Only these are attacked, by all descriptors
    #[arg(long)]
    victims: Option<Victims>,
    /// Hostile threads have the priority of all others: else the lowest, so that they take the processor time
    /// that others leave
    #[arg(long)]
    equal: bool,
    /// Also measure a client of the server beside this many threads that do nothing but loop: what the kernel
    /// divides among them is no victim's doing
    #[arg(long, value_name = "THREADS")]
    control: Option<usize>,
    /// Fail when the p99 of a well-behaved peer's calls is more than so many times what it is without others,
    /// and not when it is over 50 ms
    #[arg(long)]
    times: Option<u32>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Victims {
    Servers,
    Clients,
}

#[derive(Debug, Subcommand)]
enum Part {
    #[command(hide = true)]
    Serve { directory: PathBuf },
    #[command(hide = true)]
    Call { directory: PathBuf },
    #[command(hide = true)]
    Wait {
        calls: usize,
        #[arg(action = clap::ArgAction::Set)]
        keeps: bool,
        directory: PathBuf,
    },
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
            Part::Wait { directory, calls, keeps } => runtime.block_on(wait(directory, *calls, *keeps)),
        };
    }
    let program = std::env::current_exe()?;
    let seed = arguments.seed.unwrap_or_else(random::word);
    let attacks = attacks(arguments.attack.as_deref())?;
    println!("--seed {seed} --descriptors {}", arguments.descriptors);
    let greetings = arguments.attack.is_none();
    let plan = |descriptors| Plan {
        seed,
        descriptors,
        on_a_link: arguments.on_a_link,
        attacks: attacks.clone(),
        greetings,
        equal: arguments.equal,
        times: arguments.times,
        control: arguments.control,
    };
    match arguments.victims {
        Some(Victims::Servers) => attack_servers(&program, &plan(arguments.descriptors)),
        Some(Victims::Clients) => attack_clients(&program, &plan(arguments.descriptors)),
        None => {
            attack_servers(&program, &plan(arguments.descriptors / 3 * 2))?;
            attack_clients(&program, &plan(arguments.descriptors / 3))
        }
    }
}

/// Those whose names contain a text.
fn attacks(part: Option<&str>) -> Result<Vec<Attack>, Error> {
    let part = part.unwrap_or_default().to_lowercase();
    let is_meant = |attack: &Attack| format!("{attack:?}").to_lowercase().contains(&part);
    let attacks: Vec<_> = ATTACKS.into_iter().filter(is_meant).collect();
    if attacks.is_empty() {
        return Err(format!("no attack's name contains {part:?}: there are {ATTACKS:?}").into());
    }
    Ok(attacks)
}
