//! The one thread of a member: it speaks with the agent, and looks at links that the agent does not watch.
//!
//! There are no doorbells between hosts. The agent looks at the links of all processes of its host, and rings
//! their parked sides. This thread does so ([`crate::watch`]) for the links of its process while there is no
//! agent, or one that has no room for more or is of an earlier version: while messages come it spins for a
//! moment; then it sleeps for as long as before, and longer, but never longer than the wake latency. Without
//! such links it only waits for the agent, and an idle process costs nothing.
//!
//! The agent, the bell and closed links are looked at when the kernel reports that something is there.

use std::collections::VecDeque;
use std::io::{self, ErrorKind};
use std::mem::MaybeUninit;
use std::num::NonZeroU64;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use notnets_memory::process::ForkGuard;
use notnets_memory::region::Region;
use rustix::event::epoll::{self, CreateFlags};
use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd, poll};
use rustix::io::Errno;
use rustix::net::{Shutdown, shutdown};

use super::dispatch::on_packet;
use super::join::{Failed, Joined, join};
use super::peer_message::PeerMessage;
use super::state::{Shared, State, Waiting};
use super::{Arrival, PodError, lock};
use crate::backoff::{Backoff, TIMER_SLACK};
use crate::packet::{FromProcess, ToProcess};
use crate::table::{HostIncarnation, ProcessId};
use crate::wire::{self, Received};
use notnets_core::clock::timespec;
use notnets_core::name::Name;

/// Without links nothing is looked at but the agent's socket.
const IDLE: Duration = Duration::from_secs(1);
/// So many links that were closed are looked at in one go.
const CLOSINGS: usize = 64;
/// The longest time between two looks at the agent's socket while messages come.
const UNASKED: Duration = Duration::from_micros(100);
/// How often it is looked at most whether memory of links is lost.
const LOST: Duration = Duration::from_millis(10);
/// How long an unused extent is kept, for it may be needed again.
const SPARE: Duration = Duration::from_millis(500);
/// How often an agent that is gone is looked for.
const RETRY: Duration = Duration::from_millis(10);
/// How long one that has gone, and left its socket, is waited for by a process that was never in the pod.
const SUCCESSION: Duration = Duration::from_secs(1);
/// How often once nothing depends on it but memory.
const RARELY: Duration = Duration::from_secs(1);

/// Joins the pod as the process of this token, and starts the thread.
pub(super) fn start(
    path: &Path,
    pod: &Name,
    token: [u64; 2],
    deadline: Instant,
) -> Result<Arc<Shared>, PodError> {
    let patience = deadline.min(Instant::now() + SUCCESSION);
    let joined = loop {
        match join(path, token, None, deadline) {
            Ok(joined) => break joined,
            // The agent may have begun just now.
            Err(error) if Instant::now() + RETRY >= deadline => return Err(error.named(path, pod)),
            Err(Failed::Refused(_)) => std::thread::sleep(RETRY),
            // Its socket is there, and its successor may be on its way.
            Err(Failed::Io(error))
                if error.kind() == ErrorKind::ConnectionRefused && Instant::now() < patience =>
            {
                std::thread::sleep(RETRY);
            }
            Err(error) => return Err(error.named(path, pod)),
        }
    };
    let Joined { socket, region, incarnation, id, wake_latency } = joined;
    let region = region.ok_or(PodError::Unexpected)?;
    let io_error = |step| move |errno: rustix::io::Errno| PodError::Io { step, cause: errno.into() };
    let bell = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).map_err(io_error("make a bell"))?;
    let closings = epoll::create(CreateFlags::CLOEXEC).map_err(io_error("watch links' sockets"))?;
    let mut state = State::new(region, incarnation, id, wake_latency);
    // It has no links yet.
    let asked = state.hand_links_over();
    state.to_agent.extend(asked);
    let state = Mutex::new(state);
    let fork = ForkGuard::new().map_err(|cause| PodError::Io { step: "tell forks by a page", cause })?;
    let (changed, dropped) = (Condvar::new(), Mutex::default());
    let shared = Arc::new(Shared { state, changed, bell, closings, token, dropped, fork });
    let watcher = Watcher {
        shared: Arc::clone(&shared),
        path: path.to_owned(),
        agent: AgentLink::Up(socket),
        backoff: Backoff::new(Instant::now()),
        asked: Instant::now(),
        agent_speaks: true,
        some_closed: false,
        reviewed: Instant::now(),
        lost_at: Instant::now(),
        pulse: Pulse { beat: 0, looked: Instant::now() },
    };
    let thread = std::thread::Builder::new().name("notnets-pod".into()).spawn(move || watcher.run());
    thread.map_err(|cause| PodError::Io { step: "start a thread", cause })?;
    Ok(shared)
}

