//! From connections to links, without waiting for any of them.

use std::time::Duration;

use notnets_core::call::Role;
use notnets_core::clock::{self, Timestamp};
use notnets_core::link::Established;
use notnets_core::link::accept::{Accepted, Accepting, Occupancy, Policy};
use notnets_core::link::admission::Rejection;
use notnets_core::link::rendezvous::Listener;
use notnets_core::link::stats::Stats;
use rustix::event::{PollFd, PollFlags};

use super::link::Link;
use super::pods::PodAcceptor;

/// When a connection can't be accepted, for want of descriptors, it is tried again after this time.
const PAUSE: Duration = Duration::from_millis(100);
/// Connections accepted in one go, and such that may wait for their hello.
const MAX_PENDING: usize = 64;

/// Where a server's clients come.
pub struct Acceptor {
    listener: Option<Listener>,
    pod: Option<PodAcceptor>,
    /// Connections that have not said hello.
    pending: Vec<Accepting>,
    paused_until: Timestamp,
    policy: Policy,
    pub stats: Stats,
}

impl Acceptor {
    pub fn new(listener: Option<Listener>, pod: Option<PodAcceptor>, policy: Policy, stats: Stats) -> Self {
        Self { listener, pod, pending: Vec::new(), paused_until: Timestamp::ZERO, policy, stats }
    }

    /// Gives the name up.
    pub fn close(&mut self) {
        self.listener = None;
        self.pod = None;
        for accepting in self.pending.drain(..) {
            accepting.reject(Rejection::ShuttingDown);
        }
    }

    /// What to watch.
    pub fn watched(&self, now: Timestamp) -> impl Iterator<Item = PollFd<'_>> {
        let open = now >= self.paused_until && self.pending.len() < MAX_PENDING;
        let interest = if open { PollFlags::IN } else { PollFlags::empty() };
        let listener = self.listener.iter().map(move |listener| PollFd::new(listener, interest));
        let pod = self.pod.iter().map(|pod| PollFd::from_borrowed_fd(pod.event(), PollFlags::IN));
        let pending = self.pending.iter().map(|accepting| PollFd::new(accepting.socket(), PollFlags::IN));
        listener.chain(pod).chain(pending)
    }

    /// When to look even if nothing is ready.
    pub fn wakes_at(&self, now: Timestamp) -> Option<Timestamp> {
        let pause = Some(self.paused_until).filter(|until| *until > now);
        self.pending.iter().map(Accepting::expires).chain(pause).min()
    }

    /// Takes what is ready, in the order of [`watched`](Self::watched), and adds the links that came of it to
    /// the `open` ones that the server has.
    pub fn on_ready(
        &mut self,
        mut ready: impl Iterator<Item = bool>,
        now: Timestamp,
        open: usize,
        links: &mut Vec<Link>,
    ) {
        let listener_ready = self.listener.is_some() && ready.next() == Some(true);
        if self.pod.is_some() && ready.next() == Some(true) {
            self.take_from_pod(open, links);
        }
        let pending = std::mem::take(&mut self.pending);
        for (accepting, speaks) in pending.into_iter().zip(ready.chain(std::iter::repeat(false))) {
            if speaks {
                self.advance(accepting, open, links);
            } else if now < accepting.expires() {
                self.pending.push(accepting);
            }
        }
        if listener_ready {
            self.accept(now);
        }
    }

    fn accept(&mut self, now: Timestamp) {
        while let Some(listener) = &self.listener
            && self.pending.len() < MAX_PENDING
        {
            match listener.accept() {
                Ok(Some(socket)) => self.pending.push(Accepting::new(socket, clock::now())),
                Ok(None) => return,
                Err(_) => {
                    // It stays ready: without a pause this would spin.
                    self.paused_until = now + PAUSE;
                    return;
                }
            }
        }
    }

    /// Takes a connection's first packet. A client that gets no link has been told why.
    fn advance(&mut self, accepting: Accepting, open: usize, links: &mut Vec<Link>) {
        let occupancy = Occupancy { links: open + links.len(), stopping: false };
        match accepting.advance(&self.policy, occupancy, self.stats.descriptor()) {
            Accepted::Pending(accepting) => self.pending.push(accepting),
            Accepted::Link(established) => links.extend(self.begin(*established)),
            Accepted::Over | Accepted::Rejected(_) | Accepted::Failed(_) => {}
        }
    }

    /// Takes the clients that have come from other hosts.
    fn take_from_pod(&mut self, open: usize, links: &mut Vec<Link>) {
        let Some(pod) = &mut self.pod else { return };
        let established = pod.take(&self.policy, open);
        links.extend(established.into_iter().filter_map(|established| self.begin(established)));
    }

    fn begin(&self, established: Established) -> Option<Link> {
        let link = Link::new(Role::Server, self.policy.config.limits, established).ok()?;
        self.stats.link_opened();
        Some(link)
    }
}
