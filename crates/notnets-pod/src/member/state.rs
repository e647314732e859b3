//! The state that a member's callers and its watcher share.

use std::collections::{HashMap, HashSet, VecDeque};
use std::os::fd::OwnedFd;
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use notnets_memory::PeerMemory;
use notnets_memory::activity::WatcherBell;
use notnets_memory::process::ForkGuard;
use notnets_memory::region::pool::Pool;
use notnets_memory::region::{OwnPart, Region, RegionOffset};
use notnets_memory::remote_lanes::LaneMonitor;

use super::activity::ActivityLines;
use super::link_state::LinkState;
use super::payloads::{Claim, ClaimInbox, Hold, Payloads};
use super::segments::Inbox;
use super::{OnArrival, PodError};
use crate::packet::FromProcess;
use crate::table::{Control, Entry, ExtentId, HostIncarnation, ProcessEntry, ProcessId};
use crate::watch::{self, LinkPlace, Watch};
use notnets_core::link::segments::SegmentEvent;
use notnets_core::name::Name;

/// Peers that are known to be gone, at most. A link is made within seconds or not at all.
const MAX_GONE: usize = 1 << 16;

/// Bounds of the wake latency: the kernel cannot sleep for less, and after longer sleeps nobody waits any
/// more.
const MIN_WAKE_LATENCY: Duration = Duration::from_micros(1);
const MAX_WAKE_LATENCY: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(super) struct Shared {
    pub(super) state: Mutex<State>,
    pub(super) changed: Condvar,
    /// Wakes the watcher when it sleeps.
    pub(super) bell: OwnedFd,
    /// Tells it which links' sockets are closed on our side: an epoll of their other ends, by number.
    pub(super) closings: OwnedFd,
    /// The random number by which the agent knows this process again.
    pub(super) token: [u64; 2],
    /// Extents of which a claim was dropped.
    pub(super) dropped: Mutex<Vec<ExtentId>>,
    /// A forked child touches nothing of this.
    pub(super) fork: ForkGuard,
}

pub(super) struct State {
    pub(super) region: Region,
    pub(super) incarnation: HostIncarnation,
    pub(super) id: ProcessId,
    /// Granted memory, in blocks; and how often some was granted.
    pub(super) pool: Pool,
    pub(super) granted: u64,
    pub(super) full: bool,
    pub(super) payloads: Payloads,
    pub(super) to_agent: VecDeque<FromProcess>,
    pub(super) services: HashMap<Name, Arc<OnArrival>>,
    /// Answers of the agent: names, with why they were refused; the processes that serve a name.
    pub(super) serving: HashMap<Name, Option<String>>,
    pub(super) resolved: HashMap<u32, Vec<ProcessId>>,
    /// Links that were asked for.
    pub(super) waiting: HashMap<u32, Waiting>,
    pub(super) links: HashMap<u32, Link>,
    /// The lines in which this process notes what it does.
    pub(super) activity: ActivityLines,
    /// Links that this process watches itself, and whether its agent can do so.
    pub(super) watch: Watch,
    agent_watches: bool,
    /// Wakes the agent's watcher.
    pub(super) bell: Arc<WatcherBell>,
    /// Memory that was granted under former numbers of this process: of each part the agent is told once
    /// nothing of it is used.
    pub(super) former: Vec<Pool>,
    quarantine: Vec<Quarantined>,
    /// Links that their peers have closed before they were made here.
    closed_early: HashSet<(ProcessId, u32)>,
    /// How far links with processes of silent hosts were at the last look.
    progress: HashMap<u16, u64>,
    /// Peers that are gone, until the agent knows that we have let go of them.
    pub(super) gone: HashSet<ProcessId>,
    /// Those of which the agent knows: no process id is given twice.
    gone_before: HashSet<ProcessId>,
    pub(super) agent_gone: bool,
    /// Links of former numbers that this side still uses, while the agent waits to hear that it does not.
    former_links: Option<HashSet<u32>>,
    pub(super) stop: bool,
    /// The agent's setting; the least that this process asked for.
    pub(super) wake_latency_of_host: Duration,
    wake_latency: Option<Duration>,
    last_number: u32,
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("State").field("id", &self.id).field("links", &self.links).finish_non_exhaustive()
    }
}

