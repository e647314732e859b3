//! One end of a link, without I/O: the calls on it, further segments, doorbells, keepalive, and its end.
//!
//! A [`Session`] is to a link what [`Connection`] is to its calls: a deterministic state machine. Its
//! inputs and outputs:
//!
//! | in | out |
//! | --- | --- |
//! | [`handle_incoming`]: packets from the socket | [`poll_event`]: events for tasks and handlers |
//! | [`handle_peer_gone`]: the peer's process has ended | [`poll_packet`]: packets for the socket |
//! | [`handle_timeout`]: the time | [`poll_timeout`]: when the time is needed again |
//! | [`receive`]: take frames from the lanes | [`finish_turn`]: whether to ring the peer |
//! | [`end`], [`go_away`]: the local side's requests | [`ended`]: why the link is over |
//!
//! [`handle_incoming`]: Session::handle_incoming
//! [`handle_peer_gone`]: Session::handle_peer_gone
//! [`handle_timeout`]: Session::handle_timeout
//! [`receive`]: Session::receive
//! [`end`]: Session::end
//! [`go_away`]: Session::go_away
//! [`poll_event`]: Session::poll_event
//! [`poll_packet`]: Session::poll_packet
//! [`poll_timeout`]: Session::poll_timeout
//! [`finish_turn`]: Session::finish_turn
//! [`ended`]: Session::ended
//!
//! It reads no clock, wakes nobody and never waits. A runtime adds wakers, timers and file descriptors
//! (`notnets::link` does so for tokio); a thread adds `poll(2)` (`notnets::blocking`).
//!
//! # Turns
//!
//! Work on a session goes in turns: look, act, then [`finish_turn`](Session::finish_turn), then
//! take the events. Before it sleeps it calls [`arm`](Session::arm), which asks the peer for a doorbell and
//! looks once more.

mod ending;
mod keepalive;
mod nudge;

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::task::Waker;
use std::time::Duration;

use notnets_memory::lane::Lanes;
use notnets_memory::process::ForkGuard;
use notnets_memory::{
    OwnMemory, PeerMemory, ReadMemory, Returns, Sealed, SegmentError, TrustPeerMemory, WriteMemory, sealed,
};

use crate::call::{Connection, Event, Failure, Role, StreamId};
use crate::clock::Timestamp;
use crate::code::Code;
use crate::limits::{Limits, ValidLimits};
use crate::link::packet::Packet;
use crate::link::segments::{SegmentBytes, SegmentSource, Segments};
use crate::link::socket::Incoming;
use crate::link::{Established, LinkGuard, PeerIdentity, Socket};
use crate::stats::{Count, LinkAbout, OpenLink, Stats};
use crate::wait::{Budget, Wait};

pub use ending::Ending;
pub use keepalive::Keepalive;
use keepalive::{Due, Pings};
use nudge::Nudge;

/// Descriptors taken in one go before others get a turn: all of a ring, so that of the calls that
/// piled up none is started that has been cancelled behind the others.
const BATCH: usize = 128;
/// Descriptors taken at most when the link ends: more than the largest ring holds.
const LAST: usize = 2048 * BATCH;
/// Further segments that are not used for so long, and not for twice as long at most, are retired.
const UNUSED: Duration = Duration::from_secs(5);
/// A client that is sent GOAWAY has this long to answer. Until then the server takes what it sends; a
/// client that hangs must not keep a server from stopping.
const GO_AWAY_TIMEOUT: Duration = Duration::from_secs(1);

/// For how long at most a client waits for the end of the server's process once that of its socket is told.
pub const DEATH: Duration = Duration::from_millis(100);

