//! A channel: a name, and the link to whoever serves it now.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use notnets_core::Role;
use notnets_core::link::handshake::Dialing;
use notnets_core::link::packet::Refusal;
use notnets_core::link::rendezvous::RendezvousError;
use notnets_core::link::{Established, LinkError, Socket};
use notnets_core::name::Name;
use notnets_pod::member::{Member, PodError, share};
use notnets_pod::table::ProcessId;
use tokio::io::Interest;
use tokio::sync::Semaphore;
use tonic::Status;

use super::endpoint::Endpoint;
use crate::Error;
use crate::async_fd::register;
use crate::http::status::to_tonic;
use crate::link::Link;
use crate::link::driver::{Driver, NoRequests};
use crate::rpc;

/// After a first failed attempt new ones wait so long, then twice as long, …
const FIRST_BACKOFF: Duration = Duration::from_millis(5);
/// … and at most so long: to look for a name on one's own host costs microseconds.
const LONGEST_BACKOFF: Duration = Duration::from_millis(500);
/// A server with a full backlog is tried again after so long, until the connect timeout.
const BUSY: Duration = Duration::from_millis(1);
/// One that ended while it was dialled is dialled again after these pauses.
const ENDING: [Duration; 4] = [
    Duration::from_millis(1),
    Duration::from_millis(3),
    Duration::from_millis(10),
    Duration::from_millis(30),
];

