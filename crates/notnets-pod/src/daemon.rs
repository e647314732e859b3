//! The agent of a host with its I/O: a Unix socket for local processes, the region, the clock.
//!
//! One thread looks at other hosts every millisecond while there is mail, and every ten when none is due, and
//! in between it serves its sockets. Another one watches the links of this host's processes (`watchman`).

mod log;
mod pulse;
mod watchman;

use std::collections::{HashMap, VecDeque};
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use notnets_memory::process::{is_gone, peer_credentials, peer_pidfd};
use notnets_memory::region::{OwnError, Region};
use notnets_memory::{OwnMemory, PeerMemory};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{fstat, stat};
use rustix::time::{ClockId, clock_gettime};

use self::log::Refusals;
use self::pulse::Pulse;
use self::watchman::Watchman;
use super::WAKE_LATENCY;
use super::agent::{Agent, AgentError, Identity, Phase, Start};
use super::packet::{FromProcess, ToProcess};
use super::table::{HostIncarnation, ProcessEntry};
use super::watch::WatchCounts;
use super::wire::{self, Received};
use notnets_core::clock::{self, Timestamp, timespec};
use notnets_core::link::accept::HELLO_TIMEOUT;
use notnets_core::link::lobby::Lobby;
use notnets_core::link::rendezvous::{Directory, Listener, RendezvousError};
use notnets_core::name::Name;
use notnets_core::random;

/// How often other hosts are looked at while there is something to carry.
const BUSY: Duration = Duration::from_millis(1);
/// How often when there is not.
const IDLE: Duration = Duration::from_millis(10);
/// So many looks after the last packet are busy ones.
const BUSY_LOOKS: u32 = 200;
/// Packets that a process has not read, at most; then it is cut off.
const MAX_UNREAD: usize = 4096;
/// How often it is seen whether socket and region are in place.
const LOOK_AROUND: Duration = Duration::from_secs(1);
/// An agent that comes late by this part of the lease says so.
const LATE: u32 = 4;
/// Connections accepted in one go.
const MAX_AT_ONCE: usize = 64;
/// The socket of a pod's agent is named by this and the pod's name.
const SOCKET_LABEL: &str = "pod";

