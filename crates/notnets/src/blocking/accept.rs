//! From connections in the rendezvous directory to links, without waiting for any of them.

use std::os::fd::OwnedFd;
use std::time::Duration;

use notnets_memory::process::{PeerCredentials, peer_credentials};
use rustix::event::{PollFd, PollFlags};

use super::link::Link;
use super::pods::PodDoor;
use notnets_core::call::Role;
use notnets_core::clock::{self, Timestamp};
use notnets_core::link::Socket;
use notnets_core::link::handshake::{Config, answer, refuse};
use notnets_core::link::packet::{Packet, Refusal};
use notnets_core::link::rendezvous::Listener;
use notnets_core::link::socket::Incoming;
use notnets_core::link::stats::Stats;

/// A client that connects and says nothing is let go of after so long.
const HELLO_TIMEOUT: Duration = Duration::from_secs(5);
/// When a connection can't be accepted, for want of descriptors, it is tried again after so long.
const PAUSE: Duration = Duration::from_millis(100);
/// Connections accepted in one go, and such that may wait for their hello.
const MOST: usize = 64;

/// Who may connect.
pub type Admission = Box<dyn Fn(&PeerCredentials) -> bool + Send>;

/// A server's door.
pub struct Door {
    listener: Option<Listener>,
    pod: Option<PodDoor>,
    /// Connections that have not said hello, and when they are let go of.
    silent: Vec<(Socket, Timestamp)>,
    paused_until: Option<Timestamp>,
    pub config: Config,
    pub admission: Admission,
    pub max_links: usize,
    pub stats: Stats,
}

impl Door {
    pub fn new(
        (listener, pod): (Option<Listener>, Option<PodDoor>),
        config: Config,
        admission: Admission,
        max_links: usize,
        stats: Stats,
    ) -> Self {
        let (silent, paused_until) = (Vec::new(), None);
        Self { listener, pod, silent, paused_until, config, admission, max_links, stats }
    }

    /// Gives the name up.
    pub fn close(&mut self) {
        (self.listener, self.pod) = (None, None);
        for (socket, _) in self.silent.drain(..) {
            refuse(&socket, Refusal::ShuttingDown, "the server shuts down");
        }
    }

    /// What to watch.
    pub fn watched(&self, now: Timestamp) -> impl Iterator<Item = PollFd<'_>> {
        let open = self.paused_until.is_none_or(|until| now >= until) && self.silent.len() < MOST;
        let interest = if open { PollFlags::IN } else { PollFlags::empty() };
        let listener = self.listener.iter().map(move |listener| PollFd::new(listener, interest));
        let pod = self.pod.iter().map(|pod| PollFd::from_borrowed_fd(pod.event(), PollFlags::IN));
        listener.chain(pod).chain(self.silent.iter().map(|(socket, _)| PollFd::new(socket, PollFlags::IN)))
    }

    /// When to look even if nothing is ready.
    pub fn wakes_at(&self, now: Timestamp) -> Option<Timestamp> {
        let pause = self.paused_until.filter(|until| *until > now);
        self.silent.iter().map(|(_, until)| *until).chain(pause).min()
    }

    /// Takes who has come, of what is ready in the order of [`watched`](Self::watched).
    /// There are `open` links already.
    pub fn on_ready(
        &mut self,
        mut ready: impl Iterator<Item = bool>,
        now: Timestamp,
        open: usize,
        links: &mut Vec<Link>,
    ) {
        let knocks = self.listener.is_some() && ready.next() == Some(true);
        if self.pod.is_some() && ready.next() == Some(true) {
            self.take_from_pod(open, links);
        }
        let silent = std::mem::take(&mut self.silent);
        for ((socket, until), speaks) in silent.into_iter().zip(ready.chain(std::iter::repeat(false))) {
            if speaks {
                self.greet(socket, until, open, links);
            } else if now < until {
                self.silent.push((socket, until));
            }
        }
        if knocks {
            self.accept(now);
        }
    }

    fn accept(&mut self, now: Timestamp) {
        while let Some(listener) = &self.listener
            && self.silent.len() < MOST
        {
            match listener.accept() {
                Ok(Some(socket)) => self.silent.push((socket.into(), clock::after(HELLO_TIMEOUT))),
                Ok(None) => return,
                Err(_) => {
                    // It stays ready: without a pause this would spin.
                    self.paused_until = Some(now + PAUSE);
                    return;
                }
            }
        }
    }

    /// Takes a connection's first packet.
    fn greet(&mut self, socket: Socket, until: Timestamp, open: usize, links: &mut Vec<Link>) {
        match socket.receive() {
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => self.silent.push((socket, until)),
            Ok(Incoming::Packet(Packet::Inspect, _)) => {
                if self.admit(&socket, 0).is_ok() {
                    let _ = socket.send(&Packet::Stats, Some(self.stats.descriptor()));
                }
            }
            Ok(Incoming::Packet(Packet::Hello(hello), descriptor)) => {
                match self.admit(&socket, open + links.len()) {
                    Err((reason, text)) => refuse(&socket, reason, text),
                    Ok(()) => links.extend(self.establish(socket, hello, descriptor)),
                }
            }
            Ok(Incoming::Packet(..)) => refuse(&socket, Refusal::Protocol, "a link begins with a hello"),
            // Somebody looked whether we live, or said nothing that could be answered.
            Ok(Incoming::Closed | Incoming::Bad(_)) | Err(_) => {}
        }
    }

    /// A client that gets no link has been told why.
    fn establish(
        &self,
        socket: Socket,
        hello: notnets_core::link::packet::Hello,
        descriptor: Option<OwnedFd>,
    ) -> Option<Link> {
        let established = answer(socket, hello, descriptor, self.config).ok()?;
        let link = Link::new(Role::Server, self.config.limits, established).ok()?;
        self.stats.link_opened();
        Some(link)
    }

    /// Takes who has come from other hosts.
    fn take_from_pod(&mut self, open: usize, links: &mut Vec<Link>) {
        let Some(mut pod) = self.pod.take() else { return };
        let established = pod.take(self.config, |peer, more| self.admit_peer(peer, open + more));
        self.pod = Some(pod);
        for established in established {
            if let Ok(link) = Link::new(Role::Server, self.config.limits, established) {
                self.stats.link_opened();
                links.push(link);
            }
        }
    }

    fn admit(&self, socket: &Socket, links: usize) -> Result<(), (Refusal, &'static str)> {
        let peer = peer_credentials(socket);
        let peer = peer.map_err(|_| (Refusal::Resources, "the server can't tell who you are"))?;
        self.admit_peer(&peer, links)
    }

    fn admit_peer(&self, peer: &PeerCredentials, links: usize) -> Result<(), (Refusal, &'static str)> {
        if !(self.admission)(peer) {
            return Err((Refusal::Identity, "your uid is not admitted by the server"));
        }
        if links >= self.max_links {
            return Err((Refusal::Resources, "the server has as many links as it may have"));
        }
        Ok(())
    }
}
