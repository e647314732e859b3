//! A channel: a name, and the link to whoever serves it now.

use std::sync::Arc;
use std::time::Duration;

use tonic::Status;

use super::endpoint::Endpoint;
use super::peers::Peers;
use super::shared::Shared;
use crate::Error;
use crate::http::to_tonic;
use crate::rpc;

/// A connection to a name, for generated clients. Cheap to clone, and used by many tasks at once.
///
/// When the server ends, its calls fail with `UNAVAILABLE`; later calls connect anew as soon as a
/// server of that name is back.
///
/// A channel connects, and serves its link, in the tokio runtime that it was made in, which has to have
/// time and IO enabled. Its calls can be polled anywhere: in other runtimes (with time enabled, if they have
/// deadlines), in several at once, or in none. No call holds up others, and each ends at its deadline. A call
/// that sleeps is woken by the channel's runtime, so one of the current-thread flavor should be kept running
/// while other runtimes make calls.
///
/// When the channel's runtime ends, the calls that are open fail with `UNAVAILABLE`; later calls connect
/// anew, in the runtime that they are polled in. A thread named `notnets` does the work for a channel that
/// was made outside of any runtime, and for calls that can't rely on the channel's.
///
/// ```no_run
/// use tonic_health::pb::health_client::HealthClient; // any generated client
///
/// # async fn example() -> Result<(), notnets::Error> {
/// let channel = notnets::Channel::connect("notnets:///inventory").await?;
/// let client = HealthClient::new(channel.clone());
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct Channel {
    pub(crate) shared: Arc<Shared>,
}

impl Channel {
    pub(super) fn new(endpoint: Endpoint) -> Self {
        Self { shared: Arc::new(Shared::new(endpoint)) }
    }

    /// A channel whose calls get their links from several servers.
    pub(crate) fn of_peers(endpoint: Endpoint, peers: Arc<dyn Peers>) -> Self {
        Self { shared: Arc::new(Shared::new(endpoint).with_peers(peers)) }
    }

    /// Connects to a URI like `notnets:///inventory`, with the defaults of [`Endpoint`].
    ///
    /// # Errors
    /// When there is no such name here, or its server does not want us.
    pub async fn connect(uri: impl AsRef<str>) -> Result<Self, Error> {
        Endpoint::from_shared(uri)?.connect().await
    }

    /// Makes an [`Endpoint`] of an `http::Uri`, where a channel's settings are made before it connects. That
    /// the URI is not a `notnets:` URI is an error then.
    pub fn builder(uri: http::Uri) -> Endpoint {
        Endpoint::from(uri)
    }

    /// Makes an [`Endpoint`] for a URI that is written in the program. A channel's settings are made there
    /// before it connects.
    ///
    /// # Panics
    /// When it is not a `notnets:` URI.
    pub fn from_static(uri: &'static str) -> Endpoint {
        Endpoint::from_static(uri)
    }

    /// Makes an [`Endpoint`] for a URI that is made while the program runs. A channel's settings are made
    /// there before it connects.
    ///
    /// # Errors
    /// When it is not a `notnets:` URI.
    pub fn from_shared(uri: impl AsRef<str>) -> Result<Endpoint, Error> {
        Endpoint::from_shared(uri)
    }

    /// Connects now if there is no link, to find out whether there is a server.
    ///
    /// # Errors
    /// `UNAVAILABLE` with what was tried.
    pub async fn wait_until_connected(&self) -> Result<(), Status> {
        let link = self.shared.link().await;
        link.map(drop).map_err(|error| to_tonic(&rpc::Status::no_link(&error)))
    }

    /// How long each call may take at most.
    pub(crate) fn timeout(&self) -> Option<Duration> {
        self.shared.endpoint.timeout
    }

    pub(crate) async fn connected(self) -> Result<Self, Error> {
        match self.shared.link().await {
            Ok(_linked) => Ok(self),
            Err(error) => Err(error.share()),
        }
    }
}