/// One end of a link. `T` is what its user wants to find again by stream: wakers, mostly.
#[derive(Debug)]
pub struct Session<T, W = OwnMemory, R = PeerMemory> {
    connection: Connection<T, W, R>,
    segments: Segments<W, R>,
    peer: PeerIdentity,
    pings: Option<Pings>,
    /// Once the link is being wound up: when to refuse calls of a client that cannot know yet that they come
    /// too late.
    refuse_at: Option<Timestamp>,
    /// The peer has been asked to ring when it makes room.
    space_armed: bool,
    /// A look at whether the peer has come to what was pushed.
    nudge: Option<Nudge>,
    /// When to look which further segments are not used any more, while there are any.
    look_at: Option<Timestamp>,
    /// It has not: it is to be rung, though it has not asked for that.
    nudges: bool,
    ended: Option<Failure>,
    /// Among the links that are open.
    open: Option<OpenLink>,
    /// The end of the peer's process is told: that of its socket alone doesn't prove that it reads no more.
    is_watched: bool,
    /// The peer certainly reads no more.
    peer_gone: bool,
    fork: ForkGuard,
    /// A value that lives for as long as the link does.
    #[expect(dead_code, reason = "it is held, and that is all")]
    guard: Option<LinkGuard>,
}

/// The descriptors that a runtime has to watch for a session.
#[derive(Debug)]
pub struct Descriptors {
    /// Carries packets and doorbells. Its end is the link's.
    pub socket: Socket,
    /// Gets readable when the peer's process ends. `None` where the kernel does not support that.
    pub pidfd: Option<OwnedFd>,
}

/// Over what a handshake has established.
impl<T> Session<T> {
    /// A session over what the handshake established, and what to watch for it.
    ///
    /// # Errors
    /// When the limits are impossible, or the kernel cannot mark a page to detect forks by.
    pub fn new(role: Role, own: Limits, established: Established) -> io::Result<(Self, Descriptors)> {
        let Established { socket, pidfd, lanes, peer_limits, peer, guard, source, .. } = established;
        let Established { shared_bytes, placing, retires, .. } = established;
        // As announced.
        let own = if lanes.is_silent() { own.between_hosts() } else { own };
        let own = own.check().map_err(io::Error::other)?;
        let ends = Ends { lanes, source, own, peer_limits, peer };
        let mut session = Self { guard, ..Self::over(role, ends)? };
        if pidfd.is_some() {
            session.watch_process();
        }
        session.connection.notice_returns(Returns::new()?);
        if shared_bytes > 0 {
            session.connection.begin_sharing(shared_bytes);
        }
        if let Some(placing) = placing {
            session.connection.begin_placing(placing);
        }
        if retires {
            session.begin_retiring();
        }
        Ok((session, Descriptors { socket, pidfd }))
    }
}

/// The parts of a session, in any memory.
#[derive(Debug)]
pub struct Ends<W = OwnMemory, R = PeerMemory> {
    /// Both lanes.
    pub lanes: Lanes<W, R>,
    /// Where further segments come from.
    pub source: Box<dyn SegmentSource<W, R>>,
    /// The limits that this side announced.
    pub own: ValidLimits,
    /// The limits that the peer announced.
    pub peer_limits: ValidLimits,
    /// The peer's identity.
    pub peer: PeerIdentity,
}

/// Making one, and the calls on it.
impl<T, W: WriteMemory, R: ReadMemory> Session<T, W, R> {
    /// A session over any memory.
    ///
    /// # Errors
    /// When the kernel cannot mark a page to detect forks by.
    pub fn over(role: Role, ends: Ends<W, R>) -> io::Result<Self> {
        let Ends { lanes, source, own, peer_limits, peer } = ends;
        let mut connection = Connection::new(role, lanes, own, peer_limits);
        if connection.lanes().is_silent() {
            connection.send_time_left();
        }
        Ok(Self {
            connection,
            segments: Segments::new(source, own.segment_bytes, peer_limits.segment_bytes),
            peer,
            pings: None,
            refuse_at: None,
            space_armed: false,
            look_at: None,
            nudge: None,
            nudges: false,
            ended: None,
            open: None,
            is_watched: false,
            peer_gone: false,
            fork: ForkGuard::new()?,
            guard: None,
        })
    }

    /// From now on the end of the peer's process will be told: that of its socket alone proves nothing.
    pub fn watch_process(&mut self) {
        self.is_watched = true;
    }

    /// Asks the peer from `now` on whether it is there.
    pub fn keep_alive(&mut self, keepalive: Keepalive, now: Timestamp) {
        self.pings = Some(Pings::new(keepalive, now));
    }

    /// Both sides can retire further segments that they use no more.
    pub fn begin_retiring(&mut self) {
        self.segments.begin_retiring();
    }

