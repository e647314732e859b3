//! The server: all its links on the calling thread.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use notnets_core::call::Role;
use notnets_core::link::accept::Policy;
use notnets_core::link::admission::Admission;
use notnets_core::link::quota::{Quota, UserLimits};
use rustix::event::{PollFd, PollFlags};

use super::acceptor::Acceptor;
use super::handler::{App, Handler};
use super::pods::PodAcceptor;
use super::server_link::ServerLink;
use super::waiting::{Next, Waiting, is_ready, sleep};
use super::{Reply, Request, Status, Stopper};
use crate::Error;
use crate::claim::Claim;
use crate::error::Cause;
use crate::log;
use crate::message_prefix::{Limit, MAX_MESSAGE_SIZE};
use crate::observe::{AnyObserver, Observer, ServerCalls};
use crate::options::{LinkOptions, link_setters};
use crate::passed;
use notnets_core::clock::{self, Timestamp};
use notnets_core::link::handshake::Config;
use notnets_core::link::rendezvous::Listener;
use notnets_core::name::Uri;
use notnets_core::session::Ending;
use notnets_core::stats::Stats;
use notnets_core::wait::{Budget, Wait};
use notnets_memory::passed::Passed;
use notnets_memory::process::ForkGuard;

/// How a [`Server`] is made.
pub struct Builder {
    options: LinkOptions,
    max_message_size: usize,
    max_connections: usize,
    user_limits: UserLimits,
    admission: Admission,
    claim: Claim,
    drain_timeout: Option<Duration>,
    observer: Option<AnyObserver>,
}

impl Default for Builder {
    fn default() -> Self {
        Self {
            options: LinkOptions::default(),
            max_message_size: MAX_MESSAGE_SIZE,
            max_connections: 1024,
            user_limits: UserLimits::default(),
            admission: Admission::default(),
            claim: Claim::default(),
            drain_timeout: None,
            observer: None,
        }
    }
}

impl fmt::Debug for Builder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder").field("options", &self.options).finish_non_exhaustive()
    }
}

impl Builder {
    link_setters!(options);

    /// Bytes of a request's message, at most. 4 MiB unless set.
    pub fn max_message_size(mut self, bytes: usize) -> Self {
        self.max_message_size = bytes;
        self
    }

    /// Links that may be open at once; further clients are refused. 1024 unless set.
    pub fn max_connections(mut self, links: usize) -> Self {
        self.max_connections = links;
        self
    }

    /// Links of processes of each other user that may be open at once; more are refused. The server's own
    /// user and root have no such limit. 128 unless set; it matters where
    /// [`admission`](Self::admission) lets others in.
    pub fn max_connections_per_user(mut self, links: usize) -> Self {
        self.user_limits.links = links;
        self
    }

    /// Sets what processes of each other user may take: links, calls at once, calls and bytes by the second.
    /// The server's own user and root have no such limits. It matters where [`admission`](Self::admission)
    /// lets others in.
    pub fn user_limits(mut self, limits: UserLimits) -> Self {
        self.user_limits = limits;
        self
    }

    /// Whom to let in, by the kernel's word on who connects. Processes of the server's own uid unless set.
    pub fn admission(mut self, admission: Admission) -> Self {
        self.admission = admission;
        self
    }

    /// Sets whether the server takes its name beside other servers that are replicas, too: each
    /// client gets to one of them. Off unless set: a second server of a name is an error. In a pod several
    /// servers may have one name in any case.
    pub fn replica(mut self, replica: bool) -> Self {
        self.claim = self.claim.switched(Claim::Replica, replica);
        self
    }

    /// Sets whether the server takes its name over from the server that has it, without a moment
    /// in which nobody serves. Off unless set. Bind when all is ready: from then on new calls wait for this
    /// server. The old server stops as with a [`Stopper`]. A name
    /// that nobody serves is simply taken. Replicas need no take-over: start the new one and stop the old. Of
    /// this and [`replica`](Self::replica) the last one counts.
    pub fn take_over(mut self, take_over: bool) -> Self {
        self.claim = self.claim.switched(Claim::TakeOver, take_over);
        self
    }

    /// Sets how long calls may still take once the server is stopped or another process has taken its names
    /// over. Those that are open then end with `UNAVAILABLE`, "server stops: out of time". For ever unless
    /// set.
    pub fn drain_timeout(mut self, timeout: Duration) -> Self {
        self.drain_timeout = Some(timeout);
        self
    }

    /// Has the server's calls [observed](crate::observe). A handler runs within the context of its call, on
    /// the thread that serves.
    pub fn observer(mut self, observer: impl Observer) -> Self {
        self.observer = Some(AnyObserver(Arc::new(observer)));
        self
    }

