//! The server: all its links on the calling thread.

use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use notnets_memory::lane::Geometry;
use notnets_memory::process::PeerCredentials;
use rustix::event::{PollFd, PollFlags};

use super::accept::{Admission, Door};
use super::handler::{App, Handler};
use super::serving::Serving;
use super::waiting::{Next, Waiting, is_ready, sleep};
use super::{Error, Reply, Request, Status, Stopper, pods};
use notnets_core::clock::{self, Timestamp};
use notnets_core::code::Code;
use notnets_core::limits::Limits;
use notnets_core::link::handshake::Config;
use notnets_core::link::rendezvous::Directory;
use notnets_core::link::stats::Stats;
use notnets_core::name::{Name, Uri};
use notnets_core::wait::Wait;

/// A client that is told to go away has so long to answer. Until then what it sends is taken; one that
/// hangs must not keep a server from stopping.
const GO_AWAY_TIMEOUT: Duration = Duration::from_secs(1);

/// How a [`Server`] is made.
pub struct Builder {
    directory: Directory,
    limits: Limits,
    geometry: Option<Geometry>,
    wait: Wait,
    max_message_size: usize,
    max_links: usize,
    admission: Admission,
}

impl Default for Builder {
    fn default() -> Self {
        let own = rustix::process::geteuid().as_raw();
        Self {
            directory: Directory::from_env(),
            limits: Limits::default(),
            geometry: None,
            wait: Wait::default(),
            max_message_size: super::MAX_MESSAGE_SIZE,
            max_links: 1024,
            admission: Box::new(move |peer| peer.uid == own),
        }
    }
}

impl fmt::Debug for Builder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder").field("directory", &self.directory).finish_non_exhaustive()
    }
}

impl Builder {
    /// Serves the name in this directory, or looks there for the agent of its pod; not in the environment's.
    pub fn directory(mut self, path: impl Into<std::path::PathBuf>) -> Self {
        self.directory = Directory::at(path);
        self
    }

    /// How to wait for requests.
    pub fn wait(mut self, wait: Wait) -> Self {
        self.wait = wait;
        self
    }

    /// What the server is willing to receive on each link.
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// The sizes of its first segment on each link.
    pub fn geometry(mut self, geometry: Geometry) -> Self {
        self.geometry = Some(geometry);
        self
    }

    /// Bytes of a request's message, at most. 4 MiB unless set.
    pub fn max_message_size(mut self, bytes: usize) -> Self {
        self.max_message_size = bytes;
        self
    }

    /// Links that may be open at once; further clients are refused. 1024 unless set.
    pub fn max_links(mut self, links: usize) -> Self {
        self.max_links = links;
        self
    }

    /// Whom to let in, by the kernel's word on who connects. Processes of the server's own uid unless set.
    pub fn admission(mut self, admits: impl Fn(&PeerCredentials) -> bool + Send + 'static) -> Self {
        self.admission = Box::new(admits);
        self
    }

    /// Takes the name of a URI like `notnets:///inventory`, or in a pod like `notnets://pod0/inventory`.
    /// Clients can connect from now on, in a pod as soon as the name has got around; they are answered once [`Server::serve`] runs.
    ///
    /// # Errors
    /// When the name is in use, or the directory doesn't permit it.
    pub fn bind(self, uri: impl AsRef<str>) -> Result<Server, Error> {
        self.bind_uri(&uri.as_ref().parse()?)
    }

    /// Takes a name on this host.
    ///
    /// # Errors
    /// As [`bind`](Self::bind).
    pub fn bind_name(self, name: &Name) -> Result<Server, Error> {
        self.bind_uri(&Uri::on_host(name.clone()))
    }

    fn bind_uri(self, uri: &Uri) -> Result<Server, Error> {
        self.limits.check()?;
        let since = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let stats = Stats::new(since)?;
        let stopper = Stopper::new().map_err(Error::io("make an event to be stopped by"))?;
        let (ways, geometry) = match uri.pod() {
            None => ((Some(self.directory.listen(uri.name())?), None), self.geometry.unwrap_or_default()),
            Some(pod) => {
                let door = pods::PodDoor::open(&self.directory, pod, uri.name())?;
                ((door.listen_local(&self.directory), Some(door)), pods::geometry(self.geometry))
            }
        };
        let config = Config { limits: self.limits, geometry };
        let door = Door::new(ways, config, self.admission, self.max_links, stats);
        let (wait, max_message_size) = (self.wait, self.max_message_size);
        Ok(Server { door, wait, max_message_size, stopper })
    }
}