    /// Has the link counted there, and all that happens on it. `target` is what is at its other end: a
    /// client's user agent, or what a client has dialled. A connection of HTTP/2 may be behind it.
    pub fn count_in(&mut self, stats: &Arc<Stats>, target: &str, is_http2: bool) {
        let about = LinkAbout { peer: &self.peer, target, is_http2 };
        let (open, counters) = OpenLink::new(stats, about);
        self.open = Some(open);
        if let Some(counters) = counters {
            self.connection.count_in(counters);
        }
    }

    /// Counts one more of these, for tools.
    #[cold]
    pub fn count(&mut self, count: Count) {
        if let Some(counters) = self.connection.counters() {
            counters.count(count, 1);
        }
    }

    fn count_segments(&mut self) {
        self.connection.count_segments(self.segments.bytes());
    }

    /// Bytes of further segments.
    pub fn segment_bytes(&self) -> SegmentBytes {
        self.segments.bytes()
    }

    /// Reads the peer's payloads where they are.
    pub fn trust_peer_memory(&mut self, trust: TrustPeerMemory) {
        self.connection.trust_peer_memory(trust);
    }

    /// Tells the peer what was let go of on this side. With a waker, more of it wakes that from now on.
    pub fn tell_returns(&mut self, waker: Option<&Waker>) {
        if self.ended.is_some() {
            return;
        }
        if let Some(waker) = waker {
            self.connection.wake_for_returns(waker);
        }
        self.connection.tell_returns();
    }

    /// The identity of the peer.
    pub fn peer(&self) -> &PeerIdentity {
        &self.peer
    }

    /// The calls. Once the link has [ended](Self::ended), what came before can still be taken of them.
    #[inline]
    pub fn calls(&mut self) -> &mut Connection<T, W, R> {
        &mut self.connection
    }

    /// Returns the calls while the link is up: to open, answer, send or end them.
    #[inline]
    pub fn live(&mut self) -> Option<&mut Connection<T, W, R>> {
        if self.ended.is_some() { None } else { Some(&mut self.connection) }
    }

    /// Returns `true` if no doorbell rings on this link: its sides see what is there, or watchers tell them.
    #[inline]
    pub fn is_between_hosts(&self) -> bool {
        self.connection.is_between_hosts()
    }

    /// How long this side polls, if it waits that way.
    pub fn budget(&self, wait: Wait) -> Budget {
        let mut budget = Budget::new(wait);
        if self.connection.is_between_hosts() {
            budget.reach_other_hosts();
        }
        budget
    }

    /// Returns `true` if calls can be opened.
    pub fn is_usable(&self) -> bool {
        self.ended.is_none() && !self.connection.is_draining()
    }

    /// The next thing that a task or a handler waits for.
    #[inline]
    pub fn poll_event(&mut self) -> Option<Event<T>> {
        let event = self.connection.poll_event()?;
        if let (Event::Pong(echo), Some(pings)) = (&event, &mut self.pings) {
            pings.on_pong(*echo);
        }
        Some(event)
    }
}

/// The lanes.
impl<T, W: WriteMemory, R: ReadMemory> Session<T, W, R> {
    /// Takes what the peer has pushed, up to what a ring holds. Returns how many descriptors that were: none
    /// once the link has ended. `now` is asked only for requests whose deadline travels as the time that is
    /// left.
    #[inline]
    pub fn receive(&mut self, now: impl Fn() -> Timestamp) -> usize {
        if self.ended.is_some() || self.has_nothing_to_take() {
            return 0;
        }
        let taken = self.connection.receive(BATCH, now);
        self.check_violation();
        taken
    }

    /// Returns `true` if nothing has come, and nothing waits for room that the peer may have made. Between
    /// hosts a look costs as much as taking what is there.
    #[inline]
    fn has_nothing_to_take(&mut self) -> bool {
        let lanes = self.connection.lanes();
        !lanes.is_silent() && !lanes.is_ready() && !self.connection.waits_for_space()
    }

    /// Returns `true` if the peer has pushed a frame that is not taken yet. Looks at nothing but the line
    /// that will hold it.
    #[inline]
    pub fn is_ready(&mut self) -> bool {
        self.ended.is_none() && self.connection.lanes().is_ready()
    }

