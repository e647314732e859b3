//! A pod whose hosts are directories: each has a partition of one file, an agent in a thread of the test, and
//! a rendezvous directory of its own. Servers are processes in one of these directories.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use notnets::Endpoint;
use notnets_core::link::rendezvous::Directory;
use notnets_memory::Coherence;
use notnets_memory::region::Region;
use notnets_memory::region::file::RegionFile;
use notnets_memory::region::format::{Plan, format};
use notnets_pod::daemon::Daemon;
use notnets_pod::survey::{HostSurvey, survey};
use notnets_pod::table::{Control, ExtentEntry, ExtentState};
use rustix::fs::{FallocateFlags, fallocate};

use super::helper::Helper;

/// What servers of the pod serve.
pub const NAME: &str = "notnets://pod0/lives";

/// A pod of hosts that all run.
pub struct Pod {
    directory: tempfile::TempDir,
    stop: Arc<AtomicBool>,
    agents: Vec<JoinHandle<()>>,
}

impl Pod {
    /// A region of so many bytes, and the agents of so many hosts.
    pub fn new(coherence: Coherence, hosts: u32, bytes: u64) -> Self {
        Self::of(bytes, Plan { coherence, ..Plan::new("pod0", hosts) })
    }

    /// The same by a plan.
    pub fn of(bytes: u64, plan: Plan) -> Self {
        Self::below(tempfile::tempdir().unwrap(), bytes, plan)
    }

    /// The same, whose region is a file in this directory.
    pub fn below(directory: tempfile::TempDir, bytes: u64, plan: Plan) -> Self {
        let path = directory.path().join("region");
        let file = std::fs::File::options().read(true).write(true).create_new(true).open(&path).unwrap();
        fallocate(file, FallocateFlags::empty(), 0, bytes).unwrap();
        // A busy machine stops a process for a while now and then: that is no death.
        let hosts = plan.hosts as u16;
        let plan = Plan { heartbeat_ms: 20, lease_ms: 60_000, ..plan };
        format(&RegionFile::open(&path).unwrap(), &plan).unwrap();
        let mut pod = Self { directory, stop: Arc::default(), agents: Vec::new() };
        for host in 0..hosts {
            let mut daemon = Daemon::start(pod.region(), host, &Directory::at(pod.host(host))).unwrap();
            let stop = Arc::clone(&pod.stop);
            pod.agents.push(std::thread::spawn(move || daemon.run(&stop).unwrap()));
        }
        pod
    }

    /// The rendezvous directory of a host.
    pub fn host(&self, host: u16) -> PathBuf {
        self.directory.path().join(host.to_string())
    }

    pub fn region(&self) -> Region {
        Region::open(&self.file()).unwrap()
    }

    /// The region's file.
    pub fn file(&self) -> PathBuf {
        self.directory.path().join("region")
    }

    /// A process on a host that serves [`NAME`].
    pub fn server(&self, host: u16, options: &str) -> Helper {
        Helper::server(&self.host(host), &format!("uri={NAME} {options}"))
    }

    /// A process on a host that serves payloads, at a name of the pod, to peers that it trusts.
    pub fn sharer(&self, host: u16, name: &str, options: &str) -> Helper {
        let options = format!("uri=notnets://pod0/{name} {options}");
        let mut sharer = Helper::start("sharer", &self.host(host), &options);
        sharer.expect("serving");
        sharer
    }

    /// How many extents a host's agent has granted, at the moment.
    pub fn granted(&self, host: u16) -> usize {
        self.extents(host).filter(|extent| extent.state == ExtentState::Granted).count()
    }

    /// How many of its extents have payloads, or may be read by others for their sake.
    pub fn with_payloads(&self, host: u16) -> usize {
        self.extents(host).filter(|extent| extent.payloads && extent.state != ExtentState::Free).count()
    }

    /// The extents of a host, as its agent has them in its table.
    pub fn extents(&self, host: u16) -> impl Iterator<Item = ExtentEntry> {
        let region = self.region();
        let layout = *region.layout();
        let memory = region.peer(layout.control(host.into())).unwrap();
        let control = Control::of_peer(memory, layout, region.superblock().uuid, host);
        (0..layout.extents()).filter_map(move |index| control.extent(index))
    }

    /// What `notnets region show` would say of a host.
    pub fn survey(&self, host: u16) -> HostSurvey {
        let mut survey = survey(&self.region());
        assert_eq!(survey.problems, Vec::<String>::new());
        survey.hosts.swap_remove(host.into())
    }
}

impl Drop for Pod {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for agent in self.agents.drain(..) {
            agent.join().unwrap();
        }
    }
}

/// An endpoint for what servers of a pod serve, seen from a host.
pub fn endpoint(host: &Path) -> Endpoint {
    // Long enough for a server that hangs to take its share.
    Endpoint::from_static(NAME).directory(host).connect_timeout(Duration::from_secs(20))
}
