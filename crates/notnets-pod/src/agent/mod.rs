//! The agent of a host as a state machine: time and packets in, packets out.
//!
//! An [`Agent`] keeps its host's control area and reads those of others. [`tick`](Agent::tick) must be
//! called often; packets from local processes go into [`handle`](Agent::handle), and packets for them
//! come out of [`poll`](Agent::poll).
//!
//! | file | what |
//! | --- | --- |
//! | `mod.rs` | the host itself: claiming a number, heartbeats, coming back |
//! | `peers.rs` | other hosts: which are up, which are dead, mail |
//! | `own.rs` | the host's own tables: its record, its names, its extents |
//! | `processes.rs` | local processes: joining, ending, and their packets |
//! | `names.rs` | which processes serve a name |
//! | `claims.rs` | which extents are read by processes of which host |
//! | `event.rs` | what was decided, for a log |
//!
//! **Everything that another agent could need after a restart of this one is in the control area before it
//! is acted upon.** The rest (which processes have links with which) the processes send again.

mod claims;
mod event;
mod names;
mod own;
mod peers;
mod processes;

use std::collections::VecDeque;

use notnets_memory::region::layout::Layout;
use notnets_memory::region::superblock::{Superblock, Uuid};
use notnets_memory::{ReadMemory, WriteMemory};

use super::packet::ToProcess;
use super::table::{Control, HostIncarnation, HostRecord, HostState};
use claims::Claims;
use event::MAX_EVENTS;
use own::OwnHost;
use peers::{Peer, Peers};
pub(crate) use processes::JUST_BEGUN;
use processes::Process;

pub use event::{AgentEvent, HostEnd, Lapse};
pub use processes::Identity;

/// How many heartbeats an unused number is claimed for.
const CLAIM_HEARTBEATS: u64 = 3;

/// An agent of one host.
#[derive(Debug)]
pub struct Agent<W, R> {
    uuid: Uuid,
    /// Nanoseconds between two heartbeats, and without one.
    heartbeat: u64,
    lease: u64,
    own: OwnHost<W>,
    phase: Phase,
    peers: Peers<R>,
    processes: Vec<Process>,
    claims: Claims,
    /// Packets for local processes.
    outbox: VecDeque<(u16, ToProcess)>,
    events: VecDeque<AgentEvent>,
    /// The wake latency that processes are given, in microseconds.
    wake_us: u32,
}

/// The configuration of an agent.
#[derive(Clone, Copy, Debug)]
pub struct Start {
    /// The time, in nanoseconds since the host booted.
    pub now: u64,
    /// Tells this boot of the host from others.
    pub boot: u32,
    /// A random number, for a new incarnation of the host.
    pub incarnation: HostIncarnation,
}

/// How far the agent is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// It looks until then whether the host's number is its alone.
    Claiming {
        /// In nanoseconds since the host booted.
        until: u64,
    },
    /// It does its work.
    Running,
}

/// Why an agent can't go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AgentError {
    /// Another host has the same number.
    #[error("another host writes the partition of host {0}: each host needs a number of its own")]
    Duplicate(u16),
    /// Others have declared this incarnation of the host dead, or soon will. It has to begin a new one.
    #[error("{0}: it begins a new incarnation")]
    Lapsed(Lapse),
}

impl<W: WriteMemory, R: ReadMemory> Agent<W, R> {
    /// The agent of a host, with the control areas of all hosts (at its own place nothing). If the last
    /// one stopped just now it goes on where that was; else it begins a new incarnation.
    ///
    /// `is_alive` returns whether a process of this boot still runs. The caller has seen to it that no other
    /// agent of this boot has the host.
    pub fn start(
        superblock: &Superblock,
        layout: Layout,
        host: u16,
        own: W,
        peers: Vec<Option<R>>,
        start: Start,
        is_alive: impl Fn(&super::table::ProcessEntry) -> bool,
    ) -> Self {
        let uuid = superblock.uuid;
        let own = Control::of_own(own, layout, uuid, host);
        let lease = u64::from(superblock.lease_ms) * 1_000_000;
        let heartbeat = u64::from(superblock.heartbeat_ms) * 1_000_000;
        let before = own.host().unwrap_or_default();
        let resumes = before.state == HostState::Running
            && before.boot == start.boot
            && start.now.saturating_sub(before.beat_at) < lease;
        let (record, phase) = if resumes {
            // The one before may have been of an earlier version.
            (HostRecord { claims: true, watches: true, has_bell: true, ..before }, Phase::Running)
        } else {
            // A host that is there overwrites the claim with its next heartbeat. One that may only be asleep
            // is waited for; an agent of this boot has ended.
            let nobody = before.state == HostState::Left || before.boot == start.boot;
            let wait = if nobody { heartbeat * CLAIM_HEARTBEATS } else { lease };
            (claim(before, start), Phase::Claiming { until: start.now.saturating_add(wait) })
        };
        let with = |(peer, memory): (usize, Option<R>)| {
            let control = Control::of_peer(memory?, layout, uuid, peer as u16);
            let published = own.peer(peer as u16).unwrap_or_default();
            Some(Peer::new(control, published, start.now))
        };
        let peers = Peers::new(peers.into_iter().enumerate().map(with));
        let own = OwnHost::new(host, peers.hosts(), own, record);
        let mut agent = Self {
            uuid,
            heartbeat,
            lease,
            own,
            phase,
            peers,
            processes: Vec::new(),
            claims: Claims::default(),
            outbox: VecDeque::new(),
            events: VecDeque::new(),
            wake_us: super::WAKE_LATENCY.as_micros() as u32,
        };
        let same_boot = before.boot == start.boot;
        agent.recover(resumes, |entry| same_boot && is_alive(entry));
        notnets_core::failpoint!("agent claimed");
        if resumes {
            agent.report(AgentEvent::Running { incarnation: record.incarnation, resumed: true });
        }
        agent
    }

