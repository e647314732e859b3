//! Calls between two hosts of a pod: processes that have a region in common and nothing else.
//!
//! Clients are on one host, the servers that they ask on the other ([`hosts`]). How far the region is from
//! either can be modelled: [`notnets_memory::far`] counts the lines that a process fetches because the other
//! host has changed them, and makes each take a time of the user's choice.

mod args;
pub mod factors;
mod hosts;
mod memory;

use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

pub use args::PodArgs;
pub use hosts::{Given, Hosts};
pub use memory::Memory;
pub use notnets_cli_common::coherence::Coherence;

use crate::Result;

/// The pod between whose hosts calls are made, and its distance from them.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Pod {
    /// How the region is kept coherent.
    pub coherence: Coherence,
    /// A model of its memory, beyond what this machine's takes.
    #[serde(flatten)]
    pub memory: Memory,
    /// A region that was there before. `None`: one in this machine's memory, made for the case.
    #[serde(rename = "region")]
    pub given: Option<Given>,
}

/// Where in a pod a process of a case is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Place {
    /// The pod's name.
    pub pod: String,
    /// Where the processes of its host find their agent.
    pub directory: PathBuf,
    /// A model of the pod's memory.
    pub memory: Memory,
    /// What the model's processes have in common.
    pub queues: PathBuf,
    /// Which of the pod's hosts it is.
    pub host: usize,
}

impl Place {
    /// Begins the model of far memory in this process: before it opens the region.
    ///
    /// # Errors
    /// When the hosts are gone.
    pub fn begin(&self) -> Result {
        self.memory.begin(&self.queues, self.host)
    }
}

impl fmt::Display for Pod {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let coherence = match self.coherence {
            Coherence::Hardware => "hw",
            Coherence::Software => "sw",
        };
        f.pad(&format!("{coherence}{}", self.memory))
    }
}
