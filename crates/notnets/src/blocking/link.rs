//! A link that its thread drives: it takes what came, rings, looks at the socket, and ends.

use std::io;
use std::os::fd::OwnedFd;

use notnets_memory::process::ForkGuard;
use rustix::event::{PollFd, PollFlags};

use notnets_core::call::{Connection, Failure, Role, StreamId};
use notnets_core::clock;
use notnets_core::code::Code;
use notnets_core::limits::Limits;
use notnets_core::link::packet::Packet;
use notnets_core::link::segments::{SegmentViolation, Segments};
use notnets_core::link::socket::Incoming;
use notnets_core::link::{Established, KeepAlive, PeerIdentity, Socket};

/// Descriptors taken in one go: all of a ring, so that of the calls that piled up none is started that
/// has been cancelled behind the others.
const BATCH: usize = 128;
/// When the link ends, at most so many batches are taken: more than the largest ring holds.
const LAST_BATCHES: usize = 2048;
/// Packets read in one go, so that a peer that floods the socket does not keep its thread.
const PACKETS: usize = 64;

/// One end of a link.
#[derive(Debug)]
pub struct Link {
    /// The calls on it.
    pub connection: Connection<()>,
    /// Who is at the other end.
    pub peer: PeerIdentity,
    socket: Socket,
    /// Readable when the peer's process is gone.
    pidfd: Option<OwnedFd>,
    fork: ForkGuard,
    segments: Segments,
    /// A packet about segments waits for room on the socket.
    unsent: bool,
    space_armed: bool,
    ended: Option<Failure>,
    peer_gone: bool,
    /// Held for as long as the link is.
    _keep_alive: Option<KeepAlive>,
}

impl Link {
    /// A link over what the handshake established.
    ///
    /// # Errors
    /// When the kernel has no page to tell forks by.
    pub fn new(role: Role, own: Limits, established: Established) -> io::Result<Self> {
        let Established { socket, pidfd, lanes, peer_limits, peer, keep_alive, source } = established;
        let own = own.check().map_err(io::Error::other)?;
        let mut connection = Connection::new(role, lanes, own, peer_limits);
        if connection.lanes().is_silent() {
            connection.send_time_left();
        }
        Ok(Self {
            connection,
            peer,
            socket,
            pidfd,
            fork: ForkGuard::new()?,
            segments: Segments::new(source, own.segment_bytes, peer_limits.segment_bytes),
            unsent: false,
            space_armed: false,
            ended: None,
            peer_gone: false,
            _keep_alive: keep_alive,
        })
    }

    /// Why nothing comes any more.
    #[inline]
    pub fn ended(&self) -> Option<&Failure> {
        self.ended.as_ref()
    }

    /// Why a call without an answer failed, once the link has ended.
    pub fn failure_of(&mut self, stream: StreamId) -> Option<Failure> {
        let failure = self.ended.clone()?;
        let unread = self.peer_gone && self.connection.is_unread(stream);
        Some(failure.with_retry_safe(unread))
    }

    /// Is there something to take? Nothing but the line that will hold it is looked at.
    #[inline]
    pub fn is_ready(&mut self) -> bool {
        self.connection.lanes().is_ready()
    }

    /// Takes what the peer has pushed.
    #[inline]
    pub fn receive(&mut self) -> usize {
        if self.ended.is_some() {
            return 0;
        }
        if self.fork.is_forked_child() {
            self.connection.detach();
            let text = "this process was forked from the one that made the link: connect after the fork";
            self.ended = Some(Failure::new(Code::UNAVAILABLE, text));
            return 0;
        }
        let taken = self.connection.receive(BATCH, clock::now);
        if let Some(violation) = self.connection.violation() {
            let text = format!("the link was closed: {violation}");
            self.end(Failure::new(Code::INTERNAL, text));
        }
        taken
    }

    /// After something was sent or taken: rings the peer if it is parked, and asks for more memory if
    /// that would help.
    #[inline]
    pub fn settle(&mut self) {
        if self.ended.is_some() {
            return;
        }
        if self.connection.waits_for_space() != self.space_armed {
            self.watch_space();
        }
        if self.unsent || self.connection.wants_segment() {
            self.offer();
        }
        if self.connection.lanes().bell_is_due() {
            self.socket.ring();
        }
    }

