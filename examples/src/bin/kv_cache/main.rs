//! A store of KV-cache blocks, in the shape that users of LMCache and Mooncake know: blocks of a language
//! model's KV cache are put under chained hashes of their tokens, found by the longest prefix of a prompt,
//! and evicted when they were not used for long. In a pod they are put into its memory once, and every host
//! reads them there. Over TCP the same stubs move copies.
//!
//! | command | what |
//! | --- | --- |
//! | `kv_cache serve ADDRESS` | a store, at `notnets://pod0/cache` in a pod, or at a TCP port |
//! | `kv_cache work ADDRESS ROLE` | a client that prefills or decodes the prompts whose numbers it reads |
//! | `kv_cache [demo]` | a store and clients on three hosts of a pod on this machine, and over TCP |

mod client;
mod demo;
mod hosts;
mod prompt;
mod report;
mod service;
mod store;
mod transport;
mod worker;

use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use notnets_examples::Result;

#[derive(Parser)]
#[command(about = "A store of KV-cache blocks for the hosts of a pod")]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    demo: demo::Options,
}

#[derive(Subcommand)]
enum Command {
    /// Serve a store
    Serve {
        /// `notnets://POD/NAME`, or an IP address and a port.
        address: String,
        /// Mebibytes of blocks; over it, those go that were used longest ago.
        #[arg(long, default_value_t = 1024)]
        capacity: usize,
    },
    /// Prefill or decode prompts whose numbers come on standard input
    Work {
        /// Where the store is.
        address: String,
        role: worker::Role,
        #[command(flatten)]
        prompts: Prompts,
    },
    /// Compare a pod's memory with TCP
    Demo(demo::Options),
}

/// The prompts.
#[derive(Args, Clone, Copy)]
struct Prompts {
    /// KiB of a block, that is 256 tokens of all layers and heads of a rank.
    #[arg(long, default_value_t = 1024, value_parser = clap::value_parser!(u32).range(1..=32768))]
    block: u32,
    /// Documents that prompts are about.
    #[arg(long, default_value_t = 24)]
    documents: u64,
    /// Which of the clients' streams of prompts this one is.
    #[arg(long, default_value_t = 0)]
    stream: u64,
}

fn main() -> ExitCode {
    let Arguments { command, demo } = Arguments::parse();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let result: Result = runtime.block_on(async {
        match command {
            Some(Command::Serve { address, capacity }) => service::serve(&address, capacity << 20).await,
            Some(Command::Work { address, role, prompts }) => worker::work(&address, role, prompts).await,
            Some(Command::Demo(options)) => demo::run(&options).await,
            None => demo::run(&demo).await,
        }
    });
    runtime.shutdown_background();
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}
