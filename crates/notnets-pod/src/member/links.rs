//! From two processes that know of each other to a link: dialling and answering.

use std::sync::Arc;
use std::time::{Duration, Instant};

use notnets_memory::lane::{Blocks, Geometry, Notes};
use notnets_memory::process::PeerCredentials;
use notnets_memory::region::pool::{OwnBlock, Pool};
use notnets_memory::region::{RegionOffset, RegionRange};
use notnets_memory::remote_lanes::{LanePlace, PodSegment, announced_activity};
use notnets_memory::seal::Seal;
use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};

use super::activity::Placed;
use super::payloads::PodPayloads;
use super::peer_message::{PeerMessage, seals};
use super::segments::PodSegments;
use super::state::{Answer, Link, UserEnd, Waiting};
use super::{Arrival, Member, PodError};
use crate::packet::FromProcess;
use crate::table::{Control, ProcessEntry, ProcessId};
use crate::watch::LinkPlace;
use notnets_core::call::Placing;
use notnets_core::link::admission::Rejection;
use notnets_core::link::handshake::{self, Config, Established, IdentitySource, PeerIdentity, incarnation};
use notnets_core::link::packet::{PLACING, Packet, Refusal, Terms};
use notnets_core::name::Name;
use notnets_core::random;
use notnets_core::text::shown;

/// Slots of the first segment of a link between hosts, a page of them, and blocks of the small size.
const SLOTS: u32 = 64;
const SMALL: u32 = 4;

/// How often an entry that can't be read is looked at, and the pause between.
const LOOKS: u32 = 5;
const LOOK_AGAIN: Duration = Duration::from_micros(200);

impl Member {
    /// The error when nobody serves a name.
    pub fn no_service(&self, name: &Name) -> PodError {
        PodError::NoService { pod: self.state().region.superblock().pod.clone(), name: name.clone() }
    }

    /// A link to one that serves the name, through the region. Waits for the answer.
    ///
    /// # Errors
    /// When it is gone, or does not want us before `deadline`.
    pub fn dial_at(
        &self,
        to: ProcessId,
        name: &Name,
        config: Config,
        user_agent: &str,
        deadline: Instant,
    ) -> Result<Established, PodError> {
        let own_id = self.id();
        let config = self.between(config, to.host);
        let (own, lines) = self.segment(config.geometry, to, deadline)?;
        let nonce = random::word();
        let link = self.expect(to);
        let hello = Packet::Hello(handshake::hello(config, name.as_str(), user_agent));
        let offset = own.range().start();
        let message = PeerMessage::Hello { link, nonce, offset, packet: hello.encode() };
        self.send(FromProcess::Send { to, body: message.encode() });
        notnets_core::failpoint!("pod hello posted");
        let answer = self.wait(deadline, |state| state.answer(link));
        let Answer { link: peer_link, nonce: peer_nonce, offset, packet } =
            match answer.and_then(|answer| answer) {
                Ok(answer) => answer,
                Err(error) => {
                    // The server may have taken our segment already.
                    self.state().abandon(link, to, own.lease(), own_id);
                    return Err(error);
                }
            };
        let established = match Packet::decode(&packet) {
            Ok(Packet::Refused { reason, text }) => {
                return Err(PodError::LinkRefused { reason, text: shown(&text) });
            }
            Ok(Packet::Welcome(terms)) if handshake::is_spoken(terms.version) => {
                let seals = seals((incarnation(), nonce), (terms.incarnation, peer_nonce));
                let peer = Peer { id: to, link: peer_link, offset, user_agent: String::new() };
                self.establish((own_id, link), (own, lines), peer, terms, config, seals)
            }
            Ok(_) => Err(PodError::Unexpected),
            Err(bad) => Err(PodError::Packet(bad)),
        };
        if established.is_err() {
            let close = PeerMessage::Close { to: peer_link };
            self.send(FromProcess::Send { to, body: close.encode() });
        }
        established
    }