    /// Returns `true` if the peer has pushed a frame, or made room for what waits for that where it rings no
    /// doorbell: a side that polls sees it before anybody would wake it.
    #[inline]
    pub fn has_news(&mut self) -> bool {
        self.is_ready() || self.connection.lanes().is_silent() && self.has_made_room()
    }

    fn has_made_room(&mut self) -> bool {
        self.ended.is_none() && self.connection.can_go_on()
    }

    /// Ends a turn in which something was sent or taken. Returns `true` if the peer has to be rung. `now` is
    /// asked only for a peer that may lag behind while this side sleeps.
    #[inline]
    pub fn finish_turn(&mut self, now: impl FnOnce() -> Timestamp) -> bool {
        let pushes = self.connection.lanes().has_pushed();
        let ring = self.finish_turn_awake();
        let lanes = self.connection.lanes();
        if pushes && lanes.is_armed() && lanes.is_unrung() {
            self.nudge_later(now);
        }
        ring
    }

    /// Ends a turn as [`finish_turn`](Self::finish_turn) does, for one that goes on to look at the lanes.
    #[inline]
    pub fn finish_turn_awake(&mut self) -> bool {
        self.check_violation();
        if self.ended.is_some() {
            return false;
        }
        if self.connection.waits_for_space() != self.space_armed {
            self.watch_space();
        }
        let rings = self.connection.lanes().bell_is_due() || std::mem::take(&mut self.nudges);
        if rings && let Some(counters) = self.connection.counters() {
            counters.rung();
        }
        rings
    }

    /// Asks to be rung, and looks once more. Returns `false` if something has come meanwhile: don't sleep
    /// then. From a link that has ended nothing comes. `now` is asked only for a peer that lags behind.
    #[inline]
    pub fn arm(&mut self, now: impl FnOnce() -> Timestamp) -> bool {
        self.arm_beside(0, now)
    }

    /// Arms as [`arm`](Self::arm) does, for a side to which the peer has just answered on that number of
    /// streams: for these it has looked.
    #[inline]
    pub fn arm_beside(&mut self, answered: usize, now: impl FnOnce() -> Timestamp) -> bool {
        if self.ended.is_some() {
            return true;
        }
        if self.connection.lanes().arm_frames() {
            return false;
        }
        self.connection.count_park();
        let is_owed = self.connection.open_streams() > answered;
        if self.connection.lanes().is_silent() {
            // A client that waits for no answer is sent hardly anything.
            if is_owed || self.connection.role_accepts() {
                self.connection.lanes().park();
            }
        } else if is_owed && self.connection.lanes().is_unrung() {
            self.nudge_later(now);
        }
        true
    }

    /// Needs no doorbell any more: the lanes are looked at.
    #[inline]
    pub fn disarm(&mut self) {
        if self.ended.is_none() {
            self.connection.lanes().disarm_frames();
            if let Some(counters) = self.connection.counters() {
                counters.awake();
            }
        }
    }

    /// This side goes to sleep, and the peer, which was awake when something was pushed, may not have looked
    /// at it. To find that out now would take the line from the peer that it writes to with each frame.
    #[cold]
    fn nudge_later(&mut self, now: impl FnOnce() -> Timestamp) {
        self.nudge.get_or_insert_with(|| Nudge::first(now()));
    }

    fn nudge(&mut self, now: Timestamp) {
        let Some(nudge) = self.nudge.take_if(|nudge| nudge.at() <= now) else { return };
        self.nudges = self.connection.lanes().peer_lags();
        self.nudge = self.nudges.then(|| nudge.next(now));
    }

    #[cold]
    fn watch_space(&mut self) {
        self.space_armed = !self.space_armed;
        if self.space_armed {
            self.connection.lanes().arm_space();
            // No doorbell rings for room that was made before the peer saw the armed word.
            self.connection.wake_queued();
        } else {
            self.connection.lanes().disarm_space();
        }
    }

    /// The words that asked for a doorbell are used up.
    fn on_doorbell(&mut self) {
        self.connection.lanes().disarm_frames();
        if let Some(counters) = self.connection.counters() {
            counters.doorbell();
        }
        if std::mem::take(&mut self.space_armed) {
            self.connection.lanes().disarm_space();
            self.connection.wake_queued();
        }
    }
}

