//! Listening: names in the rendezvous directory, connections from there, and the end of it all.

use std::future::{Future, pending, poll_fn};
use std::io;
use std::os::fd::OwnedFd;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use notnets_core::link::rendezvous::{DirectoryWatch, Listener};
use notnets_core::name::{SCHEME, Uri};
use notnets_core::session::Ending;
use notnets_memory::process::ForkGuard;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::Settings;
use super::accept;
use super::context::ServerContext;
use super::names::Wanted;
#[cfg(feature = "http2")]
use super::over_http2::OverHttp2;
use super::passed;
use super::pods::{PodNames, serve_arrival};
use super::services::Services;
use crate::Error;
use crate::async_fd::{Pollable, register};
use crate::error::Cause;
use crate::location::Location;
use crate::log::{self, SERVER};
use crate::names_in_place::{self, Place};

type Watched<T> = AsyncFd<Pollable<T>>;

/// Out of descriptors or memory, accepting is tried again after so long.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// A server that stops gives up its names after this time though not all clients could be told yet.
const TELLING: Duration = Duration::from_millis(100);

/// How long clients are given to hear that there is no more time for their calls.
const LAST_WORDS: Duration = Duration::from_millis(100);

/// A server whose names are taken: clients can connect already.
///
/// ```no_run
/// # async fn example(routes: notnets::Routes) -> Result<(), notnets::Error> {
/// let bound = notnets::Server::builder().add_routes(routes).bind("notnets:///inventory").await?;
/// // Clients that start now find the name.
/// bound.serve().await
/// # }
/// ```
#[must_use = "clients wait until it is served"]
pub struct Bound {
    listeners: Vec<Listener>,
    pods: PodNames,
    #[cfg(feature = "http2")]
    over_http2: OverHttp2,
    shared: ServerContext,
    stop: watch::Sender<bool>,
    bound_by: ForkGuard,
}

impl std::fmt::Debug for Bound {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Bound").field("listeners", &self.listeners).finish_non_exhaustive()
    }
}

impl Bound {
    /// Takes the names. The thread waits for the agents of pods.
    pub(super) fn block(
        names: Result<Vec<Wanted>, Error>,
        services: Services,
        settings: Settings,
    ) -> Result<Self, Error> {
        let mut taken = take_names(names, &settings)?;
        let pods = PodNames::serve(std::mem::take(&mut taken.pods), &settings.link)?;
        Self::with(taken, pods, services, settings)
    }

    /// Takes the names. Other tasks of the thread go on while it waits for the agents of pods.
    pub(super) async fn new(
        names: Result<Vec<Wanted>, Error>,
        services: Services,
        settings: Settings,
    ) -> Result<Self, Error> {
        let mut taken = take_names(names, &settings)?;
        let pods = std::mem::take(&mut taken.pods);
        let link = settings.link.clone();
        let pods = if pods.is_empty() {
            PodNames::serve(pods, &link)?
        } else {
            let served = tokio::task::spawn_blocking(move || PodNames::serve(pods, &link)).await;
            served.map_err(io::Error::from).map_err(Error::io("wait for the agents of pods"))??
        };
        Self::with(taken, pods, services, settings)
    }

    fn with(taken: Taken, mut pods: PodNames, services: Services, settings: Settings) -> Result<Self, Error> {
        let mut listeners = taken.listeners;
        listeners.append(&mut pods.here);
        let (stop, shutdown) = watch::channel(false);
        let shared = ServerContext::new(taken.names, services, settings, shutdown)?;
        let bound_by = ForkGuard::new().map_err(Error::io("tell forks by a page"))?;
        Ok(Self {
            listeners,
            pods,
            #[cfg(feature = "http2")]
            over_http2: taken.over_http2,
            shared,
            stop,
            bound_by,
        })
    }

    /// The addresses where HTTP/2 is spoken, as clients write them, with the ports that the kernel has
    /// chosen.
    #[cfg(feature = "http2")]
    pub fn http2_addresses(&self) -> Vec<String> {
        self.over_http2.addresses()
    }

    /// Makes what was bound this process's own, if it was forked from the one that bound it.
    fn adopt(&mut self) -> Result<(), Error> {
        if !self.bound_by.is_forked_child() {
            return Ok(());
        }
        if !self.pods.is_empty() {
            return Err(Cause::ForkedMember.into());
        }
        for listener in &mut self.listeners {
            listener.adopt().map_err(Cause::from)?;
        }
        self.shared.renew_stats()
    }

    /// Serves, until it fails or another process has taken all names over. That may be in a process that was
    /// forked from the one that took the names, and that alone, as long as none of them is in a pod.
    ///
    /// # Errors
    /// When the runtime can't watch a socket.
    pub async fn serve(self) -> Result<(), Error> {
        self.serve_with_shutdown(pending()).await
    }

