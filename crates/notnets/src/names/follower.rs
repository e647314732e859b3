//! The task that follows which servers a channel has.

use std::future::pending;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use notnets_core::name::Name;
use notnets_core::random;
use tokio::sync::watch;
use tokio::time::{Interval, MissedTickBehavior};

use super::outliers;
use super::place::Place;
use super::server::Settings;
use super::servers::{Known, Looks};
use super::table::Table;
use super::target::Target;

/// Follows the resolvers of a channel.
pub(super) struct Follower {
    pub(super) places: Vec<Place>,
    pub(super) known: watch::Sender<Known>,
    pub(super) looks: Arc<Looks>,
    pub(super) settings: Settings,
}

/// Where a routes file says that the servers of a name are.
#[derive(Clone)]
pub(super) struct Route {
    pub(super) name: Name,
    pub(super) table: watch::Receiver<Arc<Table>>,
}

impl Route {
    /// The target at present. What the file does not list is a name of this host.
    pub(super) fn target(&mut self) -> Target {
        let target = self.table.borrow_and_update().target(&self.name);
        target.unwrap_or_else(|| Target::on_host(self.name.clone()))
    }

    /// Waits until the file has changed.
    async fn changed(route: &mut Option<Self>) -> Target {
        if let Some(route) = route
            && route.table.changed().await.is_ok()
        {
            return route.target();
        }
        pending().await
    }
}

impl Follower {
    /// Goes on for as long as the channel lives.
    pub(super) async fn follow(mut self, mut route: Option<Route>) {
        let looks = Arc::clone(&self.looks);
        let mut sweeps = self.settings.outliers.as_ref().map(|outliers| interval(outliers.interval));
        loop {
            let answered = looks.last();
            if answered > self.known.borrow().answered {
                self.places.iter_mut().for_each(Place::look_again);
                self.publish_what_is_known(answered).await;
            }
            tokio::select! {
                () = poll_fn(|cx| self.poll_change(cx)) => self.publish(answered),
                () = looks.wanted.notified() => {}
                () = tick(&mut sweeps) => self.sweep(),
                target = Route::changed(&mut route) => {
                    self.go_to(target);
                    self.publish_what_is_known(answered).await;
                }
            }
        }
    }

    /// Looks at all places. What is not known at once comes later.
    async fn publish_what_is_known(&mut self, answered: u64) {
        let _changed = poll_fn(|cx| Poll::Ready(self.poll_change(cx))).await;
        self.publish(answered);
    }

    /// Waits until another list of servers is there.
    fn poll_change(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Self { places, settings, .. } = self;
        let mut changed = Poll::Pending;
        for place in places {
            if place.poll_change(cx, settings).is_ready() {
                changed = Poll::Ready(());
            }
        }
        changed
    }

    /// Looks for outliers among the servers of each place.
    fn sweep(&self) {
        let Some(detection) = &self.settings.outliers else { return };
        for place in &self.places {
            let servers = place.servers();
            let records: Vec<_> = servers.iter().filter_map(|server| server.record()).collect();
            let lot = || (random::word() % 100) as u32;
            for ejected in outliers::sweep(detection, &records, std::time::Instant::now(), lot) {
                let server = servers[ejected].text();
                tracing::warn!("the server at {server} gets no calls for a while: too many have failed");
            }
        }
    }

    /// Looks for servers elsewhere from now on, and keeps what is known of places that stay.
    fn go_to(&mut self, target: Target) {
        let mut before = std::mem::take(&mut self.places);
        let place = |place: Place| match before.iter().position(|known| known.text() == place.text()) {
            Some(known) => before.swap_remove(known),
            None => place,
        };
        self.places = Place::all_of(target, &self.settings.endpoint).map(place).collect();
    }

    fn publish(&self, answered: u64) {
        let known = Known {
            places: self.places.iter().map(Place::servers).collect(),
            answered,
            is_complete: self.places.iter().all(Place::is_resolved),
            texts: self.places.iter().map(|place| place.text().to_owned()).collect(),
            why: self.places.iter().map(Place::why).collect(),
        };
        self.known.send_replace(known);
    }
}

/// A timer that is first due after this period.
fn interval(period: Duration) -> Interval {
    let mut interval = tokio::time::interval(period);
    interval.reset();
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    interval
}

/// Waits until the timer is due; without one for ever.
async fn tick(interval: &mut Option<Interval>) {
    match interval {
        Some(interval) => drop(interval.tick().await),
        None => pending().await,
    }
}
