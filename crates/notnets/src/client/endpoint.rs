//! How a channel is made, with the names of tonic's `Endpoint`.

use std::time::Duration;

use http::HeaderValue;
use notnets_core::name::Uri;

use super::Channel;
use crate::Error;
use crate::error::Cause;
use crate::options::{LinkOptions, link_setters};
use notnets_core::session::Keepalive;

/// Where a channel leads to, and how it behaves.
///
/// ```no_run
/// # async fn example() -> Result<(), notnets::Error> {
/// use std::time::Duration;
///
/// let channel = notnets::Endpoint::from_static("notnets:///inventory")
///     .timeout(Duration::from_secs(2))
///     .wait(notnets::Wait::Park)
///     .connect()
///     .await?;
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct Endpoint {
    pub(super) uri: Uri,
    pub(super) link: LinkOptions,
    pub(crate) user_agent: String,
    pub(crate) timeout: Option<Duration>,
    pub(super) connect_timeout: Duration,
    pub(super) concurrency_limit: Option<usize>,
    keepalive_interval: Option<Duration>,
    keepalive_timeout: Duration,
    keepalive_while_idle: bool,
}

impl Endpoint {
    /// An endpoint for a URI like `notnets:///inventory`, or `notnets://pod0/inventory` in a pod.
    ///
    /// # Errors
    /// When it is not a `notnets:` URI.
    pub fn new(uri: impl AsRef<str>) -> Result<Self, Error> {
        let uri: Uri = uri.as_ref().parse().map_err(Cause::from)?;
        Ok(Self {
            uri,
            link: LinkOptions::default(),
            user_agent: concat!("notnets/", env!("CARGO_PKG_VERSION")).to_owned(),
            timeout: None,
            connect_timeout: Duration::from_secs(5),
            concurrency_limit: None,
            keepalive_interval: None,
            keepalive_timeout: Duration::from_secs(20),
            keepalive_while_idle: false,
        })
    }

    /// As [`new`](Self::new), for a URI that is written in the program.
    ///
    /// # Panics
    /// When it is not a `notnets:` URI of this host.
    pub fn from_static(uri: &'static str) -> Self {
        match Self::new(uri) {
            Ok(endpoint) => endpoint,
            Err(error) => panic!("{error}"),
        }
    }

    /// As [`new`](Self::new).
    ///
    /// # Errors
    /// When it is not a `notnets:` URI of this host.
    pub fn from_shared(uri: impl AsRef<str>) -> Result<Self, Error> {
        Self::new(uri)
    }

    link_setters!(link);

    /// Puts this before NotNets' own user agent.
    ///
    /// # Errors
    /// When it can't be a header's value.
    pub fn user_agent(mut self, user_agent: impl AsRef<str>) -> Result<Self, Error> {
        let agent = format!("{} notnets/{}", user_agent.as_ref(), env!("CARGO_PKG_VERSION"));
        HeaderValue::try_from(&agent).map_err(|_| Cause::UserAgent(agent.clone()))?;
        self.user_agent = agent;
        Ok(self)
    }

    /// The deadline of each call that does not bring a shorter one, over the whole call.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// How long to wait for a server's answer when connecting. 5 s unless set.
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }

    /// Calls open at once on a channel and its clones; more wait.
    pub fn concurrency_limit(mut self, limit: usize) -> Self {
        self.concurrency_limit = Some(limit);
        self
    }

    /// Asks the server so often whether it is there. Off unless set: the end of a process is noticed
    /// without, only a server that hangs is not.
    pub fn keep_alive_interval(mut self, interval: Duration) -> Self {
        self.keepalive_interval = Some(interval);
        self
    }

    /// How long a server may take to answer that. 20 s unless set.
    pub fn keep_alive_timeout(mut self, timeout: Duration) -> Self {
        self.keepalive_timeout = timeout;
        self
    }

    /// Also ask while no call is open.
    pub fn keep_alive_while_idle(mut self, enabled: bool) -> Self {
        self.keepalive_while_idle = enabled;
        self
    }

    /// Connects now.
    ///
    /// # Errors
    /// When there is no such name here, or its server does not want us.
    pub async fn connect(&self) -> Result<Channel, Error> {
        Channel::new(self.clone()).connected().await
    }

    /// A channel that connects when the first call is made, and gives its calls the error if that
    /// fails.
    pub fn connect_lazy(&self) -> Channel {
        Channel::new(self.clone())
    }

    /// The URI.
    pub fn uri(&self) -> String {
        self.uri.to_string()
    }

    pub(super) fn keepalive(&self) -> Option<Keepalive> {
        Some(Keepalive {
            interval: self.keepalive_interval?,
            timeout: self.keepalive_timeout,
            while_idle: self.keepalive_while_idle,
        })
    }
}

impl TryFrom<&str> for Endpoint {
    type Error = Error;

    fn try_from(uri: &str) -> Result<Self, Error> {
        Self::new(uri)
    }
}

impl TryFrom<String> for Endpoint {
    type Error = Error;

    fn try_from(uri: String) -> Result<Self, Error> {
        Self::new(uri)
    }
}
