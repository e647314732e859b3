//! From connections to links, without waiting for any of them.

use std::sync::Arc;
use std::time::Duration;

use notnets_core::call::Role;
use notnets_core::clock::{self, Timestamp};
use notnets_core::link::Established;
use notnets_core::link::accept::{Accepted, Accepting, Occupancy, Policy};
use notnets_core::link::admission::Rejection;
use notnets_core::link::lobby::Lobby;
use notnets_core::link::rendezvous::{DirectoryWatch, Listener};
use notnets_core::stats::Stats;
use notnets_memory::TrustPeerMemory;
use notnets_memory::process::ForkGuard;
use rustix::event::{PollFd, PollFlags};

use super::link::Link;
use super::pods::PodAcceptor;
use crate::log::{self, LINK};
use crate::names_in_place::{self, Place};
use crate::refusals::Refusals;

/// When a connection can't be accepted, for want of descriptors, it is tried again after this time.
const PAUSE: Duration = Duration::from_millis(100);
/// Connections accepted in one go.
const MAX_AT_ONCE: usize = 64;

/// Where a server's clients come.
pub struct Acceptor {
    listener: Option<Listener>,
    /// The listener's directory.
    place: Option<DirectoryWatch>,
    /// When to look at a name that may be lost, and whether it was before.
    look: Option<(Timestamp, bool)>,
    pod: Option<PodAcceptor>,
    /// Connections that have not said hello.
    pending: Lobby<Accepting>,
    paused_until: Timestamp,
    /// Another process has taken the name over.
    taken_over: bool,
    policy: Policy,
    refusals: Refusals,
    pub stats: Arc<Stats>,
    /// What is served, for tools.
    pub(super) names: String,
    /// Requests are read where the clients have put them.
    pub trust: Option<TrustPeerMemory>,
    bound_by: ForkGuard,
}

impl Acceptor {
    pub fn new(
        listener: Option<Listener>,
        pod: Option<PodAcceptor>,
        policy: Policy,
        stats: Stats,
        names: String,
        bound_by: ForkGuard,
    ) -> Self {
        stats.serves(&names);
        let place = listener.as_ref().and_then(|listener| listener.watch().ok());
        Self {
            listener,
            place,
            // It may have been lost before it was watched.
            look: Some((clock::now(), true)),
            pod,
            pending: Lobby::default(),
            paused_until: Timestamp::ZERO,
            taken_over: false,
            policy,
            refusals: Refusals::default(),
            stats: Arc::new(stats),
            names,
            trust: None,
            bound_by,
        }
    }

    /// Makes what was bound this process's own, if it was forked from the one that bound it.
    pub fn adopt(&mut self) {
        if !self.bound_by.is_forked_child() {
            return;
        }
        if self.pod.is_some() {
            tracing::warn!("a name in a pod was taken before this process was forked: bind after the fork");
        }
        if let Some(Err(error)) = self.listener.as_mut().map(Listener::adopt) {
            tracing::warn!(%error, "clients take this process for the one that it was forked from");
        }
        match Stats::of_server() {
            Ok(stats) => {
                stats.serves(&self.names);
                self.stats = Arc::new(stats);
            }
            Err(error) => tracing::warn!(%error, "there is no memory for a server's counters"),
        }
    }

    /// Returns `true` if another process has taken the name over.
    pub fn is_taken_over(&self) -> bool {
        self.taken_over
    }

    /// Gives the name up.
    pub fn close(&mut self) {
        self.listener = None;
        self.place = None;
        self.look = None;
        self.pod = None;
        for accepting in self.pending.drain() {
            accepting.reject(Rejection::ShuttingDown);
        }
    }

