//! Where a client connects to, and how.

use std::sync::Arc;
use std::time::Duration;

use notnets_core::call::Role;
use notnets_core::link::Established;
use notnets_core::name::Uri;
use notnets_core::stats;

use super::link::Link;
use super::{Client, pods};
use crate::Error;
use crate::error::Cause;
use crate::message_prefix::MAX_MESSAGE_SIZE;
use crate::observe::{AnyObserver, Observer, OfChannel};
use crate::options::{LinkOptions, client_setters, link_setters};

/// Where a [`Client`] connects to, and how it behaves.
///
/// ```no_run
/// use notnets::Wait;
/// use notnets::blocking::Endpoint;
///
/// let client = Endpoint::new("notnets:///inventory")?.wait(Wait::Spin).connect()?;
/// # Ok::<(), notnets::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Endpoint {
    pub(super) uri: Uri,
    pub(super) options: LinkOptions,
    pub(super) connect_timeout: Duration,
    pub(super) max_message_size: usize,
    observer: Option<AnyObserver>,
}

impl Endpoint {
    /// The server of a URI like `notnets:///inventory`, or in a pod like `notnets://pod0/inventory`, in the
    /// rendezvous directory that the environment calls for.
    ///
    /// # Errors
    /// When it is no `notnets:` URI.
    pub fn new(uri: impl AsRef<str>) -> Result<Self, Error> {
        Ok(Self {
            uri: uri.as_ref().parse().map_err(Cause::from)?,
            options: LinkOptions::default(),
            connect_timeout: Duration::from_secs(5),
            max_message_size: MAX_MESSAGE_SIZE,
            observer: None,
        })
    }

    link_setters!(options);
    client_setters!(options);

    /// Bytes of a reply's message, at most. 4 MiB unless set.
    pub fn max_message_size(mut self, bytes: usize) -> Self {
        self.max_message_size = bytes;
        self
    }

    /// Has the calls of the endpoint's clients [observed](crate::observe).
    pub fn observer(mut self, observer: impl Observer) -> Self {
        self.observer = Some(AnyObserver(Arc::new(observer)));
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
    pub fn connect(&self) -> Result<Client, Error> {
        let link = self.dial()?;
        let observer = self.observer.as_ref();
        let observer = observer.map(|observer| OfChannel(observer.0.of_channel(&self.uri.to_string())));
        Ok(Client::new(self.clone(), link, observer))
    }

    pub(super) fn dial(&self) -> Result<Link, Error> {
        self.options.limits.check().map_err(Cause::from)?;
        let established = match self.uri.pod() {
            Some(pod) => pods::dial(self, pod)?,
            None => self.dial_on_host()?,
        };
        let LinkOptions { limits, trust, .. } = self.options;
        let link = Link::new(Role::Client, limits, trust, established);
        let mut link = link.map_err(Error::io("tell forks by a page"))?;
        if let Some(stats) = stats::of_clients() {
            link.session.count_in(&stats, &self.uri.to_string(), false);
        }
        Ok(link)
    }

    fn dial_on_host(&self) -> Result<Established, Error> {
        let name = self.uri.name();
        let connecting = self.options.connecting(name, super::USER_AGENT, self.connect_timeout);
        let established = connecting.block();
        established
            .map(|established| *established)
            .map_err(|error| Error::connect(error, name, self.connect_timeout))
    }
}
