//! RPC semantics over two lanes, without I/O: streams, metadata, deadlines, cancellation, flow
//! control, status.
//!
//! A [`Connection`] is one side of a link. It takes the peer's descriptors and the time, and produces
//! its own descriptors and [`Event`]s. It never waits, spawns or reads a clock, so a pair of them
//! is tested without threads (`pair.rs`), and the same machine serves every runtime.
//!
//! The rules that keep it live and bounded:
//!
//! - receiving ([`Connection::receive`]) never waits for sending;
//! - data that are received and not yet taken are bounded by the stream's window and the link's;
//! - data that can't be pushed now stay with their caller, which gets [`Event::Writable`]; control frames
//!   take one slot for each stream;
//! - waiting resets are applied before waiting requests are started.
//!
//! `T` is a value that the user attaches to each stream, such as its wakers.

mod backlog;
mod control;
mod counting;
mod credit;
mod ending;
mod fetched;
mod gathering;
mod inbound;
mod lending;
mod loans;
mod outbound;
mod payloads;
mod places;
mod plan;
mod queue;
mod reading;
mod sharing;
mod state;
mod stream;
mod streams;
mod unfinished;

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use notnets_memory::arena::BadReference;
use notnets_memory::lane::{Blocks, Lanes};
use notnets_memory::ring::BadTaken;
use notnets_memory::{OwnMemory, PeerMemory, ReadMemory, Sealed, WriteMemory};

use crate::clock::Timestamp;
use crate::frame::{BadFrame, Kind};
use crate::limits::ValidLimits;
use crate::metadata::{BadHead, KeyTooLong, Metadata};
use crate::stats::LinkCounters;
use crate::strings::{StringReader, StringWriter};
use control::Control;
use lending::Lending;
use loans::Loans;
use sharing::Sharing;
use streams::Streams;

pub use crate::stream_id::StreamId;
pub use backlog::Backlog;
pub use lending::LEAST_LENT;
pub use loans::LEAST_LOANED;
pub use payloads::{PayloadKind, Payloads, Tally};
pub use places::{Place, Places, Placing};
pub use sharing::{MAX_PAYLOADS, SharedPayloads};
pub use stream::{Buffered, End, Failure, Received, ResponseHead};

/// What an entry of a head takes in private memory besides its bytes: its place in a list, and a key that is
/// not known yet.
const ENTRY_BYTES: usize = 80;
/// Entries of each call for which there is always room.
const ENTRIES: u64 = 16;

/// Which side of a link this is. Only clients open streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Dials and calls.
    Client,
    /// Accepts and answers.
    Server,
}

/// An event for the application.
#[derive(Debug, PartialEq, Eq)]
pub enum Event<T> {
    /// Something can be received on this stream.
    Readable(StreamId),
    /// Something could not be sent on this stream and may fit now.
    Writable(StreamId),
    /// Server: the client has gone, or the deadline has passed. Nothing more can be sent.
    Cancelled(StreamId, Option<T>),
    /// This side is done with a stream. A task that still reads it has to be woken.
    Over(T),
    /// Client: a stream could not be opened and may be now.
    CanOpen,
    /// Client: the server takes no new streams. Server: the client has acknowledged that.
    GoAway,
    /// The peer answered a ping.
    Pong(u64),
}

/// A request that a server accepted.
#[derive(Debug)]
#[non_exhaustive]
pub struct Request {
    /// Its stream.
    pub stream: StreamId,
    /// The path: `/package.Service/Method`.
    pub method: Arc<str>,
    /// The client's metadata.
    pub metadata: Metadata,
    /// When it ends.
    pub deadline: Option<Timestamp>,
}

/// When a call ends, and how that travels. Made by [`Connection::deadline`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deadline {
    at: Timestamp,
    /// As it travels: 0 would mean no deadline.
    on_wire: u64,
}

/// How much of what was to be sent has been.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sent {
    /// Everything.
    All,
    /// The head, and some of the data: go on with [`Connection::send`] after [`Event::Writable`].
    Part,
    /// Nothing: try again after [`Event::Writable`] (or [`Event::CanOpen`]).
    Nothing,
    /// The stream takes nothing any more; look at what is received.
    Stopped,
}

/// The outcome of opening a stream for a client's call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpenOutcome {
    /// The call has this stream, and this much of its data was sent.
    Opened(StreamId, Sent),
    /// There is no room, or no stream is free: try again after [`Event::CanOpen`].
    Blocked,
    /// The server goes away: this link takes no new calls.
    Draining,
}

/// Credit over all streams of a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinkCredit {
    /// Bytes that this side may still send.
    pub to_send: u64,
    /// Bytes that the application took and that are not yet announced to the peer.
    pub to_give: u64,
}