/// A server's answer.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) link: u32,
    pub(super) nonce: u64,
    pub(super) offset: RegionOffset,
    pub(super) packet: Vec<u8>,
}

/// A link that was asked for.
#[derive(Debug)]
pub(super) enum Waiting {
    /// Its answer has not come.
    For(ProcessId),
    /// Here it is.
    Answered(Answer),
    /// The peer is gone.
    Gone(ProcessId),
}

impl Waiting {
    /// The peer whose answer has not come.
    pub(super) fn peer(&self) -> Option<ProcessId> {
        match self {
            Self::For(peer) => Some(*peer),
            Self::Answered(_) | Self::Gone(_) => None,
        }
    }

    pub(super) fn is_for(&self, peer: ProcessId) -> bool {
        matches!(self, Self::For(id) if *id == peer)
    }
}

/// A link, as its watcher knows it.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) peer: ProcessId,
    pub(super) peer_link: u32,
    state: LinkState<UserEnd, Hold>,
    /// Messages about memory for its user, and whether it waits for some.
    pub(super) inbox: Arc<Inbox<SegmentEvent>>,
    /// Claims for its user.
    pub(super) claims: Arc<ClaimInbox>,
    pub(super) wants_memory: bool,
}

/// The watcher's end of a link in use.
#[derive(Debug)]
pub(super) struct UserEnd {
    /// The watcher's end of the link's socket.
    pub(super) socket: Arc<OwnedFd>,
    /// Where the lanes are looked at while the user parks.
    pub(super) place: LinkPlace,
}

impl UserEnd {
    /// Rings the link's user. That its socket is full means that it was rung already.
    pub(super) fn ring(&self) {
        watch::ring(&self.socket);
    }

    /// Closes the link's socket: its user sees that the peer is gone.
    pub(super) fn shut_down(&self) {
        watch::shut_down(&self.socket);
    }
}

/// A segment that a silent peer may still read.
#[derive(Debug)]
struct Quarantined {
    peer: ProcessId,
    _hold: Hold,
}

impl Link {
    /// One that both sides use.
    pub(super) fn new(peer: ProcessId, peer_link: u32, end: UserEnd, lease: Hold) -> Self {
        let state = LinkState::Open { end, leases: vec![lease] };
        Self { peer, peer_link, state, inbox: Arc::default(), claims: Arc::default(), wants_memory: false }
    }

    /// One that did not come about, whose segment the peer may know.
    pub(super) fn abandoned(peer: ProcessId, lease: Hold) -> Self {
        let state = LinkState::ClosedHere { leases: vec![lease] };
        Self { peer, peer_link: 0, state, inbox: Arc::default(), claims: Arc::default(), wants_memory: false }
    }

    /// One more segment that the peer may read.
    pub(super) fn keep(&mut self, lease: Hold) {
        if let Some(leases) = self.state.leases_mut() {
            leases.push(lease);
        }
    }

    /// The peer does not read it.
    pub(super) fn release(&mut self, lease: &Hold) {
        if let Some(leases) = self.state.leases_mut() {
            // Once: payloads of one extent share their claim.
            let found =
                leases.iter().position(|kept| std::ptr::addr_eq(Arc::as_ptr(kept), Arc::as_ptr(lease)));
            found.map(|found| leases.swap_remove(found));
        }
    }

    /// Returns `true` while this side uses it.
    pub(super) fn is_used(&self) -> bool {
        self.state.end().is_some()
    }

    /// Returns `true` while both sides use it.
    pub(super) fn is_open(&self) -> bool {
        matches!(self.state, LinkState::Open { .. })
    }

    /// Tells its user that a payload was claimed.
    pub(super) fn tell_claim(&self, payload: u32, claim: &Arc<Claim>) {
        self.claims.push((payload, Arc::clone(claim)));
        if let Some(end) = self.state.end() {
            end.ring();
        }
    }

    /// Tells its user something. Returns `false` when that does not read.
    fn tell(&self, event: SegmentEvent) -> bool {
        let Some(end) = self.state.end() else { return true };
        let fits = self.inbox.push(event);
        end.ring();
        fits
    }
}