    /// How far it is.
    pub fn phase(&self) -> Phase {
        self.phase
    }

    /// The host's present incarnation.
    pub fn incarnation(&self) -> HostIncarnation {
        self.own.record().incarnation
    }

    /// Returns the hosts that are up.
    pub fn hosts_up(&self) -> Vec<u16> {
        (0..self.peers.hosts()).filter(|host| self.peers.get(*host).is_some_and(Peer::is_up)).collect()
    }

    /// Performs what is due at `now`, in nanoseconds since the host booted.
    ///
    /// # Errors
    /// When it can't go on.
    pub fn tick(&mut self, now: u64) -> Result<(), AgentError> {
        if let Phase::Claiming { until } = self.phase {
            // The line is another host's as soon as that has written it.
            if self.own.seen_by_others().is_some() {
                return Err(AgentError::Duplicate(self.own.number));
            }
            if now < until {
                return Ok(());
            }
            self.phase = Phase::Running;
            self.own.set_state(HostState::Running);
            self.own.beat(now);
            self.report(AgentEvent::Running { incarnation: self.incarnation(), resumed: false });
        }
        let since_beat = now.saturating_sub(self.own.record().beat_at);
        if since_beat >= self.lease {
            return Err(AgentError::Lapsed(Lapse::Late(since_beat)));
        }
        let beats = since_beat >= self.heartbeat;
        if beats {
            // A host that only claims our number finds our next heartbeat there.
            if self.own.seen_by_others().is_some_and(|other| other.state == HostState::Running) {
                return Err(AgentError::Duplicate(self.own.number));
            }
            self.own.beat(now);
        }
        for host in 0..self.peers.hosts() {
            self.poll_peer(host, now, beats)?;
        }
        if beats {
            self.free_unclaimed();
        }
        Ok(())
    }

    /// Leaves in order: others need not wait for the lease.
    pub fn leave(&mut self) {
        self.own.set_state(HostState::Left);
        self.own.publish();
    }

    /// Stops for a moment: a successor has all of the lease from `now` on to go on in its place.
    pub fn pause(&mut self, now: u64) {
        if self.phase == Phase::Running {
            self.own.beat(now);
        }
    }

    /// Tells processes that join from now on how long a message may wait for them, in microseconds.
    pub fn set_wake_latency(&mut self, micros: u32) {
        self.wake_us = micros;
    }

    /// Takes the next event for the log.
    pub fn poll_event(&mut self) -> Option<AgentEvent> {
        self.events.pop_front()
    }

    fn report(&mut self, event: AgentEvent) {
        if self.events.len() < MAX_EVENTS {
            self.events.push_back(event);
        }
    }

    /// Takes the next packet for a local process.
    pub fn poll(&mut self) -> Option<(u16, ToProcess)> {
        self.outbox.pop_front()
    }
}

/// The record with which a host claims its number for a new incarnation.
fn claim(before: HostRecord, start: Start) -> HostRecord {
    HostRecord {
        incarnation: start.incarnation,
        beat: before.beat + 1,
        process_epoch: before.process_epoch + 1,
        service_epoch: before.service_epoch + 1,
        beat_at: start.now,
        state: HostState::Claiming,
        claims: true,
        watches: true,
        has_bell: true,
        boot: start.boot,
    }
}
