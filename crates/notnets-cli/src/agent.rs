//! `notnets agent`: the part of a host in a pod.

use std::fmt::Display;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use notnets_cli_common::duration;
use notnets_core::link::rendezvous::Directory;
use notnets_core::name::Name;
use notnets_memory::descriptors;
use notnets_memory::region::Region;
use notnets_pod::daemon::{Daemon, DaemonError};
use notnets_pod::member::{AGENT_TIMEOUT, PodError, leave_host, region_of};
use tokio::signal::unix::{SignalKind, signal};

use crate::announce::announce;
use crate::failure::Failure;
use crate::place::Place;
use crate::service_manager::{Standing, Watchdog, notify};

/// The arguments of the subcommand.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Prints `READY PATH` once processes can join. On SIGINT or SIGTERM it stops for its successor: links go
on if that begins within the lease. To take the host out of the pod for good, so that others need not
wait for the lease, call the command again with --leave.

Examples:
  notnets agent --region /dev/dax0.0 --host-id 0
  notnets agent --region /dev/dax0.0 --host-id 0 --leave")]
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
    #[command(flatten)]
    place: Place,
    /// Take the host out of the pod, for good: its agent ends, and so do links to its processes
    #[arg(long)]
    leave: bool,
    /// Say in JSON that processes can join: an object with `event` and `addresses`
    #[arg(long)]
    json: bool,
}

/// Runs until it is asked to stop, or the host leaves the pod.
///
/// # Errors
/// When it can't begin, or another host takes itself for this one.
pub async fn run(args: Args) -> Result<(), Failure> {
    let region = Region::open(&args.region)
        .map_err(|error| Failure::new(format!("{}: {error}", args.region.display())))?;
    let directory = args.place.directory();
    if args.leave {
        return leave(region, args.host_id, &directory);
    }
    // One for each link that it watches. Without them processes watch their own.
    let _ = descriptors::raise_limit();
    let mut daemon = Daemon::start(region, args.host_id, &directory).map_err(failure)?;
    daemon.set_wake_latency(args.wake_latency);
    daemon.set_region_path(&args.region);
    let mut terminated = signal(SignalKind::terminate()).map_err(failure)?;
    let stop = Arc::new(AtomicBool::new(false));
    let stopped = Arc::clone(&stop);
    let mut work = tokio::task::spawn_blocking(move || serve(daemon, &stopped, args.json));
    let ended = tokio::select! {
        ended = &mut work => ended,
        _ = tokio::signal::ctrl_c() => { stop.store(true, Ordering::Relaxed); work.await }
        _ = terminated.recv() => { stop.store(true, Ordering::Relaxed); work.await }
    };
    ended.map_err(failure)?.map_err(failure)
}

/// The agent's thread.
fn serve(mut daemon: Daemon, stop: &AtomicBool, json: bool) -> Result<(), DaemonError> {
    let mut watchdog = Watchdog::from_env();
    let mut is_ready = false;
    while !stop.load(Ordering::Relaxed) && !daemon.has_left() {
        daemon.turn()?;
        if !is_ready && daemon.is_running() {
            is_ready = true;
            announce("READY", [&*daemon.path().to_string_lossy()], json);
            notify(Standing::Ready);
        }
        if let Some(watchdog) = &mut watchdog {
            watchdog.feed();
        }
    }
    notify(Standing::Stopping);
    if !daemon.has_left() {
        daemon.pause();
    }
    Ok(())
}

/// Takes the host out of the pod: by its agent, or in its place.
fn leave(region: Region, host: u16, directory: &Directory) -> Result<(), Failure> {
    let deadline = Instant::now() + AGENT_TIMEOUT;
    let pod: Name = region.superblock().pod.parse().map_err(failure)?;
    match region_of(directory, &pod, deadline) {
        Ok((_, other)) if other != host => {
            let at = directory.path().display();
            Err(Failure::new(format!("the agent of {pod} in {at} is that of host {other}, not of {host}")))
        }
        Ok(_) => leave_host(directory, &pod, deadline).map(drop).map_err(failure),
        Err(PodError::NoAgent { .. }) => {
            Daemon::start(region, host, directory).map_err(failure)?.leave();
            Ok(())
        }
        Err(error) => Err(failure(error)),
    }
}

fn failure(error: impl Display) -> Failure {
    Failure::new(error.to_string())
}
