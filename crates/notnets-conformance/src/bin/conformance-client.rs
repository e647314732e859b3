//! Runs one case of the suite against a server that runs already, on another host of a pod for example, and
//! holds it against HTTP/2 over a Unix socket, with a server process of its own here.
//!
//! Prints `OK <case>`, or panics with what is the matter. Without a case it prints the names of all.

use std::time::Duration;

use clap::Parser;
use notnets_conformance::cases;
use notnets_conformance::harness::{Running, check_running};
use notnets_conformance::transport::{Flavour, Transport};

/// A client of the conformance suite.
#[derive(Parser)]
struct Args {
    /// What the server serves over.
    #[arg(long, default_value = "pod-software")]
    transport: Transport,
    /// The runtime that drives the client, and the server of the reference.
    #[arg(long, default_value = "multi")]
    runtime: Flavour,
    /// The server's program, for the reference.
    #[arg(long, default_value = "conformance-server")]
    program: String,
    /// Seconds that a case may take: many on an emulated machine.
    #[arg(long, default_value_t = 60)]
    patience: u64,
    /// The case.
    case: Option<String>,
    /// The server's name.
    #[arg(default_value = notnets_conformance::pod::NAME)]
    address: String,
}

macro_rules! tables {
    ($($module:ident { $($case:ident),* $(,)? })*) => {
        const NAMES: &[&str] = &[$($( stringify!($case), )*)*];

        /// Runs the case with this name, if there is one.
        fn run(case: &str, program: &str, reference: Setup, other: Setup, server: Running) -> bool {
            match case {
                $($( stringify!($case) => check_running::<cases::$case>(program, reference, other, server), )*)*
                _ => return false,
            }
            true
        }
    };
}

type Setup = (Transport, Flavour);

notnets_conformance::for_each_case!(tables);

fn main() {
    let args = Args::parse();
    let Some(case) = args.case else {
        NAMES.iter().for_each(|name| println!("{name}"));
        return;
    };
    let server = Running {
        address: args.address,
        directory: std::env::var_os("NOTNETS_DIR").expect("a rendezvous directory in NOTNETS_DIR").into(),
        patience: Duration::from_secs(args.patience),
    };
    let (reference, other) = ((Transport::Uds, args.runtime), (args.transport, args.runtime));
    assert!(run(&case, &args.program, reference, other, server), "there is no case {case}");
    println!("OK {case}");
}