/// A connection to a name, for generated clients. Cheap to clone, and used by many tasks at once.
///
/// When the server ends, its calls fail with `UNAVAILABLE`; later calls connect anew as soon as a
/// server of that name is back.
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
        Endpoint::new(uri)?.connect().await
    }

    /// An endpoint, to set more than the URI.
    pub fn from_static(uri: &'static str) -> Endpoint {
        Endpoint::from_static(uri)
    }

    /// An endpoint, to set more than the URI.
    ///
    /// # Errors
    /// When it is not a `notnets:` URI of this host.
    pub fn from_shared(uri: impl AsRef<str>) -> Result<Endpoint, Error> {
        Endpoint::from_shared(uri)
    }

    /// Connects now if there is no link, to find out whether there is a server.
    ///
    /// # Errors
    /// `UNAVAILABLE` with what was tried.
    pub async fn ready(&self) -> Result<(), Status> {
        let link = self.shared.link().await;
        link.map(drop).map_err(|error| to_tonic(&rpc::Status::no_link(&error)))
    }

    /// How long a call may take that asks for `call`: what the endpoint allows if that is less.
    pub(crate) fn timeout_of(&self, call: Option<Duration>) -> Option<Duration> {
        match (call, self.shared.endpoint.timeout) {
            (Some(call), Some(endpoint)) => Some(call.min(endpoint)),
            (call, endpoint) => call.or(endpoint),
        }
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

/// Did we dial a server that was about to end? Then there may be another by now, or certainly none.
fn is_ending(error: &LinkError) -> bool {
    matches!(error, LinkError::Closed | LinkError::Refused { reason: Refusal::ShuttingDown, .. })
}

impl Endpoint {
    async fn dial(&self) -> Result<Arc<Link>, Error> {
        let name = self.uri.name().to_string();
        match tokio::time::timeout(self.connect_timeout, self.try_dial()).await {
            Ok(result) => result,
            Err(_) => Err(Error::ConnectTimeout { name, after: self.connect_timeout }),
        }
    }

    async fn try_dial(&self) -> Result<Arc<Link>, Error> {
        self.limits.check()?;
        if let Some(pod) = self.uri.pod() {
            let established = self.dial_in_pod(pod.clone()).await?;
            return self
                .start(established)
                .map_err(|source| Error::Io { step: "watch a link's socket", source });
        }
        let name = self.uri.name();
        let mut pauses = ENDING.into_iter();
        let established = loop {
            let socket = match self.directory.connect(name) {
                Err(RendezvousError::Busy { .. }) => {
                    tokio::time::sleep(BUSY).await;
                    continue;
                }
                connected => connected?,
            };
            match self.shake_hands(socket.into()).await {
                Ok(established) => break established,
                Err(source) => match pauses.next().filter(|_| is_ending(&source)) {
                    Some(pause) => tokio::time::sleep(pause).await,
                    None => return Err(Error::Link { name: name.to_string(), source }),
                },
            }
        };
        self.start(established).map_err(|source| Error::Io { step: "watch a link's socket", source })
    }

    /// To the nearest of those who serve the name in the pod, or to the next if that is gone or refuses.
    async fn dial_in_pod(&self, pod: Name) -> Result<Established, Error> {
        let (directory, name) = (self.directory.clone(), self.uri.name().clone());
        let (wake_latency, deadline) = (self.wake_latency, Instant::now() + self.connect_timeout);
        let resolve = move || {
            let member = Member::of(&directory, &pod, deadline)?;
            if let Some(latency) = wake_latency {
                member.wake_within(latency);
            }
            let instances = member.resolve(&name, deadline)?;
            Ok((member, instances))
        };
        let (member, instances) = self.by_agents(resolve).await?;
        let (mut instances, mut failed) = (instances.into_iter(), None);
        while let Some(instance) = instances.next() {
            match self.dial_instance(&member, instance, share(deadline, instances.len())).await {
                Ok(established) => return Ok(established),
                Err(error) => failed = Some(error),
            }
        }
        Err(failed.unwrap_or_else(|| self.in_pod(member.no_service(self.uri.name()))))
    }

    /// To one of them: on the own host as to any server here, else through the region.
    async fn dial_instance(
        &self,
        member: &Member,
        instance: ProcessId,
        until: Instant,
    ) -> Result<Established, Error> {
        let name = self.uri.name();
        let here = async {
            loop {
                match member.connect_local(&self.directory, instance, name) {
                    Err(_busy) => tokio::time::sleep(BUSY).await,
                    Ok(None) => return None,
                    Ok(Some(socket)) => {
                        let shaken = self.shake_hands(socket.into()).await;
                        return Some(shaken.map_err(|source| Error::Link { name: name.to_string(), source }));
                    }
                }
            }
        };
        match tokio::time::timeout_at(until.into(), here).await {
            Err(_) => return Err(self.in_pod(PodError::TimedOut)),
            // The next link is looked for in the same pod.
            Ok(Some(shaken)) => {
                return shaken.map(|link| Established { keep_alive: Some(member.keep_alive()), ..link });
            }
            Ok(None) => {}
        }
        let (member, name) = (member.clone(), name.clone());
        let (config, user_agent) = (self.pod_config(), self.user_agent.clone());
        self.by_agents(move || member.dial_at(instance, &name, config, &user_agent, until)).await
    }

    /// What waits for agents has a thread of its own.
    async fn by_agents<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, PodError> + Send + 'static,
    ) -> Result<T, Error> {
        let worked = tokio::task::spawn_blocking(work).await;
        worked.unwrap_or(Err(PodError::TimedOut)).map_err(|source| self.in_pod(source))
    }

    fn in_pod(&self, source: PodError) -> Error {
        Error::Pod { uri: self.uri.to_string(), source }
    }

    async fn shake_hands(&self, socket: Socket) -> Result<Established, LinkError> {
        let dialing = Dialing::start(socket, self.config(), self.uri.name().as_str(), &self.user_agent)?;
        let answer = {
            let wait = |source| LinkError::Io { step: "wait for the server's answer", source };
            let readable = register(dialing.socket(), Interest::READABLE).map_err(wait)?;
            loop {
                let mut guard = readable.readable().await.map_err(wait)?;
                if let Ok(answer) = guard.try_io(|socket| socket.get_ref().receive()) {
                    break answer.map_err(wait)?;
                }
            }
        };
        dialing.finish(answer)
    }

    fn start(&self, established: Established) -> std::io::Result<Arc<Link>> {
        let (link, pidfd) = Link::new(Role::Client, self.limits, self.wait, established)?;
        let driver = Driver::new(Arc::clone(&link), pidfd, NoRequests, self.keepalive())?;
        tokio::spawn(async move {
            let failure = driver.await;
            tracing::debug!(reason = %failure.message, "link closed");
        });
        Ok(link)
    }
}