impl Shared {
    /// Wakes the watcher, for there is something to send.
    pub(super) fn wake(&self) {
        let _ = rustix::io::write(&self.bell, &1u64.to_ne_bytes());
    }
}

/// The connection to the agent.
#[derive(Debug)]
enum AgentLink {
    /// It is there.
    Up(OwnedFd),
    /// It is gone, and was last looked for then.
    Lost { since: Instant, looked: Option<Instant> },
}

impl AgentLink {
    fn lost() -> Self {
        Self::Lost { since: Instant::now(), looked: None }
    }
}

struct Watcher {
    shared: Arc<Shared>,
    path: PathBuf,
    agent: AgentLink,
    backoff: Backoff,
    /// When the kernel was last asked for events, and whether the agent has sent something.
    asked: Instant,
    agent_speaks: bool,
    /// Whether links were closed on our side.
    some_closed: bool,
    /// When memory was last searched for unused extents.
    reviewed: Instant,
    /// When it was last looked whether memory of links is lost.
    lost_at: Instant,
    pulse: Pulse,
}

/// The heartbeat of the agent, and when it was last looked at.
struct Pulse {
    beat: u64,
    looked: Instant,
}

impl Watcher {
    fn run(mut self) {
        // The kernel adds 50 µs to each sleep of a thread that does not ask for less.
        let _ = rustix::thread::set_current_timer_slack(NonZeroU64::new(TIMER_SLACK));
        let shared = Arc::clone(&self.shared);
        loop {
            let mut state = lock(&shared.state);
            if state.stop {
                return self.leave(&mut state);
            }
            let mut arrivals = Vec::new();
            let received =
                std::mem::take(&mut self.agent_speaks) && self.recv_packets(&mut state, &mut arrivals);
            if std::mem::take(&mut self.some_closed) {
                reap_closed_links(&mut state, &shared.closings);
            }
            self.give_back(&mut state);
            let dropped = std::mem::take(&mut *lock(&shared.dropped));
            state.drop_claims(dropped);
            let rung = state.watch.look(Instant::now()) > 0;
            if self.lost_at.elapsed() >= LOST {
                self.lost_at = Instant::now();
                state.end_lost();
            }
            let patience = self.check_pulse(&mut state);
            self.ack_gone_peers(&mut state);
            if state.take_let_go_of_former() {
                state.to_agent.push_back(FromProcess::Ready);
            }
            self.flush_outbox(&mut state);
            if received || rung {
                self.backoff.reset(Instant::now());
            }
            if received {
                shared.changed.notify_all();
            }
            let mut watches = !state.watch.is_empty();
            let latency = state.wake_latency();
            let unsent = !state.to_agent.is_empty();
            drop(state);
            for (on_arrival, arrival) in arrivals {
                on_arrival(arrival);
            }
            if let AgentLink::Lost { since, looked } = self.agent
                && looked.is_none_or(|looked| looked.elapsed() >= RETRY)
            {
                if looked.is_none() {
                    lock(&shared.state).take_links_back();
                    watches = true;
                }
                self.reconnect(since);
                self.agent_speaks = true;
            }
            self.wait(watches.then_some(latency), patience, unsent);
        }
    }

    /// Nobody holds the membership any more, and so no lane of it. The process itself may go on.
    fn leave(&mut self, state: &mut State) {
        self.flush_outbox(state);
        state.shut_down_all();
        state.links.clear();
        state.forget_lines();
        state.forget_quarantine();
        let pools = state.former.drain(..).chain([std::mem::take(&mut state.pool)]);
        let unused: Vec<_> = pools.map(|pool| pool.is_unused()).collect();
        let let_go = !unused.contains(&false) && state.payloads.is_unused();
        if let_go {
            state.payloads.take_unused(Duration::ZERO).for_each(drop);
        }
        self.resign(state, let_go);
    }