    /// What to watch.
    pub fn watched(&self, now: Timestamp) -> impl Iterator<Item = PollFd<'_>> {
        let interest = if now >= self.paused_until { PollFlags::IN } else { PollFlags::empty() };
        let listener = self.listener.iter().map(move |listener| PollFd::new(listener, interest));
        let place = self.place.iter().map(|place| PollFd::new(place, PollFlags::IN));
        let pod = self.pod.iter().map(|pod| PollFd::from_borrowed_fd(pod.event(), PollFlags::IN));
        let pending = self.pending.iter().map(|accepting| PollFd::new(accepting.socket(), PollFlags::IN));
        listener.chain(place).chain(pod).chain(pending)
    }

    /// When to look even if nothing is ready.
    pub fn wakes_at(&self, now: Timestamp) -> Option<Timestamp> {
        let pause = Some(self.paused_until).filter(|until| *until > now);
        let look = self.look.map(|(at, _)| at);
        self.pending.iter().map(Accepting::expires).chain(pause).chain(look).min()
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
        if self.place.is_some() && ready.next() == Some(true) {
            self.place.iter().for_each(DirectoryWatch::clear);
            self.look.get_or_insert((now + names_in_place::PAUSE, true));
        }
        if let Some((_, first)) = self.look.take_if(|(at, _)| *at <= now) {
            self.restore_name(now, first);
        }
        if self.pod.is_some() && ready.next() == Some(true) {
            self.take_from_pod(open, links);
        }
        let mut pending = std::mem::take(&mut self.pending);
        let mut ready = ready.chain(std::iter::repeat(false));
        pending.retain_map(|accepting| {
            if ready.next() == Some(true) {
                self.advance(accepting, open, links)
            } else {
                Some(accepting).filter(|accepting| now < accepting.expires())
            }
        });
        self.pending = pending;
        if listener_ready {
            self.accept(now, open, links);
        }
    }

    /// Takes the name again if it was removed from its directory.
    #[cold]
    fn restore_name(&mut self, now: Timestamp, first: bool) {
        let Some(listener) = &self.listener else { return };
        match names_in_place::restore(listener, first) {
            Place::Kept => {}
            Place::Restored(again) => {
                self.place = again.watch().ok();
                self.listener = Some(again);
            }
            // One that is in a pod, too, goes on there.
            Place::TakenOver => self.taken_over |= self.pod.is_none(),
            Place::Lost => self.look = Some((now + names_in_place::PAUSE, false)),
        }
    }

    fn accept(&mut self, now: Timestamp, open: usize, links: &mut Vec<Link>) {
        for _ in 0..MAX_AT_ONCE {
            let Some(listener) = &self.listener else { return };
            match listener.accept() {
                Ok(Some(socket)) => {
                    let accepting = match Accepting::new(socket, &self.policy, clock::now()) {
                        Ok(accepting) => accepting,
                        Err(refused) => {
                            self.refusals.log(&refused, Some(&self.stats));
                            continue;
                        }
                    };
                    let (_, left) = self.pending.enter(accepting.uid(), accepting);
                    // It may have said something meanwhile.
                    left.and_then(|left| self.advance(left, open, links));
                }
                Ok(None) => return,
                Err(error) => {
                    tracing::warn!(%error, "could not accept a connection");
                    // It stays ready: without a pause this would spin.
                    self.paused_until = now + PAUSE;
                    return;
                }
            }
        }
    }

    /// Takes a connection's first packet. A client that gets no link has been told why. Returns the
    /// connection if it has not said anything.
    fn advance(&mut self, accepting: Accepting, open: usize, links: &mut Vec<Link>) -> Option<Accepting> {
        let occupancy = Occupancy { links: open + links.len(), stopping: false };
        match accepting.advance(&self.policy, occupancy, Some(self.stats.descriptor())) {
            Accepted::Pending(accepting) => return Some(accepting),
            Accepted::Link(established) => links.extend(self.begin(*established)),
            Accepted::Rejected(refused) => self.refusals.log(&refused, Some(&self.stats)),
            Accepted::Failed(error) => tracing::warn!(target: LINK, %error, "a client got no link"),
            // One that is in a pod, too, goes on there.
            Accepted::TakenOver => {
                let is_so = self.listener.as_ref().is_some_and(Listener::is_taken_over);
                self.taken_over |= is_so && self.pod.is_none();
            }
            Accepted::Over => {}
        }
        None
    }

    /// Takes the clients that have come from other hosts.
    fn take_from_pod(&mut self, open: usize, links: &mut Vec<Link>) {
        let Some(pod) = &mut self.pod else { return };
        let established = pod.take(&self.policy, open, |why| self.refusals.log(why, Some(&self.stats)));
        links.extend(established.into_iter().filter_map(|established| self.begin(established)));
    }

    fn begin(&self, established: Established) -> Option<Link> {
        let user_agent = established.peer.user_agent.clone();
        let mut link = Link::new(Role::Server, self.policy.config.limits, self.trust, established).ok()?;
        link.session.count_in(&self.stats, &user_agent, false);
        log::admitted(link.session.peer());
        Some(link)
    }
}