/// The socket.
impl<T, W: WriteMemory, R: ReadMemory> Session<T, W, R> {
    /// Takes what the socket gave. Returns `false` when reading on is useless now: nothing is there,
    /// or the link has ended.
    pub fn handle_incoming(&mut self, incoming: io::Result<Incoming>, now: impl Fn() -> Timestamp) -> bool {
        if self.ended.is_some() {
            return false;
        }
        match incoming {
            Ok(Incoming::Packet(packet, descriptor)) => {
                self.on_doorbell();
                let lanes = self.connection.lanes();
                let answered = match packet {
                    Packet::Doorbell => {
                        let answered = self.segments.poll(lanes).map_err(|error| error.to_string());
                        self.connection.tell_claims();
                        answered
                    }
                    Packet::Share { payload, bytes } => self.on_payload(payload, bytes, descriptor),
                    packet => {
                        let answered = self.segments.receive(packet, descriptor, lanes);
                        self.count_segments();
                        answered.map_err(|error| error.to_string())
                    }
                };
                match answered {
                    Ok(false) => {}
                    Ok(true) => {
                        self.count_segments();
                        self.connection.on_segment_answer(true);
                        self.connection.wake_queued();
                    }
                    Err(violation) => self.end(Ending::Violation(violation), now),
                }
            }
            Ok(Incoming::Closed) => {
                self.peer_gone |= !self.is_watched;
                self.end(Ending::PeerGone, now);
            }
            Ok(Incoming::Bad(bad)) => self.end(Ending::Violation(format!("the peer sent {bad}")), now),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return false,
            Err(error) => self.end(Ending::Socket(error), now),
        }
        self.ended.is_none()
    }

    /// The peer has shared a payload, in memory that nobody can change any more. That answers no offer of
    /// ours.
    fn on_payload(&mut self, payload: u32, bytes: u64, descriptor: Option<OwnedFd>) -> Result<bool, String> {
        let has_room = self.connection.check_payload(payload, bytes).map_err(|error| error.to_string())?;
        let has_room = has_room && sealed::has_room();
        // Without a descriptor either side has none left, and the payload is copied.
        let sealed = match descriptor.filter(|_| has_room).map(Sealed::from_peer) {
            Some(Ok(sealed)) if sealed.as_slice().len() as u64 == bytes => Some(sealed),
            Some(Ok(sealed)) => {
                let actual = sealed.as_slice().len();
                return Err(format!("the peer announced a payload of {bytes} bytes, but it has {actual}"));
            }
            Some(Err(error)) if !error.is_of_this_process() => return Err(error.to_string()),
            Some(Err(_)) | None => None,
        };
        self.connection.on_payload(payload, sealed);
        Ok(false)
    }

    /// Returns `true` if the peer has sent a packet that has to be read before its data can be.
    #[inline]
    pub fn wants_packets(&self) -> bool {
        self.ended.is_none() && self.connection.wants_packets()
    }

    /// As [`wants_packets`](Self::wants_packets), for who reads them now: they are there already.
    #[inline]
    pub fn take_wants_packets(&mut self) -> bool {
        self.connection.take_wants_packets()
    }

    /// Returns `true` if [`offer_memory`](Self::offer_memory) has something to do.
    #[inline]
    pub fn wants_to_offer(&self) -> bool {
        self.ended.is_none() && (self.connection.wants_segment() || self.connection.has_payload_to_send())
    }

    /// Offers the peer payloads that it can read in place, and more memory, if that would help and is within
    /// what the peer accepts.
    ///
    /// # Errors
    /// When there is no memory for it. The link goes on with the memory it has.
    pub fn offer_memory(&mut self) -> Result<(), SegmentError> {
        if self.ended.is_some() {
            return Ok(());
        }
        while let Some((payload, sealed)) = self.connection.take_payload_to_send() {
            let bytes = sealed.as_slice().len() as u64;
            // Where no descriptor is left the peer gets none, and declines.
            let descriptor = sealed.descriptor().and_then(|file| file.try_clone_to_owned().ok());
            self.segments.send(Packet::Share { payload, bytes }, descriptor);
        }
        let Some(blocks) = self.connection.take_wanted_segment() else { return Ok(()) };
        let offered = self.segments.may_offer(blocks).then(|| self.segments.offer(blocks));
        if !matches!(offered, Some(Ok(()))) {
            self.connection.on_segment_answer(false);
        }
        self.count_segments();
        offered.unwrap_or(Ok(()))
    }