    /// Makes sure that the agent takes note, also one that is started anew: it would wait for this process.
    /// The memory of one that has `let_go` of all can be granted again; else the agent waits for the
    /// process's end.
    fn resign(&mut self, state: &mut State, let_go: bool) {
        let lease = Duration::from_millis(state.region.superblock().lease_ms.into());
        let mut told = false;
        let mut last_words = self.last_words(state, let_go);
        // An agent that begins a life of its host later is told, too.
        let mut told_life = None;
        let token = self.shared.token;
        let holds = |state: &State| state.lingers(token) || !state.unclaimed_of_former(token).is_empty();
        let has_links = |state: &State, told_life| {
            state.life_of_host().is_some_and(|life| Some(life) != told_life)
                && state.lingers_with_links(token)
        };
        while state.is_listed() || let_go && holds(state) || !let_go && has_links(state, told_life) {
            match &self.agent {
                AgentLink::Up(agent) => {
                    told = told || say_last(agent, &mut last_words, let_go).is_ok();
                    if told {
                        told_life = Some(state.incarnation);
                    }
                    poll_ready([PollFd::new(agent, PollFlags::IN)], RETRY);
                    while let Received::Packet(..) = wire::receive(agent) {}
                    if matches!(wire::receive(agent), Received::Closed) {
                        self.agent = AgentLink::lost();
                    }
                }
                AgentLink::Lost { since, .. } => {
                    // After the lease nobody waits for this process; only its memory is missed.
                    let pause = if since.elapsed() < lease { RETRY } else { RARELY };
                    let before = Some((state.incarnation, state.id));
                    match join(&self.path, self.shared.token, before, Instant::now() + RETRY * 10) {
                        Ok(joined) => {
                            self.agent = AgentLink::Up(joined.socket);
                            (state.incarnation, state.id) = (joined.incarnation, joined.id);
                            (told, last_words) = (false, self.last_words(state, let_go));
                        }
                        Err(_) => std::thread::sleep(pause),
                    }
                }
            }
        }
    }

    /// What the agent has to hear from a process that leaves. It has let go of its links in any case.
    fn last_words(&self, state: &mut State, let_go: bool) -> VecDeque<FromProcess> {
        if !let_go {
            // What it still reads it claims, and under no other number than its last.
            return state.payloads.repeat().into_iter().chain([FromProcess::Ready]).collect();
        }
        let unclaimed = state.unclaimed_of_former(self.shared.token);
        // It claims nothing either, under any number.
        let claims_nothing = [FromProcess::Ready, FromProcess::Leave];
        unclaimed.into_iter().map(FromProcess::Return).chain(claims_nothing).collect()
    }

    /// Receives packets from the agent.
    fn recv_packets(
        &mut self,
        state: &mut State,
        arrivals: &mut Vec<(Arc<super::OnArrival>, Arrival)>,
    ) -> bool {
        let mut received = false;
        while let AgentLink::Up(agent) = &self.agent {
            match wire::receive(agent) {
                Received::Nothing => break,
                Received::Closed => {
                    self.agent = AgentLink::lost();
                    return true;
                }
                Received::Packet(bytes, descriptor) => {
                    received = true;
                    match (ToProcess::decode(&bytes), descriptor) {
                        (Ok(ToProcess::Bell), Some(bell)) => state.bell.set(bell),
                        (Ok(packet), _) => arrivals.extend(on_packet(state, &self.shared, packet)),
                        (Err(_), _) => {}
                    }
                }
            }
        }
        received
    }

    /// An agent that does not run watches no links, though its socket is there: meanwhile this process does.
    /// Returns after what time to look again; nothing has to be looked at without links.
    fn check_pulse(&mut self, state: &mut State) -> Duration {
        let superblock = state.region.superblock();
        let heartbeat = Duration::from_millis(superblock.heartbeat_ms.into());
        let patience = (2 * heartbeat).max(Duration::from_millis(superblock.lease_ms.into()) / 8);
        if state.links.is_empty() || !matches!(self.agent, AgentLink::Up(_)) {
            return IDLE;
        }
        if self.pulse.looked.elapsed() < patience {
            return patience;
        }
        let Some(record) = state.host_control().host() else { return patience };
        let beats = record.beat != self.pulse.beat;
        self.pulse = Pulse { beat: record.beat, looked: Instant::now() };
        if !beats && state.agent_watches() {
            state.take_links_back();
        } else if beats && !state.agent_watches() {
            let asked = state.hand_links_over();
            state.to_agent.extend(asked);
        }
        patience
    }