/// A server of unary calls that works on the thread that calls [`serve`](Self::serve).
pub struct Server {
    door: Door,
    wait: Wait,
    max_message_size: usize,
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
    /// A handler that panics ends all of it: its clients see the end of the server.
    pub fn serve(self, handler: impl FnMut(&Request<'_>, &mut Reply) -> Result<(), Status>) {
        let Self { door, wait, max_message_size, stopper } = self;
        let app = App { handler, reply: Reply::default(), max_message_size };
        let waiting = Waiting::new(wait);
        Loop { door, app, waiting, stopper, servings: Vec::new(), stopping: false, uncounted: 0 }.run();
    }
}

/// A server at work.
struct Loop<H> {
    door: Door,
    app: App<H>,
    waiting: Waiting,
    stopper: Stopper,
    servings: Vec<Serving>,
    stopping: bool,
    /// Calls that the counters don't know yet.
    uncounted: u64,
}

impl<H: Handler> Loop<H> {
    fn run(mut self) {
        while !(self.stopping && self.servings.is_empty()) {
            if self.stopper.is_stopped() && !self.stopping {
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
    }

    /// Serves each link. Returns whether anything had come.
    #[inline]
    fn take_turns(&mut self) -> bool {
        let mut any = false;
        for serving in &mut self.servings {
            if let Some(begun) = serving.turn(&mut self.app) {
                self.uncounted += begun;
                any = true;
            }
        }
        any
    }

    /// What is due by now, when nothing else is.
    #[cold]
    fn at_the_clock(&mut self, now: Timestamp) {
        if self.uncounted > 0 {
            self.door.stats.calls(std::mem::take(&mut self.uncounted));
        }
        for serving in &mut self.servings {
            if serving.refuse_at.is_some_and(|at| at <= now) {
                serving.refuse_at = None;
                serving.link.connection.refuse();
            }
            // Also to send what was said just now.
            self.uncounted += serving.work(&mut self.app);
        }
        self.drop_ended();
    }

    fn drop_ended(&mut self) {
        let stats = &self.door.stats;
        self.servings.retain(|serving| {
            let ended = serving.link.ended();
            if let Some(failure) = ended {
                stats.link_closed(failure.code == Code::INTERNAL);
            } else if serving.is_wound_up() {
                stats.link_closed(false);
            }
            ended.is_none() && !serving.is_wound_up()
        });
    }

    #[cold]
    fn begin_to_stop(&mut self) {
        self.stopping = true;
        // The name first, so that a successor can take it while we finish.
        self.door.close();
        for serving in &mut self.servings {
            serving.link.connection.go_away();
            serving.refuse_at = Some(clock::after(GO_AWAY_TIMEOUT));
            self.uncounted += serving.work(&mut self.app);
        }
        self.drop_ended();
    }

    /// Sleeps, unless something has come meanwhile.
    fn park(&mut self) {
        if self.stopping && self.servings.is_empty() {
            return;
        }
        let mut may_sleep = !self.stopper.is_stopped() || self.stopping;
        for serving in &mut self.servings {
            may_sleep &= serving.link.arm();
        }
        self.look_around(if may_sleep { self.wakes_at() } else { Some(Timestamp::ZERO) });
        for serving in &mut self.servings {
            serving.link.disarm();
        }
        self.waiting.arrived();
    }

    /// When there is something to do even if nothing comes.
    fn wakes_at(&self) -> Option<Timestamp> {
        let of = |serving: &Serving| [serving.link.connection.next_deadline(), serving.refuse_at];
        let servings = self.servings.iter().flat_map(of).flatten();
        let soonest = servings.chain(self.door.wakes_at(clock::now())).min()?;
        // Not the clock's start, which would not sleep at all.
        Some(soonest.max(Timestamp::from_nanos(1)))
    }

    /// Looks at all descriptors, or waits for one of them until then.
    #[cold]
    fn look_around(&mut self, until: Option<Timestamp>) {
        let now = clock::now();
        let mut counts = Vec::with_capacity(self.servings.len());
        let ready = {
            // When it is stopping it was told already, and the event stays readable.
            let stop = (!self.stopping).then(|| PollFd::new(self.stopper.event(), PollFlags::IN));
            let mut watched: Vec<PollFd<'_>> = stop.into_iter().collect();
            for serving in &self.servings {
                let before = watched.len();
                watched.extend(serving.link.watched());
                counts.push(watched.len() - before);
            }
            watched.extend(self.door.watched(now));
            sleep(&mut watched, until);
            watched.iter().map(is_ready).collect::<Vec<_>>()
        };
        let mut ready = ready.into_iter();
        if !self.stopping {
            ready.next();
        }
        for (serving, count) in self.servings.iter_mut().zip(counts) {
            serving.link.on_ready(ready.by_ref().take(count));
            self.uncounted += serving.work(&mut self.app);
        }
        let mut links = Vec::new();
        let open = self.servings.len();
        self.door.on_ready(ready, clock::now(), open, &mut links);
        self.servings.extend(links.into_iter().map(Serving::new));
        self.drop_ended();
    }
}