    /// Serves until `signal` completes, or another process has taken all names over, then gracefully
    /// stops: the names are given up, calls in flight end, new ones are refused with `UNAVAILABLE`. When
    /// this is dropped instead, all ends at once.
    ///
    /// # Errors
    /// When the runtime can't watch a socket.
    pub async fn serve_with_shutdown(mut self, signal: impl Future<Output = ()>) -> Result<(), Error> {
        self.adopt()?;
        log::serving(&self.shared.names);
        let Self { listeners, mut pods, shared, stop, .. } = self;
        let shared = Arc::new(shared);
        let mut connections = JoinSet::new();
        let watched = listeners.into_iter().map(|listener| register(listener, Interest::READABLE));
        let watch_error = Error::io("watch a listening socket");
        let mut watched = watched.collect::<Result<Vec<_>, _>>().map_err(watch_error)?;
        let mut place = watch(&watched);
        #[cfg(feature = "http2")]
        let mut over_http2 = {
            let mut served = JoinSet::new();
            self.over_http2.serve(&shared, &mut served)?;
            served
        };
        // When names are looked at that may be lost, and whether they were before. They may have been lost
        // before they were watched.
        let mut look = Some((Instant::now(), true));
        let mut signal = pin!(signal);
        loop {
            tokio::select! {
                () = &mut signal => break,
                socket = next_connection(&watched) => take(&shared, &mut connections, socket),
                Some((member, arrival)) = pods.next() => {
                    connections.spawn(serve_arrival(Arc::clone(&shared), member, arrival));
                }
                Some(_) = connections.join_next() => {}
                () = shared.taken_over.notified() => {
                    // One of several names is given up, and the clients that came by it stay.
                    let is_last = pods.is_empty() && watched.iter().all(|name| name.get_ref().is_taken_over());
                    if is_last {
                        tracing::info!(target: SERVER, "another process has taken over: this server ends its calls and stops");
                        break;
                    }
                    watched.retain(|name| !name.get_ref().is_taken_over());
                    place = watch(&watched);
                }
                () = changed(place.as_ref()) => {
                    look.get_or_insert((Instant::now() + names_in_place::PAUSE, true));
                }
                first = come(look) => {
                    let (restored, lost) = restore_names(&shared, &mut watched, first);
                    // Only then: to let go of a watch keeps the kernel, and so this thread, for milliseconds.
                    if restored {
                        place = watch(&watched);
                    }
                    look = lost.then(|| (Instant::now() + names_in_place::PAUSE, false));
                }
            }
        }
        log::stopping(&shared.names, shared.links.all().len());
        stop.send_replace(true);
        // A call that is made once a successor has the name is the successor's: so clients are told before.
        let mut all_told = pin!(tokio::time::timeout(TELLING, shared.untold.closed()));
        loop {
            tokio::select! {
                _ = &mut all_told => break,
                socket = next_connection(&watched) => take(&shared, &mut connections, socket),
            }
        }
        // The names before the calls end, so that a successor can take them while we finish.
        watched.clear();
        pods.give_up();
        #[cfg(feature = "http2")]
        let over_http2 = connections.spawn(async move { while over_http2.join_next().await.is_some() {} });
        let drain = async |connections: &mut JoinSet<()>| while connections.join_next().await.is_some() {};
        let Some(limit) = shared.settings.drain_timeout else {
            drain(&mut connections).await;
            log::stopped(&shared.names);
            return Ok(());
        };
        if tokio::time::timeout(limit, drain(&mut connections)).await.is_err() {
            tracing::warn!(target: SERVER, "calls were still open after {limit:?} and have been cut off");
            for link in shared.links.all() {
                link.end_calls_in_overtime();
            }
            if tokio::time::timeout(LAST_WORDS, drain(&mut connections)).await.is_err() {
                for link in shared.links.all() {
                    link.end(Ending::Closed);
                }
                // Connections would wait for clients that don't read.
                #[cfg(feature = "http2")]
                over_http2.abort();
                drain(&mut connections).await;
            }
        }
        log::stopped(&shared.names);
        Ok(())
    }
}

/// Takes a connection, and begins to serve it.
fn take(shared: &Arc<ServerContext>, connections: &mut JoinSet<()>, socket: OwnedFd) {
    if let Some(served) = accept::begin(shared, socket) {
        connections.spawn(served);
    }
}

/// What was taken of a server's names.
struct Taken {
    /// What was asked for.
    names: String,
    listeners: Vec<Listener>,
    /// The names that are to be taken in pods.
    pods: Vec<Uri>,
    #[cfg(feature = "http2")]
    over_http2: OverHttp2,
}

