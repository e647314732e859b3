//! From a connection in the rendezvous directory to a link.

use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::HeaderValue;
use notnets_core::Role;
use notnets_core::call::{Buffered, Request};
use notnets_core::link::handshake::{Config, answer, refuse};
use notnets_core::link::packet::{Packet, Refusal};
use notnets_core::link::rendezvous::peer_credentials;
use notnets_core::link::socket::Incoming;
use notnets_core::link::{LinkError, Socket};
use tokio::io::Interest;
use tokio::sync::Semaphore;

use super::admission::Admission;
use super::context::ServerContext;
use super::handle::start;
use super::request::{Caller, Paths};
use crate::async_fd::register;
use crate::client::geometry;
use crate::http::head;
use crate::link::Link;
use crate::link::driver::{Accept, Driver};
use crate::rpc::PeerInfo;

/// A client that connects and says nothing is let go of after so long.
const HELLO_TIMEOUT: Duration = Duration::from_secs(5);

/// Serves one connection to its end.
pub(super) async fn serve_connection(shared: Arc<ServerContext>, socket: Socket) {
    let mut shutdown = shared.shutdown.clone();
    let hello = tokio::select! {
        hello = tokio::time::timeout(HELLO_TIMEOUT, hello(&socket)) => hello,
        _ = shutdown.wait_for(|stop| *stop) => {
            return refuse(&socket, Refusal::ShuttingDown, "the server shuts down");
        }
    };
    match hello {
        // Somebody looked whether we live.
        Err(_) | Ok(None) => {}
        Ok(Some((Packet::Inspect, _))) => match identify(&shared, &socket) {
            Ok(()) => {
                let _ = socket.send(&Packet::Stats, Some(shared.stats.descriptor()));
            }
            Err((reason, text)) => refuse(&socket, reason, &text),
        },
        Ok(Some((Packet::Hello(hello), descriptor))) => {
            if let Err((reason, text)) = admit(&shared, &socket) {
                refuse(&socket, reason, &text);
                return;
            }
            let limits = shared.settings.limits;
            let config = Config { limits, geometry: geometry(limits) };
            let established = answer(socket, hello, descriptor, config);
            let served = match established {
                Ok(established) => serve_link(&shared, established).await,
                Err(LinkError::Closed) => return,
                Err(error) => Err(std::io::Error::other(error)),
            };
            if let Err(error) = served {
                tracing::warn!(%error, "a client got no link");
            }
        }
        Ok(Some(_)) => refuse(&socket, Refusal::Protocol, "a link begins with a hello"),
    }
}

/// The first packet. `None` when the connection was closed without, or with what is no packet.
async fn hello(socket: &Socket) -> Option<(Packet, Option<std::os::fd::OwnedFd>)> {
    let readable = register(socket, Interest::READABLE).ok()?;
    loop {
        let mut guard = readable.readable().await.ok()?;
        match guard.try_io(|socket| socket.get_ref().receive()) {
            Ok(Ok(Incoming::Packet(packet, descriptor))) => return Some((packet, descriptor)),
            Ok(_) => return None,
            Err(_would_block) => {}
        }
    }
}

/// May the peer have anything at all?
fn identify(shared: &ServerContext, socket: &Socket) -> Result<(), (Refusal, String)> {
    let resources = |text: &str| (Refusal::Resources, text.to_owned());
    let peer = peer_credentials(socket).map_err(|_| resources("the server can't tell who you are"))?;
    if !shared.settings.admission.admits(&peer) {
        let text = format!(
            "uid {} is not admitted: the server, of uid {}, admits {} (see Server::admission)",
            peer.uid,
            rustix::process::geteuid().as_raw(),
            match shared.settings.admission {
                Admission::Listed { .. } => "the uids and gids that it lists",
                _ => "its own uid only",
            }
        );
        return Err((Refusal::Identity, text));
    }
    Ok(())
}

/// May the peer have a link?
fn admit(shared: &ServerContext, socket: &Socket) -> Result<(), (Refusal, String)> {
    identify(shared, socket)?;
    takes_links(shared)
}

/// May anybody have one now?
pub(super) fn takes_links(shared: &ServerContext) -> Result<(), (Refusal, String)> {
    if *shared.shutdown.borrow() {
        return Err((Refusal::ShuttingDown, "the server shuts down".to_owned()));
    }
    if shared.stats.links_open() >= shared.settings.max_links as u64 {
        let text = "the server has as many links as it may have (Server::max_connections)";
        return Err((Refusal::Resources, text.to_owned()));
    }
    Ok(())
}

pub(super) async fn serve_link(
    shared: &Arc<ServerContext>,
    established: notnets_core::link::Established,
) -> std::io::Result<()> {
    let settings = &shared.settings;
    let peer = established.peer.clone();
    let (link, pidfd) = Link::new(Role::Server, settings.limits, settings.wait, established)?;
    let caller = Caller {
        server: Arc::clone(shared),
        peer: PeerInfo::from(&peer),
        head: head::usual_request(HeaderValue::try_from(peer.user_agent).ok()),
        paths: Paths::default(),
        timeout: settings.timeout,
        running: settings.concurrency_limit.map(|limit| Arc::new(Semaphore::new(limit))),
        load_shed: settings.load_shed,
    };
    let requests = Requests { caller, ending: Box::pin(ending(shared)) };
    let mut driver = Driver::new(Arc::clone(&link), pidfd, requests, settings.keepalive())?;
    shared.stats.link_opened();
    let failure = match settings.max_age.and(settings.max_age_grace) {
        None => (&mut driver).await,
        Some(grace) => {
            let cut_off = settings.max_age.unwrap_or_default().saturating_add(grace);
            tokio::time::timeout(cut_off, &mut driver).await.unwrap_or_else(|_| {
                notnets_core::call::Failure::new(notnets_core::Code::UNAVAILABLE, "the link is too old")
            })
        }
    };
    tracing::debug!(pid = peer.credentials.pid, reason = %failure.message, "link closed");
    let broken = failure.code == notnets_core::Code::INTERNAL;
    if broken {
        tracing::warn!(pid = peer.credentials.pid, reason = %failure.message, "the client broke the protocol");
    }
    shared.stats.link_closed(broken);
    Ok(())
}

/// Completes when the link has to be wound up: with the server, or of old age.
fn ending(shared: &ServerContext) -> impl Future<Output = ()> + Send + use<> {
    let mut shutdown = shared.shutdown.clone();
    let age = shared.settings.max_age;
    async move {
        let stopped = async {
            // An error means that the server is gone altogether.
            let _ = shutdown.wait_for(|stop| *stop).await;
        };
        match age {
            None => stopped.await,
            Some(age) => {
                let _ = tokio::time::timeout(age, stopped).await;
            }
        }
    }
}

/// What a server does with a link's requests.
struct Requests {
    caller: Caller,
    ending: std::pin::Pin<Box<dyn Future<Output = ()> + Send>>,
}

impl Accept for Requests {
    fn accept(&mut self, link: &Arc<Link>, request: Request, buffered: Buffered) {
        self.caller.server.stats.calls(1);
        start(&mut self.caller, link, request, buffered);
    }

    fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.ending.as_mut().poll(cx)
    }
}