    /// Takes the name of a URI like `notnets:///inventory`, or in a pod like `notnets://pod0/inventory`.
    /// Clients can connect from now on, in a pod once the name is known to the other hosts. They are answered
    /// once [`Server::serve`] runs.
    ///
    /// `systemd:` stands for the socket that was passed to this process (`sd_listen_fds(3)`), and
    /// `systemd:NAME` for the one with that `FileDescriptorName=`.
    ///
    /// # Errors
    /// When the name is in use, or the directory doesn't permit it; when no socket was passed, or not one of
    /// a name.
    pub fn bind(self, uri: impl AsRef<str>) -> Result<Server, Error> {
        self.options.limits.check().map_err(Cause::from)?;
        let stats = Stats::of_server().map_err(Cause::from)?;
        let no_page = Error::io("tell forks by a page");
        let stopper = Stopper::new().map_err(Error::io("make an event to be stopped by"))?;
        let (uri, listener, pod, config) = match uri.as_ref().strip_prefix(passed::SCHEME) {
            Some(name) => {
                let listener = passed_listener(Some(name).filter(|name| !name.is_empty()))?;
                (Uri::on_host(listener.name().clone()), Some(listener), None, self.options.config())
            }
            None => self.take(uri.as_ref().parse().map_err(Cause::from)?)?,
        };
        let policy = Policy {
            admission: self.admission,
            max_links: self.max_connections,
            quota: Quota::new(self.user_limits),
            config,
        };
        let mut acceptor =
            Acceptor::new(listener, pod, policy, stats, uri.to_string(), ForkGuard::new().map_err(no_page)?);
        acceptor.trust = self.options.trust;
        let Self { options, max_message_size, drain_timeout, observer, .. } = self;
        let observer = observer.map(|observer| observer.0.of_server(&acceptor.names));
        let wait = options.wait;
        Ok(Server { acceptor, wait, max_message_size, drain_timeout, observer, stopper })
    }

    /// Takes a name.
    fn take(&self, uri: Uri) -> Result<Taken, Error> {
        let directory = &self.options.directory;
        match uri.pod() {
            None => {
                let mut taken = self.claim.take(directory, [uri.name()].into_iter()).map_err(Cause::from)?;
                Ok((uri, taken.pop(), None, self.options.config()))
            }
            Some(pod) => {
                self.claim.check_in_pod(&uri)?;
                let acceptor = PodAcceptor::open(&self.options, pod, uri.name())?;
                let listener = acceptor.listen_local(directory);
                Ok((uri, listener, Some(acceptor), PodAcceptor::config(&self.options)))
            }
        }
    }
}

/// A name with what its clients come to, and what they are told.
type Taken = (Uri, Option<Listener>, Option<PodAcceptor>, Config);

/// Listens on the socket that was passed to this process.
fn passed_listener(name: Option<&str>) -> Result<Listener, Error> {
    let mut all = passed::take(name)?;
    let sentence = match (all.pop(), all.len()) {
        (Some(Passed { socket, .. }), 0) => {
            return Listener::of_passed(socket).map_err(|error| Cause::from(error).into());
        }
        (_, others) => format!(
            "{} sockets were passed to this process, and a blocking server takes one: say which as `systemd:NAME`",
            others + 1
        ),
    };
    Err(Cause::Passed(sentence).into())
}

/// A server of unary calls that works on the thread that calls [`serve`](Self::serve).
pub struct Server {
    acceptor: Acceptor,
    wait: Wait,
    max_message_size: usize,
    drain_timeout: Option<Duration>,
    observer: Option<Arc<dyn ServerCalls>>,
    stopper: Stopper,
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server").field("wait", &self.wait).finish_non_exhaustive()
    }
}

impl Server {
    /// How to make one.
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// Stops it, from another thread or from its handler.
    pub fn stopper(&self) -> Stopper {
        self.stopper.clone()
    }

    /// Answers calls with `handler` until it is stopped, and then those that were made before their
    /// clients heard of it. One call is answered after the other, on this thread.
    ///
    /// That may be in a process that was forked from the one that took the name, and in that alone, as long
    /// as the name is not in a pod.
    ///
    /// A handler that panics ends all of it: its clients see the end of the server.
    pub fn serve(self, handler: impl FnMut(&Request<'_>, &mut Reply) -> Result<(), Status>) {
        let Self { mut acceptor, wait, max_message_size, drain_timeout, observer, stopper } = self;
        acceptor.adopt();
        let limit = Limit { receiver: Role::Server, bytes: max_message_size };
        let app = App { handler, reply: Reply::default(), limit, observer };
        let waiting = Waiting::new(wait, Budget::new(wait));
        let drain = Drain { limit: drain_timeout, over_at: None };
        Loop { acceptor, app, waiting, stopper, links: Vec::new(), stopping: false, drain }.run();
    }
}

/// A server at work.
struct Loop<H> {
    acceptor: Acceptor,
    app: App<H>,
    waiting: Waiting,
    stopper: Stopper,
    links: Vec<ServerLink>,
    stopping: bool,
    drain: Drain,
}

/// The time that calls are given once the server stops.
struct Drain {
    limit: Option<Duration>,
    over_at: Option<Timestamp>,
}

impl<H: Handler> Loop<H> {
    fn run(mut self) {
        log::serving(&self.acceptor.names);
        while !(self.stopping && self.links.is_empty()) {
            if (self.stopper.is_stopped() || self.acceptor.is_taken_over()) && !self.stopping {
                self.begin_to_stop();
            }
            if self.take_turns() {
                if self.waiting.arrived() {
                    self.at_the_clock(clock::now());
                    self.look_around(Some(Timestamp::ZERO));
                }
                continue;
            }
            match self.waiting.idle() {
                Next::Poll => {}
                Next::Clock(now) => self.at_the_clock(now),
                Next::Sockets(now) => {
                    self.at_the_clock(now);
                    self.look_around(Some(Timestamp::ZERO));
                }
                Next::Park => {
                    self.at_the_clock(clock::now());
                    self.park();
                }
            }
        }
        log::stopped(&self.acceptor.names);
    }

