//! What a channel's clones share: the link, or the dial that makes it.
//!
//! A dial is a task of its own, and all that wait for it share what comes of it. It goes on when one of them
//! is no longer polled, and ends with the channel.

use std::sync::{Arc, MutexGuard};
use std::time::{Duration, Instant};

use notnets_core::per_process::PerProcess;
use tokio::sync::{Semaphore, watch};
use tokio::task::AbortHandle;

use super::client_link::ClientLink;
use super::endpoint::Endpoint;
use super::home::Home;
use super::peers::Peers;
use crate::Error;
use crate::error::Cause;
use crate::observe::OfChannel;

/// After a first failed attempt new ones wait so long, then twice as long, …
const FIRST_BACKOFF: Duration = Duration::from_millis(5);
/// … and at most so long: to look for a name on one's own host costs microseconds.
const LONGEST_BACKOFF: Duration = Duration::from_millis(500);
/// Dials that a caller may lose: their runtime has ended, or a better one was there.
const MAX_LOST: usize = 4;

#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) endpoint: Endpoint,
    pub(crate) calls: Option<Arc<Semaphore>>,
    /// What sees the calls, if they are observed.
    pub(crate) observer: Option<OfChannel>,
    slot: PerProcess<Slot>,
    /// Where calls get their links, if the channel has several servers; then it has no link of its own.
    peers: Option<Arc<dyn Peers>>,
}

#[derive(Debug)]
struct Slot {
    state: State,
    /// Where the channel was made, or where it went when that had ended; `None` is outside of any runtime.
    home: Option<Home>,
}

#[derive(Debug)]
enum State {
    /// No call has needed a link yet.
    New,
    Dialling(Dial),
    /// The last link, which may not be usable any more.
    Linked(Arc<ClientLink>),
    Failed(Failed),
}

#[derive(Debug)]
struct Failed {
    error: Arc<Error>,
    retry_at: Instant,
    backoff: Duration,
}

/// A task that connects.
#[derive(Debug)]
struct Dial {
    outcome: watch::Receiver<Option<Outcome>>,
    home: Home,
    task: AbortHandle,
    /// How long no other is made if this one fails.
    backoff: Duration,
}

/// What has come of a dial.
pub(crate) type Outcome = Result<Arc<ClientLink>, Arc<Error>>;

/// What can be expected of a server for a call.
#[derive(Debug)]
pub(crate) enum Standing {
    /// There is a link.
    Ready(Arc<ClientLink>),
    /// It is not known whether there will be one.
    Idle,
    /// A link could not be made a moment ago, or the server gets no calls for now.
    Failed,
}

/// A look at the channel: what calls are made on, or wait for.
enum Look {
    Linked(Arc<ClientLink>),
    Dialling(watch::Receiver<Option<Outcome>>),
}

impl Shared {
    pub(super) fn new(endpoint: Endpoint) -> Self {
        // With a limit of 0 calls fail as they need a link.
        let limit = endpoint.concurrency_limit.filter(|limit| *limit > 0);
        let calls = limit.map(|limit| Arc::new(Semaphore::new(limit.min(Semaphore::MAX_PERMITS))));
        let observer = endpoint.observer_of_channel();
        Self { endpoint, calls, observer, slot: PerProcess::new(Slot::new()), peers: None }
    }

    /// A channel whose calls get their links from these.
    pub(crate) fn with_peers(mut self, peers: Arc<dyn Peers>) -> Self {
        self.peers = Some(peers);
        self
    }

    /// The link to one of a channel's servers, made at that channel's home.
    pub(crate) fn of_peer(endpoint: Endpoint, home: Option<Home>) -> Self {
        let slot = Slot { state: State::New, home };
        Self { endpoint, calls: None, observer: None, slot: PerProcess::new(slot), peers: None }
    }

    /// Returns what can be expected of the server.
    pub(crate) fn standing(&self) -> Standing {
        match &self.slot().state {
            State::Linked(link) if link.is_usable() => Standing::Ready(Arc::clone(link)),
            State::Failed(failed) if Instant::now() < failed.retry_at => Standing::Failed,
            _ => Standing::Idle,
        }
    }

    /// Begins to connect if there is no link, and does not wait for it.
    pub(crate) fn begin(self: &Arc<Self>) {
        let _waited_for_by_nobody = self.look();
    }

    /// The link to the present server, made now if there is none.
    pub(crate) async fn link(self: &Arc<Self>) -> Outcome {
        if let Some(peers) = &self.peers {
            return Arc::clone(peers).link().await;
        }
        for _ in 0..MAX_LOST {
            let mut dial = match self.look()? {
                Look::Linked(link) => return Ok(link),
                Look::Dialling(outcome) => outcome,
            };
            if let Ok(outcome) = dial.wait_for(Option::is_some).await
                && let Some(outcome) = outcome.clone()
            {
                return outcome;
            }
        }
        Err(Arc::new(Cause::DialLost.into()))
    }

