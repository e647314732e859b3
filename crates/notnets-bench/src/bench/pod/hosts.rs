//! Two hosts of a pod on this machine: a region, and an agent for each in a thread of the benchmark's parent.

use std::fs::File;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use notnets_cli_common::agent_thread::{AgentThread, NAME as AGENT};
use notnets_memory::far_memory_model::Queues;
use notnets_memory::region::Region;
use notnets_memory::region::file::RegionFile;
use notnets_memory::region::format::{Plan, format};
use rustix::fs::{FallocateFlags, MemfdFlags, fallocate, memfd_create};
use serde::Serialize;
use tempfile::TempDir;

use super::super::case::{Case, Work};
use super::{Coherence, Memory, Place, Pod};
use crate::{Result, usage};

/// The pod in a region that was made for a case.
const NAME: &str = "bench";
/// The memory that a process is granted at once, and the links that find room in it.
const EXTENT: u64 = 2 << 20;
const LINKS: u32 = 7;
/// The threads of an agent: its own, and that which watches links.
const AGENT_THREADS: &[&str] = &[AGENT, "notnets-watch"];
/// More than the control area of a host takes.
const CONTROL: u64 = 1 << 20;

/// The hosts of a case, until this is dropped.
pub struct Hosts {
    pod: String,
    directories: [PathBuf; 2],
    memory: Memory,
    queues: PathBuf,
    _agents: Vec<AgentThread>,
}

impl Hosts {
    /// Starts the hosts of a case that has a pod. Their agents listen below `directory`, or where those of a
    /// given region do.
    ///
    /// # Errors
    /// When there is no room for a region.
    pub fn open(case: &Case, pod: &Pod, directory: &Path) -> Result<Self> {
        let memory = pod.memory;
        let queues = directory.join("queues");
        File::create_new(&queues)?.set_len(Queues::BYTES as u64)?;
        if let Some(given) = &pod.given {
            let pod_name = given.pod.clone();
            let directories = given.directories();
            return Ok(Self { pod: pod_name, directories, memory, queues, _agents: Vec::new() });
        }
        let region = memfd_create("notnets-bench-region", MemfdFlags::CLOEXEC)?;
        fallocate(&region, FallocateFlags::empty(), 0, EXTENT + 2 * (CONTROL + extents(case) * EXTENT))?;
        let path = PathBuf::from(format!("/proc/self/fd/{}", region.as_raw_fd()));
        let plan = Plan {
            coherence: pod.coherence.into(),
            extent_bytes: Some(EXTENT),
            processes: case.clients + 16,
            heartbeat_ms: 20,
            // A busy machine stops a process for a while now and then: that does not mean it has died.
            lease_ms: 10_000,
            ..Plan::new(NAME, 2)
        };
        format(&RegionFile::open(&path)?, &plan)?;
        let directories = directories(directory);
        let _agents = agents(&path, [0, 1], &directories)?;
        Ok(Self { pod: NAME.to_owned(), directories, memory, queues, _agents })
    }

    /// The nanoseconds that the agent of a host has run: half of what both have, in threads of this process.
    pub fn agent_time(&self) -> u64 {
        usage::time_of_threads(AGENT_THREADS) / 2
    }

    /// The place of a process that calls pass on their nth hop: clients are at 0, and each hop leads to the
    /// other host.
    pub fn place(&self, hop: usize) -> Place {
        let host = hop % 2;
        let directory = self.directories[host].clone();
        Place { pod: self.pod.clone(), directory, memory: self.memory, queues: self.queues.clone(), host }
    }
}

/// Returns the largest number of extents that the processes of each host take.
fn extents(case: &Case) -> u64 {
    // One more than they need: links that end are not let go of at once.
    let of = |links: u32| if links == 0 { 0 } else { u64::from(links.div_ceil(LINKS)) + 1 };
    let servers = match case.work {
        Work::Chain | Work::FanOut => 9 * of(1) + of(8),
        _ => 0,
    };
    let clients = u64::from(case.clients) * of(case.connections) + of(case.clients * case.connections);
    clients + 2 * of(case.links) + servers
}

fn directories(below: &Path) -> [PathBuf; 2] {
    ["host-a", "host-b"].map(|host| below.join(host))
}

fn agents(region: &Path, hosts: [u16; 2], directories: &[PathBuf; 2]) -> Result<Vec<AgentThread>> {
    let agent = |(host, directory): (u16, &PathBuf)| Ok(AgentThread::start(region, host, directory)?);
    hosts.into_iter().zip(directories).map(agent).collect()
}

/// A region that was there before, of which two hosts are used. Nothing of it is formatted.
#[derive(Clone, Debug, Serialize)]
#[serde(into = "PathBuf")]
pub struct Given {
    file: PathBuf,
    pod: String,
    running: Arc<Running>,
}

/// The agents of a given region, until this is dropped.
#[derive(Debug)]
struct Running {
    _agents: Vec<AgentThread>,
    directory: TempDir,
}

impl PartialEq for Given {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.running, &other.running)
    }
}

impl From<Given> for PathBuf {
    fn from(given: Given) -> Self {
        given.file
    }
}

impl Given {
    /// Starts the agents of these hosts of a region. Also returns how the region is kept coherent.
    ///
    /// # Errors
    /// When there is no region, or one of the hosts is at work.
    pub fn begin(file: &Path, hosts: [u16; 2]) -> Result<(Self, Coherence)> {
        let describe = |error| format!("{}: {error}", file.display());
        let region = Region::open(file).map_err(|error| describe(error.to_string()))?;
        let superblock = region.superblock();
        let coherence = superblock.coherence.into();
        let directory = tempfile::Builder::new().prefix("notnets-bench-").tempdir()?;
        let agents = agents(file, hosts, &directories(directory.path())).map_err(|error| {
            describe(format!("{error} (choose two hosts that are not at work with --hosts)"))
        })?;
        let running = Arc::new(Running { _agents: agents, directory });
        Ok((Self { file: file.to_owned(), pod: superblock.pod.clone(), running }, coherence))
    }

    fn directories(&self) -> [PathBuf; 2] {
        directories(self.running.directory.path())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_process_has_memory_for_its_links() {
        let case =
            |clients, connections, links, work| Case { clients, connections, links, work, ..Case::default() };
        assert_eq!(extents(&case(1, 1, 0, Work::Echo)), 2 + 2);
        assert_eq!(extents(&case(2, 8, 0, Work::Echo)), 2 * 3 + 4);
        assert_eq!(extents(&case(1, 1, 14, Work::Echo)), 4 + 2 * 3);
        assert!(extents(&case(1, 1, 0, Work::FanOut)) >= 4 + 9 * 2);
    }
}
