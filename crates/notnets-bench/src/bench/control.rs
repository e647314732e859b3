//! The protocol between the benchmark's processes: orders ([`crate::orders`]) and what
//! they answer.

use std::path::{Path, PathBuf};

use notnets_memory::far_memory_model;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc::UnboundedReceiver;

use super::case::{Api, Transport, Wait, Work};
use super::pod::Place;
use super::recorder::Sample;
use super::sizes::Size;
use crate::orders::{self, answer};
use crate::{Result, usage};

/// A request to a process.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ask {
    /// Makes it a server. Asked first and once.
    Serve(Serve),
    /// Makes it a client. Asked first and once.
    Connect(Connect),
    /// Makes it keep a CPU quota. Asked first and once.
    Limit(Limit),
    /// Makes a client make calls.
    Load(Load),
    /// Makes a client hold this many more connections, on each of which it has made one call.
    Links(u32),
    /// Asks for its processor time.
    Cpu,
    /// Asks for the number of lines it has fetched from the other host.
    Lines,
}

/// Its answer.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// It serves at this address, or is connected there; keeps a quota for the group of this directory; or is
    /// busy.
    Ready(String),
    /// The outcome of calls.
    Loaded(Sample),
    /// Nanoseconds of processor time, over all its threads, also ended ones.
    Cpu(u64),
    /// Lines that the other host had changed.
    Lines(u64),
    /// The reason why it could not.
    Failed(String),
}

/// The settings that servers and clients have in common.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Setup {
    /// The transport.
    pub transport: Transport,
    /// At which level.
    pub api: Api,
    /// Where in a pod the process is, unless all is within one host.
    #[serde(default)]
    pub place: Option<Place>,
    /// How NotNets waits.
    pub wait: Wait,
    /// Workers of the runtime; 0 for the current-thread runtime.
    pub workers: usize,
    /// The core to stay on.
    pub core: Option<usize>,
    /// The directory for sockets.
    pub directory: PathBuf,
    /// Whether servers read payloads where clients have put them.
    #[serde(default)]
    pub trusted: bool,
    /// Whether servers share a name, and clients connect by it.
    #[serde(default)]
    pub by_name: bool,
}

impl Setup {
    /// Prepares this process: before it connects or serves.
    ///
    /// # Errors
    /// When it can't stay on its core.
    pub fn apply(&self) -> Result {
        usage::allow_descriptors();
        if let Some(core) = self.core {
            usage::stay_on(core)?;
        }
        if let Some(place) = &self.place {
            place.begin()?;
        }
        Ok(())
    }

    /// Returns the directory in which names are served and found.
    pub fn names(&self) -> &Path {
        self.place.as_ref().map_or(&self.directory, |place| &place.directory)
    }
}

/// How to serve.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Serve {
    /// The settings in common with clients.
    #[serde(flatten)]
    pub setup: Setup,
    /// The kind of calls to expect: each kind of floor has a server of its own.
    pub work: Work,
    /// The server's own name.
    pub name: String,
    /// Servers that are asked before an echo is answered.
    #[serde(default)]
    pub upstream: Vec<String>,
    /// Answer wrongly now and then, to see that it is noticed.
    #[serde(default)]
    pub spoil: bool,
}

impl Serve {
    /// Returns the address at which clients call it through shared memory.
    pub fn address(&self) -> String {
        let pod = self.setup.place.as_ref().map_or("", |place| &place.pod);
        format!("notnets://{pod}/{}", self.name)
    }
}

/// How to be a client.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Connect {
    /// The settings in common with servers.
    #[serde(flatten)]
    pub setup: Setup,
    /// The address that the server has announced.
    pub address: String,
    /// The number of connections to make calls on.
    pub connections: u32,
}

/// A CPU quota to keep.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Limit {
    /// The name of its group.
    pub name: String,
    /// The number of cores.
    pub cores: f64,
}

/// Calls to make.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Load {
    /// The kind of call.
    pub work: Work,
    /// How large it is.
    pub size: Size,
    /// Calls open at once.
    pub outstanding: u32,
    /// The processor time that handlers of `burn` take, in nanoseconds.
    #[serde(default)]
    pub burn_ns: u64,
    /// Whether payloads are shared, and whether servers read them.
    #[serde(default)]
    pub shared: bool,
    #[serde(default)]
    pub read: bool,
    /// Calls per second to begin, whatever comes back.
    pub rate: Option<f64>,
    /// When to begin, on the host's monotonic clock in nanoseconds: all clients at the same time.
    pub start: u64,
    /// The duration.
    pub seconds: f64,
    /// The seed of sizes and times.
    pub seed: u64,
}

/// Starts to read what the process is asked. Answers what needs no turn of the process itself, and passes
/// other orders on.
pub fn listen(directory: PathBuf) -> UnboundedReceiver<Ask> {
    orders::listen(directory, |ask| {
        match ask {
            Ask::Cpu => answer(&Answer::Cpu(usage::cpu_time())),
            Ask::Lines => answer(&Answer::Lines(far_memory_model::lines_fetched())),
            order => return Some(order),
        }
        None
    })
}