    /// Makes the link that a client wants.
    ///
    /// # Errors
    /// When the peer broke the protocol, or there is no memory. A rejection has been sent then.
    pub fn answer(
        &self,
        arrival: Arrival,
        config: Config,
        deadline: Instant,
    ) -> Result<Established, PodError> {
        let to = arrival.from;
        let link = arrival.link;
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

    /// Returns a client's identity, vouched for by the agent of its host.
    ///
    /// # Errors
    /// When its entry can't be read: the client has gone, or is not known here yet.
    pub fn client(&self, arrival: &Arrival) -> Result<PeerCredentials, Rejection> {
        self.credentials(arrival.from).ok_or(Rejection::Unknown)
    }

    /// Rejects a client.
    pub fn refuse(&self, arrival: &Arrival, reason: Refusal, text: &str) {
        self.refuse_link(arrival.from, arrival.link, reason, text);
    }

    fn refuse_link(&self, to: ProcessId, link: u32, reason: Refusal, text: &str) {
        let packet = Packet::Refused { reason, text: text.to_owned() }.encode();
        let message = PeerMessage::Answer { to: link, link: 0, nonce: 0, offset: RegionOffset(0), packet };
        self.send(FromProcess::Send { to, body: message.encode() });
    }

    fn try_answer(
        &self,
        arrival: Arrival,
        config: Config,
        deadline: Instant,
    ) -> Result<Established, PodError> {
        let Arrival { from, link: peer_link, nonce: peer_nonce, offset, hello } = arrival;
        let version = handshake::negotiate(&hello).map_err(|_| PodError::Unexpected)?;
        let own_id = self.id();
        let config = self.between(config, from.host);
        let (own, lines) = self.segment(config.geometry, from, deadline)?;
        let nonce = random::word();
        let own_offset = own.range().start();
        let link = self.state().number();
        let (client, server) = seals((hello.terms.incarnation, peer_nonce), (incarnation(), nonce));
        let peer = Peer { id: from, link: peer_link, offset, user_agent: hello.user_agent };
        let established =
            self.establish((own_id, link), (own, lines), peer, hello.terms, config, (server, client))?;
        let packet = Packet::Welcome(handshake::terms(version, config)).encode();
        let message = PeerMessage::Answer { to: peer_link, link, nonce, offset: own_offset, packet };
        self.send(FromProcess::Send { to: from, body: message.encode() });
        notnets_core::failpoint!("pod welcome posted");
        Ok(established)
    }

    fn establish(
        &self,
        (own_id, link): (ProcessId, u32),
        (own, lines): (PodSegment, Option<Lines>),
        peer: Peer,
        terms: Terms,
        config: Config,
        seals: (Seal, Seal),
    ) -> Result<Established, PodError> {
        let region = self.region();
        let geometry = terms.geometry.check().map_err(|_| PodError::Unexpected)?;
        let peer_limits = terms.limits.check()?;
        let start = peer.offset;
        let host = peer.id.host;
        let range = RegionRange::new(start, geometry.segment_bytes());
        let inside = range.is_some_and(|range| region.layout().is_in_extents(host.into(), range));
        if !inside || !start.is_aligned(notnets_memory::PAGE) {
            return Err(PodError::Place(host));
        }
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let (socket, end) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)
            .map_err(|errno| PodError::Io { step: "make a link's socket", cause: errno.into() })?;
        epoll::add(&self.0.shared.closings, &end, EventData::new_u64(link.into()), EventFlags::RDHUP)
            .map_err(|errno| PodError::Io { step: "watch a link's socket", cause: errno.into() })?;
        let lease = own.lease();
        let lanes = LanePlace { own: own.range().start(), peer: start, peer_slots: geometry.slots };
        let (activity, waits) =
            (announced_activity(&region, start), lines.as_ref().map(|lines| lines.waits.1));
        let place = LinkPlace { lanes, peer: peer.id, activity, waits };
        if !place.is_valid(&region, own_id.host) {
            return Err(PodError::Place(host));
        }
        let lanes = own.open(&region, start, geometry, seals).map_err(PodError::Lane)?;
        let lanes = match lines {
            Some(Lines { pushed: (pushed, _), waits: (waits, _) }) => {
                let bell = Arc::clone(&self.state().bell);
                let parks = (Arc::clone(&waits), bell);
                lanes.with_notes(Notes { pushed: (pushed, peer.link), waits: (waits, link), parks })
            }
            None => lanes,
        };
        let credentials = self.credentials(peer.id).ok_or(PodError::Gone(host))?;
        let identity = PeerIdentity {
            credentials,
            incarnation: terms.incarnation,
            label: None,
            user_agent: peer.user_agent,
            identity_source: IdentitySource::Agent { host },
        };
        let end = UserEnd { socket: Arc::new(end), place };
        let begun = Link::new(peer.id, peer.link, end, lease);
        let (inbox, claims) = (Arc::clone(&begun.inbox), Arc::clone(&begun.claims));
        let source = PodSegments::new(self.clone(), link, (peer.id, peer.link), inbox);
        // The peer's agent knows claims if the peer reads payloads where they lie.
        let sends = terms.features & PLACING != 0 && self.can_place(host);
        let bytes = if config.places.is_some() { config.shared_bytes } else { 0 };
        let placing = (sends || bytes > 0).then(|| {
            let places = Box::new(PodPayloads::new(self.clone(), link, config.places, claims));
            Placing { places, sends, bytes }
        });
        self.begin(link, begun, own_id);
        Ok(Established {
            socket: socket.into(),
            pidfd: None,
            lanes,
            peer_limits,
            peer: identity,
            guard: Some(self.guard()),
            meter: None,
            source: Box::new(source),
            // No descriptor goes to another host.
            shared_bytes: 0,
            placing,
            retires: config.retires(&terms),
        })
    }