/// Takes the names of this host, and addresses. The others are for pods.
fn take_names(names: Result<Vec<Wanted>, Error>, settings: &Settings) -> Result<Taken, Error> {
    settings.check()?;
    let names = names?;
    if names.is_empty() {
        return Err(Cause::NoNames.into());
    }
    let mut served: Vec<_> = names.iter().map(ToString::to_string).collect();
    let (mut here, mut pods) = (Vec::new(), Vec::new());
    #[cfg(feature = "http2")]
    let mut addresses = Vec::new();
    let mut all_passed = Vec::new();
    for name in names {
        match name {
            Wanted::At(Location::Memory(uri)) if uri.pod().is_none() => here.push(uri),
            Wanted::At(Location::Memory(uri)) => pods.push(uri),
            #[cfg(feature = "http2")]
            Wanted::At(Location::Http2(address)) => addresses.push(address),
            Wanted::Passed(name) => all_passed.extend(crate::passed::take(name.as_deref())?),
        }
    }
    pods.iter().try_for_each(|uri| settings.claim.check_in_pod(uri))?;
    // Before a name is taken over: without an address the server that has the name goes on.
    #[cfg(feature = "http2")]
    let mut over_http2 = OverHttp2::bind(addresses, settings.claim, settings.tls.as_ref())?;
    let mut listeners = if here.is_empty() {
        Vec::new()
    } else {
        let taken = settings.claim.take(&settings.link.directory, here.iter().map(Uri::name));
        taken.map_err(Cause::from)?
    };
    let asked_for = listeners.len();
    for passed in all_passed {
        passed::serve(
            passed,
            &mut listeners,
            #[cfg(feature = "http2")]
            &mut over_http2,
        )?;
    }
    served.extend(listeners[asked_for..].iter().map(|passed| format!("{SCHEME}:///{}", passed.name())));
    Ok(Taken {
        names: served.join(", "),
        listeners,
        pods,
        #[cfg(feature = "http2")]
        over_http2,
    })
}

/// Watches the directory of the names. Without, nobody notices when they are removed from there.
fn watch(listeners: &[Watched<Listener>]) -> Option<Watched<DirectoryWatch>> {
    let place = listeners.first()?.get_ref().watch();
    let watched = place.and_then(|place| register(place, Interest::READABLE));
    watched.inspect_err(|error| tracing::debug!(%error, "the directory of names is not watched")).ok()
}

/// Completes when something was removed from the directory, or it was itself.
async fn changed(place: Option<&Watched<DirectoryWatch>>) {
    let Some(place) = place else { return pending().await };
    match place.readable().await {
        Ok(mut guard) => {
            place.get_ref().clear();
            guard.clear_ready();
        }
        Err(_) => pending().await,
    }
}

/// Waits until names are to be looked at.
async fn come(look: Option<(Instant, bool)>) -> bool {
    let Some((at, first)) = look else { return pending().await };
    tokio::time::sleep_until(at).await;
    first
}

/// Takes the names again that were removed. Returns whether some were, and whether some could not be.
fn restore_names(shared: &ServerContext, listeners: &mut [Watched<Listener>], first: bool) -> (bool, bool) {
    let (mut restored, mut lost) = (false, false);
    for listener in listeners {
        match names_in_place::restore(listener.get_ref(), first) {
            Place::Kept => {}
            Place::Restored(again) => match register(again, Interest::READABLE) {
                Ok(again) => {
                    *listener = again;
                    restored = true;
                }
                Err(_) => lost = true,
            },
            Place::TakenOver => shared.taken_over.notify_one(),
            Place::Lost => lost = true,
        }
    }
    (restored, lost)
}

/// The next connection on any of the listeners.
async fn next_connection(listeners: &[AsyncFd<Pollable<Listener>>]) -> OwnedFd {
    loop {
        match poll_fn(|cx| poll_accept(listeners, cx)).await {
            Ok(socket) => return socket,
            Err(error) => {
                // The listener stays readable: a pause keeps this from spinning.
                tracing::warn!(target: SERVER, %error, "could not accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

fn poll_accept(listeners: &[AsyncFd<Pollable<Listener>>], cx: &mut Context<'_>) -> Poll<io::Result<OwnedFd>> {
    for listener in listeners {
        while let Poll::Ready(guard) = listener.poll_read_ready(cx) {
            let mut guard = guard?;
            match listener.get_ref().accept()? {
                Some(socket) => return Poll::Ready(Ok(socket)),
                None => guard.clear_ready(),
            }
        }
    }
    Poll::Pending
}
