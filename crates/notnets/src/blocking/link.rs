//! A link that its thread drives: a session, and the descriptors that it has to look at.

use std::io;

use notnets_core::call::Role;
use notnets_core::clock;
use notnets_core::limits::Limits;
use notnets_core::link::Established;
use notnets_core::link::socket::Incoming;
use notnets_core::session::{DEATH, Descriptors, Session};
use notnets_memory::TrustPeerMemory;
use rustix::event::{PollFd, PollFlags, poll};

/// Packets read in one go, so that a peer that floods the socket does not keep its thread.
const PACKETS: usize = 64;

/// One end of a link.
#[derive(Debug)]
pub struct Link {
    /// What happens on it.
    pub session: Session<()>,
    descriptors: Descriptors,
    /// A packet waits for room on the socket.
    unsent: bool,
}

impl Link {
    /// A link over what the handshake established.
    ///
    /// # Errors
    /// When the kernel has no page to tell forks by.
    pub fn new(
        role: Role,
        own: Limits,
        trust: Option<TrustPeerMemory>,
        established: Established,
    ) -> io::Result<Self> {
        let (mut session, descriptors) = Session::new(role, own, established)?;
        if let Some(trust) = trust {
            session.trust_peer_memory(trust);
        }
        Ok(Self { session, descriptors, unsent: false })
    }

    /// Takes what the peer has pushed.
    #[inline]
    pub fn receive(&mut self) {
        self.session.check_fork();
        self.session.receive(clock::now);
        if self.session.take_wants_packets() {
            self.read_socket();
        }
        if self.session.is_over() {
            self.shut_down();
        }
    }

    /// Asks to be rung. Returns `false` if there is something to do: don't sleep then.
    pub fn arm(&mut self) -> bool {
        self.session.tell_returns(None);
        !self.session.is_over() && self.session.arm(clock::now)
    }

    /// After something was sent or taken: rings the peer if it is parked, and asks for more memory if
    /// that would help.
    #[inline]
    pub fn finish_turn(&mut self) {
        if self.unsent || self.session.wants_to_offer() {
            self.offer();
        }
        if self.session.finish_turn(clock::now) {
            self.descriptors.socket.ring();
        }
    }

    /// As [`finish_turn`](Self::finish_turn) once a call is over. Room that was made is told with the next
    /// one: a peer that waits for it has only frames to send that can wait too, or another call would be
    /// open.
    #[inline]
    pub fn finish_call(&mut self) {
        if self.session.calls().lanes().has_pushed() {
            self.finish_turn();
        }
    }

    #[cold]
    fn offer(&mut self) {
        // Without memory for it the link goes on with what it has.
        let _ = self.session.offer_memory();
        self.unsent = !self.session.flush(&self.descriptors.socket);
    }

    /// What to watch: the socket, and the peer's process where the kernel shows it.
    pub fn watched(&self) -> impl Iterator<Item = PollFd<'_>> {
        let Descriptors { socket, pidfd } = &self.descriptors;
        let writes = if self.unsent { PollFlags::OUT } else { PollFlags::empty() };
        let process = pidfd.iter().map(|pidfd| PollFd::new(pidfd, PollFlags::IN));
        std::iter::once(PollFd::new(socket, PollFlags::IN | writes)).chain(process)
    }

    /// What of it is ready, in the same order.
    pub fn on_ready(&mut self, mut ready: impl Iterator<Item = bool>) {
        if ready.next() == Some(true) {
            self.read_socket();
            self.unsent = !self.session.flush(&self.descriptors.socket);
            self.finish_turn();
        }
        if ready.next() == Some(true) {
            self.session.handle_peer_gone(clock::now);
        }
        if self.session.is_over() {
            self.shut_down();
        }
    }

    fn read_socket(&mut self) {
        for _ in 0..PACKETS {
            let incoming = self.descriptors.socket.receive();
            if matches!(incoming, Ok(Incoming::Closed)) && self.session.hangs_on_death() && self.dies() {
                return self.session.handle_peer_gone(clock::now);
            }
            if !self.session.handle_incoming(incoming, clock::now) {
                return;
            }
        }
    }

    /// Returns `true` if the peer's process ends within a moment.
    #[cold]
    fn dies(&self) -> bool {
        let process = self.descriptors.pidfd.iter();
        let mut watched: Vec<_> = process.map(|pidfd| PollFd::new(pidfd, PollFlags::IN)).collect();
        poll(&mut watched, Some(&clock::timespec(DEATH))).is_ok_and(|ready| ready > 0)
    }

    /// The peer sees the end of the link.
    #[cold]
    fn shut_down(&self) {
        // A forked child shares the socket with its parent.
        if !self.session.is_forked_child() {
            self.descriptors.socket.shut_down();
        }
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.shut_down();
    }
}