    /// The same once a call is over. Room that was made is told with the next one: a peer that waits for it
    /// has only frames to send that can wait too, or another call would be open.
    #[inline]
    pub fn settle_last(&mut self) {
        if self.connection.lanes().has_pushed() {
            self.settle();
        }
    }

    #[cold]
    fn watch_space(&mut self) {
        self.space_armed = !self.space_armed;
        match self.space_armed {
            true => {
                self.connection.lanes().arm_space();
                self.connection.wake_queued();
            }
            false => self.connection.lanes().disarm_space(),
        }
    }

    #[cold]
    fn offer(&mut self) {
        if let Some(blocks) = self.connection.take_wanted_segment() {
            let offered = self.segments.may_offer(blocks) && self.segments.offer(blocks).is_ok();
            if !offered {
                // The link goes on with the memory it has.
                self.connection.on_segment_answer(false);
            }
        }
        self.unsent = !self.segments.flush(&self.socket);
    }

    /// Asks to be rung. Returns false when there is something to do: then don't sleep.
    pub fn arm(&mut self) -> bool {
        self.ended.is_none() && !self.connection.lanes().arm_frames()
    }

    /// Needs no doorbell.
    pub fn disarm(&mut self) {
        if self.ended.is_none() {
            self.connection.lanes().disarm_frames();
        }
    }

    /// What to watch: the socket, and the peer's process where the kernel shows it.
    pub fn watched(&self) -> impl Iterator<Item = PollFd<'_>> {
        let writes = if self.unsent { PollFlags::OUT } else { PollFlags::empty() };
        let process = self.pidfd.iter().map(|pidfd| PollFd::new(pidfd, PollFlags::IN));
        std::iter::once(PollFd::new(&self.socket, PollFlags::IN | writes)).chain(process)
    }

    /// What of it is ready, in the same order.
    pub fn on_ready(&mut self, mut ready: impl Iterator<Item = bool>) {
        if ready.next() == Some(true) {
            self.read_socket();
            self.settle();
        }
        if ready.next() == Some(true) {
            self.on_peer_gone();
        }
    }

    fn read_socket(&mut self) {
        for _ in 0..PACKETS {
            if self.ended.is_some() {
                return;
            }
            let text = match self.socket.receive() {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) => {
                    let text = format!("the link's socket broke: {error}");
                    return self.end(Failure::new(Code::UNAVAILABLE, text));
                }
                Ok(Incoming::Closed) => return self.on_peer_gone(),
                Ok(Incoming::Bad(bad)) => format!("the link was closed: the peer sent {bad}"),
                Ok(Incoming::Packet(packet, descriptor)) => {
                    self.rung();
                    let lanes = self.connection.lanes();
                    let received = match packet {
                        Packet::Doorbell => self.segments.poll(lanes),
                        packet => self.segments.receive(packet, descriptor, lanes),
                    };
                    match received {
                        Ok(settled) => {
                            if settled {
                                self.connection.on_segment_answer(true);
                                self.connection.wake_queued();
                            }
                            self.unsent = !self.segments.flush(&self.socket);
                            continue;
                        }
                        Err::<_, SegmentViolation>(violation) => format!("the link was closed: {violation}"),
                    }
                }
            };
            self.end(Failure::new(Code::INTERNAL, text));
        }
    }

    /// The words that asked for a doorbell are used up.
    fn rung(&mut self) {
        self.connection.lanes().disarm_frames();
        if std::mem::take(&mut self.space_armed) {
            self.connection.lanes().disarm_space();
            self.connection.wake_queued();
        }
    }

    fn on_peer_gone(&mut self) {
        self.peer_gone = true;
        let text = "the other end of the link is gone: its process has ended, or has let go of the link";
        self.end(Failure::new(Code::UNAVAILABLE, text));
    }

    /// Ends the link. What the peer said before still counts.
    pub fn end(&mut self, failure: Failure) {
        if self.ended.is_none() {
            let mut last = (0..LAST_BATCHES).map(|_| self.connection.receive(BATCH, clock::now));
            let _all = last.any(|taken| taken == 0);
            self.ended = Some(failure);
            self.socket.shut_down();
        }
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        // A forked child shares the socket with its parent.
        if !self.fork.is_forked_child() {
            self.socket.shut_down();
        }
    }
}
