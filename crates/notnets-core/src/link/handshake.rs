//! From a connected socket to an established link, in one round trip.
//!
//! The client's hello brings its first segment, limits and versions; the server's welcome brings
//! those of the server. Either side checks what it receives before it uses it.

use std::any::Any;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use notnets_memory::descriptors::DescriptorLimit;
use notnets_memory::lane::{BadGeometry, FirstSegment, Geometry, LaneError, Lanes};
use notnets_memory::process::{PeerCredentials, peer_credentials, peer_label, peer_pidfd};
use notnets_memory::{PeerSegment, SegmentError, TrustPeerMemory};
use once_cell::race::OnceBox;
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};

use super::label::Label;
use super::packet::{
    BadPacket, Hello, Incarnation, PLACING, Packet, RETIRING, Refusal, SHARING, Terms, VERSIONS,
};
use super::quota::{Meter, UserLink};
use super::segments::{Memfds, SegmentSource};
use super::socket::{Incoming, Socket};
use crate::call::Placing;
use crate::limits::{BadLimits, Limits, ValidLimits};
use crate::random;
use crate::text::shown;

/// The configuration of one side of a link.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    /// The limits on what it receives.
    pub limits: Limits,
    /// The sizes of its first segment.
    pub geometry: Geometry,
    /// Bytes of the peer's payloads that it reads in place at a time. With 0 all payloads are copied.
    pub shared_bytes: u64,
    /// These lie in a region and are read there, on this word, and not in sealed memory. Between hosts alone.
    pub places: Option<TrustPeerMemory>,
}

/// What [`Config::shared_bytes`] is unless set.
pub const SHARED_BYTES: u64 = 1 << 30;

impl Default for Config {
    fn default() -> Self {
        Self {
            limits: Limits::default(),
            geometry: Geometry::default(),
            shared_bytes: SHARED_BYTES,
            places: None,
        }
    }
}

impl Config {
    fn features(self) -> u64 {
        let kind = if self.places.is_some() { PLACING } else { SHARING };
        let sharing = if self.shared_bytes > 0 { kind } else { 0 };
        sharing | RETIRING
    }

    /// Returns `true` if both sides retire segments that they use no more. `peer` is what the peer announced.
    pub fn retires(self, peer: &Terms) -> bool {
        self.features() & peer.features & RETIRING != 0
    }
}

/// Something that is held for as long as a link is used, and is nothing but that to the link.
pub type LinkGuard = Arc<dyn Any + Send + Sync>;

/// A link, ready for calls.
#[derive(Debug)]
pub struct Established {
    /// For doorbells and further segments.
    pub socket: Socket,
    /// Gets readable when the peer's process ends. `None` where the kernel does not support that.
    pub pidfd: Option<OwnedFd>,
    /// Both lanes.
    pub lanes: Lanes,
    /// The limits that the peer announced.
    pub peer_limits: ValidLimits,
    /// Its identity.
    pub peer: PeerIdentity,
    /// A value to hold for as long as the link lives.
    pub guard: Option<LinkGuard>,
    /// What counts the calls of the peer's user, on a server that takes so many to a second.
    pub meter: Option<Meter>,
    /// Where more memory for the link comes from.
    pub source: Box<dyn SegmentSource>,
    /// Bytes of the peer's sealed payloads that are mapped at a time. 0 unless both sides share payloads.
    pub shared_bytes: u64,
    /// Payloads that lie in a region.
    pub placing: Option<Placing>,
    /// Both sides retire further segments that they use no more.
    pub retires: bool,
}

impl Established {
    /// A link of a user that holds this place.
    #[must_use]
    pub fn of_user(mut self, place: Option<UserLink>) -> Self {
        self.meter = place.as_ref().and_then(UserLink::meter);
        self.hold(place)
    }

    /// Holds one more value for as long as the link lives.
    #[must_use]
    pub fn hold<T: Any + Send + Sync>(mut self, value: Option<T>) -> Self {
        if let Some(value) = value {
            self.guard = Some(Arc::new((self.guard.take(), value)));
        }
        self
    }
}

/// The identity of a peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerIdentity {
    /// Its process and user, on its host.
    pub credentials: PeerCredentials,
    /// Its process's random number.
    pub incarnation: Incarnation,
    /// The label of its process, where a security module of this host's kernel gives one.
    pub label: Option<Label>,
    /// A client's user agent; empty for a server.
    pub user_agent: String,
    /// The source of the identity.
    pub identity_source: IdentitySource,
}

/// The source of a peer's identity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IdentitySource {
    /// The kernel that both run on.
    Kernel,
    /// The agent of another host of the pod. Any process that can write the pod's region could forge it.
    Agent {
        /// The number of that host.
        host: u16,
    },
}