    /// Peers that are gone and of which nothing is read any more.
    fn ack_gone_peers(&mut self, state: &mut State) {
        if !state.gone.is_empty() {
            for peer in state.take_unused_gone() {
                state.to_agent.push_back(FromProcess::Done(peer));
            }
        }
    }

    /// Extents that have not been needed for a while go back to the agent.
    fn give_back(&mut self, state: &mut State) {
        if self.reviewed.elapsed() < SPARE {
            return;
        }
        self.reviewed = Instant::now();
        state.review_quarantine();
        for part in state.take_unused_memory(SPARE) {
            let layout = *state.region.layout();
            let first = layout.extent(state.id.host.into(), 0).start();
            let extent = (part.range().start().0 - first.0) / layout.extent_bytes() as u64;
            // No longer mapped when it is granted again.
            drop(part);
            state.to_agent.push_back(FromProcess::Return(extent as u32));
        }
    }

    fn flush_outbox(&mut self, state: &mut State) {
        while let AgentLink::Up(agent) = &self.agent
            && let Some(packet) = state.to_agent.front()
        {
            let socket = match packet {
                FromProcess::Watch { link, .. } => state.socket(*link),
                _ => None,
            };
            if socket.is_none() && matches!(packet, FromProcess::Watch { .. }) {
                // It is closed already.
                state.to_agent.pop_front();
                continue;
            }
            let socket = socket.as_ref().map(|socket| socket.as_fd());
            match wire::send(agent, &packet.encode(), socket) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) if Errno::from_io_error(&error) == Some(Errno::TOOMANYREFS) => {
                    // More descriptors are under way than may be: this process goes on looking at the link.
                    state.to_agent.pop_front();
                }
                Err(_) => self.agent = AgentLink::lost(),
                Ok(()) => {
                    state.to_agent.pop_front();
                }
            }
        }
    }

    /// Looks for the agent, which may have been started anew. Without one for the lease, links end: other
    /// hosts consider this one dead.
    fn reconnect(&mut self, lost_since: Instant) {
        let before = {
            let state = lock(&self.shared.state);
            (state.incarnation, state.id)
        };
        let joined = join(&self.path, self.shared.token, Some(before), Instant::now() + RETRY * 10);
        let shared = Arc::clone(&self.shared);
        let mut state = lock(&shared.state);
        match joined {
            Ok(Joined { socket, region, incarnation, id, wake_latency }) => {
                self.agent = AgentLink::Up(socket);
                state.wake_latency_of_host = wake_latency;
                self.resync(&mut state, region, incarnation, id);
                self.shared.changed.notify_all();
            }
            Err(_) => {
                let lease = Duration::from_millis(state.region.superblock().lease_ms.into());
                if lost_since.elapsed() >= lease && !state.agent_gone {
                    state.agent_gone = true;
                    state.shut_down_all();
                    self.shared.changed.notify_all();
                }
                self.agent = AgentLink::Lost { since: lost_since, looked: Some(Instant::now()) };
            }
        }
    }

    /// Resumes after the agent's restart: it has to learn which processes we know, or we get a new identity.
    fn resync(
        &mut self,
        state: &mut State,
        region: Option<Region>,
        incarnation: HostIncarnation,
        id: ProcessId,
    ) {
        state.agent_gone = false;
        // Links that wait for memory ask again: the answer may have been lost.
        state.granted += 1;
        state.tell_of_memory(true);
        let mut first = Vec::new();
        if (state.incarnation, state.id) == (incarnation, id) {
            let mut peers: Vec<_> = state.links.values().map(|link| link.peer).collect();
            peers.extend(state.waiting.values().filter_map(Waiting::peer));
            peers.sort();
            peers.dedup();
            first.extend(peers.into_iter().map(FromProcess::Knows));
            first.extend(state.payloads.repeat());
            first.extend(state.has_let_go_of_former().then_some(FromProcess::Ready));
            first.extend(state.hand_links_over());
            // What was said to peers just before may be lost.
            first.extend(state.closed_here_only().into_iter().map(close));
        } else {
            state.shut_down_all();
            state.incarnation = incarnation;
            state.id = id;
            state.retire_memory();
            state.gone.clear();
            state.to_agent.clear();
            if let Some(region) = region {
                state.region = region;
            }
            state.forget_lines();
            let asked = state.hand_links_over();
            first.extend(state.services.keys().cloned().map(FromProcess::Serve));
            first.extend(state.payloads.repeat());
            first.extend(asked);
        }
        use FromProcess::{Claim, GrantPayloads, Return, Unclaim, Unwatch, WakeWithin, WantBell, Watch};
        let is_void = |packet: &_| {
            let memory = matches!(packet, Return(_) | GrantPayloads | Claim(_) | Unclaim(_));
            memory || matches!(packet, Watch { .. } | Unwatch { .. } | WakeWithin { .. } | WantBell)
        };
        state.to_agent.retain(|packet| !is_void(packet));
        first.extend(state.unclaimed(self.shared.token).into_iter().map(FromProcess::Return));
        for packet in first.into_iter().rev() {
            state.to_agent.push_front(packet);
        }
    }

    /// Waits for a moment, no longer than `patience`. A process that looks at links itself has a latency.
    /// Something that the agent had no room for is `unsent`.
    fn wait(&mut self, latency: Option<Duration>, patience: Duration, unsent: bool) {
        let now = Instant::now();
        let spins = latency.is_some() && self.backoff.spins(now);
        if spins && now - self.asked < UNASKED {
            return std::hint::spin_loop();
        }
        let pause = match latency {
            Some(_) if spins => Duration::ZERO,
            Some(latency) => self.backoff.next_nap(latency, now),
            None => patience.min(IDLE),
        };
        let bell = PollFd::new(&self.shared.bell, PollFlags::IN);
        let closings = PollFd::new(&self.shared.closings, PollFlags::IN);
        let [rung, closed, speaks] = match &self.agent {
            AgentLink::Up(agent) => {
                let room = if unsent { PollFlags::OUT } else { PollFlags::empty() };
                poll_ready([bell, closings, PollFd::new(agent, PollFlags::IN | room)], pause)
            }
            AgentLink::Lost { .. } => {
                let [rung, closed] = poll_ready([bell, closings], pause.min(RETRY));
                [rung, closed, false]
            }
        };
        if rung {
            let mut count = [0; 8];
            let _ = rustix::io::read(&self.shared.bell, &mut count);
        }
        self.agent_speaks |= speaks;
        self.some_closed |= closed;
        self.asked = Instant::now();
    }
}

