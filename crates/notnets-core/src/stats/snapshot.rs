//! A look at the counters of a process.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use notnets_memory::{PAGE, PeerMemory, PeerSegment, ReadMemory, Ticks, WORD};

use super::histogram::Histogram;
use super::layout::{AREA, ENDED, HEAD, LINKS, MAGIC, SEGMENT, blocks, call, link, method, process};
use super::text::read_text;
use super::{Counts, WaitsFor};
use crate::call::{PayloadKind, Payloads, Tally};
use crate::clock::Timestamp;
use crate::code::Code;
use crate::link::admission::Rejection;

/// How often a look is repeated when counters of a link moved meanwhile to those of ended ones. One takes
/// some microseconds, and links do not end much faster than that.
const LOOKS: usize = 1000;

/// A look at the counters of a server, or of all links on which a process is the client.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Snapshot {
    /// The inode of the segment, which no other one has; 0 if the look was not [by the process](super::find).
    pub segment: u64,
    /// The process, as it numbers itself: in a namespace of its own perhaps.
    pub pid: u32,
    /// Of a server. Else of the process's client links.
    pub serves: bool,
    /// What is served, as far as there was room for it.
    pub names: String,
    /// When it began to count, in seconds since 1970.
    pub since: u64,
    /// Bytes of the segment that were ever used, at most.
    pub used_bytes: u64,
    /// Links that are open.
    pub links_open: u64,
    /// Links there have been.
    pub links_total: u64,
    /// Links that are not among [`links`](Self::links), and were not: there was no room for them.
    pub unlisted: u64,
    /// Links that were closed because the peer broke the protocol.
    pub broken: u64,
    /// Connections that got no link.
    pub refused: Refusals,
    /// What ended links have counted.
    pub ended: Counts,
    /// The methods of ended links.
    pub ended_methods: Vec<MethodSnapshot>,
    /// Links that are open.
    pub links: Vec<LinkSnapshot>,
}

/// Connections that got no link, by reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Refusals([u64; Rejection::REASONS.len()]);

/// A look at the counters of one link.
#[derive(Clone, Debug, PartialEq)]
pub struct LinkSnapshot {
    /// Its number in its process, from 1 on.
    pub number: u64,
    /// When it was opened, in seconds since 1970.
    pub since: u64,
    /// The process at the other end. `None` when it is in a pid namespace that its peer can't see.
    pub peer_pid: Option<u32>,
    /// Its user.
    pub peer_uid: u32,
    /// What carries the link.
    pub transport: Transport,
    /// The address that a client has dialled; a client's user agent.
    pub target: String,
    /// For how long it has slept; `None` while it is driven.
    pub parked: Option<Duration>,
    /// Blocks of this side that the peer had when the link slept last.
    pub blocks_out: u64,
    /// Bytes of those blocks.
    pub bytes_out: u64,
    /// Bytes of this side's further segments that the peer may have mapped.
    pub segments_offered: u64,
    /// Bytes of the peer's further segments that are mapped here.
    pub segments_mapped: u64,
    /// The last failure of a call; empty without one.
    pub failure: String,
    /// What it has counted.
    pub counts: Counts,
    /// Its methods.
    pub methods: Vec<MethodSnapshot>,
    /// Calls that are open: 64 at most.
    pub open: Vec<OpenCall>,
}

/// What carries a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// Memory that both processes, of one host, have mapped.
    Memory,
    /// Memory of a pod; the peer is on that host.
    Pod {
        /// The host's number.
        host: u16,
    },
    /// A connection of HTTP/2.
    Http2,
}

/// What was counted of a method.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct MethodSnapshot {
    /// Its path, `/package.Service/Method`. Empty for all methods that have no counters of their own: a link
    /// counts 22 by themselves, and keeps those that a server does not have apart only while it is open.
    pub path: String,
    /// Calls that were begun.
    pub started: u64,
    /// Calls that have ended, by the numbers of their statuses; the last is that of codes that gRPC does not
    /// have.
    pub by_status: [u64; method::STATUSES],
    /// How long ended calls took together, in seconds.
    pub seconds: f64,
    /// How long ended calls took. A client's begin when their requests are sent, a server's when it takes
    /// them; they end with the status that is sent or received, or without one.
    pub times: Histogram,
}

/// A call that is open.
#[derive(Clone, Debug, PartialEq)]
pub struct OpenCall {
    /// Its number on the link.
    pub stream: u64,
    /// The path of its method; empty if that has no counters of its own.
    pub method: String,
    /// How long ago it began.
    pub age: Duration,
    /// When it ends at the latest.
    pub deadline: Option<Timestamp>,
    /// What it waited for when the link slept last.
    pub waits_for: WaitsFor,
}

impl Refusals {
    /// The reasons of which there were any, by names for programs.
    pub fn present(&self) -> impl Iterator<Item = (&'static str, u64)> {
        Rejection::REASONS.into_iter().zip(self.0).filter(|(_, times)| *times > 0)
    }
}