    /// The next packet for the socket, perhaps with a descriptor. It stays the next one until
    /// [`packet_sent`](Self::packet_sent).
    pub fn poll_packet(&self) -> Option<(&Packet, Option<BorrowedFd<'_>>)> {
        if self.ended.is_some() { None } else { self.segments.next_packet() }
    }

    /// The socket has taken the last packet, or never will.
    pub fn packet_sent(&mut self) {
        if let Some(Packet::Share { payload, .. }) = self.segments.packet_sent() {
            self.connection.on_payload_sent(payload);
        }
    }

    /// Sends packets until none is left or the socket takes no more. Returns `true` if none is left;
    /// otherwise call this again when the socket is writable.
    pub fn flush(&mut self, socket: &Socket) -> bool {
        while let Some((packet, descriptor)) = self.poll_packet() {
            match socket.send(packet, descriptor) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return false,
                // Sent; or the peer is gone, which the end of the socket shows.
                _ => self.packet_sent(),
            }
        }
        true
    }
}

/// Time.
impl<T, W: WriteMemory, R: ReadMemory> Session<T, W, R> {
    /// Performs what is due at `now`: ends calls whose deadline has passed, pings the peer or gives it up,
    /// refuses late calls of a link that is wound up, retires further segments that are not used any more.
    pub fn handle_timeout(&mut self, now: Timestamp) {
        if self.ended.is_some() {
            return;
        }
        if let Some(pings) = &mut self.pings {
            match pings.due(now, self.connection.open_streams() > 0) {
                Due::Nothing => {}
                Due::Ping(echo) => self.connection.ping(echo),
                Due::GiveUp => return self.end(Ending::Unanswered, || now),
            }
        }
        self.expire(now);
        self.nudge(now);
        if self.refuse_at.take_if(|at| *at <= now).is_some() {
            self.connection.refuse();
        }
        if self.look_at.take_if(|at| *at <= now).is_some() {
            self.retire_unused();
        }
        if self.look_at.is_none() && self.segments.wants_look() {
            self.look_at = Some(now + UNUSED);
        }
    }

    /// Retires further segments that were not used since the last time that this was called. That is done
    /// from time to time by [`handle_timeout`](Self::handle_timeout).
    #[cold]
    pub fn retire_unused(&mut self) {
        if self.ended.is_none() && self.segments.look(self.connection.lanes()) {
            self.connection.on_segment_answer(true);
            self.connection.wake_queued();
        }
        self.count_segments();
    }

    /// Ends the calls whose deadline has passed at `now`, so that none of them is started any more.
    #[inline]
    pub fn expire(&mut self, now: Timestamp) {
        if self.ended.is_none() {
            self.connection.expire(now);
        }
    }

    /// The first deadline of a call.
    #[inline]
    pub fn next_deadline(&self) -> Option<Timestamp> {
        self.connection.next_deadline()
    }

    /// The part of [`poll_timeout`](Self::poll_timeout) that a turn of another task may have brought forward.
    #[inline]
    pub fn next_timeout_of_turns(&self) -> Option<Timestamp> {
        earlier(self.next_deadline(), self.nudge.map(Nudge::at))
    }

    /// When to call [`handle_timeout`](Self::handle_timeout) next.
    pub fn poll_timeout(&self) -> Option<Timestamp> {
        if self.ended.is_some() {
            return None;
        }
        let ping = self.pings.as_ref().map(Pings::next);
        let seldom = earlier(self.refuse_at, self.look_at);
        earlier(earlier(self.next_timeout_of_turns(), ping), seldom)
    }
}

/// The end.
impl<T, W: WriteMemory, R: ReadMemory> Session<T, W, R> {
    /// Server: winds the link up. The client is asked to open no more streams, and is refused those that it
    /// opens a while after `now` all the same.
    pub fn go_away(&mut self, now: Timestamp) {
        if self.ended.is_none() && self.refuse_at.is_none() && !self.connection.is_draining() {
            self.refuse_at = Some(now + GO_AWAY_TIMEOUT);
            self.connection.go_away();
        }
    }