/// The failure of a handshake or of a link.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// The kernel refused something.
    #[error("could not {step}: {cause}")]
    Io {
        /// The step that failed.
        step: &'static str,
        /// The kernel's answer.
        cause: io::Error,
    },
    /// The server refused.
    #[error("the server refused the link: {text}")]
    Refused {
        /// Why.
        reason: Refusal,
        /// In a sentence.
        text: String,
    },
    /// The other end closed the connection before the link was established.
    #[error("the other side closed the connection during the handshake")]
    Closed,
    /// The client speaks only versions that we don't.
    #[error("the client speaks versions {}–{} of the protocol, this server {}–{}", .0.0, .0.1, VERSIONS.0, VERSIONS.1)]
    Version((u16, u16)),
    /// A packet that has no place in a handshake.
    #[error("unexpected packet during the handshake")]
    Unexpected,
    /// It does not parse.
    #[error("the other side sent {0}")]
    Packet(BadPacket),
    /// This process has no file descriptor left.
    #[error("no file descriptor is left to {step}: {limit}")]
    NoDescriptors {
        /// The step that failed.
        step: &'static str,
        /// Which limit was reached.
        limit: DescriptorLimit,
    },
    /// The packet should have brought a descriptor.
    #[error("the other side sent no segment")]
    NoSegment,
    /// A segment could not be made or accepted.
    #[error(transparent)]
    Segment(#[from] SegmentError),
    /// The peer's segment is not as announced.
    #[error(transparent)]
    Lane(#[from] LaneError),
    /// The peer's sizes are impossible.
    #[error(transparent)]
    Geometry(#[from] BadGeometry),
    /// The peer's limits are.
    #[error(transparent)]
    Limits(#[from] BadLimits),
}

impl From<BadPacket> for LinkError {
    fn from(packet: BadPacket) -> Self {
        Self::Packet(packet)
    }
}

impl LinkError {
    /// Why the server refused, if it did.
    pub fn refused(&self) -> Option<Refusal> {
        match self {
            Self::Refused { reason, .. } => Some(*reason),
            _ => None,
        }
    }

    /// Returns the rejection to send to the client, if one should be sent.
    fn refusal(&self) -> Option<Refusal> {
        Some(match self {
            Self::Closed | Self::Refused { .. } => return None,
            Self::Version(_) => Refusal::Version,
            Self::Segment(
                SegmentError::Os { .. } | SegmentError::NoDescriptors { .. } | SegmentError::NoHeadroom(_),
            )
            | Self::NoDescriptors { .. }
            | Self::Io { .. } => Refusal::Resources,
            _ => Refusal::Protocol,
        })
    }
}

/// The random number of this process's life.
pub fn incarnation() -> Incarnation {
    static INCARNATION: OnceBox<Incarnation> = OnceBox::new();
    *INCARNATION.get_or_init(|| random::bytes().into())
}

/// The client's side, after its hello.
#[derive(Debug)]
pub struct Dialing {
    socket: Socket,
    own: FirstSegment,
    config: Config,
}

impl Dialing {
    /// Says hello on a connected socket.
    ///
    /// # Errors
    /// When there is no memory for a segment, or the server is gone already.
    pub fn start(socket: Socket, config: Config, name: &str, user_agent: &str) -> Result<Self, LinkError> {
        let own = FirstSegment::create(config.geometry)?;
        let hello = Packet::Hello(hello(config, name, user_agent));
        crate::failpoint!("hello written");
        // A server that rejects before it reads has sent its reason: read that.
        match socket.send(&hello, Some(own.descriptor())) {
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
                return Err(LinkError::Io { step: "say hello to the server", cause: error });
            }
            _ => {}
        }
        crate::failpoint!("hello sent");
        Ok(Self { socket, own, config })
    }

    /// The socket, to wait until it is readable.
    pub fn socket(&self) -> &Socket {
        &self.socket
    }

    /// Takes the server's answer once it is there.
    ///
    /// # Errors
    /// When the server refuses, or answers what it must not.
    pub fn finish(self, answer: Incoming) -> Result<Established, LinkError> {
        match answer {
            Incoming::Packet(Packet::Welcome(terms), descriptor) => {
                crate::failpoint!("welcome read");
                if !is_spoken(terms.version) {
                    return Err(LinkError::Unexpected);
                }
                let parts = establish(&self.socket, self.own, self.config, terms, descriptor, String::new())?;
                Ok(parts.join(self.socket))
            }
            Incoming::Packet(Packet::Refused { reason, text }, _) => {
                Err(LinkError::Refused { reason, text: shown(&text) })
            }
            Incoming::Packet(..) => Err(LinkError::Unexpected),
            Incoming::Closed => Err(LinkError::Closed),
            Incoming::Bad(bad) => Err(bad.into()),
        }
    }
}

/// The server's side: answers a client's hello. On error the rejection has been sent.
///
/// # Errors
/// When the client broke the protocol, or there is no memory for a segment.
pub fn answer(
    socket: Socket,
    hello: Hello,
    descriptor: Option<OwnedFd>,
    config: Config,
) -> Result<Established, LinkError> {
    match try_answer(&socket, hello, descriptor, config) {
        Ok(parts) => Ok(parts.join(socket)),
        Err(error) => {
            if let Some(reason) = error.refusal() {
                refuse(&socket, reason, &error.to_string());
            }
            Err(error)
        }
    }
}

/// Makes a link within this process: the client's end and the server's.
///
/// # Errors
/// When there are no descriptors or no memory for it, or the sizes are impossible.
pub fn pair(
    client: Config,
    server: Config,
    user_agent: &str,
) -> Result<(Established, Established), LinkError> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let sockets = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None);
    let (one, other) = sockets.map_err(io::Error::from).map_err(failed("make a pair of sockets"))?;
    let (one, other) = (Socket::from(one), Socket::from(other));
    let dialing = Dialing::start(one, client, "", user_agent)?;
    let Incoming::Packet(Packet::Hello(hello), descriptor) = other.receive().map_err(failed("say hello"))?
    else {
        return Err(LinkError::Unexpected);
    };
    let served = answer(other, hello, descriptor, server)?;
    let welcome = dialing.socket().receive().map_err(failed("welcome the client"))?;
    Ok((dialing.finish(welcome)?, served))
}

