//! A case is one thing to measure: calls of one kind and size, over one transport.

use std::fmt;

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use super::iceoryx2;
use super::pod::Pod;
use super::sizes::Size;

/// The transport.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Transport {
    /// No RPC at all: what the machine can do.
    Floor,
    /// No transport: calls are answered where they are made, which shows the cost of the generator.
    Null,
    /// iceoryx2's request-response, both sides polling: messages in shared memory that are no RPCs.
    Iceoryx2,
    /// The same, each side asleep until an event.
    #[serde(rename = "iceoryx2-event")]
    Iceoryx2Event,
    /// tonic's HTTP/2 over TCP on the loopback interface.
    Tcp,
    /// tonic's HTTP/2 over a Unix socket.
    Uds,
    /// tonic's HTTP/2 over byte streams of NotNets.
    Streams,
    /// NotNets.
    #[value(name = "notnets")]
    NotNets,
}

/// The level at which the caller sits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Api {
    /// Memory, sockets and descriptors themselves, or messages of bytes.
    Raw,
    /// NotNets' blocking API, for callers that own a core.
    Core,
    /// Stubs whose calls go by HTTP, as those do that tonic generates.
    Tonic,
    /// Stubs that `notnets-build` generates, whose calls go without HTTP.
    Stubs,
}

/// The kind of call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Work {
    /// A unary call that gives back what it was given.
    Echo,
    /// A unary call with a reply of 8 bytes, or of the profile's size.
    Ask,
    /// A stream of 32 messages to the server, and its count of them.
    Upload,
    /// A stream of 32 messages from the server.
    Download,
    /// One message over and back on a stream that stays open.
    Chat,
    /// An echo through three servers in a row.
    Chain,
    /// An echo through a server that asks eight others at once.
    FanOut,
    /// Calls at once, whose handlers compute: the time until the last of them has ended.
    Burn,
    /// An echo while a handler of another method blocks in tokio's `block_in_place`.
    Blocked,
    /// An echo while a handler of another method blocks its worker.
    BlockedWorker,
    /// A new connection and the first call on it.
    Connect,
    /// From dropping a call to the end of its handler.
    Cancel,
    /// Floor: a cache line over and back between two spinning processes.
    Line,
    /// Floor: a 64-byte descriptor over and back through NotNets' rings.
    Ring,
    /// Floor: a byte over and back on a Unix socket, each side parked in the kernel meanwhile.
    Socket,
    /// Floor: a wake-up over and back by two eventfds.
    Eventfd,
}

/// How NotNets waits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Wait {
    /// `Wait::Spin`
    Spin,
    /// `Wait::Adaptive`
    #[default]
    Adaptive,
    /// `Wait::Park`
    Park,
}

/// One thing to measure.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Case {
    /// The transport.
    pub transport: Transport,
    /// The kind of call.
    pub work: Work,
    /// How large requests and replies are.
    #[serde(rename = "payload")]
    pub size: Size,
    /// The level at which the caller sits.
    pub api: Api,
    /// The pod whose hosts they are on. `None`: all is within one host.
    pub pod: Option<Pod>,
    /// How NotNets waits; the others have no choice.
    pub wait: Option<Wait>,
    /// Calls open at once in each client.
    pub outstanding: u32,
    /// The processor time that a handler of `burn` takes, in milliseconds.
    pub burn_ms: Option<f64>,
    /// Client processes.
    pub clients: u32,
    /// Servers that have one name, to which clients connect by that. 0: one server that has a name alone, to
    /// whose address clients connect.
    pub replicas: u32,
    /// Additional idle connections, held by one more process.
    pub links: u32,
    /// Busy processes beside those of the case.
    pub neighbours: u32,
    /// The number of cores that all servers and clients together may keep busy on average. `None`: all there
    /// are.
    pub quota: Option<f64>,
    /// Connections of each client.
    pub connections: u32,
    /// Workers of the runtime of each process; 0 for the current-thread runtime.
    pub workers: usize,
    /// Whether servers and clients are kept on cores of their own.
    pub pinned: bool,
    /// Whether payloads are made once in memory that is shared with servers, and only referred to.
    pub shared: bool,
    /// Whether servers trust clients not to change what they lend, and read it where it is.
    pub trusted: bool,
    /// Whether the last server reads each byte of a payload.
    pub read: bool,
    /// Calls per second to begin, whatever comes back (open loop). `None`: each ends before the next.
    pub rate: Option<f64>,
}

impl Default for Case {
    /// The base case: 64 bytes, one call at a time.
    fn default() -> Self {
        Self {
            transport: Transport::NotNets,
            work: Work::Echo,
            size: Size::Bytes(64),
            api: Api::Tonic,
            pod: None,
            wait: Some(Wait::Adaptive),
            outstanding: 1,
            burn_ms: None,
            clients: 1,
            replicas: 0,
            links: 0,
            neighbours: 0,
            quota: None,
            connections: 1,
            workers: 0,
            pinned: false,
            shared: false,
            trusted: false,
            read: false,
            rate: None,
        }
    }
}

impl Case {
    /// Creates the case of a floor, between two cores.
    pub fn floor(work: Work) -> Self {
        let size = Size::Bytes(match work {
            Work::Ring => 56,
            Work::Socket => 1,
            _ => 8,
        });
        Self {
            transport: Transport::Floor,
            api: Api::Raw,
            wait: None,
            work,
            size,
            pinned: true,
            ..Self::default()
        }
    }

