//! Where a client connects to, and how.

use std::time::{Duration, Instant};

use notnets_memory::lane::Geometry;
use rustix::event::{PollFd, PollFlags};

use super::waiting::sleep;
use super::{Client, Error};
use crate::call::Role;
use crate::clock;
use crate::limits::Limits;
use crate::link::handshake::{Config, Dialing};
use crate::link::packet::Refusal;
use crate::link::rendezvous::{Directory, RendezvousError};
use crate::link::{Established, LinkError, Socket};
use crate::name::{Name, Uri};
use crate::pod::member::{Member, PodError, share};
use crate::pod::table::Address;
use crate::wait::Wait;

use super::link::Link;

/// A server with a full backlog, or one that just ends, is tried again after so long.
const PAUSE: Duration = Duration::from_millis(1);

/// Where a [`Client`] connects to, and how it behaves.
///
/// ```no_run
/// use notnets_core::Wait;
/// use notnets_core::blocking::Endpoint;
///
/// let client = Endpoint::new("notnets:///inventory")?.wait(Wait::Spin).connect()?;
/// # Ok::<(), notnets_core::blocking::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Endpoint {
    directory: Directory,
    pod: Option<Name>,
    name: Name,
    config: Config,
    connect_timeout: Duration,
    pub(super) wait: Wait,
    pub(super) max_message_size: usize,
}

impl Endpoint {
    /// The server of a URI like `notnets:///inventory`, or `notnets://pod0/inventory` in a pod, by the
    /// rendezvous directory that the environment calls for.
    ///
    /// # Errors
    /// When it is no `notnets:` URI.
    pub fn new(uri: impl AsRef<str>) -> Result<Self, Error> {
        let uri: Uri = uri.as_ref().parse()?;
        let here = Self::at(Directory::from_env(), uri.name().clone());
        Ok(Self { pod: uri.pod().cloned(), ..here })
    }

    /// The server of a name in a directory.
    pub fn at(directory: Directory, name: Name) -> Self {
        Self {
            directory,
            pod: None,
            name,
            config: Config::default(),
            connect_timeout: Duration::from_secs(5),
            wait: Wait::default(),
            max_message_size: super::MAX_MESSAGE_SIZE,
        }
    }

    /// Looks for the name in this directory.
    pub fn directory(mut self, path: impl Into<std::path::PathBuf>) -> Self {
        self.directory = Directory::at(path);
        self
    }

    /// How to wait for replies.
    pub fn wait(mut self, wait: Wait) -> Self {
        self.wait = wait;
        self
    }

    /// What the client is willing to receive.
    pub fn limits(mut self, limits: Limits) -> Self {
        self.config.limits = limits;
        self
    }

    /// The sizes of its first segment.
    pub fn geometry(mut self, geometry: Geometry) -> Self {
        self.config.geometry = geometry;
        self
    }

    /// Bytes of a reply's message, at most. 4 MiB unless set.
    pub fn max_message_size(mut self, bytes: usize) -> Self {
        self.max_message_size = bytes;
        self
    }

