//! Where a client connects to, and how.

use std::time::{Duration, Instant};

use notnets_memory::lane::Geometry;
use rustix::event::{PollFd, PollFlags};

use super::waiting::sleep;
use super::{Client, Error, pods};
use notnets_core::call::Role;
use notnets_core::clock::{self, Timestamp};
use notnets_core::limits::Limits;
use notnets_core::link::handshake::{Config, Dialing};
use notnets_core::link::packet::Refusal;
use notnets_core::link::rendezvous::{Directory, RendezvousError};
use notnets_core::link::{Established, LinkError, Socket};
use notnets_core::name::{Name, Uri};
use notnets_core::wait::Wait;
use notnets_pod::member::{Member, PodError, share};
use notnets_pod::table::ProcessId;

use super::link::Link;

/// A server with a full backlog, or one that just ends, is tried again after so long.
const PAUSE: Duration = Duration::from_millis(1);

/// Where a [`Client`] connects to, and how it behaves.
///
/// ```no_run
/// use notnets_core::Wait;
/// use notnets::blocking::Endpoint;
///
/// let client = Endpoint::new("notnets:///inventory")?.wait(Wait::Spin).connect()?;
/// # Ok::<(), notnets::blocking::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Endpoint {
    directory: Directory,
    uri: Uri,
    limits: Limits,
    geometry: Option<Geometry>,
    connect_timeout: Duration,
    pub(super) wait: Wait,
    pub(super) max_message_size: usize,
}

impl Endpoint {
    /// The server of a URI like `notnets:///inventory`, or in a pod like `notnets://pod0/inventory`, in the
    /// rendezvous directory that the environment calls for.
    ///
    /// # Errors
    /// When it is no `notnets:` URI.
    pub fn new(uri: impl AsRef<str>) -> Result<Self, Error> {
        Ok(Self::of(Directory::from_env(), uri.as_ref().parse()?))
    }

    /// The server of a name in a directory.
    pub fn at(directory: Directory, name: Name) -> Self {
        Self::of(directory, Uri::on_host(name))
    }

    fn of(directory: Directory, uri: Uri) -> Self {
        Self {
            directory,
            uri,
            limits: Limits::default(),
            geometry: None,
            connect_timeout: Duration::from_secs(5),
            wait: Wait::default(),
            max_message_size: super::MAX_MESSAGE_SIZE,
        }
    }

    /// Looks for the name in this directory, or for the agent of its pod.
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
        self.limits = limits;
        self
    }

    /// The sizes of its first segment.
    pub fn geometry(mut self, geometry: Geometry) -> Self {
        self.geometry = Some(geometry);
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
        self.limits.check()?;
        let established = match self.uri.pod() {
            Some(pod) => self.dial_in_pod(pod)?,
            None => self.dial_on_host()?,
        };
        Link::new(Role::Client, self.limits, established).map_err(Error::io("tell forks by a page"))
    }

    /// To the nearest of those who serve the name in the pod, or to the next if that is gone or refuses.
    fn dial_in_pod(&self, pod: &Name) -> Result<Established, Error> {
        let (name, deadline) = (self.uri.name(), Instant::now() + self.connect_timeout);
        let member = Member::of(&self.directory, pod, deadline).map_err(|source| self.in_pod(source))?;
        let instances = member.resolve(name, deadline).map_err(|source| self.in_pod(source))?;
        let (mut instances, mut failed) = (instances.into_iter(), None);
        while let Some(instance) = instances.next() {
            match self.dial_instance(&member, instance, share(deadline, instances.len())) {
                Ok(established) => return Ok(established),
                Err(error) => failed = Some(error),
            }
        }
        Err(failed.unwrap_or_else(|| self.in_pod(member.no_service(name))))
    }

    /// To one of them: on the own host as to any server here, else through the region.
    fn dial_instance(
        &self,
        member: &Member,
        instance: ProcessId,
        until: Instant,
    ) -> Result<Established, Error> {
        let name = self.uri.name();
        loop {
            match member.connect_local(&self.directory, instance, name) {
                Ok(None) => break,
                Err(_) if Instant::now() >= until => return Err(self.in_pod(PodError::TimedOut)),
                Err(_busy) => std::thread::sleep(PAUSE),
                Ok(Some(socket)) => {
                    let until = clock::after(until.saturating_duration_since(Instant::now()));
                    let shaken = self.shake_hands(socket.into(), until);
                    let shaken = shaken.map_err(|source| Error::Link { name: name.clone(), source })?;
                    let link = shaken.ok_or_else(|| self.in_pod(PodError::TimedOut))?;
                    // The next link is looked for in the same pod.
                    return Ok(Established { keep_alive: Some(member.keep_alive()), ..link });
                }
            }
        }
        let config = Config { limits: self.limits, geometry: pods::geometry(self.geometry) };
        let dialled = member.dial_at(instance, name, config, super::USER_AGENT, until);
        dialled.map_err(|source| self.in_pod(source))
    }

    fn in_pod(&self, source: PodError) -> Error {
        Error::Pod { uri: self.uri.clone(), source }
    }

    fn dial_on_host(&self) -> Result<Established, Error> {
        let name = self.uri.name();
        let until = clock::after(self.connect_timeout);
        loop {
            let error = match self.directory.connect(name) {
                Ok(socket) => match self.shake_hands(socket.into(), until) {
                    Ok(Some(established)) => return Ok(established),
                    Ok(None) => return Err(self.timed_out()),
                    // It is about to end: then there is another by now, or certainly none.
                    Err(LinkError::Closed | LinkError::Refused { reason: Refusal::ShuttingDown, .. })
                        if clock::now() < until =>
                    {
                        None
                    }
                    Err(source) => return Err(Error::Link { name: name.clone(), source }),
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

    fn timed_out(&self) -> Error {
        Error::Timeout { name: self.uri.name().clone(), after: self.connect_timeout }
    }

    /// `None` when the server has not answered in time.
    fn shake_hands(&self, socket: Socket, until: Timestamp) -> Result<Option<Established>, LinkError> {
        let config = Config { limits: self.limits, geometry: self.geometry.unwrap_or_default() };
        let dialing = Dialing::start(socket, config, self.uri.name().as_str(), super::USER_AGENT)?;
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
