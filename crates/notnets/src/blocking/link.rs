//! A link that its thread drives: a session, and the descriptors that it has to look at.

use std::io;

use notnets_core::call::Role;
use notnets_core::clock::{self, Timestamp};
use notnets_core::limits::Limits;
use notnets_core::link::Established;
use notnets_core::link::quota::Meter;
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
    /// Counts what the peer's user takes, on a server that limits that.
    pub meter: Option<Meter>,
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
        let meter = established.meter.clone();
        let (mut session, descriptors) = Session::new(role, own, established)?;
        if let Some(trust) = trust {
            session.trust_peer_memory(trust);
        }
        Ok(Self { session, descriptors, unsent: false, meter })
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

    /// Does what is due at `now`, and tells the peer.
    pub fn at_the_clock(&mut self, now: Timestamp) {
        self.session.handle_timeout(now);
        self.offer();
        self.finish_turn();
    }

    /// Does what there is to do on a link on which no call is open, and does not wait.
    pub fn tend(&mut self) {
        self.receive();
        self.session.tell_returns(None);
        if !self.session.is_over() {
            self.read_socket();
            self.at_the_clock(clock::now());
        }
        while self.session.poll_event().is_some() {}
        if self.session.is_over() {
            self.shut_down();
        }
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

#[cfg(test)]
mod tests {
    use notnets_core::call::{OpenOutcome, Received};
    use notnets_core::link::handshake::{Config, pair};

    use super::*;

    fn ends() -> (Link, Link) {
        let (client, server) = pair(Config::default(), Config::default(), "test").unwrap();
        let link = |role, end| Link::new(role, Limits::default(), None, end).unwrap();
        (link(Role::Client, client), link(Role::Server, server))
    }

    #[test]
    fn what_a_burst_took_is_given_back_between_calls() {
        let (mut client, mut server) = ends();
        let message = vec![7; 300 << 10];
        let mut data = &message[..];
        let opened = client.session.calls().open("/a/b", [], None, &mut data, false, &mut Some(()));
        let Ok(OpenOutcome::Opened(stream, _)) = opened else { panic!("{opened:?}") };
        let mut came = 0;
        while came < message.len() || client.session.segment_bytes().offered == 0 {
            if data.is_empty() && came == message.len() {
                (data, came) = (&message[..], 0);
            }
            client.session.calls().send(stream, &mut data, false);
            for link in [&mut client, &mut server] {
                link.tend();
            }
            while let Received::Data(data) = server.session.calls().take(stream) {
                came += data.len();
            }
        }
        client.session.calls().close(stream);
        let mapped = server.session.segment_bytes().mapped;
        assert!(mapped > 0);
        // As after five seconds, and five more.
        for _ in 0..2 {
            client.tend();
            client.session.retire_unused();
        }
        assert_eq!(server.session.segment_bytes().mapped, mapped, "it does not know yet");
        client.tend();
        server.tend();
        client.tend();
        assert_eq!((server.session.segment_bytes().mapped, client.session.segment_bytes().offered), (0, 0));
    }
}