impl State {
    /// Looks how far links with processes of a host are. If this is done again, the agent is told if they are
    /// farther.
    pub(super) fn listen(&mut self, host: u16, again: bool) {
        let of_host = self.links.values().filter(|link| link.peer.host == host);
        let ends = of_host.filter_map(|link| link.state.end());
        let monitors = ends.filter_map(|end| LaneMonitor::new(&self.region, end.place.lanes).ok());
        let progress = monitors.map(|monitor| monitor.progress()).fold(0, u64::wrapping_add);
        let before = self.progress.insert(host, progress);
        if again && before.is_some_and(|before| before != progress) {
            self.to_agent.push_back(FromProcess::Heard { host });
        }
    }

    pub(super) fn new(
        region: Region,
        incarnation: HostIncarnation,
        id: ProcessId,
        wake_latency: Duration,
    ) -> Self {
        Self {
            activity: ActivityLines::default(),
            watch: Watch::new(region.clone(), id.host, id.process),
            agent_watches: false,
            bell: Arc::default(),
            region,
            incarnation,
            id,
            pool: Pool::default(),
            granted: 0,
            full: false,
            payloads: Payloads::default(),
            to_agent: VecDeque::new(),
            services: HashMap::new(),
            serving: HashMap::new(),
            resolved: HashMap::new(),
            waiting: HashMap::new(),
            links: HashMap::new(),
            former: Vec::new(),
            quarantine: Vec::new(),
            closed_early: HashSet::new(),
            progress: HashMap::new(),
            gone: HashSet::new(),
            gone_before: HashSet::new(),
            agent_gone: false,
            former_links: None,
            stop: false,
            wake_latency_of_host: wake_latency,
            wake_latency: None,
            last_number: 0,
        }
    }

    /// Returns how long a message may wait for a parked side.
    pub(super) fn wake_latency(&self) -> Duration {
        self.wake_latency.unwrap_or(self.wake_latency_of_host).clamp(MIN_WAKE_LATENCY, MAX_WAKE_LATENCY)
    }

    /// Lowers it to at most this.
    pub(super) fn wake_within(&mut self, latency: Duration) {
        self.wake_latency = Some(self.wake_latency.map_or(latency, |least| least.min(latency)));
        if self.agent_watches {
            self.to_agent.extend(self.wake_within_packet());
        }
    }

    fn wake_within_packet(&self) -> Option<FromProcess> {
        self.wake_latency?;
        Some(FromProcess::WakeWithin { wake_us: self.wake_latency().as_micros() as u32 })
    }

    /// From now on the agent is asked to watch, if it can. Returns what to ask it first.
    pub(super) fn hand_links_over(&mut self) -> Vec<FromProcess> {
        let record = self.host_control().host();
        self.agent_watches = record.is_some_and(|record| record.watches);
        if !self.agent_watches {
            return Vec::new();
        }
        let bell = record.filter(|record| record.has_bell).map(|_| FromProcess::WantBell);
        let links = self.links.iter();
        let watched = links.filter_map(|(link, one)| {
            one.state.end().map(|end| FromProcess::Watch { link: *link, place: end.place })
        });
        self.wake_within_packet().into_iter().chain(bell).chain(watched).collect()
    }

    /// Returns `true` if the agent is asked to watch links.
    pub(super) fn agent_watches(&self) -> bool {
        self.agent_watches
    }

    /// The agent is gone: this process watches all of its links.
    pub(super) fn take_links_back(&mut self) {
        self.agent_watches = false;
        for (link, one) in &self.links {
            if let Some(end) = one.state.end() {
                self.watch.add(*link, end.place, Arc::clone(&end.socket));
            }
        }
    }

    /// Ends links whose memory is lost, for those who use them may be the first to see it.
    pub(super) fn end_lost(&self) {
        let used = self.links.values().filter_map(|link| Some((link.peer, &*link.state.end()?.socket)));
        watch::end_lost(&self.region, (self.id.host, self.id.process), used);
    }

    /// The socket of a link in use.
    pub(super) fn socket(&self, link: u32) -> Option<Arc<OwnedFd>> {
        self.links.get(&link)?.state.end().map(|end| Arc::clone(&end.socket))
    }

    /// Watches a link that begins, and asks the agent to.
    fn watch_link(&mut self, link: u32) {
        let Some(end) = self.links.get(&link).and_then(|link| link.state.end()) else { return };
        self.watch.add(link, end.place, Arc::clone(&end.socket));
        if self.agent_watches {
            self.to_agent.push_back(FromProcess::Watch { link, place: end.place });
        }
    }