    /// Serves each link. Returns whether anything had come.
    #[inline]
    fn take_turns(&mut self) -> bool {
        let mut any = false;
        for served in &mut self.links {
            any |= served.turn(&mut self.app);
        }
        any
    }

    /// What is due by now, when nothing else is.
    #[cold]
    fn at_the_clock(&mut self, now: Timestamp) {
        self.app.reply.give_back();
        for served in &mut self.links {
            served.link.at_the_clock(now);
            // Also to send what was said just now.
            served.work(&mut self.app);
        }
        if self.drain.over_at.is_some_and(|over_at| over_at <= now) {
            self.end_in_overtime();
        }
        self.drop_ended();
    }

    /// Ends the calls that are still open, and their links.
    #[cold]
    fn end_in_overtime(&mut self) {
        for served in &mut self.links {
            served.link.session.end_calls_in_overtime();
            served.work(&mut self.app);
            served.link.session.end(Ending::Closed, clock::now);
        }
    }

    fn drop_ended(&mut self) {
        self.links.retain(|served| {
            let ended = served.link.session.ended();
            if let Some(failure) = ended {
                log::link_ended(served.link.session.peer(), failure.code, &failure.message);
            }
            ended.is_none() && !served.is_wound_up()
        });
    }

    #[cold]
    fn begin_to_stop(&mut self) {
        log::stopping(&self.acceptor.names, self.links.len());
        self.stopping = true;
        let now = clock::now();
        self.drain.over_at = self.drain.limit.map(|limit| now + limit);
        // A call that is made once a successor has the name is the successor's: so clients are told before.
        for served in &mut self.links {
            served.link.session.go_away(now);
            served.link.finish_turn();
        }
        // The name before the calls end, so that a successor can take it while we finish.
        self.acceptor.close();
        for served in &mut self.links {
            served.work(&mut self.app);
        }
        self.drop_ended();
    }

    /// Sleeps, unless something has come meanwhile.
    fn park(&mut self) {
        if self.stopping && self.links.is_empty() {
            return;
        }
        let is_told = self.stopper.is_stopped() || self.acceptor.is_taken_over();
        let mut may_sleep = !is_told || self.stopping;
        let in_vain = self.waiting.was_in_vain();
        for served in &mut self.links {
            if in_vain {
                served.link.session.calls().count_poll_in_vain();
            }
            may_sleep &= served.link.arm();
        }
        self.look_around(if may_sleep { self.wakes_at() } else { Some(Timestamp::ZERO) });
        for served in &mut self.links {
            served.link.session.disarm();
        }
        self.waiting.arrived();
    }

    /// When there is something to do even if nothing comes.
    fn wakes_at(&self) -> Option<Timestamp> {
        let of_links = self.links.iter().filter_map(|served| served.link.session.poll_timeout());
        // Not the clock's start, which would not sleep at all.
        of_links
            .chain(self.acceptor.wakes_at(clock::now()))
            .chain(self.drain.over_at)
            .min()
            .map(|soonest| soonest.max(Timestamp::from_nanos(1)))
    }

    /// Looks at all descriptors, or waits for one of them until then.
    #[cold]
    fn look_around(&mut self, until: Option<Timestamp>) {
        let now = clock::now();
        let mut counts = Vec::with_capacity(self.links.len());
        let ready = {
            // When it is stopping it was told already, and the event stays readable.
            let stop = (!self.stopping).then(|| PollFd::new(self.stopper.event(), PollFlags::IN));
            let mut watched: Vec<PollFd<'_>> = stop.into_iter().collect();
            for served in &self.links {
                let before = watched.len();
                watched.extend(served.link.watched());
                counts.push(watched.len() - before);
            }
            watched.extend(self.acceptor.watched(now));
            sleep(&mut watched, until);
            watched.iter().map(is_ready).collect::<Vec<_>>()
        };
        let mut ready = ready.into_iter();
        if !self.stopping {
            ready.next();
        }
        for (served, count) in self.links.iter_mut().zip(counts) {
            served.link.on_ready(ready.by_ref().take(count));
            served.work(&mut self.app);
        }
        let mut links = Vec::new();
        let open = self.links.len();
        self.acceptor.on_ready(ready, clock::now(), open, &mut links);
        if links.iter_mut().any(|link| link.session.is_between_hosts()) {
            self.waiting.reach_other_hosts();
        }
        self.links.extend(links.into_iter().map(ServerLink::new));
        self.drop_ended();
    }
}
