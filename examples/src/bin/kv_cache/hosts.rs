//! A pod on one machine: a region in memory, and for each host a directory of its own and an agent.

use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

use notnets_cli_common::agent_thread::AgentThread;
use notnets_examples::Result;
use notnets_memory::Coherence;
use notnets_memory::region::file::RegionFile;
use notnets_memory::region::format::{Plan, format};
use rustix::fs::{FallocateFlags, MemfdFlags, fallocate, memfd_create};
use tempfile::TempDir;

/// The store's name, in the pod of this name.
pub const ADDRESS: &str = "notnets://kv/cache";
const POD: &str = "kv";
/// What is put together has to fit into an extent. Extents that are much larger are free again later, for all
/// that lies in one has to go.
const EXTENTS: std::ops::RangeInclusive<u64> = 2 << 20..=32 << 20;

/// Hosts that run until this is dropped.
pub struct Hosts {
    _agents: Vec<AgentThread>,
    directory: TempDir,
}

impl Hosts {
    /// Some hosts whose processes can each keep blocks of so many bytes.
    pub fn new(count: u16, coherence: Coherence, bytes: u64) -> Result<Self> {
        let memory = memfd_create("kv-cache-region", MemfdFlags::CLOEXEC)?;
        let extent = (bytes / 16).next_power_of_two().clamp(*EXTENTS.start(), *EXTENTS.end());
        // A quarter of the extents is kept for links.
        let extents = (bytes / extent + 4) * 4 / 3;
        let partition = (extents + 1) * extent;
        fallocate(&memory, FallocateFlags::empty(), 0, u64::from(count) * partition + extent)?;
        let region = PathBuf::from(format!("/proc/self/fd/{}", memory.as_raw_fd()));
        let plan = Plan {
            coherence,
            extent_bytes: Some(extent),
            heartbeat_ms: 20,
            // A busy machine stops a process for a while now and then: that does not mean it has died.
            lease_ms: 10_000,
            ..Plan::new(POD, u32::from(count))
        };
        format(&RegionFile::open(&region)?, &plan)?;
        let directory = tempfile::tempdir()?;
        let agent = |host| AgentThread::start(&region, host, &host_directory(directory.path(), host));
        let agents = (0..count).map(agent).collect::<Result<_, _>>()?;
        Ok(Self { _agents: agents, directory })
    }

    /// Where processes of a host find its agent.
    pub fn directory(&self, host: u16) -> PathBuf {
        host_directory(self.directory.path(), host)
    }
}

fn host_directory(below: &Path, host: u16) -> PathBuf {
    below.join(host.to_string())
}