/// The failure of an agent.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DaemonError {
    /// The region has fewer hosts.
    #[error("the region is for {hosts} hosts: there is no host {host}, the last is {}", hosts - 1)]
    NoSuchHost {
        /// The host number that was asked for.
        host: u16,
        /// How many there are.
        hosts: usize,
    },
    /// Another agent on this machine has the same host.
    #[error("host {0} has an agent already on this machine")]
    Running(u16),
    /// Another agent serves the same pod from the same directory.
    #[error("{} belongs to an agent that runs: each directory has one for each pod", .0.display())]
    InUse(PathBuf),
    /// The pod's name is not a valid name.
    #[error("the pod is called {0:?}, which is not a valid name: format the region with another one")]
    PodName(String),
    /// The directory doesn't permit it to listen.
    #[error(transparent)]
    Rendezvous(#[from] RendezvousError),
    /// The region can't be written.
    #[error("the control area can't be used: {0}")]
    Own(OwnError),
    /// The kernel refused something.
    #[error("could not {step}: {cause}")]
    Io {
        /// The step that failed.
        step: &'static str,
        /// The kernel's answer.
        cause: io::Error,
    },
    /// It can't go on.
    #[error(transparent)]
    Agent(#[from] AgentError),
}

fn io_error<E: Into<io::Error>>(step: &'static str) -> impl Fn(E) -> DaemonError {
    move |cause| DaemonError::Io { step, cause: cause.into() }
}

/// Where the agent of a pod listens in a rendezvous directory. Names don't begin with a dot.
pub fn socket_path(directory: &Directory, pod: &Name) -> PathBuf {
    directory.path().join(socket_name(pod).as_str())
}

fn socket_name(pod: &Name) -> Name {
    Name::private(SOCKET_LABEL, pod)
}

/// The pods that have agents in a rendezvous directory, or had. `None` when the directory does not exist.
///
/// # Errors
/// When it can't be read.
pub fn pods(directory: &Directory) -> io::Result<Vec<Name>> {
    let entries = match std::fs::read_dir(directory.path()) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let prefix = format!(".{SOCKET_LABEL}-");
    let pod = |entry: io::Result<std::fs::DirEntry>| -> Option<Name> {
        entry.ok()?.file_name().to_str()?.strip_prefix(&prefix)?.parse().ok()
    };
    let mut pods: Vec<_> = entries.filter_map(pod).collect();
    pods.sort_by(|a, b| a.as_str().cmp(b.as_str()));
    Ok(pods)
}

/// An agent that listens.
#[derive(Debug)]
pub struct Daemon {
    region: Region,
    host: u16,
    agent: Option<Agent<OwnMemory, PeerMemory>>,
    /// Until it leaves.
    listener: Option<Listener>,
    /// Where the region was opened, if that is known.
    region_path: Option<PathBuf>,
    /// When to see next whether socket and region are in place.
    look_around_at: Timestamp,
    /// The socket was not in place the last time.
    displaced: bool,
    path: PathBuf,
    _claim: OwnedFd,
    /// Connections that have not sent JOIN yet.
    unauthenticated: Lobby<Connection>,
    /// By the number of the process.
    processes: HashMap<u16, Connection>,
    looks: u32,
    wake_latency: Duration,
    has_left: bool,
    refusals: Refusals,
    pulse: Pulse,
    watchman: Watchman,
}

/// The descriptor that a packet comes with.
#[derive(Clone, Copy, Debug)]
enum Attached {
    None,
    Region,
    /// Of the event that wakes the watcher.
    Bell,
}

/// A process at the other end of a socket.
#[derive(Debug)]
struct Connection {
    socket: OwnedFd,
    pidfd: Option<OwnedFd>,
    identity: Identity,
    unread: VecDeque<(Vec<u8>, Attached)>,
    over: bool,
    /// One that has said nothing is closed then.
    expires: Timestamp,
}

impl Daemon {
    /// Begins the agent of a host: claims its partition, and listens in the directory.
    ///
    /// # Errors
    /// When there is another one, or no such host.
    pub fn start(region: Region, host: u16, directory: &Directory) -> Result<Self, DaemonError> {
        let hosts = region.layout().hosts();
        if usize::from(host) >= hosts {
            return Err(DaemonError::NoSuchHost { host, hosts });
        }
        let pod = &region.superblock().pod;
        let pod: Name = pod.parse().map_err(|_| DaemonError::PodName(pod.clone()))?;
        let lease = Duration::from_millis(region.superblock().lease_ms.into());
        let claim = region.claim(host.into()).map_err(io_error("claim the partition"))?;
        let claim = claim.ok_or(DaemonError::Running(host))?;
        let listener = directory.listen(&socket_name(&pod)).map_err(|error| match error {
            RendezvousError::NameInUse { path, .. } => DaemonError::InUse(path),
            error => error.into(),
        })?;
        let watchman = Watchman::new(region.clone(), host, WAKE_LATENCY).map_err(io_error("make a bell"))?;
        let mut daemon = Self {
            watchman,
            region,
            host,
            agent: None,
            path: listener.path().to_owned(),
            listener: Some(listener),
            region_path: None,
            look_around_at: Timestamp::ZERO,
            displaced: false,
            _claim: claim,
            unauthenticated: Lobby::default(),
            processes: HashMap::new(),
            looks: 0,
            wake_latency: WAKE_LATENCY,
            has_left: false,
            refusals: Refusals::default(),
            pulse: Pulse::new(lease / LATE),
        };
        daemon.begin()?;
        Ok(daemon)
    }

    /// How long a message may wait for a parked process of this host, for those that join from now on and
    /// don't choose themselves. [`WAKE_LATENCY`] unless set.
    pub fn set_wake_latency(&mut self, latency: Duration) {
        self.wake_latency = latency;
        self.watchman.set_latency(latency);
        self.tell_wake_latency();
    }

    /// Where the region was opened: that another one has come to lie there is logged.
    pub fn set_region_path(&mut self, path: impl Into<PathBuf>) {
        self.region_path = Some(path.into());
    }

    /// Sees now and then whether processes still find this agent, and other agents this region.
    fn look_around(&mut self) {
        let now = clock::now();
        if now < self.look_around_at {
            return;
        }
        self.look_around_at = now + LOOK_AROUND;
        self.pulse.forget();
        let before = self.displaced;
        self.displaced = self.listener.as_ref().is_some_and(|listener| !listener.is_in_place());
        // Not at once: whoever cleans the directory up is to be done.
        if let Some(listener) = self.listener.as_ref().filter(|_| before && self.displaced) {
            match listener.bind_again() {
                Ok(again) => {
                    let path = self.path.display();
                    tracing::warn!(target: log::TARGET, %path, "the agent's socket was removed, or its directory: it is bound again");
                    self.listener = Some(again);
                }
                Err(error) => tracing::debug!(target: log::TARGET, %error, "the agent's socket was removed"),
            }
        }
        let other = |path: &PathBuf| match (stat(path), fstat(self.region.descriptor())) {
            (Ok(there), Ok(here)) => (there.st_dev, there.st_ino) != (here.st_dev, here.st_ino),
            (Err(_), _) => true,
            (Ok(_), Err(_)) => false,
        };
        if let Some(path) = self.region_path.take_if(|path| other(path)) {
            let path = path.display();
            tracing::warn!(target: log::TARGET, %path, "this is not the agent's region any more: an agent that starts now has another");
        }
    }

    fn tell_wake_latency(&mut self) {
        if let Some(agent) = &mut self.agent {
            agent.set_wake_latency(self.wake_latency.as_micros().try_into().unwrap_or(u32::MAX));
        }
    }

    /// How much it has looked at links for the processes of its host.
    pub fn watch_counts(&self) -> WatchCounts {
        self.watchman.counts()
    }

    /// Where it listens.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Runs until it is asked to stop, or a process has the host leave. Then it leaves in order.
    ///
    /// # Errors
    /// When another host takes itself for this one.
    pub fn run(&mut self, stop: &AtomicBool) -> Result<(), DaemonError> {
        while !stop.load(Ordering::Relaxed) && !self.has_left {
            self.turn()?;
        }
        self.leave();
        Ok(())
    }

    /// Returns `true` once processes can join: the host's number is known to be its alone.
    pub fn is_running(&self) -> bool {
        self.agent.as_ref().is_some_and(|agent| agent.phase() == Phase::Running)
    }

    /// Returns `true` once the host has left the pod: there is nothing more to do.
    pub fn has_left(&self) -> bool {
        self.has_left
    }

    /// Leaves in order: other hosts need not wait for the lease. A process can ask for it, too
    /// ([`leave_host`](super::member::leave_host)).
    pub fn leave(&mut self) {
        if std::mem::replace(&mut self.has_left, true) {
            return;
        }
        if let Some(agent) = &mut self.agent {
            agent.leave();
        }
        self.listener = None;
        log::stop(true);
    }

    /// Stops, and leaves all as it is for the next agent of this host: links go on, as they do when it is
    /// killed. It has the lease to begin.
    pub fn pause(mut self) {
        if let Some(agent) = &mut self.agent {
            agent.pause(now());
        }
        // Its socket stays: processes that find nobody there wait for a moment.
        std::mem::forget(self.listener.take());
        log::stop(false);
    }

    /// One look at everything, and a wait for more.
    ///
    /// # Errors
    /// When another host takes itself for this one.
    pub fn turn(&mut self) -> Result<(), DaemonError> {
        self.wait();
        self.look_around();
        self.accept();
        self.admit_processes();
        self.recv_packets();
        if let Some(agent) = &mut self.agent {
            match agent.tick(now()) {
                Ok(()) => {}
                Err(AgentError::Lapsed(lapse)) => {
                    log::lapse(lapse);
                    self.begin()?;
                }
                Err(error) => return Err(error.into()),
            }
        }
        self.reap_detached();
        self.tell();
        while let Some(event) = self.agent.as_mut().and_then(Agent::poll_event) {
            log::event(event);
        }
        Ok(())
    }

    /// Begins an incarnation of the host, or goes on with the last. Processes have to come back for a new
    /// one.
    fn begin(&mut self) -> Result<(), DaemonError> {
        self.agent = None;
        self.processes.clear();
        self.watchman.forget_all();
        let layout = *self.region.layout();
        let own = self
            .region
            .own(layout.control(self.host.into()))
            .map_err(DaemonError::Own)?
            .carve(layout.control(0).len());
        let peer = |host: usize| {
            let control = layout.control(host);
            (host != usize::from(self.host)).then(|| self.region.peer(control).expect("within the region"))
        };
        let peers = (0..layout.hosts()).map(peer).collect();
        let start = Start { now: now(), boot: boot(), incarnation: HostIncarnation(random::words()) };
        let superblock = self.region.superblock();
        self.agent = Some(Agent::start(superblock, layout, self.host, own, peers, start, runs));
        self.tell_wake_latency();
        Ok(())
    }

    fn wait(&mut self) {
        let pause = if self.looks < BUSY_LOOKS { BUSY } else { IDLE };
        self.looks = self.looks.saturating_add(1);
        let mut fds: Vec<_> =
            self.listener.iter().map(|listener| PollFd::new(listener, PollFlags::IN)).collect();
        for connection in self.unauthenticated.iter().chain(self.processes.values()) {
            let room = if connection.unread.is_empty() { PollFlags::empty() } else { PollFlags::OUT };
            fds.push(PollFd::new(&connection.socket, PollFlags::IN | room));
        }
        self.pulse.sleeps(pause);
        // Interrupted or not, all is looked at next.
        let _ = poll(&mut fds, Some(&timespec(pause)));
        self.pulse.wakes();
    }

    fn accept(&mut self) {
        for _ in 0..MAX_AT_ONCE {
            let Some(Ok(Some(socket))) = self.listener.as_ref().map(Listener::accept) else { return };
            let Ok(peer) = peer_credentials(&socket) else { continue };
            let own = rustix::process::geteuid().as_raw();
            if peer.uid != own && peer.uid != 0 {
                let text = format!("uid {} is not that of the agent, {own}", peer.uid);
                let _ = wire::send(&socket, &ToProcess::Refused(text).encode(), None);
                self.refusals.log(peer.pid, peer.uid, "its uid is neither the agent's nor root");
                continue;
            }
            let pid = peer.pid.unwrap_or(0);
            let identity = Identity {
                pid,
                uid: peer.uid,
                gid: peer.gid,
                start_time: start_time(pid).unwrap_or_default(),
            };
            let pidfd = peer_pidfd(&socket).ok();
            let connection = Connection {
                socket,
                pidfd,
                identity,
                unread: VecDeque::new(),
                over: false,
                expires: clock::now() + HELLO_TIMEOUT,
            };
            let (_, left) = self.unauthenticated.enter(peer.uid, connection);
            // It may have said something meanwhile.
            left.and_then(|left| self.admit(left));
        }
    }

    fn admit_processes(&mut self) {
        let now = clock::now();
        let mut unauthenticated = std::mem::take(&mut self.unauthenticated);
        unauthenticated.retain_map(|connection| self.admit(connection).filter(|waits| now < waits.expires));
        self.unauthenticated = unauthenticated;
    }

    /// Takes a connection's first packet. Returns the connection if it has said nothing.
    fn admit(&mut self, mut connection: Connection) -> Option<Connection> {
        let bytes = match wire::receive(&connection.socket) {
            Received::Nothing => return Some(connection),
            Received::Closed => return None,
            Received::Packet(bytes, _) => bytes,
        };
        let (token, before) = match FromProcess::decode(&bytes) {
            Ok(FromProcess::Join { token, before }) => (token, before),
            Ok(FromProcess::Look) => {
                connection.push(ToProcess::Region { host: self.host }.encode(), Attached::Region);
                connection.flush(&self.region, &self.watchman);
                return None;
            }
            Ok(FromProcess::LeaveHost) => {
                self.leave();
                connection.push(ToProcess::HostLeft { host: self.host }.encode(), Attached::None);
                connection.flush(&self.region, &self.watchman);
                return None;
            }
            _ => {
                log::violation(connection.identity.pid, connection.identity.uid);
                return None;
            }
        };
        match self.agent.as_mut()?.join(connection.identity, token, before) {
            Ok(process) => {
                self.looks = 0;
                // It asks again for what it wants watched.
                self.watchman.forget(process);
                self.processes.insert(process, connection);
            }
            Err(text) => {
                let Identity { pid, uid, .. } = connection.identity;
                self.refusals.log(Some(pid), uid, &text);
                connection.push(ToProcess::Refused(text).encode(), Attached::None);
                connection.flush(&self.region, &self.watchman);
            }
        }
        None
    }

    fn recv_packets(&mut self) {
        let Some(agent) = &mut self.agent else { return };
        for (process, connection) in &mut self.processes {
            loop {
                match wire::receive(&connection.socket) {
                    Received::Nothing => break,
                    Received::Closed => {
                        connection.over = true;
                        break;
                    }
                    Received::Packet(bytes, descriptor) => {
                        self.looks = 0;
                        match FromProcess::decode(&bytes) {
                            Ok(FromProcess::Watch { link, place }) => {
                                let watched = self.watchman.add(*process, link, place, descriptor);
                                connection
                                    .push(ToProcess::Watching { link, watched }.encode(), Attached::None);
                            }
                            Ok(FromProcess::Unwatch { link }) => self.watchman.remove(*process, link),
                            Ok(FromProcess::WakeWithin { wake_us }) => {
                                let latency = Duration::from_micros(wake_us.into());
                                self.watchman.set_latency_of(*process, latency);
                            }
                            Ok(FromProcess::WantBell) => {
                                self.watchman.expect_bell(*process);
                                connection.push(ToProcess::Bell.encode(), Attached::Bell);
                            }
                            Ok(packet) => agent.handle(*process, packet),
                            Err(_) => {
                                log::violation(connection.identity.pid, connection.identity.uid);
                                connection.over = true;
                                agent.cut_off(*process);
                            }
                        }
                    }
                }
            }
            connection.over |= connection.pidfd.as_ref().is_some_and(is_gone);
        }
        self.processes.retain(|process, connection| {
            if connection.over {
                // One that only let go of us may still write.
                let gone = connection.pidfd.as_ref().is_none_or(is_gone);
                agent.end(*process, !gone);
                self.watchman.forget(*process);
            }
            !connection.over
        });
    }

    /// Processes that have not come back, or should have ended.
    fn reap_detached(&mut self) {
        let Some(agent) = &mut self.agent else { return };
        for (process, entry) in agent.away() {
            let runs = runs(&entry);
            if !runs {
                agent.end(process, false);
                agent.reap(process);
            }
        }
    }

    fn tell(&mut self) {
        let Some(agent) = &mut self.agent else { return };
        while let Some((process, packet)) = agent.poll() {
            self.looks = 0;
            if let Some(connection) = self.processes.get_mut(&process) {
                let joins = matches!(packet, ToProcess::Joined { .. });
                connection.push(packet.encode(), if joins { Attached::Region } else { Attached::None });
                if connection.over {
                    agent.cut_off(process);
                }
            }
        }
        for connection in self.processes.values_mut() {
            connection.flush(&self.region, &self.watchman);
        }
    }
}

impl Connection {
    fn push(&mut self, packet: Vec<u8>, attached: Attached) {
        self.unread.push_back((packet, attached));
        self.over |= self.unread.len() > MAX_UNREAD;
    }

    fn flush(&mut self, region: &Region, watchman: &Watchman) {
        while let Some((packet, attached)) = self.unread.front() {
            let descriptor = match attached {
                Attached::None => None,
                Attached::Region => Some(region.descriptor()),
                Attached::Bell => Some(watchman.bell()),
            };
            match wire::send(&self.socket, packet, descriptor) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(_) => {
                    self.over = true;
                    self.unread.clear();
                }
                Ok(()) => {
                    self.unread.pop_front();
                }
            }
        }
    }
}

/// Nanoseconds since the host booted, also those it slept.
fn now() -> u64 {
    let time = clock_gettime(ClockId::Boottime);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// Tells this boot from others.
fn boot() -> u32 {
    let id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    id.get(..8).and_then(|hex| u32::from_str_radix(hex, 16).ok()).unwrap_or(0)
}

/// When a process started, in the kernel's ticks since boot. `None` if it has ended, also while its parent
/// has not taken note.
fn start_time(pid: u32) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name, in parentheses, can hold anything.
    let (_, rest) = stat.rsplit_once(')')?;
    let fields: Vec<_> = rest.split_whitespace().collect();
    let [state, threads, start_time] = [0, 17, 19].map(|field| fields.get(field).copied());
    // Its first thread may end before others do.
    let has_ended = matches!(state?, "Z" | "X") && threads? == "1";
    if has_ended { None } else { start_time?.parse().ok() }
}

/// Returns `true` if this process of the present boot still runs.
fn runs(entry: &ProcessEntry) -> bool {
    entry.pid != 0 && start_time(entry.pid) == Some(entry.start_time)
}
