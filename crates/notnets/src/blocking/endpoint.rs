//! Where a client connects to, and how.

use std::time::Duration;

use notnets_core::call::Role;
use notnets_core::clock;
use notnets_core::limits::Limits;
use notnets_core::link::Established;
use notnets_core::link::connect::{ConnectError, Connecting};
use notnets_core::link::handshake::Config;
use notnets_core::link::rendezvous::Directory;
use notnets_core::name::{Name, Uri};
use notnets_core::wait::Wait;
use notnets_memory::lane::Geometry;

use super::link::Link;
use super::{Client, Error, pods};

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
    pub(super) directory: Directory,
    pub(super) uri: Uri,
    pub(super) limits: Limits,
    pub(super) geometry: Option<Geometry>,
    pub(super) connect_timeout: Duration,
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
            Some(pod) => pods::dial(self, pod)?,
            None => self.dial_on_host()?,
        };
        Link::new(Role::Client, self.limits, established).map_err(Error::io("tell forks by a page"))
    }

    fn dial_on_host(&self) -> Result<Established, Error> {
        let name = self.uri.name();
        let config = Config { limits: self.limits, geometry: self.geometry.unwrap_or_default() };
        let deadline = clock::after(self.connect_timeout);
        let connecting =
            Connecting::new(self.directory.clone(), name.clone(), config, super::USER_AGENT, deadline);
        connecting.block().map(|established| *established).map_err(|error| match error {
            ConnectError::Rendezvous(error) => error.into(),
            ConnectError::Link(source) => Error::Link { name: name.clone(), source },
            _ => Error::Timeout { name: name.clone(), after: self.connect_timeout },
        })
    }
}