    /// Returns a number for a link or a query. 0 is not used.
    pub(super) fn number(&mut self) -> u32 {
        self.last_number = self.last_number.wrapping_add(1).max(1);
        self.last_number
    }

    pub(super) fn is_gone(&self, peer: ProcessId) -> bool {
        self.gone.contains(&peer) || self.gone_before.contains(&peer) || self.agent_gone
    }

    /// Takes the answer to a link that was asked for, or its failure.
    pub(super) fn answer(&mut self, link: u32) -> Option<Result<Answer, PodError>> {
        match self.waiting.remove(&link)? {
            waiting @ Waiting::For(_) => {
                self.waiting.insert(link, waiting);
                None
            }
            Waiting::Answered(answer) => Some(Ok(answer)),
            Waiting::Gone(peer) => Some(Err(PodError::Gone(peer.host))),
        }
    }

    /// Closes a link's socket: its user sees that the peer is gone.
    fn shut_down(&self, link: u32) {
        if let Some(end) = self.links.get(&link).and_then(|link| link.state.end()) {
            end.shut_down();
        }
    }

    /// All links end, as the host has another incarnation or none.
    pub(super) fn shut_down_all(&mut self) {
        for link in self.links.keys().copied().collect::<Vec<_>>() {
            self.shut_down(link);
        }
        for waiting in self.waiting.values_mut() {
            if let Waiting::For(peer) = waiting {
                *waiting = Waiting::Gone(*peer);
            }
        }
    }

    /// Our side uses a link no more. Returns the process to notify.
    pub(super) fn closed_here(&mut self, link: u32) -> Option<(ProcessId, u32)> {
        let closed = self.links.remove(&link)?;
        let told = (closed.peer, closed.peer_link);
        self.watch.remove(link);
        if self.agent_watches {
            self.to_agent.push_back(FromProcess::Unwatch { link });
        }
        if let Some(state) = closed.state.close_here() {
            self.links.insert(link, Link { state, ..closed });
        }
        Some(told)
    }

    /// The peer reads nothing of a link any more, or is gone. Returns what it could read.
    fn close_there(&mut self, link: u32) -> Vec<Hold> {
        self.shut_down(link);
        let Some(closed) = self.links.remove(&link) else { return Vec::new() };
        let (state, leases) = closed.state.close_there();
        if let Some(state) = state {
            self.links.insert(link, Link { state, ..closed });
        }
        leases
    }

    /// The peer reads nothing of a link any more.
    pub(super) fn closed_there(&mut self, from: ProcessId, link: u32) {
        if self.links.get(&link).is_some_and(|closed| closed.peer == from) {
            self.close_there(link);
            return;
        }
        if self.closed_early.len() >= MAX_GONE {
            self.closed_early.clear();
        }
        self.closed_early.insert((from, link));
    }

    /// Handles a message of the peer about memory of a link.
    pub(super) fn tell(&mut self, from: ProcessId, link: u32, event: SegmentEvent) {
        let told = self.links.get(&link).filter(|told| told.peer == from);
        if told.is_some_and(|told| !told.tell(event)) {
            self.shut_down(link);
        }
    }

    /// Tells links that want memory to ask for it again, if it may be `granted` now, or that nothing is left.
    pub(super) fn tell_of_memory(&mut self, granted: bool) {
        for link in self.links.values_mut().filter(|link| link.wants_memory) {
            link.wants_memory = false;
            link.tell(if granted { SegmentEvent::Granted } else { SegmentEvent::Exhausted });
        }
    }

    /// This process has another number from now on. No link of the old one goes on; of its memory nothing
    /// more is taken. The agent sees to it that others have let go of it before it grants it again.
    pub(super) fn retire_memory(&mut self) {
        for link in self.links.keys().copied().collect::<Vec<_>>() {
            self.close_there(link);
        }
        let used = self.links.iter().filter(|(_, link)| link.is_used()).map(|(id, _)| *id);
        self.former_links = Some(used.collect());
        self.quarantine.clear();
        self.former.push(std::mem::take(&mut self.pool));
        self.forget_lines();
        self.payloads.retire();
    }

