//! A process's membership in a pod: links with processes on other hosts.
//!
//! A [`Member`] has one connection to the agent of its host and one thread, the *watcher*, which speaks with
//! the agent and polls the lanes of all links for those who park. To its user a link looks as one on the same
//! host: it has a [`Socket`], whose other end the watcher holds. The watcher rings it when there is something
//! in the lanes, and closes it when the peer is gone.
//!
//! | file | what |
//! | --- | --- |
//! | `mod.rs` | joining, serving, dialling, answering: these wait, so call them where that is allowed |
//! | `letter.rs` | what two processes write to each other to make a link |
//! | `watcher.rs` | the thread |
//! | `state.rs` | what they share |

mod letter;
mod state;
mod watcher;

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::{Duration, Instant};

use notnets_memory::lane::{Geometry, LaneError};
use notnets_memory::process::PeerCredentials;
use notnets_memory::region::Region;
use notnets_memory::region::pool::Pool;
use notnets_memory::watch::PodSegment;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};

use super::packet::FromProcess;
use super::table::{Address, Control};
use crate::limits::{BadLimits, Limits};
use crate::link::handshake::{Config, Established, PeerIdentity, Vouched, incarnation};
use crate::link::packet::{BadPacket, Hello, Packet, Refusal, Terms, VERSIONS};
use crate::link::rendezvous::Directory;
use crate::name::Name;
use letter::{Letter, seals};
use state::{Answer, Link, Shared, State, Waiting};

pub use watcher::WAKE_LATENCY;

/// A process's place in a pod. Clones are the same.
#[derive(Clone, Debug)]
pub struct Member(Arc<Membership>);

/// A process's place in a pod, not held on to.
#[derive(Clone, Debug)]
pub struct WeakMember(Weak<Membership>);

impl WeakMember {
    /// It, if somebody still holds it.
    pub fn upgrade(&self) -> Option<Member> {
        self.0.upgrade().map(Member)
    }
}

#[derive(Debug)]
struct Membership {
    shared: Arc<Shared>,
}