/// A head that the peer would not accept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HeadError {
    /// Over the receiver's limit.
    #[error(
        "the metadata take {bytes} bytes, over the limit of {limit}: send less, or raise max_metadata_size on both sides"
    )]
    TooLarge {
        /// Bytes of the head.
        bytes: usize,
        /// The limit that the peer announced, or the size of our largest block.
        limit: usize,
    },
    /// One key or the method path is.
    #[error(transparent)]
    Key(#[from] KeyTooLong),
}

/// A breach of the protocol by the peer. It closes the link.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// A descriptor that is not a valid frame.
    #[error("the peer sent {0}")]
    Frame(#[from] BadFrame),
    /// A payload outside of its segments.
    #[error(transparent)]
    Reference(#[from] BadReference),
    /// A word of its own that can't be true.
    #[error(transparent)]
    Taken(#[from] BadTaken),
    /// A head that does not parse.
    #[error("the peer sent {0}")]
    Head(#[from] BadHead),
    /// A head over the limit that we announced.
    #[error("the peer sent {bytes} bytes of metadata, over our limit of {limit}")]
    HeadTooLarge {
        /// The bytes that it sent.
        bytes: usize,
        /// The limit that we announced.
        limit: u32,
    },
    /// More data than it has credit for.
    #[error("the peer sent data beyond its window on stream {0}")]
    Window(StreamId),
    /// More streams that it does not read the end of than it may have open.
    #[error("the peer leaves the ends of {0} streams unread and goes on opening more")]
    Unread(usize),
    /// A payload that was not shared, or bytes that are not in it.
    #[error("the peer refers to the payload {0}, or to bytes of it, that it has not shared")]
    Payload(u32),
    /// A frame that has no place there.
    #[error("the peer sent a {1:?} frame on stream {0}, where it has no place")]
    State(StreamId, Kind),
}

/// One side of a link.
#[derive(Debug)]
pub struct Connection<T, W = OwnMemory, R = PeerMemory> {
    role: Role,
    lanes: Lanes<W, R>,
    own: ValidLimits,
    peer: ValidLimits,
    streams: Streams<T>,
    /// The last stream that was opened.
    last: StreamId,
    /// Streams that count against the server's limit.
    active: u32,
    /// Server: streams with a request that the application has not accepted.
    arrived: VecDeque<(StreamId, Arc<str>, Metadata)>,
    /// Server: bytes that the heads of open calls take, and may take.
    heads: u64,
    heads_limit: u64,
    /// Bytes of messages that have come in part.
    unfinished: u64,
    send_credit: u64,
    receive_credit: u64,
    /// Taken by the application since the peer was last given link credit.
    taken: u64,
    send_strings: StringWriter,
    receive_strings: StringReader,
    control: Control,
    /// Streams that wait for room in the ring or for a block.
    queued: VecDeque<StreamId>,
    /// Streams that wait for link credit.
    starved: BTreeSet<StreamId>,
    /// A call waits to open a stream.
    wants_open: bool,
    /// Server: GOAWAY was sent.
    going_away: bool,
    /// No new streams are opened or taken.
    draining: bool,
    deadlines: BTreeSet<(Timestamp, StreamId)>,
    events: VecDeque<Event<T>>,
    wants_segment: Option<Blocks>,
    /// Blocks of more segments may be asked for.
    may_grow: bool,
    violation: Option<Violation>,
    /// The peer has another clock: deadlines travel as the time that is left.
    sends_time_left: bool,
    /// Bytes of blocks that the present batch may still take.
    bytes_left: usize,
    /// The last data that were looked at were for nobody.
    unwanted: bool,
    /// The lanes are out of reach.
    detached: bool,
    /// Payloads in sealed memory.
    sharing: Sharing,
    /// Payloads that are read where they are.
    lending: Lending,
    /// Blocks that the application fills.
    loans: Loans,
    payloads: Payloads,
    /// Of this link, for tools.
    counters: Option<LinkCounters>,
    scratch: Vec<u8>,
}

impl<T, W: WriteMemory, R: ReadMemory> Connection<T, W, R> {
    /// One side of a link over these lanes, with what each side announced.
    pub fn new(role: Role, lanes: Lanes<W, R>, own: ValidLimits, peer: ValidLimits) -> Self {
        Self {
            role,
            lanes,
            own,
            peer,
            streams: Streams::new(),
            last: StreamId::LINK,
            active: 0,
            arrived: VecDeque::new(),
            heads: 0,
            heads_limit: u64::from(own.streams)
                * (u64::from(own.metadata_bytes) + ENTRIES * ENTRY_BYTES as u64),
            unfinished: 0,
            send_credit: peer.link_window.into(),
            receive_credit: own.link_window.into(),
            taken: 0,
            send_strings: StringWriter::default(),
            receive_strings: StringReader::default(),
            control: Control::default(),
            queued: VecDeque::new(),
            starved: BTreeSet::new(),
            wants_open: false,
            going_away: false,
            draining: false,
            deadlines: BTreeSet::new(),
            events: VecDeque::new(),
            wants_segment: None,
            may_grow: true,
            violation: None,
            sends_time_left: false,
            bytes_left: 0,
            unwanted: false,
            detached: false,
            sharing: Sharing::new(),
            lending: Lending::default(),
            loans: Loans::default(),
            payloads: Payloads::default(),
            counters: None,
            scratch: Vec::new(),
        }
    }

    /// Sends deadlines as the time that is left, for a peer that does not share our clock.
    pub fn send_time_left(&mut self) {
        self.sends_time_left = true;
    }

    /// A call's deadline for [`open`](Self::open). `now` is asked only where deadlines travel as the time
    /// that is left.
    #[inline]
    pub fn deadline(&self, at: Timestamp, now: impl FnOnce() -> Timestamp) -> Deadline {
        let on_wire = if self.sends_time_left {
            // A deadline that has passed already still travels as one.
            at.nanos_since(now()).max(1)
        } else {
            at.as_nanos()
        };
        Deadline { at, on_wire }
    }

    /// The lanes' memory is out of reach, as in a forked child: nothing is sent or received any more.
    pub fn detach(&mut self) {
        self.detached = true;
        // Its memory is out of reach, too.
        self.counters = None;
    }

    /// The lanes, for parking and for more segments.
    pub fn lanes(&mut self) -> &mut Lanes<W, R> {
        &mut self.lanes
    }

    /// Returns `true` if no doorbell rings for either side.
    pub fn is_between_hosts(&self) -> bool {
        self.lanes.is_silent()
    }

    /// Takes the next event for the application.
    #[inline]
    pub fn poll_event(&mut self) -> Option<Event<T>> {
        self.events.pop_front()
    }

    /// Returns the value that was attached to a stream, until it is closed.
    #[inline]
    pub fn user(&mut self, stream: StreamId) -> Option<&mut T> {
        self.streams.get_mut(stream)?.user.as_mut()
    }

    /// Returns the value that is attached to a stream. Attaches one to an accepted stream that has none,
    /// unless it is over.
    #[inline]
    pub fn user_or_default(&mut self, stream: StreamId) -> Option<&mut T>
    where
        T: Default,
    {
        let attaches = self.role == Role::Server;
        let entry = self.streams.get_mut(stream)?;
        if attaches && entry.user.is_none() && !entry.state.is_reset() {
            entry.user = Some(T::default());
        }
        entry.user.as_mut()
    }

    /// Attaches a value to an accepted stream. Returns `false` when the stream is gone already.
    pub fn set_user(&mut self, stream: StreamId, user: T) -> bool {
        match self.streams.get_mut(stream) {
            Some(entry) if !entry.state.is_reset() => {
                entry.user = Some(user);
                true
            }
            _ => false,
        }
    }

    /// Streams that are open on this side.
    pub fn open_streams(&self) -> usize {
        self.streams.len()
    }

    /// Client: how many more streams the server's limit allows now.
    pub fn free_streams(&self) -> usize {
        self.peer.streams.saturating_sub(self.active) as usize
    }

    /// Client: returns `true` if a stream can't be opened now, and may be later.
    pub fn is_full(&self) -> bool {
        !self.draining && self.free_streams() == 0
    }

    /// Client: asks for [`Event::CanOpen`] when a stream may be opened, without trying now.
    pub fn want_to_open(&mut self) {
        self.wants_open = !self.draining;
    }

    /// The link's credit, as this side sees it.
    pub fn link_credit(&self) -> LinkCredit {
        LinkCredit { to_send: self.send_credit, to_give: self.taken }
    }

    /// Takes out all users of streams, when the link is broken.
    pub fn take_users(&mut self) -> Vec<T> {
        let ids: Vec<StreamId> = self.streams.ids().collect();
        ids.into_iter().filter_map(|id| self.streams.get_mut(id)?.user.take()).collect()
    }

    /// How the peer has broken the protocol, if it has. The link has to be closed then.
    pub fn violation(&self) -> Option<&Violation> {
        self.violation.as_ref()
    }

    /// Returns `true` if something waits for the peer to take descriptors or release blocks.
    #[inline]
    pub fn waits_for_space(&self) -> bool {
        self.has_control() || !self.queued.is_empty() || self.wants_open
    }

    /// Takes out the blocks that a further segment should have, if one would help. No other is wanted until
    /// [`on_segment_answer`](Self::on_segment_answer).
    pub fn take_wanted_segment(&mut self) -> Option<Blocks> {
        let wanted = self.wants_segment.take()?;
        self.may_grow = false;
        Some(wanted)
    }

    /// Returns `true` if a further segment would help.
    pub fn wants_segment(&self) -> bool {
        self.wants_segment.is_some()
    }

    /// Returns `true` if this side takes requests.
    pub fn role_accepts(&self) -> bool {
        self.role == Role::Server
    }

    /// Returns `true` if this stream is open and neither side has given it up.
    pub fn is_open(&self, stream: StreamId) -> bool {
        self.streams.get(stream).is_some_and(|entry| !entry.state.is_reset())
    }

    /// Client: returns `true` if the server has certainly never read this stream's request. Ask when the link
    /// is broken: a live server may read it any time.
    pub fn is_unread(&mut self, stream: StreamId) -> bool {
        let Some(entry) = self.streams.get(stream) else { return false };
        // The reader publishes *taken* before it acts on a frame. Between hosts that word can be stale.
        !self.detached
            && !self.lanes.is_silent()
            && self.lanes.taken().is_ok_and(|taken| taken < entry.request_at)
    }

    /// Takes the answer to a wanted segment, which was added to the lanes or will not be: `may_grow` tells
    /// whether another may be asked for.
    pub fn on_segment_answer(&mut self, may_grow: bool) {
        self.may_grow = may_grow;
    }

    /// Server: asks the client to open no new streams. Those that it opens before that arrives are
    /// taken; [`is_draining`](Self::is_draining) turns `true` when there can be no more.
    pub fn go_away(&mut self) {
        if !self.going_away {
            self.going_away = true;
            self.control.announce();
            self.flush();
        }
    }

    /// Server: refuses new streams from now on, also those that were opened before GOAWAY arrived.
    pub fn refuse(&mut self) {
        if !self.draining {
            self.going_away = true;
            self.draining = true;
            self.control.go_away(self.last);
            self.flush();
        }
    }

    /// Returns `true` if no new streams are opened or taken any more.
    pub fn is_draining(&self) -> bool {
        self.draining
    }

    /// Both sides can share payloads in sealed memory. The peer's may have so many bytes together.
    pub fn begin_sharing(&mut self, bytes: u64) {
        self.sharing.begin(bytes);
    }

    /// Payloads can be shared that lie in a region.
    pub fn begin_placing(&mut self, placing: Placing) {
        self.sharing.begin_placing(placing);
    }

    /// The link is over: this side holds none of the peer's payloads any more, but for what it has handed
    /// out.
    pub fn end_sharing(&mut self) {
        self.sharing.end();
    }

    /// Answers what was claimed of the peer's payloads since the last time.
    pub fn tell_claims(&mut self) {
        self.flush();
    }

    /// Returns `true` if a payload is to be sent in a packet.
    #[inline]
    pub fn has_payload_to_send(&self) -> bool {
        self.sharing.has_to_send()
    }

    /// Takes the next payload, and its number, for a packet to the peer.
    pub fn take_payload_to_send(&mut self) -> Option<(u32, Sealed)> {
        self.sharing.take_to_send()
    }

    /// The socket has taken a payload's packet.
    pub fn on_payload_sent(&mut self, payload: u32) {
        self.sharing.on_sent(payload);
        self.flush();
    }

    /// The payloads that are shared over the link.
    pub fn shared(&self) -> SharedPayloads {
        self.sharing.payloads()
    }

    /// Returns `true` if the peer has sent a packet that was not read yet.
    #[inline]
    pub fn wants_packets(&self) -> bool {
        self.sharing.wants_packets()
    }

    /// Returns whether the socket is to be read now, once.
    pub fn take_wants_packets(&mut self) -> bool {
        self.sharing.take_wants_packets()
    }

    /// The peer's packet announces a payload of so many bytes. Returns whether there is room for it.
    ///
    /// # Errors
    /// When it must not.
    pub fn check_payload(&mut self, payload: u32, bytes: u64) -> Result<bool, Violation> {
        self.sharing.check(payload, bytes)
    }

    /// Answers the peer's packet: its payload was taken, or is declined.
    pub fn on_payload(&mut self, payload: u32, sealed: Option<Sealed>) {
        self.sharing.on_packet(payload, sealed);
        self.flush();
    }

    /// Asks whether the peer is there; the echo comes back in [`Event::Pong`].
    pub fn ping(&mut self, echo: u64) {
        self.control.ping(echo);
        self.flush();
    }

    /// Returns `true` if more can be sent on this stream.
    pub fn is_sending(&self, stream: StreamId) -> bool {
        self.streams.get(stream).is_some_and(|entry| entry.state.may_send())
    }
}