/// Rejects a client. Best effort: it may be gone.
pub fn refuse(socket: &Socket, reason: Refusal, text: &str) {
    let _ = socket.send(&Packet::Refused { reason, text: text.to_owned() }, None);
}

fn try_answer(
    socket: &Socket,
    hello: Hello,
    descriptor: Option<OwnedFd>,
    config: Config,
) -> Result<Parts, LinkError> {
    crate::failpoint!("hello read");
    let version = negotiate(&hello)?;
    let own = FirstSegment::create(config.geometry)?;
    crate::failpoint!("own segment made");
    let offered = own.descriptor().try_clone_to_owned();
    let offered = offered.map_err(failed("share a segment"))?;
    let parts = establish(socket, own, config, hello.terms, descriptor, hello.user_agent)?;
    let welcome = Packet::Welcome(terms(version, config));
    match socket.send(&welcome, Some(offered.as_fd())) {
        // It has ended, or given up.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Err(LinkError::Closed),
        sent => sent.map_err(failed("welcome the client"))?,
    }
    crate::failpoint!("welcome sent");
    Ok(parts)
}

/// An established link but for its socket.
struct Parts {
    pidfd: Option<OwnedFd>,
    lanes: Lanes,
    peer_limits: ValidLimits,
    peer: PeerIdentity,
    shared_bytes: u64,
    retires: bool,
}

impl Parts {
    fn join(self, socket: Socket) -> Established {
        let Self { pidfd, lanes, peer_limits, peer, shared_bytes, retires } = self;
        let source = Box::new(Memfds);
        Established {
            socket,
            pidfd,
            lanes,
            peer_limits,
            peer,
            guard: None,
            meter: None,
            source,
            shared_bytes,
            placing: None,
            retires,
        }
    }
}

/// Maps the kernel's error in a step.
fn failed(step: &'static str) -> impl FnOnce(io::Error) -> LinkError {
    move |cause| match Errno::from_io_error(&cause).and_then(DescriptorLimit::of) {
        Some(limit) => LinkError::NoDescriptors { step, limit },
        None => LinkError::Io { step, cause },
    }
}

/// Why a packet came without its descriptor: the kernel drops it when there is no room for it here.
fn no_segment(socket: &Socket) -> LinkError {
    match socket.as_fd().try_clone_to_owned() {
        Err(error) => failed("receive the other side's segment")(error),
        Ok(_) => LinkError::NoSegment,
    }
}

fn establish(
    socket: &Socket,
    own: FirstSegment,
    config: Config,
    peer: Terms,
    descriptor: Option<OwnedFd>,
    user_agent: String,
) -> Result<Parts, LinkError> {
    let geometry = peer.geometry.check()?;
    let peer_limits = peer.limits.check()?;
    let descriptor = descriptor.ok_or_else(|| no_segment(socket))?;
    let segment = PeerSegment::map(descriptor.as_fd(), geometry.segment_bytes() as u64)?;
    let lanes = Lanes::open(own, &segment, geometry)?;
    crate::failpoint!("peer segment joined");
    let credentials = peer_credentials(socket).map_err(failed("ask who the peer is"))?;
    let pidfd = match peer_pidfd(socket).map_err(failed("watch the other process")) {
        Err(error @ LinkError::NoDescriptors { .. }) => return Err(error),
        // Not supported by the kernel: then only the socket's end shows it.
        pidfd => pidfd.ok(),
    };
    Ok(Parts {
        pidfd,
        lanes,
        peer_limits,
        peer: PeerIdentity {
            credentials,
            incarnation: peer.incarnation,
            label: peer_label(socket).ok().and_then(|label| Label::new(&label)),
            user_agent,
            identity_source: IdentitySource::Kernel,
        },
        retires: config.retires(&peer),
        shared_bytes: if config.features() & peer.features & SHARING != 0 { config.shared_bytes } else { 0 },
    })
}

