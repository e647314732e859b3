//! A pod for the suite: client and server are processes of two hosts that have nothing in common but a file.
//!
//! Each has an agent in a thread, and a rendezvous directory of its own. What says which host a process is
//! comes to the server through its environment.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use notnets_core::link::rendezvous::Directory;
use notnets_memory::Coherence;
use notnets_memory::region::Region;
use notnets_memory::region::file::RegionFile;
use notnets_memory::region::format::{Plan, format};
use notnets_pod::daemon::Daemon;
use rustix::fs::{FallocateFlags, fallocate};

use crate::transport::Transport;

/// The name of the suite's server in its pod.
pub const NAME: &str = "notnets://pod0/conformance";
/// The region, beside the server's rendezvous directory, which is its parent.
const REGION: &str = "region";
const CLIENT: &str = "client";
/// Two partitions, each with room for a few links.
const BYTES: u64 = 8 << 20;

/// A host's agent in a thread of this process.
pub struct Agent {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

/// Makes the region of a pod, and begins the agent of the client's host. Nothing for other transports.
///
/// # Panics
/// When that fails.
pub fn agent_of_client(transport: Transport, directory: &Path) -> Option<Agent> {
    let coherence = match transport {
        Transport::PodHardware => Coherence::Hardware,
        Transport::PodSoftware => Coherence::Software,
        _ => return None,
    };
    let path = directory.join(REGION);
    let file = std::fs::File::options().read(true).write(true).create_new(true).open(&path);
    fallocate(file.expect("a new file"), FallocateFlags::empty(), 0, BYTES).expect("room for a region");
    // A busy machine stops a process for a while now and then: that is no death.
    let plan = Plan { coherence, heartbeat_ms: 20, lease_ms: 10_000, ..Plan::new("pod0", 2) };
    format(&RegionFile::open(&path).expect("a region's file"), &plan).expect("room for two hosts");
    Some(agent(0, &path, &directory.join(CLIENT)))
}

/// The client's rendezvous directory.
pub fn directory_of_client(address: &str, directory: &Path) -> PathBuf {
    if address == NAME { directory.join(CLIENT) } else { directory.to_owned() }
}

/// Begins the agent of the server's host, if its rendezvous directory holds a region.
///
/// # Errors
/// When the environment names no directory.
pub fn agent_of_server() -> Result<Option<Agent>, std::env::VarError> {
    let directory = PathBuf::from(std::env::var("NOTNETS_DIR")?);
    let path = directory.join(REGION);
    Ok(path.exists().then(|| agent(1, &path, &directory)))
}

fn agent(host: u16, region: &Path, directory: &Path) -> Agent {
    let region = Region::open(region).expect("a formatted region");
    let mut daemon = Daemon::start(region, host, &Directory::at(directory)).expect("no other agent");
    let stop = Arc::new(AtomicBool::new(false));
    let stopped = Arc::clone(&stop);
    let thread = std::thread::spawn(move || daemon.run(&stopped).expect("nobody else is that host"));
    Agent { stop, thread: Some(thread) }
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
