//! The task that follows which servers a channel has.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::sync::watch;

use super::resolve::{Address, BoxError, Resolve};
use super::servers::{Known, Looks};
use crate::client::{Endpoint, Home, Shared};
#[cfg(feature = "http2")]
use crate::http2::Peer;
use crate::location::Location;

/// Follows the resolvers of a channel.
pub(super) struct Follower {
    pub(super) places: Vec<Place>,
    pub(super) known: watch::Sender<Known>,
    pub(super) looks: Arc<Looks>,
    /// The settings of the channel, for each server's link.
    pub(super) endpoint: Endpoint,
    pub(super) home: Option<Home>,
}

/// A place where servers may be.
pub(super) struct Place {
    resolver: Box<dyn Resolve>,
    /// What it is called in errors.
    text: String,
    servers: Vec<(Address, Arc<Shared>)>,
    error: Option<BoxError>,
    is_resolved: bool,
}

impl Place {
    pub(super) fn new(text: String, resolver: Box<dyn Resolve>) -> Self {
        Self { resolver, text, servers: Vec::new(), error: None, is_resolved: false }
    }
}

impl Follower {
    /// Goes on for as long as the channel lives.
    pub(super) async fn follow(mut self) {
        let looks = Arc::clone(&self.looks);
        loop {
            let answered = looks.last();
            if answered > self.known.borrow().answered {
                self.places.iter_mut().for_each(|place| place.resolver.look_again());
                // What is not known at once comes later.
                let _changed = poll_fn(|cx| Poll::Ready(self.poll_change(cx))).await;
                self.publish(answered);
            }
            tokio::select! {
                () = poll_fn(|cx| self.poll_change(cx)) => self.publish(answered),
                () = looks.wanted.notified() => {}
            }
        }
    }

    /// Waits until another list of servers is there.
    fn poll_change(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Self { places, endpoint, home, .. } = self;
        let mut changed = Poll::Pending;
        for place in places {
            let Poll::Ready(servers) = place.resolver.poll_servers(cx) else { continue };
            changed = Poll::Ready(());
            place.is_resolved = true;
            match servers {
                Ok(servers) => {
                    place.error = None;
                    place.update(servers, endpoint, home.as_ref());
                }
                Err(error) => {
                    tracing::warn!("cannot find the servers at {}: {error}", place.text);
                    place.error = Some(error);
                }
            }
        }
        changed
    }

    fn publish(&self, answered: u64) {
        let servers = |place: &Place| place.servers.iter().map(|(_, server)| Arc::clone(server)).collect();
        let known = Known {
            places: self.places.iter().map(servers).collect(),
            answered,
            is_complete: self.places.iter().all(|place| place.is_resolved),
            texts: self.places.iter().map(|place| place.text.clone()).collect(),
            why: self.places.iter().map(Place::why).collect(),
        };
        self.known.send_replace(known);
    }
}

impl Place {
    /// Keeps the links to servers that are still there.
    fn update(&mut self, servers: Vec<Address>, endpoint: &Endpoint, home: Option<&Home>) {
        let mut before = std::mem::take(&mut self.servers);
        let server = |address: Address| {
            if let Some(at) = before.iter().position(|(known, _)| *known == address) {
                return before.swap_remove(at);
            }
            let endpoint = match address.location.clone() {
                Location::Memory(uri) => endpoint.of_server(uri, address.replica.clone()),
                #[cfg(feature = "http2")]
                Location::Http2(at) => endpoint.reached(Arc::new(Peer::new(at, address.host.clone()))),
            };
            (address, Arc::new(Shared::of_peer(endpoint, home.cloned())))
        };
        self.servers = servers.into_iter().map(server).collect();
    }

    /// Returns why no server is known here, as a part of a sentence.
    fn why(&self) -> String {
        match &self.error {
            Some(error) => format!("; at {}: {error}", self.text),
            None if self.servers.is_empty() => format!("; at {} there is none", self.text),
            None => String::new(),
        }
    }
}
