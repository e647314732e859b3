//! A place where the servers of a channel may be.

use std::sync::Arc;
use std::task::{Context, Poll, ready};

#[cfg(feature = "http2")]
use super::dns::Dns;
use super::relay::Relay;
use super::rendezvous::Rendezvous;
use super::resolve::{Address, BoxError, Fixed, Resolve};
use super::server::{Server, Settings};
use super::target::{At, Target};
use crate::client::Endpoint;
#[cfg(feature = "http2")]
use crate::http2::Peer;
use crate::location::Location;

/// A place where servers may be.
pub(super) struct Place {
    resolver: Box<dyn Resolve>,
    /// What it is called in errors.
    text: String,
    servers: Vec<(Address, Arc<Server>)>,
    error: Option<BoxError>,
    is_resolved: bool,
}

impl Place {
    pub(super) fn new(text: String, resolver: Box<dyn Resolve>) -> Self {
        Self { resolver, text, servers: Vec::new(), error: None, is_resolved: false }
    }

    /// The places of a target, nearest first.
    pub(super) fn all_of(target: Target, endpoint: &Endpoint) -> impl Iterator<Item = Self> {
        target.into_places().into_iter().map(|at| match at {
            At::Location(location) => Self::at(location, endpoint),
            #[cfg(feature = "http2")]
            At::Dns(name) => Self::new(name.to_string(), Box::new(Dns::new(name))),
        })
    }

    /// Servers of this host are looked for in the rendezvous directory. Those of a pod are its agents'
    /// business: a link leads to the nearest. One over HTTP/2 is where its address says.
    pub(super) fn at(location: Location, endpoint: &Endpoint) -> Self {
        let text = location.to_string();
        let resolver: Box<dyn Resolve> = match &location {
            Location::Memory(uri) if uri.pod().is_none() => {
                Box::new(Rendezvous::new(endpoint.link.directory.clone(), uri.name().clone()))
            }
            _ => Box::new(Fixed::new([Address::at(location)])),
        };
        Self::new(text, resolver)
    }

    /// What it is called, and its resolver for several channels. Nobody has followed it yet.
    pub(super) fn relayed(self) -> (String, Relay) {
        (self.text, Relay::new(self.resolver))
    }

    /// What it is called in errors.
    pub(super) fn text(&self) -> &str {
        &self.text
    }

    /// Returns `true` if it was looked at.
    pub(super) fn is_resolved(&self) -> bool {
        self.is_resolved
    }

    pub(super) fn servers(&self) -> Vec<Arc<Server>> {
        self.servers.iter().map(|(_, server)| Arc::clone(server)).collect()
    }

    /// A server could not be reached.
    pub(super) fn look_again(&mut self) {
        self.resolver.look_again();
    }

    /// Waits until another list of servers is there.
    pub(super) fn poll_change(&mut self, cx: &mut Context<'_>, settings: &Settings) -> Poll<()> {
        let servers = ready!(self.resolver.poll_servers(cx));
        self.is_resolved = true;
        match servers {
            Ok(servers) => {
                self.error = None;
                self.update(servers, settings);
            }
            Err(error) => {
                tracing::warn!("cannot find the servers at {}: {error}", self.text);
                self.error = Some(error);
            }
        }
        Poll::Ready(())
    }

    /// Keeps the links to servers that are still there.
    fn update(&mut self, servers: Vec<Address>, settings: &Settings) {
        let endpoint = &settings.endpoint;
        let mut before = std::mem::take(&mut self.servers);
        let server = |address: Address| {
            if let Some(at) = before.iter().position(|(known, _)| *known == address) {
                return before.swap_remove(at);
            }
            let endpoint = match address.location.clone() {
                Location::Memory(uri) => endpoint.of_server(uri, address.replica.clone()),
                #[cfg(feature = "http2")]
                Location::Http2(at) => {
                    let peer = Peer::new(at, address.host.clone(), endpoint.tls.clone());
                    endpoint.reached(Arc::new(peer))
                }
            };
            let server = Server::new(endpoint, settings, address.to_string());
            (address, Arc::new(server))
        };
        self.servers = servers.into_iter().map(server).collect();
    }

    /// Returns why no server is known here, as a part of a sentence.
    pub(super) fn why(&self) -> String {
        match &self.error {
            Some(error) => format!("; at {}: {error}", self.text),
            None if self.servers.is_empty() => format!("; at {} there is none", self.text),
            None => String::new(),
        }
    }
}
