//! The counters of a process, as JSON has them.

use std::collections::BTreeMap;
use std::time::Duration;

use notnets_core::clock::{self, Timestamp};
use notnets_core::stats::{Counts, LinkSnapshot, MethodSnapshot, OpenCall, Snapshot, Transport};
use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};

use super::findings::findings;
use super::processes::{Process, command};

/// A process.
#[derive(Debug, Serialize)]
pub struct Report {
    /// Its number.
    pub pid: u32,
    /// What it is called.
    pub command: String,
    /// Its user.
    pub uid: Option<u32>,
    /// It was stopped, by SIGSTOP or a debugger.
    pub stopped: bool,
    /// What is wrong or remarkable, in sentences.
    pub findings: Vec<String>,
    /// Bytes of shared memory that it has mapped, by kind.
    pub memory: BTreeMap<&'static str, u64>,
    /// Its servers.
    pub servers: Vec<End>,
    /// The links on which it is the client.
    pub clients: Option<End>,
}

/// What a server has counted, or all links on which a process is the client.
#[derive(Debug, Serialize)]
pub struct End {
    /// What is served; empty for clients.
    pub names: String,
    /// When it began to count, in seconds since 1970.
    pub since: u64,
    /// Links that are open.
    pub links_open: u64,
    /// Links there have been.
    pub links_total: u64,
    /// Links that are counted only in those two.
    pub links_unlisted: u64,
    /// Links that were closed because the peer broke the protocol.
    pub links_broken: u64,
    /// Connections that got no link, by reason.
    pub refused: BTreeMap<&'static str, u64>,
    /// What all its links have counted so far.
    pub counts: Sums,
    /// The methods, over all links so far.
    pub methods: Vec<Method>,
    /// Links that are open.
    pub links: Vec<Link>,
}

/// A link.
#[derive(Debug, Serialize)]
pub struct Link {
    /// Its number in its process.
    pub link: u64,
    /// When it was opened, in seconds since 1970.
    pub since: u64,
    /// The process at the other end, if it can be seen.
    pub peer_pid: Option<u32>,
    /// What that is called.
    pub peer_command: Option<String>,
    /// Its user.
    pub peer_uid: u32,
    /// `memory`, `http2`, or `pod` with the number of the peer's host.
    pub transport: String,
    /// What a client has dialled; a client's user agent.
    pub target: String,
    /// For how long it has slept, in seconds; `None` while it is driven.
    pub parked_seconds: Option<f64>,
    /// Blocks of this side that the peer had when the link slept last.
    pub blocks_out: u64,
    /// Bytes of those blocks.
    pub bytes_out: u64,
    /// Bytes of this side's further segments.
    pub segments_offered: u64,
    /// Bytes of the peer's further segments.
    pub segments_mapped: u64,
    /// The last failure of a call.
    pub last_failure: Option<String>,
    /// What it has counted.
    pub counts: Sums,
    /// Its methods.
    pub methods: Vec<Method>,
    /// Calls that are open, the oldest first.
    pub open: Vec<Open>,
}

/// What was counted, by the names of [`Count`](notnets_core::stats::Count) and of kinds of payloads.
#[derive(Debug)]
pub struct Sums(pub Counts);

/// Large payloads of one kind.
#[derive(Serialize)]
struct Tally {
    frames: u64,
    bytes: u64,
}

/// A method.
#[derive(Debug, Serialize)]
pub struct Method {
    /// Its path; empty for all that have no counters of their own.
    pub method: String,
    /// Calls that were begun.
    pub started: u64,
    /// Calls that are open.
    pub open: u64,
    /// Calls that have ended, by status.
    pub ended: BTreeMap<&'static str, u64>,
    /// How long they took.
    #[serde(flatten)]
    pub times: Option<Times>,
}

/// How long calls took, in microseconds.
#[derive(Clone, Copy, Debug, Serialize)]
#[allow(missing_docs, reason = "the names say it")]
pub struct Times {
    pub mean_us: f64,
    pub p50_us: f64,
    pub p90_us: f64,
    pub p99_us: f64,
    pub max_us: f64,
}

/// A call that is open.
#[derive(Debug, Serialize)]
pub struct Open {
    /// Its method.
    pub method: String,
    /// Its number on the link.
    pub stream: u64,
    /// How long ago it began, in seconds.
    pub age_seconds: f64,
    /// How long it has left, in seconds: negative when that has passed. `None` without a deadline.
    pub left_seconds: Option<f64>,
    /// `peer`, `application`, `room` or `credit`.
    pub waits_for: &'static str,
}

