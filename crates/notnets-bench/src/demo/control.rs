//! How the demo's processes are told what to do.
//!
//! Each is given lines of JSON on its standard input and answers with lines of JSON on its
//! standard output. It ends when its input does, which happens however the demo ends, so that no
//! process outlives it; and it takes the shop's directory along.

use std::collections::HashMap;
use std::io::{BufRead, Write};
use std::path::PathBuf;

use clap::ValueEnum;
use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use super::load::{Order, Sample};
use super::proto::storefront_client::StorefrontClient;
use super::services::Name;
use super::transport::{Place, connect};
use super::{load, runtime};
use crate::Result;

/// What a process can be asked.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ask {
    /// For how long it has kept processors busy.
    CpuTime,
    /// To be the shop's customers.
    Load(Order),
}

/// What it answers.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// It is ready, at this address. Said once, unasked.
    Ready(String),
    /// Nanoseconds of processor time, over all its threads, also ended ones.
    CpuTime(u64),
    /// What came of an order.
    Loaded(Sample),
}

/// The arguments of each of the demo's processes.
#[derive(Clone, Debug, clap::Args)]
pub struct ProcessArgs {
    #[command(flatten)]
    place: Place,
    /// Worker threads of the runtime; 0 for the current-thread runtime.
    #[arg(long, default_value_t = 0)]
    workers: usize,
    /// Where another process of the shop is: NAME=ADDRESS.
    #[arg(long = "peer", value_parser = peer)]
    peers: Vec<(Name, String)>,
}

/// The arguments of a process that serves.
#[derive(Clone, Debug, clap::Args)]
pub struct ServiceArgs {
    /// Which service.
    pub name: Name,
    #[command(flatten)]
    process: ProcessArgs,
}

fn peer(text: &str) -> std::result::Result<(Name, String), String> {
    let (name, address) = text.split_once('=').ok_or("wants NAME=ADDRESS")?;
    Ok((Name::from_str(name, false)?, address.to_owned()))
}

/// Is one of the shop's services, until the demo ends.
pub fn service(args: ServiceArgs) -> Result {
    let ServiceArgs { name, process } = args;
    listen(process.place.directory.clone());
    runtime(process.workers)?.block_on(async {
        let mut peers = HashMap::new();
        for (name, address) in &process.peers {
            peers.insert(*name, connect(address).await?);
        }
        let ready = |address| answer(&Answer::Ready(address));
        // On a task of its own, so that a worker of the runtime (if it has any) runs it.
        let serving = async move { name.serve(&process.place, &peers, ready).await };
        tokio::spawn(serving).await?
    })
}

/// Is the shop's customers, until the demo ends.
pub fn customers(args: ProcessArgs) -> Result {
    let mut orders = listen(args.place.directory);
    runtime(args.workers)?.block_on(async {
        let (_, address) = args.peers.first().ok_or("wants --peer storefront=ADDRESS")?;
        let shop = StorefrontClient::new(connect(address).await?);
        answer(&Answer::Ready(String::new()));
        while let Some(order) = orders.recv().await {
            answer(&Answer::Loaded(load::run(&shop, order).await?));
        }
        Ok(())
    })
}

/// Starts a thread that answers what it can itself and passes orders on. It ends the process
/// when its input ends, whatever the process is doing then.
fn listen(directory: PathBuf) -> mpsc::UnboundedReceiver<Order> {
    let (pass_on, orders) = mpsc::unbounded_channel();
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines().map_while(std::io::Result::ok) {
            match serde_json::from_str(&line) {
                Ok(Ask::CpuTime) => answer(&Answer::CpuTime(cpu_time())),
                // Nobody waits for orders in a process that only serves.
                Ok(Ask::Load(order)) => drop(pass_on.send(order)),
                Err(error) => {
                    eprintln!("not something to ask: {line}: {error}");
                    std::process::exit(2);
                }
            }
        }
        // All of the shop's processes do this at the same time, each clearing away what it sees.
        // One that fails leaves it to the one that was faster.
        let _ = std::fs::remove_dir_all(&directory);
        std::process::exit(0);
    });
    orders
}

/// Says one thing. If nobody listens any more, the input is at its end too, which ends the process.
fn answer(what: &Answer) {
    let line = serde_json::to_string(what).expect("numbers and strings");
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
}

fn cpu_time() -> u64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}