impl MethodSnapshot {
    /// Calls that have ended.
    pub fn ended(&self) -> u64 {
        self.by_status.iter().fold(0, |all, calls| all.wrapping_add(*calls))
    }

    /// Calls that have ended with another status than OK.
    pub fn failed(&self) -> u64 {
        self.ended().saturating_sub(self.by_status[0])
    }

    /// Calls that are open.
    pub fn open(&self) -> u64 {
        self.started.saturating_sub(self.ended())
    }

    /// Calls that have ended with a status, by its name.
    pub fn statuses(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let named = self
            .by_status
            .iter()
            .zip(0..)
            .map(|(calls, code)| (Code(code).name().unwrap_or("OTHER"), *calls));
        named.filter(|(_, calls)| *calls > 0)
    }

    /// Adds the calls of another one, whatever its path.
    pub fn add(&mut self, other: &Self) {
        self.started = self.started.wrapping_add(other.started);
        for (calls, more) in self.by_status.iter_mut().zip(other.by_status) {
            *calls = calls.wrapping_add(more);
        }
        self.seconds += other.seconds;
        self.times.add(&other.times);
    }
}

impl Snapshot {
    /// Reads the counters behind a descriptor that a process gave. `None` if it holds none.
    pub fn read(descriptor: &OwnedFd) -> Option<Self> {
        let segment = PeerSegment::map_whole(descriptor.as_fd(), SEGMENT as u64).ok()?;
        let head = segment.part(0, PAGE)?;
        // Pairs with the store of the magic in `Stats::new`.
        if head.load_acquire(process::MAGIC) != MAGIC {
            return None;
        }
        let clock = Clock::new(&head);
        let mut snapshot = Self::try_read(&segment, &head, &clock)?;
        for _ in 1..LOOKS {
            let (is_whole, seen) = snapshot;
            if is_whole {
                return Some(seen);
            }
            snapshot = Self::try_read(&segment, &head, &clock)?;
        }
        // A process that ended in the middle leaves it so.
        Some(snapshot.1)
    }

    /// Also returns whether no counters were moved meanwhile.
    fn try_read(segment: &PeerSegment, head: &PeerMemory, clock: &Clock) -> Option<(bool, Self)> {
        // Pairs with the store of the even number in `Stats::give_back`.
        let moves = head.load_acquire(process::MOVES);
        let ended = segment.part(PAGE, ENDED)?;
        let areas = (HEAD..segment.bytes()).step_by(AREA);
        let areas = areas.map_while(|from| segment.part(from, AREA));
        let seen = Self {
            segment: 0,
            pid: head.load(process::PID) as u32,
            serves: head.load(process::SERVES) != 0,
            names: read_text(head, process::NAMES, process::NAMES_WORDS),
            since: head.load(process::SINCE),
            used_bytes: (HEAD + AREA * links_of(head).min(LINKS)) as u64,
            links_open: head.load(process::LINKS_OPEN),
            links_total: head.load(process::LINKS_TOTAL),
            unlisted: head.load(process::UNLISTED),
            broken: head.load(process::BROKEN),
            refused: Refusals(std::array::from_fn(|reason| head.load(process::REFUSED + reason))),
            ended: counts(&ended, clock),
            ended_methods: methods(&ended, ENDED, clock),
            links: areas.take(links_of(head)).filter_map(|area| LinkSnapshot::read(&area, clock)).collect(),
        };
        // Pairs with the fence in `Stats::give_back`: had anything of what followed it been seen above, so
        // would the odd number be here.
        head.fence();
        Some((moves.is_multiple_of(2) && head.load(process::MOVES) == moves, seen))
    }

    /// Calls that were begun.
    pub fn calls(&self) -> u64 {
        self.all_methods().fold(0, |calls, method| calls.wrapping_add(method.started))
    }

    /// What all links have counted, the open ones and those that have ended.
    pub fn counts(&self) -> Counts {
        let mut all = self.ended.clone();
        self.links.iter().for_each(|link| all.add(&link.counts));
        all
    }

    /// The methods over all links, by their paths.
    pub fn methods(&self) -> BTreeMap<&str, MethodSnapshot> {
        let mut by_path = BTreeMap::<&str, MethodSnapshot>::new();
        for method in self.all_methods() {
            let sum = by_path.entry(&method.path).or_default();
            sum.path.clone_from(&method.path);
            sum.add(method);
        }
        by_path
    }

    /// Open links that sleep until a doorbell wakes them.
    pub fn links_parked(&self) -> u64 {
        self.links.iter().filter(|link| link.parked.is_some()).count() as u64
    }

    /// Bytes of further segments, over all open links: those that peers may have mapped, and those of theirs
    /// that are mapped here.
    pub fn segment_bytes(&self) -> (u64, u64) {
        let sum = |bytes: fn(&LinkSnapshot) -> u64| self.links.iter().map(bytes).fold(0, u64::wrapping_add);
        (sum(|link| link.segments_offered), sum(|link| link.segments_mapped))
    }