    /// How long to wait for a server's answer when connecting. 5 s unless set.
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }

    /// Connects now.
    ///
    /// # Errors
    /// When there is no such name, or its server does not want us.
    pub fn connect(self) -> Result<Client, Error> {
        let link = self.dial()?;
        Ok(Client::new(self, link))
    }

    pub(super) fn dial(&self) -> Result<Link, Error> {
        self.config.limits.check()?;
        let established = match &self.pod {
            None => self.dial_here(),
            Some(pod) => self.dial_in_pod(pod),
        };
        Link::new(Role::Client, self.config.limits, established?).map_err(Error::io("tell forks by a page"))
    }

    fn dial_here(&self) -> Result<Established, Error> {
        let until = clock::after(self.connect_timeout);
        loop {
            let error = match self.directory.connect(&self.name) {
                Ok(socket) => match self.shake_hands(socket.into(), until) {
                    Ok(Some(established)) => return Ok(established),
                    Ok(None) => return Err(self.timed_out()),
                    // It is about to end: then there is another by now, or certainly none.
                    Err(LinkError::Closed | LinkError::Refused { reason: Refusal::ShuttingDown, .. })
                        if clock::now() < until =>
                    {
                        None
                    }
                    Err(source) => return Err(Error::Link { name: self.name.clone(), source }),
                },
                Err(busy @ RendezvousError::Busy { .. }) => Some(busy),
                Err(error) => return Err(error.into()),
            };
            if clock::now() >= until {
                return Err(error.map_or_else(|| self.timed_out(), Error::from));
            }
            std::thread::sleep(PAUSE);
        }
    }

    /// To the nearest of those who serve the name in the pod, or to the next if that is gone or refuses.
    fn dial_in_pod(&self, pod: &Name) -> Result<Established, Error> {
        let deadline = Instant::now() + self.connect_timeout;
        let member = Member::of(&self.directory, pod, deadline).map_err(|source| self.in_pod(source))?;
        let places = member.resolve(&self.name, deadline).map_err(|source| self.in_pod(source))?;
        let (mut places, mut failed) = (places.into_iter(), None);
        while let Some(place) = places.next() {
            match self.dial_place(&member, place, share(deadline, places.len())) {
                Ok(established) => return Ok(established),
                Err(error) => failed = Some(error),
            }
        }
        Err(failed.unwrap_or_else(|| self.in_pod(member.no_service(&self.name))))
    }

    /// To one of them: on the own host as to any server here, else through the region.
    fn dial_place(&self, member: &Member, place: Address, until: Instant) -> Result<Established, Error> {
        loop {
            match member.connect_here(&self.directory, place, &self.name) {
                Ok(None) => break,
                Err(_) if Instant::now() >= until => return Err(self.in_pod(PodError::TimedOut)),
                Err(_busy) => std::thread::sleep(PAUSE),
                Ok(Some(socket)) => {
                    let until = clock::after(until.saturating_duration_since(Instant::now()));
                    let shaken = self.shake_hands(socket.into(), until);
                    let shaken = shaken.map_err(|source| Error::Link { name: self.name.clone(), source })?;
                    let link = shaken.ok_or_else(|| self.in_pod(PodError::TimedOut))?;
                    // The next link is looked for in the same pod.
                    return Ok(Established { member: Some(member.clone()), ..link });
                }
            }
        }
        let dialled = member.dial_at(place, &self.name, self.config, super::USER_AGENT, until);
        dialled.map_err(|source| self.in_pod(source))
    }

    fn in_pod(&self, source: PodError) -> Error {
        Error::InPod { name: self.name.clone(), source: Box::new(source) }
    }

    fn timed_out(&self) -> Error {
        Error::Timeout { name: self.name.clone(), after: self.connect_timeout }
    }

    /// `None` when the server has not answered in time.
    fn shake_hands(&self, socket: Socket, until: u64) -> Result<Option<Established>, LinkError> {
        let dialing = Dialing::start(socket, self.config, self.name.as_str(), super::USER_AGENT)?;
        loop {
            match dialing.socket().receive() {
                Ok(answer) => return dialing.finish(answer).map(Some),
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                Err(source) => return Err(LinkError::Io { step: "wait for the server's answer", source }),
            }
            if clock::now() >= until {
                return Ok(None);
            }
            sleep(&mut [PollFd::new(dialing.socket(), PollFlags::IN)], Some(until));
        }
    }
}

/// The name in a URI, if it is one of this host.
pub(super) fn name_on_this_host(uri: &str) -> Result<Name, Error> {
    let uri: Uri = uri.parse()?;
    match uri.pod() {
        None => Ok(uri.name().clone()),
        Some(_) => Err(Error::Pod(uri)),
    }
}
