//! All servers of a channel, with their links.

use std::collections::BTreeMap;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Poll;
use std::time::Duration;

use notnets_core::name::Name;
use tokio::sync::{Notify, watch};
use tokio::task::AbortHandle;

use super::pick::{Choice, Pick, Turn};
use super::server::Server;
use crate::Error;
use crate::client::{ClientLink, Home, Outcome, Peers, Standing, for_timers};
use crate::error::Cause;
use crate::link::OpenTicket;

/// A server that does not answer gets this start before the next is tried as well.
const HEAD_START: Duration = Duration::from_millis(250);

/// The servers that are known, by their places.
#[derive(Clone, Debug, Default)]
pub(super) struct Known {
    /// Nearest first.
    pub(super) places: Vec<Vec<Arc<Server>>>,
    /// All places have been looked at.
    pub(super) is_complete: bool,
    /// The last [question](Looks) that this answers.
    pub(super) answered: u64,
    /// What the places are called in errors.
    pub(super) texts: Arc<[String]>,
    /// Why there are none at some of them.
    pub(super) why: String,
}

/// Questions of calls to the follower, whether the list of servers is still right: by number.
#[derive(Debug, Default)]
pub(super) struct Looks {
    asked: AtomicU64,
    pub(super) wanted: Notify,
}

/// Why the first server was not reached that was tried, by place.
type Failures = BTreeMap<usize, Arc<Error>>;

impl Looks {
    /// Asks for a look that begins after this.
    fn ask(&self) -> u64 {
        // Pairs with `last`, which the follower reads before it looks.
        let number = self.asked.fetch_add(1, Ordering::SeqCst) + 1;
        self.wanted.notify_one();
        number
    }

    /// Returns the last question that a look answers which begins after this.
    pub(super) fn last(&self) -> u64 {
        // Pairs with `ask`.
        self.asked.load(Ordering::SeqCst)
    }
}

/// The servers of a channel.
#[derive(Debug)]
pub(super) struct Servers {
    pub(super) name: Name,
    pub(super) known: watch::Receiver<Known>,
    pub(super) pick: Pick,
    pub(super) turn: Turn,
    pub(super) looks: Arc<Looks>,
    /// Where the follower runs.
    pub(super) home: Home,
    /// Follows which servers there are.
    pub(super) follower: AbortHandle,
}

impl Drop for Servers {
    fn drop(&mut self) {
        self.follower.abort();
    }
}

impl Peers for Servers {
    fn present(&self) -> Option<Arc<ClientLink>> {
        let known = self.known.borrow();
        if let [place] = &known.places[..]
            && let [only] = &place[..]
        {
            return only.present();
        }
        let choice = self.choose(&known);
        choice.link.filter(|_| choice.has_room || !choice.is_open)
    }

    fn link(self: Arc<Self>) -> Pin<Box<dyn Future<Output = Outcome> + Send>> {
        Box::pin(async move { self.find_link().await })
    }
}

impl Servers {
    /// Chooses a link of the nearest place that has one with room, else of the nearest that has one.
    fn choose(&self, known: &Known) -> Choice {
        let mut full = Choice::default();
        for place in &known.places {
            let choice = self.pick.choose(place, &self.turn);
            if choice.has_room {
                return choice;
            }
            full.is_open |= choice.is_open;
            full.link = full.link.or(choice.link);
        }
        full
    }

    async fn find_link(&self) -> Outcome {
        let mut known = self.known.clone();
        let mut is_sure = false;
        loop {
            let now = known.borrow_and_update().clone();
            let choice = self.choose(&now);
            let usable = choice.link.filter(|link| link.is_usable());
            if choice.has_room
                && let Some(link) = usable
            {
                return Ok(link);
            }
            if let Some(full) = usable {
                return Ok(self.spill_over(&now, full).await);
            }
            let failed = match self.connect_any(&now, false).await {
                Ok(link) => return Ok(link),
                Err(failed) => failed,
            };
            let is_last = if now.is_complete { is_sure } else { known.changed().await.is_err() };
            if is_last {
                return Err(self.no_server(failed, &now));
            }
            // There may be others by now: what a call fails with is no older than the call.
            if now.is_complete {
                is_sure = true;
                self.look_again(&mut known).await;
            }
        }
    }