impl Report {
    /// What a look at a process says, also of calls that are open for `long`.
    pub fn new(process: &Process, long: Duration) -> Self {
        let ends = |serves: bool| process.counters.iter().filter(move |counters| counters.serves == serves);
        Self {
            pid: process.pid,
            command: process.command.clone(),
            uid: process.uid,
            stopped: process.is_stopped,
            findings: findings(process, long, &super::processes::look),
            memory: process.memory(),
            servers: ends(true).map(End::new).collect(),
            clients: ends(false).next().map(End::new),
        }
    }
}

impl End {
    fn new(counters: &Snapshot) -> Self {
        Self {
            names: counters.names.clone(),
            since: counters.since,
            links_open: counters.links_open,
            links_total: counters.links_total,
            links_unlisted: counters.unlisted,
            links_broken: counters.broken,
            refused: counters.refused.present().collect(),
            counts: Sums(counters.counts()),
            methods: counters.methods().values().map(Method::new).collect(),
            links: counters.links.iter().map(Link::new).collect(),
        }
    }
}

impl Link {
    fn new(link: &LinkSnapshot) -> Self {
        let now = clock::now();
        let mut open: Vec<_> = link.open.iter().map(|call| Open::new(call, now)).collect();
        open.sort_by(|a, b| b.age_seconds.total_cmp(&a.age_seconds));
        Self {
            link: link.number,
            since: link.since,
            peer_pid: link.peer_pid,
            peer_command: link.peer_pid.map(command).filter(|name| !name.is_empty()),
            peer_uid: link.peer_uid,
            transport: transport(link.transport),
            target: link.target.clone(),
            parked_seconds: link.parked.map(|parked| parked.as_secs_f64()),
            blocks_out: link.blocks_out,
            bytes_out: link.bytes_out,
            segments_offered: link.segments_offered,
            segments_mapped: link.segments_mapped,
            last_failure: Some(link.failure.clone()).filter(|failure| !failure.is_empty()),
            counts: Sums(link.counts.clone()),
            methods: link.methods.iter().map(Method::new).collect(),
            open,
        }
    }
}

/// The path of a method, or what stands for all that have no counters of their own.
pub fn method_name(path: &str) -> String {
    if path.is_empty() { "(others)".to_owned() } else { path.to_owned() }
}

/// A word for what carries a link.
pub fn transport(transport: Transport) -> String {
    match transport {
        Transport::Memory => "memory".to_owned(),
        Transport::Http2 => "http2".to_owned(),
        Transport::Pod { host } => format!("pod, host {host}"),
    }
}

impl Serialize for Sums {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self(counts) = self;
        let mut map = serializer.serialize_map(None)?;
        for (count, sum) in counts.all() {
            map.serialize_entry(count.name(), &sum)?;
        }
        map.serialize_entry("parked_seconds", &counts.parked_seconds)?;
        let payloads = counts.payloads.present();
        let payloads =
            payloads.map(|(kind, tally)| (kind.name(), Tally { frames: tally.frames, bytes: tally.bytes }));
        map.serialize_entry("payloads", &payloads.collect::<BTreeMap<_, _>>())?;
        map.end()
    }
}

impl Method {
    fn new(method: &MethodSnapshot) -> Self {
        Self {
            method: method.path.clone(),
            started: method.started,
            open: method.open(),
            ended: method.statuses().collect(),
            times: Times::new(method),
        }
    }
}

impl Times {
    /// `None` if no call has ended.
    pub fn new(method: &MethodSnapshot) -> Option<Self> {
        let at = |part| Some(method.times.quantile(part)? * 1e6);
        Some(Self {
            mean_us: method.seconds * 1e6 / method.times.count() as f64,
            p50_us: at(0.5)?,
            p90_us: at(0.9)?,
            p99_us: at(0.99)?,
            max_us: at(1.0)?,
        })
    }
}

impl Open {
    fn new(call: &OpenCall, now: Timestamp) -> Self {
        let left = |deadline: Timestamp| (deadline - now).as_secs_f64() - (now - deadline).as_secs_f64();
        Self {
            method: call.method.clone(),
            stream: call.stream,
            age_seconds: call.age.as_secs_f64(),
            left_seconds: call.deadline.map(left),
            waits_for: call.waits_for.name(),
        }
    }
}
