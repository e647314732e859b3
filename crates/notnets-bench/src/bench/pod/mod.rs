//! Calls between two hosts of a pod: processes that have a region in common and nothing else.
//!
//! Clients are on one host, the servers that they ask on the other ([`hosts`]). How far the region is from
//! either can be modelled: [`notnets_memory::far`] counts the lines that a process fetches because the other
//! host has changed them, and makes each take a time of the user's choice.

mod args;
pub mod factors;
mod hosts;

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use notnets_memory::far_memory_model;
use serde::{Deserialize, Serialize};

pub use args::PodArgs;
pub use hosts::{Given, Hosts};
pub use notnets_cli_common::coherence::Coherence;

/// The pod between whose hosts calls are made, and its distance from them.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Pod {
    /// How the region is kept coherent.
    pub coherence: Coherence,
    /// A model: what fetching a line that the other host wrote takes, beyond what it takes here.
    pub line_ns: u64,
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
    /// The time that fetching a line takes.
    pub line_ns: u64,
}

impl Place {
    /// Begins the model of far memory in this process: before it opens the region.
    pub fn begin(&self) {
        far_memory_model::begin(Duration::from_nanos(self.line_ns));
    }
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
