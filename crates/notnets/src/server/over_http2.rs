//! Addresses where a server speaks HTTP/2.
//!
//! Each connection has a link within this process, at whose other end the server serves it like any client:
//! the same services, layers, limits and counters. A connection is wound up by HTTP/2's own means, and its
//! link ends with it.

use std::sync::Arc;

use notnets_core::link::accept::Refused;
use notnets_core::link::candidate::Candidate;
use notnets_core::link::handshake::pair;
use notnets_core::link::quota::UserLink;
use notnets_core::link::{Established, PeerIdentity};
use notnets_memory::process::PeerCredentials;
use tokio::sync::oneshot;
use tokio::task::JoinSet;

use super::accept::{Life, ending, serve_link_for};
use super::context::ServerContext;
use crate::claim::Claim;
use crate::client::OnlyLink;
use crate::error::Cause;
use crate::http::ConnectInfo;
use crate::http2::bridge::Bridge;
use crate::http2::listener::{Listener, Origin, Socket};
use crate::http2::pings::KeepAlive;
use crate::http2::server::{self, Options, Served};
use crate::http2::{Address, MAX_METADATA};
use crate::location::Location;
use crate::tls::ServerTls;
use crate::{Channel, Endpoint, Error};

/// Addresses that are bound.
#[derive(Debug)]
pub(super) struct OverHttp2(Vec<Place>);

/// A bound address, and what is spoken there before HTTP/2.
#[derive(Debug)]
struct Place {
    socket: Socket,
    tls: Option<ServerTls>,
}

impl OverHttp2 {
    /// Binds addresses. Servers that have their names beside others, or after them, share their ports with
    /// these.
    pub(super) fn bind(
        addresses: Vec<Address>,
        claim: Claim,
        tls: Option<&ServerTls>,
    ) -> Result<Self, Error> {
        let is_shared = claim != Claim::Alone;
        let bind = |address: Address| {
            let tls = tls.filter(|_| address.is_tls()).cloned();
            if address.is_tls() && tls.is_none() {
                return Err(Cause::WithoutCertificate(address).into());
            }
            let bound = Socket::bind(&address, is_shared);
            let cannot = |error| Cause::Listen { location: Location::Http2(address), error }.into();
            bound.map(|socket| Place { socket, tls }).map_err(cannot)
        };
        Ok(Self(addresses.into_iter().map(bind).collect::<Result<_, Error>>()?))
    }

    /// Adds an address that was bound by another process.
    pub(super) fn add(&mut self, socket: Socket) {
        self.0.push(Place { socket, tls: None });
    }

    /// The addresses, as clients write them.
    pub(super) fn addresses(&self) -> Vec<String> {
        let address = |place: &Place| {
            let address = place.socket.address().ok()?;
            Some(if place.tls.is_some() { address.replacen("http:", "https:", 1) } else { address })
        };
        self.0.iter().filter_map(address).collect()
    }

    /// Serves clients that come there until the server stops, and those that came to the end of their calls.
    ///
    /// # Errors
    /// When the runtime can't watch a socket.
    pub(super) fn serve(self, shared: &Arc<ServerContext>, tasks: &mut JoinSet<()>) -> Result<(), Error> {
        for Place { socket, tls } in self.0 {
            let listener = socket.listen().map_err(Error::io("watch a listening socket"))?;
            tasks.spawn(accept(listener, tls, Arc::clone(shared)));
        }
        Ok(())
    }
}

async fn accept(listener: Listener, tls: Option<ServerTls>, shared: Arc<ServerContext>) {
    let settings = &shared.settings;
    let keep_alive = KeepAlive::of_link(settings.keepalive());
    let endpoint = Endpoint::within(settings.link.clone()).max_metadata_size(MAX_METADATA);
    let options = Options::new(keep_alive, settings.link.limits.streams);
    let mut stop = shared.shutdown.clone();
    // An error means that the server is gone altogether.
    let stopped = async { drop(stop.wait_for(|stop| *stop).await) };
    let make = move |origin: &Origin| begin(&shared, &endpoint, origin);
    server::serve(listener, tls, make, options, stopped).await;
}

/// Begins to serve a client, if it is admitted.
fn begin(
    shared: &Arc<ServerContext>,
    endpoint: &Endpoint,
    origin: &Origin,
) -> Option<Served<Bridge<Channel>>> {
    let (credentials, connect_info) = match origin {
        // Whoever reaches the port may connect.
        Origin::Tcp { local, remote } => (PeerCredentials::NOBODY, ConnectInfo::tcp(*local, *remote)),
        #[cfg(feature = "tls")]
        Origin::Tls { local, remote, shown } => {
            (PeerCredentials::NOBODY, ConnectInfo::tls(*local, *remote, shown))
        }
        #[cfg(not(feature = "tls"))]
        Origin::Tls { shown, .. } => shown.never(),
        Origin::Unix(credentials) => (*credentials, ConnectInfo::unknown()),
    };
    let admitted = match origin {
        Origin::Tcp { .. } | Origin::Tls { .. } => shared.policy.check(shared.occupancy()).map(|()| None),
        Origin::Unix(client) => shared.policy.admit(&Candidate::known_by(*client), shared.occupancy()),
    };
    let place = match admitted {
        Ok(place) => place,
        Err(rejection) => {
            shared.refuse(&Refused { rejection, client: Some(credentials) });
            return None;
        }
    };
    let max_age = shared.settings.max_age_of_link();
    let config = UserLink::limit(place.as_ref(), shared.policy.config);
    let linked = pair(endpoint.link.config(), config, "").map_err(std::io::Error::other);
    let linked = linked.and_then(|(ours, theirs)| {
        let identity = PeerIdentity { credentials, label: None, ..theirs.peer };
        // What ends the link is the connection.
        let theirs = Established { peer: identity, pidfd: None, ..theirs }.of_user(place);
        let channel = OnlyLink::channel(endpoint, Established { pidfd: None, ..ours })?;
        Ok((channel, theirs))
    });
    let (channel, theirs) = match linked {
        Ok(linked) => linked,
        Err(error) => {
            tracing::warn!(%error, "a client over HTTP/2 got no link");
            return None;
        }
    };
    let (over, is_over) = oneshot::channel::<()>();
    let context = Arc::clone(shared);
    tokio::spawn(async move {
        let life = Life { wind_up: None, max_age, keepalive: None, is_http2: true };
        if let Err(error) = serve_link_for(&context, theirs, connect_info, life).await {
            tracing::warn!(%error, "a client over HTTP/2 got no link");
        }
        drop(over);
    });
    let ending = ending(shared, max_age);
    let ending = async move {
        tokio::select! {
            () = ending => {}
            _ = is_over => {}
        }
    };
    Some((Bridge::new(channel), Box::pin(ending)))
}