    /// The last link, which may not be usable any more.
    #[inline]
    pub(crate) fn present(&self) -> Option<Arc<ClientLink>> {
        let link = match &self.slot().state {
            State::Linked(link) => Some(Arc::clone(link)),
            _ => None,
        };
        if link.is_some() { link } else { self.peers.as_ref()?.present() }
    }

    /// Finds the link, or the dial that makes it; begins one if need be.
    fn look(self: &Arc<Self>) -> Result<Look, Arc<Error>> {
        let mut slot = self.slot();
        let backoff = match &slot.state {
            State::Linked(link) if link.is_usable() => return Ok(Look::Linked(Arc::clone(link))),
            State::Dialling(dial) if dial.runs_beside_caller() => {
                return Ok(Look::Dialling(dial.outcome.clone()));
            }
            State::Failed(failed) if Instant::now() < failed.retry_at => {
                return Err(Arc::clone(&failed.error));
            }
            State::Failed(failed) => (failed.backoff * 2).min(LONGEST_BACKOFF),
            State::Dialling(dial) => dial.backoff,
            State::New | State::Linked(_) => FIRST_BACKOFF,
        };
        let dial = self.dial(slot.home_beside_caller()?, backoff);
        let outcome = dial.outcome.clone();
        let replaced = std::mem::replace(&mut slot.state, State::Dialling(dial));
        drop(slot);
        replaced.abandon();
        Ok(Look::Dialling(outcome))
    }

    /// Begins to connect.
    fn dial(self: &Arc<Self>, home: Home, backoff: Duration) -> Dial {
        let (sender, outcome) = watch::channel(None);
        let (channel, dialled) = (Arc::downgrade(self), self.endpoint.clone().dial(home.clone()));
        let task = home.spawn(async move {
            let dialled = dialled.await;
            // A link for a channel that is gone closes when it is dropped.
            if let Some(channel) = channel.upgrade()
                && let Some(outcome) = channel.end_dial(dialled, backoff)
            {
                sender.send_replace(Some(outcome));
            }
        });
        Dial { outcome, home, task: task.abort_handle(), backoff }
    }

    /// In a dial's task: keeps what has come of it, unless another dial has taken its place.
    fn end_dial(&self, dialled: Result<ClientLink, Error>, backoff: Duration) -> Option<Outcome> {
        let outcome = dialled.map(Arc::new).map_err(Arc::new);
        let mut slot = self.slot();
        if !matches!(&slot.state, State::Dialling(dial) if dial.task.id() == tokio::task::id()) {
            return None;
        }
        slot.state = match &outcome {
            Ok(link) => State::Linked(Arc::clone(link)),
            Err(error) => {
                let retry_at = Instant::now() + backoff;
                State::Failed(Failed { error: Arc::clone(error), retry_at, backoff })
            }
        };
        Some(outcome)
    }

    #[inline]
    fn slot(&self) -> MutexGuard<'_, Slot> {
        self.slot.lock(Slot::new)
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        for mut slot in self.slot.values() {
            std::mem::replace(&mut slot.state, State::New).abandon();
        }
    }
}

impl Slot {
    fn new() -> Self {
        Self { state: State::New, home: Home::present() }
    }

    /// Returns where to connect for the caller: the channel's home if that runs. A home that has ended, or
    /// that a fork has left behind, is replaced by the runtime that the caller is polled in.
    fn home_beside_caller(&mut self) -> Result<Home, Error> {
        let lost = self.home.take_if(|home| home.is_of_parent() || self.state.was_lost_with(home));
        if let Some(lost) = lost {
            self.home = Home::present().filter(|present| !present.is_same(&lost));
        }
        match &self.home {
            Some(home) if home.runs_beside_caller() => Ok(home.clone()),
            _ => Home::fallback(),
        }
    }
}

impl State {
    /// Returns `true` if there is a dial that ended with its runtime, which is this one.
    fn was_lost_with(&self, home: &Home) -> bool {
        matches!(self, Self::Dialling(dial) if dial.is_lost() && dial.home.is_same(home))
    }

    /// Ends the dial that nobody needs any more.
    fn abandon(self) {
        if let Self::Dialling(dial) = self
            && !dial.home.is_of_parent()
        {
            dial.task.abort();
        }
    }
}

impl Dial {
    /// Returns `true` if the caller can wait for it.
    fn runs_beside_caller(&self) -> bool {
        !self.is_lost() && self.home.runs_beside_caller()
    }

    /// Returns `true` if nothing will come of it.
    fn is_lost(&self) -> bool {
        self.outcome.has_changed().is_err()
    }
}