    /// What is said to a process of that host. Payloads are read where they lie only if the agent publishes
    /// that, so that their memory is kept.
    fn between(&self, config: Config, host: u16) -> Config {
        let config = Config { limits: config.limits.between_hosts(), ..config };
        if config.places.is_some() && self.can_place(host) {
            return config;
        }
        Config { shared_bytes: 0, places: None, ..config }
    }

    /// Returns `true` if payloads can be shared with a process of that host. The end of one on this host is
    /// not acknowledged by its peers here, so claims could not be passed on to them.
    fn can_place(&self, host: u16) -> bool {
        host != self.host() && self.agent_knows_claims()
    }

    /// Returns a process's identity, vouched for by its agent.
    pub(super) fn credentials(&self, id: ProcessId) -> Option<PeerCredentials> {
        // Its agent may be writing the entry just now.
        let entry = (0..LOOKS).find_map(|look| {
            if look > 0 {
                std::thread::sleep(LOOK_AGAIN);
            }
            self.process(id)
        })?;
        Some(PeerCredentials { pid: Some(entry.pid), uid: entry.uid, gid: entry.gid })
    }

    /// A process that lives, as its host's agent has it in its table.
    pub(super) fn process(&self, id: ProcessId) -> Option<ProcessEntry> {
        let region = self.region();
        let memory = region.peer(region.layout().control(id.host.into())).expect("within the region");
        let control = Control::of_peer(memory, *region.layout(), region.superblock().uuid, id.host);
        (usize::from(id.process) < region.layout().processes())
            .then(|| control.process(id.process.into()))
            .flatten()
            .filter(|entry| entry.alive && entry.generation == id.generation)
    }

    /// A first segment for a link with `peer`, of what was granted or what is granted now. Without memory for
    /// lines beside it the link is looked at each time.
    fn segment(
        &self,
        geometry: Geometry,
        peer: ProcessId,
        deadline: Instant,
    ) -> Result<(PodSegment, Option<Lines>), PodError> {
        let block = self.block(geometry.segment_bytes(), deadline)?;
        let lines = self.lines(peer);
        let activity = lines.as_ref().map(|lines| lines.pushed.1);
        Ok((PodSegment::new(block, geometry, activity), lines))
    }

    fn lines(&self, peer: ProcessId) -> Option<Lines> {
        let mut state = self.state();
        let (pool, own) = (state.pool.clone(), state.id);
        let mut line = |of| state.activity.line(&pool, of);
        Some(Lines { pushed: line(peer)?, waits: line(own)? })
    }

    /// Memory of this host's partition that this process writes, of what was granted or what is granted now.
    ///
    /// # Errors
    /// When nobody serves it, or the agent does not answer.
    pub fn block(&self, bytes: usize, deadline: Instant) -> Result<OwnBlock, PodError> {
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
                return Ok(block);
            }
            self.send(FromProcess::Grant { more: false });
            self.wait(deadline, |state| {
                if state.granted != granted {
                    return Some(Ok(()));
                }
                std::mem::take(&mut state.full).then_some(Err(PodError::Full))
            })??;
        }
    }

    fn expect(&self, peer: ProcessId) -> u32 {
        let mut state = self.state();
        let link = state.number();
        state.waiting.insert(link, Waiting::For(peer));
        link
    }

    fn begin(&self, link: u32, begun: Link, id: ProcessId) {
        self.state().begin(link, begun, id);
        self.0.shared.wake();
    }
}

/// The lines in which this side of a link notes what it pushes, and that it waits for room.
struct Lines {
    pushed: Placed,
    waits: Placed,
}

/// The other end of a link to be.
struct Peer {
    id: ProcessId,
    link: u32,
    offset: RegionOffset,
    user_agent: String,
}

/// A first segment for a link between hosts: 28 KiB, unless the large block has to be larger. A host may
/// have very many links, of which few are busy at a time, and its memory is not given out page by page as
/// that of a memfd is. A busy link gets further segments.
pub fn between_hosts(first: Geometry) -> Geometry {
    Geometry { slots: SLOTS, small: Blocks { count: SMALL, ..first.small }, ..first }
}
