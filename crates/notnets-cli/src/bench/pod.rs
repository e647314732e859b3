//! Two hosts of a pod for a case: a region in a file, with an agent for each in a thread of the benchmark's
//! parent. Servers are on one host, clients on the other, and nothing but the file leads from one to the other.

use std::fmt;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::ValueEnum;
use notnets_memory::far;
use notnets_memory::region::file::RegionFile;
use notnets_memory::region::format::{Plan, format};
use rustix::fs::{FallocateFlags, fallocate};
use serde::{Deserialize, Serialize};

use super::Result;
use crate::agent_thread::AgentThread;

/// The region's file in a case's directory, and its size.
const REGION: &str = "region";
const BYTES: u64 = 64 << 20;

/// The host of the clients, and that of the servers.
pub const CLIENTS: u16 = 0;
pub const SERVERS: u16 = 1;

/// Who keeps the region coherent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Coherence {
    /// The hardware.
    Hardware,
    /// Write-back and invalidation.
    Software,
}

/// How far apart client and server are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pod {
    /// Who keeps the region coherent.
    pub coherence: Coherence,
    /// A model: what fetching a line that another host wrote takes, beyond what it takes here.
    pub line_ns: u64,
}

impl fmt::Display for Pod {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let coherence = match self.coherence {
            Coherence::Hardware => "hw",
            Coherence::Software => "sw",
        };
        match self.line_ns {
            0 => f.pad(coherence),
            line => f.pad(&format!("{coherence}+{line}")),
        }
    }
}

impl Pod {
    /// Begins the model in a process of the case, before anything else.
    pub fn begin(self) {
        far::begin(Duration::from_nanos(self.line_ns));
    }

    /// Where the processes of a host look for names.
    pub fn names(directory: &Path, host: u16) -> PathBuf {
        directory.join(format!("host-{host}"))
    }

    /// Makes the region, and begins the agents.
    ///
    /// # Errors
    /// When there is no room for it.
    pub fn open(self, directory: &Path) -> Result<Vec<AgentThread>> {
        let path = directory.join(REGION);
        let file = File::options().read(true).write(true).create_new(true).open(&path)?;
        fallocate(&file, FallocateFlags::empty(), 0, BYTES)?;
        let coherence = match self.coherence {
            Coherence::Hardware => notnets_memory::Coherence::Hardware,
            Coherence::Software => notnets_memory::Coherence::Software,
        };
        // A busy machine stops a process for a while now and then: that is no death.
        let plan = Plan { coherence, heartbeat_ms: 20, lease_ms: 10_000, ..Plan::new("bench", 2) };
        format(&RegionFile::open(&path)?, &plan)?;
        let agent = |host| Ok(AgentThread::start(&path, host, &Self::names(directory, host))?);
        [CLIENTS, SERVERS].into_iter().map(agent).collect()
    }
}