    /// Creates the case of the blocking API: 32 bytes over and back, both sides spinning on cores of their
    /// own.
    pub fn core() -> Self {
        let api = Api::Core;
        let wait = Some(Wait::Spin);
        let size = Size::Bytes(32);
        Self { api, wait, size, pinned: true, ..Self::default() }
    }

    /// Creates the case of iceoryx2, which has messages but neither calls nor connections.
    pub fn iceoryx2(&self, transport: Transport) -> Self {
        Self { api: Api::Raw, ..self.over(transport) }
    }

    /// Returns what carries its calls, in a word or two.
    pub fn way(&self) -> String {
        match (self.api, &self.pod) {
            (Api::Core | Api::Stubs, Some(pod)) => format!("{} {pod}", self.api),
            (Api::Core | Api::Stubs, None) => self.api.to_string(),
            (_, Some(pod)) => pod.to_string(),
            _ => self.transport.to_string(),
        }
    }

    /// Returns this case over another transport.
    pub fn over(&self, transport: Transport) -> Self {
        let wait = if transport == Transport::NotNets { Some(self.wait.unwrap_or_default()) } else { None };
        let pod = self.pod.clone().filter(|_| transport == Transport::NotNets);
        Self { transport, wait, pod, ..self.clone() }
    }

    /// Checks that its parts go together.
    ///
    /// # Errors
    /// When they don't, with the reason.
    pub fn check(&self) -> Result<(), String> {
        let floor = matches!(self.work, Work::Line | Work::Ring | Work::Socket | Work::Eventfd);
        let blocked = matches!(self.work, Work::Blocked | Work::BlockedWorker);
        let unary = blocked || matches!(self.work, Work::Echo | Work::Ask | Work::Chain | Work::FanOut);
        let wrong = |why: &str| Err(why.to_owned());
        match self.transport {
            Transport::Floor if !floor => wrong("the floor is measured by line, ring, socket or eventfd"),
            Transport::Null if self.rate.is_none() => {
                wrong("without a transport only --rate can be measured")
            }
            _ if floor && self.transport != Transport::Floor => {
                wrong("line, ring, socket and eventfd are measured on --transport floor")
            }
            _ if self.rate.is_some_and(|rate| !(rate > 0.0 && rate < 1e9)) => {
                wrong("--rate has to be above 0")
            }
            _ if self.rate.is_some() && !unary => {
                wrong("--rate is for echo, ask, chain, fan-out, blocked and blocked-worker")
            }
            _ if blocked && self.workers == 0 => {
                wrong("blocked and blocked-worker need a runtime with --workers")
            }
            _ if self.replicas > 0 && !self.can_have_replicas() => wrong(
                "--replicas is for tonic's and our stubs over NotNets on one host, and not for chain and fan-out",
            ),
            _ if self.pod.is_some() && self.transport != Transport::NotNets => {
                wrong("only --transport notnets leads through a pod")
            }
            Transport::NotNets if self.api == Api::Core => self.check_core(),
            Transport::Iceoryx2 | Transport::Iceoryx2Event => self.check_iceoryx2(),
            _ if self.api == Api::Stubs && self.transport != Transport::NotNets => {
                wrong("over other transports all stubs are tonic's: --transport notnets")
            }
            _ if self.api == Api::Core => wrong("the blocking API is NotNets' own: --transport notnets"),
            _ => Ok(()),
        }
    }

    fn can_have_replicas(&self) -> bool {
        let is_stubs = matches!(self.api, Api::Tonic | Api::Stubs);
        let is_one_hop = !matches!(self.work, Work::Chain | Work::FanOut);
        self.transport == Transport::NotNets && is_stubs && is_one_hop && self.pod.is_none()
    }

    fn check_iceoryx2(&self) -> Result<(), String> {
        if !iceoryx2::BUILT {
            return Err(
                "built without the feature iceoryx2: cargo build --release --features iceoryx2".into()
            );
        }
        if self.api != Api::Raw || !matches!(self.work, Work::Echo | Work::Ask) {
            return Err("iceoryx2 is measured by echo or ask".to_owned());
        }
        if self.rate.is_some() || self.links > 0 || self.connections != 1 || self.workers > 0 {
            return Err("over iceoryx2 a client has one thread, and no --rate or --links".to_owned());
        }
        if self.outstanding > iceoryx2::MAX_OPEN || self.clients > iceoryx2::MAX_CLIENTS {
            return Err(format!(
                "over iceoryx2 at most {} clients with {} calls open",
                iceoryx2::MAX_CLIENTS,
                iceoryx2::MAX_OPEN
            ));
        }
        Ok(())
    }

    fn check_core(&self) -> Result<(), String> {
        if !matches!(self.work, Work::Echo | Work::Ask) {
            return Err("the blocking API is measured by echo or ask".to_owned());
        }
        if self.outstanding != 1 || self.connections != 1 || self.rate.is_some() {
            return Err(
                "a client of the blocking API has one connection and makes one call at a time".to_owned()
            );
        }
        Ok(())
    }
}

/// The name of a value as it stands in arguments and JSON.
fn name<T: ValueEnum>(value: &T) -> String {
    value.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
}

macro_rules! display_as_argument {
    ($($type:ty),*) => {$(
        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&name(self))
            }
        }
    )*};
}
display_as_argument!(Transport, Api, Work, Wait);

impl From<Wait> for notnets_core::Wait {
    fn from(wait: Wait) -> Self {
        match wait {
            Wait::Spin => Self::Spin,
            Wait::Adaptive => Self::Adaptive,
            Wait::Park => Self::Park,
        }
    }
}