    /// Waits until the list of servers is looked at.
    async fn look_again(&self, known: &mut watch::Receiver<Known>) {
        // The follower's thread stays behind when a process forks.
        if !self.home.is_of_parent() {
            let number = self.looks.ask();
            let _ended = known.wait_for(|known| known.answered >= number).await;
        }
    }

    /// All servers with a link are full, and this is the nearest. Connects to others, unless it has room
    /// before.
    async fn spill_over(&self, known: &Known, full: Arc<ClientLink>) -> Arc<ClientLink> {
        let mut ticket = OpenTicket::default();
        tokio::select! {
            biased;
            other = self.connect_any(known, true) => other.unwrap_or_else(|_failed| Arc::clone(&full)),
            () = poll_fn(|cx| full.poll_room(cx, &mut ticket)) => Arc::clone(&full),
        }
    }

    /// Connects to the first server that can be reached; with `anew` to one that has no link.
    ///
    /// # Errors
    /// Of the first that can't be reached of each place.
    async fn connect_any(&self, known: &Known, anew: bool) -> Result<Arc<ClientLink>, Failures> {
        let mut failed = Failures::new();
        let places = known.places.iter().enumerate();
        let servers = places.flat_map(|(place, servers)| servers.iter().map(move |server| (place, server)));
        let servers = servers.filter(|(_, server)| !anew || !matches!(server.standing(), Standing::Ready(_)));
        let servers: Vec<_> = servers.map(|(place, server)| (place, Arc::clone(server))).collect();
        let mut rest = servers.into_iter();
        let mut open = Vec::new();
        loop {
            match rest.next() {
                Some((place, server)) => {
                    open.push(Box::pin(async move { (place, server.link().await) }));
                }
                None if open.is_empty() => return Err(failed),
                None => {}
            }
            // The last ones have all the time they need.
            let is_last = rest.len() == 0;
            while !open.is_empty() {
                let any = poll_fn(|cx| {
                    let done = open.iter_mut().enumerate().find_map(|(n, dial)| {
                        let polled = dial.as_mut().poll(cx);
                        if let Poll::Ready(outcome) = polled { Some((n, outcome)) } else { None }
                    });
                    done.map_or(Poll::Pending, Poll::Ready)
                });
                let done = if is_last { Some(any.await) } else { within_head_start(any).await };
                let Some((n, (place, outcome))) = done else { break };
                drop(open.swap_remove(n));
                match outcome {
                    Ok(link) => return Ok(link),
                    Err(error) => {
                        self.looks.ask();
                        failed.entry(place).or_insert(error);
                    }
                }
            }
        }
    }

    /// Says of all places why no server was reached there; of the nearest with a server first.
    fn no_server(&self, failed: Failures, known: &Known) -> Arc<Error> {
        let mut failed = failed.into_iter();
        let Some((_, first)) = failed.next() else {
            return Arc::new(Cause::NoServer { name: self.name.clone(), why: known.why.clone() }.into());
        };
        let other = |(place, error): (usize, Arc<Error>)| match known.texts.get(place) {
            Some(text) => format!("; at {text}: {error}"),
            None => format!("; {error}"),
        };
        let others: String = failed.map(other).chain([known.why.clone()]).collect();
        if others.is_empty() { first } else { Arc::new(Cause::NoneReached { first, others }.into()) }
    }
}

/// Waits for this as long as a server has a head start. Without a timer there is none.
async fn within_head_start<T>(work: impl Future<Output = T>) -> Option<T> {
    let Ok(runtime) = for_timers() else { return Some(work.await) };
    let sleep = {
        let _inside = runtime.enter();
        tokio::time::sleep(HEAD_START)
    };
    let (mut work, mut sleep) = (pin!(work), pin!(sleep));
    poll_fn(|cx| {
        if let Poll::Ready(done) = work.as_mut().poll(cx) {
            return Poll::Ready(Some(done));
        }
        sleep.as_mut().poll(cx).map(|()| None)
    })
    .await
}
