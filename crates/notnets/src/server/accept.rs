//! From a connection in the rendezvous directory to a link.

use std::future::Future;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use notnets_core::Role;
use notnets_core::clock;
use notnets_core::link::Established;
use notnets_core::link::accept::{Accepted, Accepting};
use notnets_core::link::admission::Rejection;
use notnets_core::session::{Ending, Keepalive};
use tokio::io::Interest;
use tokio::sync::Semaphore;

use super::calls::LinkCalls;
use super::context::ServerContext;
use super::lobby::InLobby;
use super::methods::Methods;
use crate::async_fd::register;
use crate::http::ConnectInfo;
use crate::link::Link;
use crate::link::driver::{Driver, WindUp};
use crate::log::{self, LINK};
use crate::rpc::PeerInfo;

/// Takes a connection. Returns what serves it to its end, unless its process is not admitted.
pub(super) fn begin(
    shared: &Arc<ServerContext>,
    socket: OwnedFd,
) -> Option<impl Future<Output = ()> + Send + 'static + use<>> {
    match Accepting::new(socket, &shared.policy, clock::now()) {
        Ok(accepting) => {
            let waiting = shared.lobby.enter(accepting.uid());
            Some(serve_connection(Arc::clone(shared), accepting, waiting))
        }
        Err(refused) => {
            shared.refuse(&refused);
            None
        }
    }
}

async fn serve_connection(shared: Arc<ServerContext>, mut accepting: Accepting, mut waiting: InLobby) {
    let mut shutdown = shared.shutdown.clone();
    let accepted = loop {
        let expires = tokio::time::sleep(clock::until(accepting.expires()));
        let mut must_leave = false;
        let readable = tokio::select! {
            readable = readable(&accepting) => readable,
            _ = shutdown.wait_for(|stop| *stop) => break accepting.reject(Rejection::ShuttingDown),
            // It may have said something meanwhile.
            () = waiting.must_leave() => {
                must_leave = true;
                Ok(())
            }
            () = expires => return,
        };
        if let Err(error) = readable {
            tracing::warn!(target: LINK, %error, "a client got no link");
            return;
        }
        match accepting.advance(
            &shared.policy,
            shared.occupancy(),
            shared.stats().map(|stats| stats.descriptor()),
        ) {
            Accepted::Pending(_) if must_leave => return,
            Accepted::Pending(pending) => accepting = pending,
            accepted => break accepted,
        }
    };
    drop(waiting);
    let served = match accepted {
        Accepted::Link(established) => {
            let connect_info = ConnectInfo::of(&established.socket);
            serve_link(&shared, *established, connect_info).await
        }
        Accepted::Rejected(refused) => return shared.refuse(&refused),
        Accepted::TakenOver => return shared.taken_over.notify_one(),
        Accepted::Failed(error) => Err(std::io::Error::other(error)),
        Accepted::Over | Accepted::Pending(_) => return,
    };
    if let Err(error) = served {
        tracing::warn!(target: LINK, %error, "a client got no link");
    }
}

async fn readable(accepting: &Accepting) -> std::io::Result<()> {
    register(accepting.socket(), Interest::READABLE)?.readable().await.map(drop)
}

pub(super) async fn serve_link(
    shared: &Arc<ServerContext>,
    established: Established,
    connect_info: ConnectInfo,
) -> std::io::Result<()> {
    let max_age = shared.settings.max_age_of_link();
    let life = Life {
        wind_up: Some(WindUp::new(ending(shared, max_age), shared.untold.subscribe())),
        max_age,
        keepalive: shared.settings.keepalive(),
        is_http2: false,
    };
    serve_link_for(shared, established, connect_info, life).await
}

/// How long a link is served.
pub(super) struct Life {
    pub(super) wind_up: Option<WindUp>,
    pub(super) max_age: Option<Duration>,
    pub(super) keepalive: Option<Keepalive>,
    /// Its client is at the other end of a connection of HTTP/2.
    pub(super) is_http2: bool,
}

pub(super) async fn serve_link_for(
    shared: &Arc<ServerContext>,
    established: Established,
    connect_info: ConnectInfo,
    life: Life,
) -> std::io::Result<()> {
    let settings = &shared.settings;
    let Life { wind_up, max_age, keepalive, is_http2 } = life;
    let (peer, meter) = (established.peer.clone(), established.meter.clone());
    let (link, pidfd) = Link::new(Role::Server, &settings.link, established)?;
    if let Some(stats) = shared.stats() {
        link.count_in(stats, &peer.user_agent, is_http2);
    }
    let info = PeerInfo::from(&peer);
    let calls = LinkCalls {
        server: Arc::clone(shared),
        services: shared.services.for_link(
            &info,
            peer.user_agent.clone(),
            settings.trace.clone(),
            connect_info,
        ),
        observer: shared.observer.clone(),
        peer: info,
        meter,
        timeout: settings.timeout,
        running: settings.concurrency_limit.map(|limit| Arc::new(Semaphore::new(limit))),
        load_shed: settings.load_shed,
        in_place_limit: u32::try_from(settings.in_place_limit.as_nanos()).unwrap_or(u32::MAX),
        methods: Methods::default(),
        waiting: Mutex::default(),
    };
    let mut driver = Driver::new(Arc::clone(&link), pidfd, calls, wind_up, keepalive)?;
    log::admitted(&peer);
    shared.links.add(&link);
    let failure = match max_age.zip(settings.max_age_grace) {
        None => (&mut driver).await,
        Some((age, grace)) => {
            let cut_off = age.saturating_add(grace);
            let ended = tokio::time::timeout(cut_off, &mut driver).await;
            ended.unwrap_or_else(|_too_late| link.end(Ending::TooOld))
        }
    };
    shared.links.remove(&link);
    log::link_ended(&peer, failure.code, &failure.message);
    Ok(())
}

/// Completes when the link has to be wound up: with the server, or of old age.
pub(super) fn ending(
    shared: &ServerContext,
    max_age: Option<Duration>,
) -> impl Future<Output = ()> + Send + use<> {
    let mut shutdown = shared.shutdown.clone();
    async move {
        let stopped = async {
            // An error means that the server is gone altogether.
            let _ = shutdown.wait_for(|stop| *stop).await;
        };
        match max_age {
            None => stopped.await,
            Some(age) => {
                let _ = tokio::time::timeout(age, stopped).await;
            }
        }
    }
}