    /// Server: ends the calls that are open on a link that is wound up, as there is no more time for them.
    pub fn end_calls_in_overtime(&mut self) {
        if self.ended.is_none() {
            self.connection.refuse();
            self.connection.fail_all(Code::UNAVAILABLE, "server stops: out of time");
        }
    }

    /// Returns `true` if no new streams are opened or taken and the old ones are over.
    pub fn is_wound_up(&self) -> bool {
        self.connection.is_draining() && self.connection.open_streams() == 0
    }

    /// Client: returns `true` if it matters whether the server's process has ended, now that its socket has:
    /// there are requests that it has not read, and will if it lives. A process that ends closes its sockets
    /// a moment before its end is told, so wait for that for [`DEATH`] at most.
    pub fn hangs_on_death(&mut self) -> bool {
        let pushed = self.connection.lanes().pushed();
        self.is_watched
            && self.ended.is_none()
            && !self.connection.role_accepts()
            && self.connection.lanes().taken().is_ok_and(|taken| taken < pushed)
    }

    /// The peer's process has ended.
    pub fn handle_peer_gone(&mut self, now: impl Fn() -> Timestamp) {
        self.peer_gone = true;
        self.end(Ending::PeerGone, now);
    }

    /// Ends the link in a child that was forked from the process that made it: its memory is out of reach
    /// there, and its socket is the parent's. To be called before anything else of a turn.
    #[inline]
    pub fn check_fork(&mut self) {
        if self.fork.is_forked_child() {
            self.on_forked();
        }
    }

    #[cold]
    fn on_forked(&mut self) {
        self.connection.detach();
        self.ended.get_or_insert_with(|| Ending::Forked.into());
    }

    /// Returns `true` in a child that was forked from the process that made this: it must not close the link.
    pub fn is_forked_child(&self) -> bool {
        self.fork.is_forked_child()
    }

    /// Ends the link. Frames that the peer sent before still count.
    #[cold]
    pub fn end(&mut self, ending: Ending, now: impl Fn() -> Timestamp) {
        if self.ended.is_none() {
            let mut left = LAST;
            while left > 0 {
                let taken = self.connection.receive(BATCH.min(left), &now);
                if taken == 0 {
                    break;
                }
                left -= taken;
            }
            // The client learns which calls nobody will take any more, if it is still there.
            if self.connection.role_accepts() {
                self.connection.refuse();
            }
            self.finish(ending);
        }
    }

    /// Why nothing comes any more: every call without an answer has failed with it.
    #[inline]
    pub fn ended(&self) -> Option<&Failure> {
        self.ended.as_ref()
    }

    /// Returns `true` once nothing can come any more.
    #[inline]
    pub fn is_over(&self) -> bool {
        self.ended.is_some()
    }

    /// Why a call without an answer has failed, once the link has ended.
    pub fn failure_of(&mut self, stream: StreamId) -> Option<Failure> {
        let failure = self.ended.clone()?;
        let unread = self.peer_gone && self.connection.is_unread(stream);
        Some(failure.with_retry_safe(unread))
    }

    #[inline]
    fn check_violation(&mut self) {
        if self.connection.violation().is_some() {
            self.on_violation();
        }
    }

    #[cold]
    fn on_violation(&mut self) {
        if let Some(violation) = self.connection.violation() {
            // Nothing is taken after it.
            let ending = Ending::Violation(violation.to_string());
            self.finish(ending);
        }
    }

    fn finish(&mut self, ending: Ending) {
        if self.ended.is_some() {
            return;
        }
        if let Some(open) = self.open.take() {
            open.close(matches!(ending, Ending::Violation(_)));
        }
        let failure = Failure::from(ending);
        self.connection.count_end(&failure);
        self.ended = Some(failure);
        self.connection.end_sharing();
    }
}

/// Returns the earlier of two points in time, if there is any.
#[inline]
pub fn earlier(a: Option<Timestamp>, b: Option<Timestamp>) -> Option<Timestamp> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}