    /// Returns `true` once, when this process has another number, and nothing of the former one's links is
    /// read any more. Until then the agent does not say that its host has let go of anything.
    pub(super) fn take_let_go_of_former(&mut self) -> bool {
        let links = &self.links;
        let is_used = |link: &u32| links.get(link).is_some_and(Link::is_used);
        self.former_links.take_if(|former| !former.iter().any(is_used)).is_some()
    }

    /// Returns `true` unless [`take_let_go_of_former`](Self::take_let_go_of_former) is still to come.
    pub(super) fn has_let_go_of_former(&self) -> bool {
        self.former_links.is_none()
    }

    /// Takes the parts of granted memory that have not been used for `time`, and those of former numbers that
    /// are used no more.
    pub(super) fn take_unused_memory(&mut self, time: Duration) -> Vec<OwnPart> {
        self.activity.tidy();
        let mut parts = self.pool.take_unused(time);
        parts.extend(self.former.iter().flat_map(|pool| pool.take_unused(Duration::ZERO)));
        self.former.retain(|pool| !pool.is_empty());
        parts.extend(self.payloads.take_unused(time));
        parts
    }

    /// Returns the control area of this host, which its agent writes.
    pub(super) fn host_control(&self) -> Control<PeerMemory> {
        let layout = *self.region.layout();
        let memory = self.region.peer(layout.control(self.id.host.into())).expect("within the region");
        Control::of_peer(memory, layout, self.region.superblock().uuid, self.id.host)
    }

    /// Returns `false` once the agent has taken note that this process has left.
    pub(super) fn is_listed(&self) -> bool {
        match self.host_control().process_entry(self.id.process.into()) {
            Entry::Blank => false,
            Entry::Valid(entry) => entry.alive && entry.generation == self.id.generation,
            Entry::Damaged => true,
        }
    }

    /// Returns `true` while the agent takes it that this process uses memory under a former number.
    pub(super) fn lingers(&self, token: [u64; 2]) -> bool {
        !self.lingering(token).is_empty()
    }

    /// … and that it may use links under it.
    pub(super) fn lingers_with_links(&self, token: [u64; 2]) -> bool {
        self.lingering(token).iter().any(|entry| !entry.links_gone)
    }

    fn lingering(&self, token: [u64; 2]) -> Vec<ProcessEntry> {
        let control = self.host_control();
        let entries = (0..self.region.layout().processes()).filter_map(|process| control.process(process));
        entries.filter(|entry| entry.lingers && entry.token == token).collect()
    }

    /// The present life of this host, if its record can be read.
    pub(super) fn life_of_host(&self) -> Option<HostIncarnation> {
        self.host_control().host().map(|record| record.incarnation)
    }

    /// Extents that are granted to this process and that it does not have: the agent stopped before it said
    /// so, or before it heard that they were given back.
    pub(super) fn unclaimed(&self, token: [u64; 2]) -> Vec<u32> {
        self.unclaimed_of(token, |_| true)
    }

    /// Those of them that were granted under a former number.
    pub(super) fn unclaimed_of_former(&self, token: [u64; 2]) -> Vec<u32> {
        let present = (self.id.process, self.id.generation);
        self.unclaimed_of(token, |owner| owner != present)
    }

    fn unclaimed_of(&self, token: [u64; 2], counts: impl Fn((u16, u32)) -> bool) -> Vec<u32> {
        let (layout, control) = (self.region.layout(), self.host_control());
        let is_ours = |(process, generation): (u16, u32)| {
            let there = usize::from(process) < layout.processes();
            let entry = there.then(|| control.process(process.into())).flatten();
            entry.is_some_and(|entry| (entry.generation, entry.token) == (generation, token))
        };
        let has = |extent: usize| {
            let range = layout.extent(self.id.host.into(), extent);
            let pools = &mut self.former.iter().chain([&self.pool]);
            pools.any(|pool| pool.has_part_at(range.start())) || self.payloads.has_part_at(range.start())
        };
        let mut unclaimed = Vec::new();
        for (extent, entry) in control.extents().enumerate() {
            let owner = entry.valid().and_then(|entry| entry.owner());
            if owner.is_some_and(|owner| counts(owner) && is_ours(owner)) && !has(extent) {
                unclaimed.push(extent as u32);
            }
        }
        unclaimed
    }

