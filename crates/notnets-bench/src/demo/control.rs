//! The protocol between the demo's processes: orders ([`crate::orders`]) and what they
//! answer.

use std::collections::HashMap;
use std::path::PathBuf;

use clap::ValueEnum;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc::UnboundedReceiver;

use super::load;
use super::load::{Order, Sample};
use super::proto::storefront_client::StorefrontClient;
use super::services::Name;
use super::transport::{Connect, Place, Transport};
use crate::orders::answer;
use crate::runtime::runtime;
use crate::{Result, orders, usage};

/// A request to a process.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ask {
    /// Asks for its processor time.
    CpuTime,
    /// Lets the shop's customers in.
    Load(Order),
}

/// Its answer.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// It is ready, at this address. Sent once, unasked.
    Ready(String),
    /// Nanoseconds of processor time, over all its threads, also ended ones.
    CpuTime(u64),
    /// The outcome of an order.
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

/// Runs one of the shop's services until the demo ends.
pub fn service(args: ServiceArgs) -> Result {
    let ServiceArgs { name, process } = args;
    listen(process.place.directory.clone());
    runtime(process.workers)?.block_on(async {
        match process.place.transport {
            Transport::NotNets => serve::<notnets::Channel>(name, process).await,
            Transport::Tcp | Transport::Uds => serve::<tonic::transport::Channel>(name, process).await,
        }
    })
}

async fn serve<C: Connect>(name: Name, process: ProcessArgs) -> Result {
    let mut peers = HashMap::new();
    for (name, address) in &process.peers {
        peers.insert(*name, C::connect(address).await?);
    }
    let ready = |address| answer(&Answer::Ready(address));
    // On a task of its own, so that a worker of the runtime (if it has any) runs it.
    let serving = async move { name.serve(&process.place, &peers, ready).await };
    tokio::spawn(serving).await?
}

/// Runs the shop's customers until the demo ends.
pub fn customers(args: ProcessArgs) -> Result {
    let orders = listen(args.place.directory.clone());
    runtime(args.workers)?.block_on(async {
        match args.place.transport {
            Transport::NotNets => visit::<notnets::Channel>(&args, orders).await,
            Transport::Tcp | Transport::Uds => visit::<tonic::transport::Channel>(&args, orders).await,
        }
    })
}

async fn visit<C: Connect>(args: &ProcessArgs, mut orders: UnboundedReceiver<Order>) -> Result {
    let (_, address) = args.peers.first().ok_or("wants --peer storefront=ADDRESS")?;
    let shop = StorefrontClient::new(C::connect(address).await?);
    answer(&Answer::Ready(String::new()));
    while let Some(order) = orders.recv().await {
        answer(&Answer::Loaded(load::run(&shop, order).await?));
    }
    Ok(())
}

/// Starts to read what the process is asked, and passes orders on.
fn listen(directory: PathBuf) -> UnboundedReceiver<Order> {
    orders::listen(directory, |ask| match ask {
        Ask::CpuTime => {
            answer(&Answer::CpuTime(usage::cpu_time()));
            None
        }
        Ask::Load(order) => Some(order),
    })
}