/// Says what is left to say to the agent. One that has not let go of all then closes its side.
fn say_last(agent: &OwnedFd, words: &mut VecDeque<FromProcess>, let_go: bool) -> io::Result<()> {
    while let Some(packet) = words.front() {
        wire::send(agent, &packet.encode(), None)?;
        words.pop_front();
    }
    if !let_go {
        shutdown(agent, Shutdown::Write)?;
    }
    Ok(())
}

/// Waits until one of them is ready, and no longer than `pause`. Returns which of them are, or may be.
fn poll_ready<const N: usize>(mut fds: [PollFd<'_>; N], pause: Duration) -> [bool; N] {
    let failed = poll(&mut fds, Some(&timespec(pause))).is_err();
    fds.map(|fd| failed || !fd.revents().is_empty())
}

/// Finds sides that have closed their links, and notifies their peers.
fn reap_closed_links(state: &mut State, closings: &OwnedFd) {
    let mut events = [const { MaybeUninit::uninit() }; CLOSINGS];
    let closed = epoll::wait(closings, &mut events, Some(&timespec(Duration::ZERO)));
    for event in closed.map_or(&mut [][..], |(closed, _)| closed) {
        let link = event.data.u64() as u32;
        // The agent may have the same socket still open.
        if let Some(socket) = state.socket(link) {
            let _ = epoll::delete(closings, &*socket);
        }
        let Some(closed) = state.closed_here(link) else { continue };
        state.to_agent.push_back(close(closed));
    }
}

/// Says that this side reads nothing of a link any more.
fn close((peer, peer_link): (ProcessId, u32)) -> FromProcess {
    FromProcess::Send { to: peer, body: PeerMessage::Close { to: peer_link }.encode() }
}