/// Why there is no link to a process of a pod.
#[derive(Debug, thiserror::Error)]
pub enum PodError {
    /// No agent of this pod on this host.
    #[error(
        "no agent of the pod {pod} answers at {path}: start one with `notnets agent --region … --host-id …` ({source})"
    )]
    NoAgent {
        /// The pod.
        pod: Name,
        /// Where its agent would listen.
        path: String,
        /// What happened.
        source: io::Error,
    },
    /// The agent does not want us, or not now.
    #[error("the agent of the pod says: {0}")]
    Refused(String),
    /// It was there, and is gone for longer than the lease.
    #[error("the agent of the pod is gone")]
    AgentGone,
    /// No host serves the name.
    #[error("no host of the pod {pod} serves {name}")]
    NoService {
        /// The pod.
        pod: String,
        /// The name.
        name: Name,
    },
    /// This host has no memory left for links.
    #[error("this host's part of the pod's region is full")]
    Full,
    /// A link's first segment is larger than what an agent grants at once.
    #[error(
        "a link takes {bytes} bytes, and the extents of the pod's region have {extent}: allow less metadata, or format the region with a larger --extent"
    )]
    Extent {
        /// Bytes of the segment.
        bytes: usize,
        /// Bytes of an extent.
        extent: usize,
    },
    /// Nothing came in time.
    #[error("the other host did not answer in time")]
    TimedOut,
    /// The peer ended, or its host.
    #[error("the process on host {0} is gone")]
    Gone(u16),
    /// The server refused.
    #[error("the server refused the link, saying: {text}")]
    LinkRefused {
        /// Why.
        reason: Refusal,
        /// In a sentence.
        text: String,
    },
    /// The peer said what it must not.
    #[error("the process on the other host said something else than the handshake asks for")]
    Unexpected,
    /// It does not parse.
    #[error("the process on the other host sent {0}")]
    Packet(#[from] BadPacket),
    /// Its limits are impossible.
    #[error(transparent)]
    Limits(#[from] BadLimits),
    /// Its segment is not where it may be, or not what it said.
    #[error("the segment of the process on the other host can't be used: {0}")]
    Lane(#[from] LaneError),
    /// Its segment is outside of its host's extents.
    #[error("the process on host {0} offers memory that is not its host's")]
    Place(u16),
    /// The kernel refused something.
    #[error("could not {step}: {source}")]
    Io {
        /// What was tried.
        step: &'static str,
        /// The kernel's answer.
        source: io::Error,
    },
}

/// A client on another host wants a link. Answer it.
#[derive(Debug)]
pub struct Arrival {
    from: Address,
    link: u32,
    nonce: u64,
    place: u64,
    /// What it said.
    pub hello: Hello,
}

/// Who is told of arrivals, on the watcher's thread: hand them on, and do nothing there that takes long.
pub type OnArrival = Box<dyn Fn(Arrival) + Send + Sync>;

impl Member {
    /// This process in the pod of that name, by the agent in this directory. Joins if it has not yet.
    ///
    /// # Errors
    /// When there is no agent, or it does not want us before `deadline`.
    pub fn of(directory: &Directory, pod: &Name, deadline: Instant) -> Result<Self, PodError> {
        static MEMBERS: OnceLock<Mutex<HashMap<std::path::PathBuf, Weak<Membership>>>> = OnceLock::new();
        let path = super::daemon::socket_path(directory, pod);
        let mut members = lock(MEMBERS.get_or_init(Mutex::default));
        if let Some(membership) = members.get(&path).and_then(Weak::upgrade) {
            return Ok(Self(membership));
        }
        let shared = watcher::start(&path, pod, deadline)?;
        let membership = Arc::new(Membership { shared });
        members.insert(path, Arc::downgrade(&membership));
        Ok(Self(membership))
    }

    /// The same, without keeping the process in the pod.
    pub fn downgrade(&self) -> WeakMember {
        WeakMember(Arc::downgrade(&self.0))
    }

    /// The region that it shares with others.
    pub fn region(&self) -> Region {
        self.state().region.clone()
    }

    /// The number of this host.
    pub fn host(&self) -> u16 {
        self.state().address.host
    }

    /// Serves a name: arrivals for it are told from now on.
    ///
    /// # Errors
    /// When the host can serve no more names.
    pub fn serve(&self, name: &Name, on_arrival: OnArrival, deadline: Instant) -> Result<(), PodError> {
        self.state().services.insert(name.clone(), Arc::new(on_arrival));
        self.say(FromProcess::Serve(name.clone()));
        let refused = self.wait(deadline, |state| state.serving.remove(name))?;
        match refused {
            None => Ok(()),
            Some(text) => {
                self.state().services.remove(name);
                Err(PodError::Refused(text))
            }
        }
    }

    /// Serves it no more.
    pub fn unserve(&self, name: &Name) {
        self.state().services.remove(name);
        self.say(FromProcess::Unserve(name.clone()));
    }

    /// Who serves a name, nearest first.
    ///
    /// # Errors
    /// When the agent does not answer.
    pub fn resolve(&self, name: &Name, deadline: Instant) -> Result<Vec<Address>, PodError> {
        let query = self.state().number();
        self.say(FromProcess::Resolve { query, name: name.clone() });
        self.wait(deadline, |state| state.resolved.remove(&query))
    }

    /// A link to whoever serves the name, nearest first. Waits for the answer.
    ///
    /// # Errors
    /// When nobody does, or none of them wants us before `deadline`.
    pub fn dial(
        &self,
        name: &Name,
        config: Config,
        user_agent: &str,
        deadline: Instant,
    ) -> Result<Established, PodError> {
        let places = self.resolve(name, deadline)?;
        let pod = || self.state().region.superblock().pod.clone();
        let mut failed = None;
        for place in places {
            match self.dial_at(place, name, config, user_agent, deadline) {
                Ok(established) => return Ok(established),
                Err(error) => failed = Some(error),
            }
        }
        Err(failed.unwrap_or_else(|| PodError::NoService { pod: pod(), name: name.clone() }))
    }

    fn dial_at(
        &self,
        to: Address,
        name: &Name,
        config: Config,
        user_agent: &str,
        deadline: Instant,
    ) -> Result<Established, PodError> {
        let (own, nonce) = (self.segment(config.geometry, deadline)?, nonce());
        let link = self.expect(to);
        let hello = Packet::Hello(Hello {
            versions: VERSIONS,
            terms: terms(VERSIONS.1, config),
            name: name.as_str().to_owned(),
            user_agent: user_agent.to_owned(),
        });
        let place = own.place().start as u64;
        let letter = Letter::Hello { link, nonce, place, packet: hello.encode() };
        self.say(FromProcess::Send { to, body: letter.encode() });
        let answer = self.wait(deadline, |state| state.answer(link));
        let Answer { link: peer_link, nonce: peer_nonce, place, packet } =
            match answer.and_then(|answer| answer) {
                Ok(answer) => answer,
                Err(error) => {
                    // The server may have taken our segment already.
                    self.forsake(link, to, &own);
                    return Err(error);
                }
            };
        let established = match Packet::decode(&packet) {
            Ok(Packet::Refused { reason, text }) => return Err(PodError::LinkRefused { reason, text }),
            Ok(Packet::Welcome(terms)) if (VERSIONS.0..=VERSIONS.1).contains(&terms.version) => {
                let seals = seals((incarnation(), nonce), (terms.incarnation, peer_nonce));
                let peer = Peer { address: to, link: peer_link, place, user_agent: String::new() };
                self.establish(link, own, peer, terms, seals)
            }
            Ok(_) => Err(PodError::Unexpected),
            Err(bad) => Err(bad.into()),
        };
        if established.is_err() {
            let close = Letter::Close { to: peer_link };
            self.say(FromProcess::Send { to, body: close.encode() });
        }
        established
    }

    /// Makes the link that a client wants.
    ///
    /// # Errors
    /// When it said what it must not, or there is no memory. It has been told then.
    pub fn answer(
        &self,
        arrival: Arrival,
        config: Config,
        deadline: Instant,
    ) -> Result<Established, PodError> {
        let (to, link) = (arrival.from, arrival.link);
        let made = self.try_answer(arrival, config, deadline);
        if let Err(error) = &made {
            let reason = match error {
                PodError::Full | PodError::Extent { .. } | PodError::Io { .. } => Refusal::Resources,
                _ => Refusal::Protocol,
            };
            self.refuse_link(to, link, reason, &error.to_string());
        }
        made
    }

    /// Who a client is, as the agent of its host says.
    pub fn client(&self, arrival: &Arrival) -> PeerCredentials {
        self.credentials(arrival.from)
    }

    /// Tells a client that there will be no link.
    pub fn refuse(&self, arrival: &Arrival, reason: Refusal, text: &str) {
        self.refuse_link(arrival.from, arrival.link, reason, text);
    }

    fn refuse_link(&self, to: Address, link: u32, reason: Refusal, text: &str) {
        let packet = Packet::Refused { reason, text: text.to_owned() }.encode();
        let letter = Letter::Answer { to: link, link: 0, nonce: 0, place: 0, packet };
        self.say(FromProcess::Send { to, body: letter.encode() });
    }

    fn try_answer(
        &self,
        arrival: Arrival,
        config: Config,
        deadline: Instant,
    ) -> Result<Established, PodError> {
        let Arrival { from, link: peer_link, nonce: peer_nonce, place, hello } = arrival;
        let version = hello.versions.1.min(VERSIONS.1);
        if version < hello.versions.0.max(VERSIONS.0) {
            return Err(PodError::Unexpected);
        }
        let (own, nonce) = (self.segment(config.geometry, deadline)?, nonce());
        let own_place = own.place().start as u64;
        let link = self.state().number();
        let (client, server) = seals((hello.terms.incarnation, peer_nonce), (incarnation(), nonce));
        let peer = Peer { address: from, link: peer_link, place, user_agent: hello.user_agent };
        let established = self.establish(link, own, peer, hello.terms, (server, client))?;
        let packet = Packet::Welcome(terms(version, config)).encode();
        let letter = Letter::Answer { to: peer_link, link, nonce, place: own_place, packet };
        self.say(FromProcess::Send { to: from, body: letter.encode() });
        Ok(established)
    }

    fn establish(
        &self,
        link: u32,
        own: PodSegment,
        peer: Peer,
        terms: Terms,
        seals: (notnets_memory::seal::Seal, notnets_memory::seal::Seal),
    ) -> Result<Established, PodError> {
        let region = self.region();
        let geometry = terms.geometry.check().map_err(|_| PodError::Unexpected)?;
        let peer_limits = terms.limits.check()?;
        let start = usize::try_from(peer.place).unwrap_or(usize::MAX);
        let end = start.saturating_add(geometry.segment_bytes());
        let host = peer.address.host;
        let inside = region.layout().is_in_extents(host.into(), &(start..end));
        if !inside || !start.is_multiple_of(notnets_memory::PAGE) {
            return Err(PodError::Place(host));
        }
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let (socket, end) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)
            .map_err(|errno| PodError::Io { step: "make a link's socket", source: errno.into() })?;
        let lease = own.lease();
        let (lanes, watch) = own.open(&region, start, geometry, seals)?;
        let credentials = self.credentials(peer.address);
        let identity = PeerIdentity {
            credentials,
            incarnation: terms.incarnation,
            user_agent: peer.user_agent,
            vouched: Vouched::Agent { host },
        };
        self.begin(link, Link::new(peer.address, peer.link, end, watch, lease));
        // More segments are offered with descriptors, which don't cross hosts.
        let peer_limits = Limits { segment_bytes: 0, ..peer_limits };
        Ok(Established {
            socket: socket.into(),
            pidfd: None,
            lanes,
            peer_limits,
            peer: identity,
            member: Some(self.clone()),
        })
    }

    /// What its agent says of a process.
    fn credentials(&self, address: Address) -> PeerCredentials {
        let region = self.region();
        let memory = region.peer(region.layout().control(address.host.into())).expect("within the region");
        let control = Control::of_peer(memory, *region.layout(), region.superblock().uuid, address.host);
        let entry = (usize::from(address.process) < region.layout().processes())
            .then(|| control.process(address.process.into()))
            .flatten()
            .filter(|entry| entry.lives && entry.life == address.life);
        match entry {
            Some(entry) => PeerCredentials { pid: Some(entry.pid), uid: entry.uid, gid: entry.gid },
            None => PeerCredentials { pid: None, uid: u32::MAX, gid: u32::MAX },
        }
    }

    /// A first segment, of what was granted or what is granted now.
    fn segment(&self, geometry: Geometry, deadline: Instant) -> Result<PodSegment, PodError> {
        let bytes = geometry.segment_bytes();
        loop {
            let (pool, granted) = {
                let state = self.state();
                let extent = state.region.layout().extent_bytes();
                if bytes > extent {
                    return Err(PodError::Extent { bytes, extent });
                }
                (state.pool.clone(), state.granted)
            };
            if let Some(block) = Pool::allocate(&pool, bytes) {
                return Ok(PodSegment::new(block, geometry));
            }
            self.say(FromProcess::Grant);
            self.wait(deadline, |state| match state.granted != granted {
                true => Some(Ok(())),
                false => std::mem::take(&mut state.full).then_some(Err(PodError::Full)),
            })??;
        }
    }

    fn expect(&self, peer: Address) -> u32 {
        let mut state = self.state();
        let link = state.number();
        state.waiting.insert(link, Waiting::For(peer));
        link
    }

    /// A link that did not come about: its segment is kept until the peer can't read it any more.
    fn forsake(&self, link: u32, peer: Address, own: &PodSegment) {
        let mut state = self.state();
        state.waiting.remove(&link);
        if !state.is_gone(peer) {
            state.links.insert(link, Link::forsaken(peer, own.lease()));
        }
    }

    fn begin(&self, link: u32, begun: Link) {
        self.state().begin(link, begun);
        self.0.shared.wake();
    }

    fn say(&self, packet: FromProcess) {
        self.state().to_agent.push_back(packet);
        self.0.shared.wake();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.0.shared.state)
    }

    /// Waits until `find` finds what it looks for.
    fn wait<T>(
        &self,
        deadline: Instant,
        mut find: impl FnMut(&mut State) -> Option<T>,
    ) -> Result<T, PodError> {
        let mut state = self.state();
        loop {
            if let Some(found) = find(&mut state) {
                return Ok(found);
            }
            if state.agent_gone {
                return Err(PodError::AgentGone);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left == Duration::ZERO {
                return Err(PodError::TimedOut);
            }
            let waited = self.0.shared.changed.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

impl Drop for Membership {
    fn drop(&mut self) {
        lock(&self.shared.state).stop = true;
        self.shared.wake();
    }
}

/// The other end of a link to be.
struct Peer {
    address: Address,
    link: u32,
    place: u64,
    user_agent: String,
}

fn terms(version: u16, config: Config) -> Terms {
    let Config { limits, geometry } = config;
    Terms { version, features: 0, incarnation: incarnation(), limits, geometry }
}

fn nonce() -> u64 {
    let random = crate::link::handshake::random();
    u64::from_le_bytes(random[..8].try_into().expect("8 bytes"))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
