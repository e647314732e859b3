//! A channel: a name, and the link to whoever serves it now.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Semaphore;
use tonic::Status;

use super::endpoint::Endpoint;
use crate::Error;
use crate::http::to_tonic;
use crate::link::Link;
use crate::rpc;

/// After a first failed attempt new ones wait so long, then twice as long, …
const FIRST_BACKOFF: Duration = Duration::from_millis(5);
/// … and at most so long: to look for a name on one's own host costs microseconds.
const LONGEST_BACKOFF: Duration = Duration::from_millis(500);
/// A connection to a name, for generated clients. Cheap to clone, and used by many tasks at once.
///
/// When the server ends, its calls fail with `UNAVAILABLE`; later calls connect anew as soon as a
/// server of that name is back.
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

#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) endpoint: Endpoint,
    pub(crate) calls: Option<Arc<Semaphore>>,
    slot: Mutex<Slot>,
    connecting: tokio::sync::Mutex<()>,
}

#[derive(Debug, Default)]
struct Slot {
    link: Option<Arc<ClientLink>>,
    failed: Option<Failed>,
}

#[derive(Debug)]
struct Failed {
    error: Arc<Error>,
    retry_at: Instant,
    backoff: Duration,
}

/// A client's end of a link. It closes the link when neither channel nor call needs it any more.
#[derive(Debug)]
pub(crate) struct ClientLink(pub(crate) Arc<Link>);

impl Drop for ClientLink {
    fn drop(&mut self) {
        self.0.close();
    }
}

impl Channel {
    pub(super) fn new(endpoint: Endpoint) -> Self {
        let calls = endpoint.concurrency_limit.map(|limit| Arc::new(Semaphore::new(limit)));
        let (slot, connecting) = (Mutex::default(), tokio::sync::Mutex::default());
        Self { shared: Arc::new(Shared { endpoint, calls, slot, connecting }) }
    }

    /// Connects to a URI like `notnets:///inventory`, with the defaults of [`Endpoint`].
    ///
    /// # Errors
    /// When there is no such name here, or its server does not want us.
    pub async fn connect(uri: impl AsRef<str>) -> Result<Self, Error> {
        Endpoint::from_shared(uri)?.connect().await
    }

    /// An endpoint, to set more than the URI: see [`Endpoint`]'s `From<http::Uri>`.
    pub fn builder(uri: http::Uri) -> Endpoint {
        Endpoint::from(uri)
    }

    /// An endpoint for a URI that is written in the program, to set more than that.
    ///
    /// # Panics
    /// When it is not a `notnets:` URI.
    pub fn from_static(uri: &'static str) -> Endpoint {
        Endpoint::from_static(uri)
    }

    /// An endpoint for a URI that is made while the program runs, to set more than that.
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

    pub(super) async fn connected(self) -> Result<Self, Error> {
        let link = self.shared.endpoint.dial().await?;
        self.shared.slot().link = Some(Arc::new(ClientLink(link)));
        Ok(self)
    }
}

impl Shared {
    /// The link to the present server, made now if there is none.
    pub(crate) async fn link(&self) -> Result<Arc<ClientLink>, Arc<Error>> {
        if let Some(link) = self.usable() {
            return Ok(link);
        }
        let _one_at_a_time = self.connecting.lock().await;
        if let Some(link) = self.usable() {
            return Ok(link);
        }
        let backoff = match &self.slot().failed {
            Some(failed) if Instant::now() < failed.retry_at => return Err(Arc::clone(&failed.error)),
            Some(failed) => (failed.backoff * 2).min(LONGEST_BACKOFF),
            None => FIRST_BACKOFF,
        };
        match self.endpoint.dial().await {
            Ok(link) => {
                let link = Arc::new(ClientLink(link));
                *self.slot() = Slot { link: Some(Arc::clone(&link)), failed: None };
                Ok(link)
            }
            Err(error) => {
                let error = Arc::new(error);
                let retry_at = Instant::now() + backoff;
                *self.slot() = Slot {
                    link: None,
                    failed: Some(Failed { error: Arc::clone(&error), retry_at, backoff }),
                };
                Err(error)
            }
        }
    }

    #[inline]
    fn usable(&self) -> Option<Arc<ClientLink>> {
        let slot = self.slot();
        slot.link.as_ref().filter(|link| link.0.is_usable()).cloned()
    }

    /// The last link, which may not be usable any more.
    #[inline]
    pub(crate) fn present(&self) -> Option<Arc<ClientLink>> {
        self.slot().link.clone()
    }

    fn slot(&self) -> std::sync::MutexGuard<'_, Slot> {
        self.slot.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
