//! `notnets agent`: the part of a host in a pod.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use notnets_cli_common::duration;
use notnets_core::link::rendezvous::Directory;
use notnets_memory::region::Region;
use notnets_pod::daemon::Daemon;
use tokio::signal::unix::{SignalKind, signal};

use crate::failure::Failure;

/// The arguments of the subcommand.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The device, file or PCI bar that holds the pod's region, for example /dev/dax0.0
    #[arg(long)]
    region: PathBuf,
    /// Which host of the pod this is: a number that no other host has, from 0 on
    #[arg(long)]
    host_id: u16,
    /// How long a message may wait for a parked process of this host that does not choose itself: the
    /// shorter, the more processor time its idle links take
    #[arg(long, default_value = "500us", value_parser = duration::parse)]
    wake_latency: Duration,
}

/// Runs until it is asked to stop, and leaves the pod in order.
///
/// # Errors
/// When it can't begin, or another host takes itself for this one.
pub async fn run(args: Args) -> Result<(), Failure> {
    let region = Region::open(&args.region)
        .map_err(|error| Failure::new(format!("{}: {error}", args.region.display())))?;
    let failure = |error: &dyn std::fmt::Display| Failure::new(error.to_string());
    let mut daemon =
        Daemon::start(region, args.host_id, &Directory::from_env()).map_err(|error| failure(&error))?;
    daemon.set_wake_latency(args.wake_latency);
    daemon.set_region_path(&args.region);
    tracing::info!(host = args.host_id, socket = %daemon.path().display(), "agent");
    let mut terminated = signal(SignalKind::terminate()).map_err(|error| failure(&error))?;
    let stop = Arc::new(AtomicBool::new(false));
    let stopped = Arc::clone(&stop);
    let mut work = tokio::task::spawn_blocking(move || daemon.run(&stopped));
    let ended = tokio::select! {
        ended = &mut work => ended,
        _ = tokio::signal::ctrl_c() => { stop.store(true, Ordering::Relaxed); work.await }
        _ = terminated.recv() => { stop.store(true, Ordering::Relaxed); work.await }
    };
    ended.map_err(|error| failure(&error))?.map_err(|error| failure(&error))
}
