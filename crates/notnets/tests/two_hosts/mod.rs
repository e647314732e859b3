//! Two "hosts" of a pod, each with a partition of one region and an agent, and a server on the second.
#![allow(dead_code, reason = "each test file uses its own part of this")]

use std::os::fd::AsRawFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use notnets::ErrorKind;
use notnets::blocking::{Builder, Client, Endpoint, Reply, Request, Server, Status, Stopper};
use notnets_core::Wait;
use notnets_core::link::rendezvous::Directory;
use notnets_memory::Coherence;
use notnets_memory::region::Region;
use notnets_memory::region::file::RegionFile;
use notnets_memory::region::format::{Plan, format};
use notnets_pod::daemon::Daemon;
use rustix::fs::{FallocateFlags, MemfdFlags, fallocate, memfd_create};
use tempfile::TempDir;

/// Nothing here takes long, unless it hangs.
pub const LIMIT: Duration = Duration::from_secs(20);

/// Two hosts, each with an agent.
pub struct Pod {
    directory: TempDir,
    pub region: Region,
    stop: Arc<AtomicBool>,
    agents: Vec<JoinHandle<()>>,
}

impl Pod {
    pub fn new(coherence: Coherence) -> Self {
        let memory = memfd_create("region", MemfdFlags::CLOEXEC).unwrap();
        fallocate(&memory, FallocateFlags::empty(), 0, 16 << 20).unwrap();
        let path = PathBuf::from(format!("/proc/self/fd/{}", memory.as_raw_fd()));
        let plan = Plan { coherence, heartbeat_ms: 20, lease_ms: 10_000, ..Plan::new("pod0", 2) };
        format(&RegionFile::open(&path).unwrap(), &plan).unwrap();
        let open = || Region::open(&path).unwrap();
        let directory = tempfile::tempdir().unwrap();
        let mut pod = Self { directory, region: open(), stop: Arc::default(), agents: Vec::new() };
        for host in 0..2 {
            let directory = Directory::at(pod.host(host));
            let mut daemon = Daemon::start(open(), host, &directory).unwrap();
            let stop = Arc::clone(&pod.stop);
            pod.agents.push(std::thread::spawn(move || daemon.run(&stop).unwrap()));
        }
        pod
    }

    pub fn host(&self, host: u16) -> PathBuf {
        self.directory.path().join(format!("host-{host}"))
    }

    pub fn endpoint(&self, name: &str) -> Endpoint {
        Endpoint::new(format!("notnets://pod0/{name}"))
            .unwrap()
            .directory(self.host(0))
            .connect_timeout(LIMIT)
    }

    /// Connects once the name has got around.
    pub fn client(&self, name: &str, wait: Wait) -> Client {
        let until = Instant::now() + LIMIT;
        loop {
            match self.endpoint(name).wait(wait).connect() {
                Err(error) if error.kind() == ErrorKind::NotFound && Instant::now() < until => {
                    std::thread::yield_now();
                }
                connected => return connected.unwrap(),
            }
        }
    }

    /// Serves a name on the other host while `act` runs.
    pub fn serving(&self, name: &str, set: impl FnOnce(Builder) -> Builder, act: impl FnOnce()) {
        let builder = set(Server::builder()).directory(self.host(1));
        let server = builder.bind(format!("notnets://pod0/{name}")).unwrap();
        let stopper = server.stopper();
        std::thread::scope(|scope| {
            let stop = StopOnDrop(stopper);
            scope.spawn(move || server.serve(answer));
            act();
            drop(stop);
        });
    }
}

/// Also when a test fails: the scope waits for the server.
struct StopOnDrop(Stopper);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.stop();
    }
}

fn answer(request: &Request<'_>, reply: &mut Reply) -> Result<(), Status> {
    match request.method {
        "/test.Test/Back" => reply.bytes = Some(request.to_bytes()),
        "/test.Test/Echo" => reply.message.extend_from_slice(request.message),
        "/test.Test/Late" => {
            while request.time_left().expect("a deadline") > Duration::ZERO {
                std::thread::yield_now();
            }
        }
        method => return Err(Status::unknown_method(method)),
    }
    Ok(())
}

impl Drop for Pod {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for agent in self.agents.drain(..) {
            agent.join().unwrap();
        }
    }
}
