//! The task that follows which servers a channel has.

use std::future::pending;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll};

use notnets_core::name::Name;
use tokio::sync::watch;

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
        loop {
            let answered = looks.last();
            if answered > self.known.borrow().answered {
                self.places.iter_mut().for_each(Place::look_again);
                self.publish_what_is_known(answered).await;
            }
            tokio::select! {
                () = poll_fn(|cx| self.poll_change(cx)) => self.publish(answered),
                () = looks.wanted.notified() => {}
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