    /// Returns `true` if a process of another host has ended, and reads nothing more, as its agent has it
    /// in its table.
    fn has_ended(&self, peer: ProcessId) -> bool {
        let layout = *self.region.layout();
        if usize::from(peer.host) >= layout.hosts() || usize::from(peer.process) >= layout.processes() {
            return true;
        }
        let memory = self.region.peer(layout.control(peer.host.into())).expect("within the region");
        let control = Control::of_peer(memory, layout, self.region.superblock().uuid, peer.host);
        let entry = control.process(peer.process.into());
        entry.is_some_and(|entry| entry.generation != peer.generation || !entry.alive && !entry.lingers)
    }

    /// Releases what peers could read that were silent, as soon as they have ended and let go: under a new
    /// incarnation of their host they may still run.
    pub(super) fn review_quarantine(&mut self) {
        let mut kept = std::mem::take(&mut self.quarantine);
        kept.retain(|kept| !self.has_ended(kept.peer));
        self.quarantine = kept;
    }

    /// Keeps what a peer could read that is gone and has not certainly ended.
    pub(super) fn quarantine(&mut self, peer: ProcessId, leases: Vec<Hold>) {
        self.quarantine.extend(leases.into_iter().map(|lease| Quarantined { peer, _hold: lease }));
    }

    /// Forgets in which lines something was noted, and what is watched: no link goes on.
    pub(super) fn forget_lines(&mut self) {
        self.activity = ActivityLines::default();
        self.watch.begin_anew(self.region.clone(), self.id.host, self.id.process);
    }

    /// Forgets what is kept for peers, as the agent keeps it from now on.
    pub(super) fn forget_quarantine(&mut self) {
        self.quarantine.clear();
    }

    /// Peers and their numbers for links that this side has closed, and they have not.
    pub(super) fn closed_here_only(&self) -> Vec<(ProcessId, u32)> {
        let closed = self.links.values().filter(|link| !link.is_used() && link.peer_link != 0);
        closed.map(|link| (link.peer, link.peer_link)).collect()
    }

    /// A link did not come about that this process was to make under that id: its segment is kept until the
    /// peer can't read it any more.
    pub(super) fn abandon(&mut self, link: u32, peer: ProcessId, lease: Hold, id: ProcessId) {
        self.waiting.remove(&link);
        // The agent keeps what others may read of a former number's memory.
        if self.id != id {
            return;
        }
        if self.is_gone(peer) {
            self.quarantine(peer, vec![lease]);
            self.review_quarantine();
        } else {
            self.links.insert(link, Link::abandoned(peer, lease));
        }
    }

    /// A link is made here, by this process under that id.
    pub(super) fn begin(&mut self, link: u32, begun: Link, id: ProcessId) {
        let peer = begun.peer;
        self.links.insert(link, begun);
        self.watch_link(link);
        if self.id != id {
            self.close_there(link);
            self.former_links.get_or_insert_default().insert(link);
        } else if self.closed_early.remove(&(peer, link)) {
            self.closed_there(peer, link);
        } else if self.is_gone(peer) {
            self.shut_down(link);
        }
    }

    /// A peer is gone. If it has not certainly ended, it may go on reading what it could read.
    pub(super) fn peer_gone(&mut self, peer: ProcessId, ended: bool) {
        self.gone.insert(peer);
        if ended {
            self.quarantine.retain(|kept| kept.peer != peer);
        }
        for waiting in self.waiting.values_mut() {
            if waiting.is_for(peer) {
                *waiting = Waiting::Gone(peer);
            }
        }
        let links: Vec<_> =
            self.links.iter().filter(|(_, link)| link.peer == peer).map(|(id, _)| *id).collect();
        for link in links {
            let leases = self.close_there(link);
            if !ended {
                self.quarantine(peer, leases);
            }
        }
    }

    /// Peers that are gone and of which we read nothing any more.
    pub(super) fn take_unused_gone(&mut self) -> Vec<ProcessId> {
        let links = &self.links;
        let used = |peer: &ProcessId| links.values().any(|link| link.peer == *peer && link.is_used());
        let done: Vec<_> = self.gone.iter().filter(|peer| !used(peer)).copied().collect();
        if self.gone_before.len() >= MAX_GONE {
            self.gone_before.clear();
        }
        for peer in &done {
            self.gone.remove(peer);
            self.gone_before.insert(*peer);
        }
        done
    }
}