/// Returns the client's first packet.
pub fn hello(config: Config, name: &str, user_agent: &str) -> Hello {
    Hello {
        versions: VERSIONS,
        terms: terms(VERSIONS.1, config),
        name: name.to_owned(),
        user_agent: user_agent.to_owned(),
    }
}

/// The newest version of the protocol that a client and this process speak.
///
/// # Errors
/// When none was received.
pub fn negotiate(hello: &Hello) -> Result<u16, LinkError> {
    let version = hello.versions.1.min(VERSIONS.1);
    if version < hello.versions.0.max(VERSIONS.0) {
        return Err(LinkError::Version(hello.versions));
    }
    Ok(version)
}

/// Returns `true` if this process speaks a version of the protocol.
pub fn is_spoken(version: u16) -> bool {
    (VERSIONS.0..=VERSIONS.1).contains(&version)
}

/// Returns this process's terms for a peer, in a version of the protocol.
pub fn terms(version: u16, config: Config) -> Terms {
    Terms {
        version,
        features: config.features(),
        incarnation: incarnation(),
        limits: config.limits,
        geometry: config.geometry,
    }
}

#[cfg(test)]
mod tests {
    use notnets_memory::lane::Blocks;

    use super::*;

    fn sockets() -> (Socket, Socket) {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let (a, b) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None).unwrap();
        (a.into(), b.into())
    }

    fn hello(socket: &Socket) -> (Hello, Option<OwnedFd>) {
        let Incoming::Packet(Packet::Hello(hello), descriptor) = socket.receive().unwrap() else { panic!() };
        (hello, descriptor)
    }

    #[test]
    fn a_link_within_a_process_has_two_ends() {
        let (mut client, mut server) = pair(Config::default(), Config::default(), "agent/1").unwrap();
        client.lanes.push([1; 7]);
        server.lanes.push([2; 7]);
        assert_eq!((server.lanes.pop(), client.lanes.pop()), (Some([1; 7]), Some([2; 7])));
        assert_eq!((&*server.peer.user_agent, &*client.peer.user_agent), ("agent/1", ""));
    }

    #[test]
    fn a_link_carries_descriptors_both_ways() {
        let (client, server) = sockets();
        let dialing = Dialing::start(client, Config::default(), "x", "agent/1").unwrap();
        let (greeting, descriptor) = hello(&server);
        assert_eq!((&*greeting.name, &*greeting.user_agent), ("x", "agent/1"));
        let mut server = answer(server, greeting, descriptor, Config::default()).unwrap();
        let welcome = dialing.socket().receive().unwrap();
        let mut client = dialing.finish(welcome).unwrap();
        client.lanes.push([1; 7]);
        server.lanes.push([2; 7]);
        assert_eq!((server.lanes.pop(), client.lanes.pop()), (Some([1; 7]), Some([2; 7])));
        assert_eq!(server.peer.credentials.pid, Some(std::process::id()));
        assert_eq!(server.peer.incarnation, client.peer.incarnation);
    }

    #[test]
    fn what_a_client_must_not_say_is_refused_and_told() {
        type Wrong = fn(&mut Hello);
        let wrong: [(Wrong, Refusal); 4] = [
            (|hello| hello.versions = (2, 9), Refusal::Version),
            (|hello| hello.terms.geometry.slots = 3, Refusal::Protocol),
            (|hello| hello.terms.geometry.large = Blocks { bytes: 64, count: 1 }, Refusal::Protocol),
            (|hello| hello.terms.limits.streams = 0, Refusal::Protocol),
        ];
        for (spoil, expected) in wrong {
            let (client, server) = sockets();
            let dialing = Dialing::start(client, Config::default(), "x", "").unwrap();
            let (mut greeting, descriptor) = hello(&server);
            spoil(&mut greeting);
            answer(server, greeting, descriptor, Config::default()).unwrap_err();
            let refused = dialing.socket().receive().unwrap();
            let Err(LinkError::Refused { reason, .. }) = dialing.finish(refused) else { panic!() };
            assert_eq!(reason, expected);
        }
        let (client, server) = sockets();
        let _dialing = Dialing::start(client, Config::default(), "x", "").unwrap();
        let (greeting, _descriptor) = hello(&server);
        let without = answer(server, greeting, None, Config::default());
        assert!(matches!(without, Err(LinkError::NoSegment)));
    }
}