    fn all_methods(&self) -> impl Iterator<Item = &MethodSnapshot> {
        self.ended_methods.iter().chain(self.links.iter().flat_map(|link| &link.methods))
    }
}

/// No area beyond those that the process has ever needed has to be looked at: that would make memory of it.
fn links_of(head: &PeerMemory) -> usize {
    usize::try_from(head.load(process::AREAS)).unwrap_or(usize::MAX)
}

impl LinkSnapshot {
    /// `None` if the area is no link's.
    fn read(area: &PeerMemory, clock: &Clock) -> Option<Self> {
        // Pairs with the store in `LinkCounters::new`.
        let number = area.load_acquire(link::NUMBER);
        if number == 0 {
            return None;
        }
        let methods = methods(area, AREA, clock);
        let calls = (0..link::CALLS_LISTED).map(|place| link::CALLS + place * call::WORDS);
        let open = calls.filter_map(|at| open_call(area, at, clock)).collect();
        let parked_since = area.load(link::PARKED_SINCE);
        Some(Self {
            number,
            since: area.load(link::SINCE),
            peer_pid: u32::try_from(area.load(link::PEER_PID)).ok(),
            peer_uid: area.load(link::PEER_UID) as u32,
            transport: match area.load(link::TRANSPORT) {
                0 => Transport::Memory,
                host @ 16.. => Transport::Pod { host: (host - 16) as u16 },
                _ => Transport::Http2,
            },
            target: read_text(area, link::TARGET, link::TARGET_WORDS),
            parked: (parked_since > 0).then(|| clock.since(parked_since)),
            blocks_out: area.load(link::BLOCKS_OUT),
            bytes_out: area.load(link::BYTES_OUT),
            segments_offered: area.load(link::SEGMENTS_OFFERED),
            segments_mapped: area.load(link::SEGMENTS_MAPPED),
            failure: read_text(area, link::FAILURE, link::FAILURE_WORDS),
            counts: counts(area, clock),
            methods,
            open,
        })
    }
}

fn open_call(area: &PeerMemory, at: usize, clock: &Clock) -> Option<OpenCall> {
    let stream = area.load(at + call::STREAM);
    if stream == 0 {
        return None;
    }
    let word = area.load(at + call::METHOD);
    let method = usize::from(word as u16).min(AREA / WORD - method::WORDS);
    let deadline = area.load(at + call::DEADLINE);
    Some(OpenCall {
        stream,
        method: read_text(area, method, method::PATH_WORDS),
        age: clock.since(area.load(at + call::SINCE)),
        deadline: (deadline > 0).then(|| Timestamp::from_nanos(deadline)),
        waits_for: WaitsFor::of_number((word >> 16) as u8),
    })
}

fn counts(area: &PeerMemory, clock: &Clock) -> Counts {
    let mut counts = Counts::of_each(|count| area.load(link::COUNTS + count as usize));
    counts.parked_seconds = clock.seconds(area.load(link::PARKED_TICKS));
    counts.payloads = Payloads::of_kinds(|kind: PayloadKind| {
        let at = link::PAYLOADS + 2 * kind as usize;
        Tally { frames: area.load(at), bytes: area.load(at + 1) }
    });
    counts
}

/// The methods of which there were any calls.
fn methods(area: &PeerMemory, bytes: usize, clock: &Clock) -> Vec<MethodSnapshot> {
    blocks(area, bytes)
        .filter(|at| area.load(at + method::STARTED) > 0)
        .map(|at| MethodSnapshot {
            path: read_text(area, at + method::PATH, method::PATH_WORDS),
            started: area.load(at + method::STARTED),
            by_status: std::array::from_fn(|status| area.load(at + method::STATUS + status)),
            seconds: clock.seconds(area.load(at + method::TICKS)),
            times: Histogram {
                counts: std::array::from_fn(|bucket| area.load(at + method::TIMES + bucket)),
                unit: clock.unit,
            },
        })
        .collect()
}

/// What ticks are.
struct Clock {
    now: u64,
    per_second: f64,
    /// Seconds of the finest buckets.
    unit: f64,
}

impl Clock {
    fn new(head: &PeerMemory) -> Self {
        let clock = Ticks::of_host();
        let per_second = clock.per_second();
        let fine_bits = head.load(process::FINE_BITS).min(32);
        Self { now: clock.now(), per_second, unit: (1_u64 << fine_bits) as f64 / per_second }
    }

    fn seconds(&self, ticks: u64) -> f64 {
        ticks as f64 / self.per_second
    }

    fn since(&self, ticks: u64) -> Duration {
        Duration::try_from_secs_f64(self.seconds(self.now.saturating_sub(ticks))).unwrap_or_default()
    }
}
