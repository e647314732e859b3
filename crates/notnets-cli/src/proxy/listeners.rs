//! The addresses that a proxy listens on. They change without a moment in which one that stays has no
//! listener.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use notnets::http2::listener::{Listener, Origin, Socket};
use notnets::http2::server::{self, Options, Served};
use notnets::http2::{self, Address};
use notnets::tls::{ServerTls, ServerTlsConfig};
use notnets::{Admission, PeerInfo};
use tokio::sync::{oneshot, watch};
use tokio::task::JoinSet;

use super::clients::{self, Clients};
use super::config::Config;
use super::routes::{Client, Routes, Upstream};
use crate::failure::Failure;
use crate::target::{HTTPS, NOTNETS, Settings, short};
use crate::tls::OfListener;

/// All listeners of a proxy.
pub struct Listeners {
    settings: Settings,
    clients: Clients,
    grace: Duration,
    /// By the URIs that are listened on.
    serving: BTreeMap<String, Serving>,
    /// Each with its URI.
    tasks: JoinSet<(String, Result<(), Failure>)>,
}

/// A listener at work; it stops when this is dropped.
struct Serving {
    /// Where it is, as clients write it.
    address: String,
    routes: watch::Sender<Arc<Routes>>,
    clients: watch::Sender<Clients>,
    tls: Option<ServerTls>,
    _stop: oneshot::Sender<()>,
}

/// What is wanted of an address.
struct Wanted {
    routes: Arc<Routes>,
    clients: clients::OfListener,
    tls: Option<ServerTlsConfig>,
}

/// A listener that clients can connect to already.
struct Ready {
    uri: String,
    bound: Bound,
    serving: Serving,
    stopped: oneshot::Receiver<()>,
    routes: watch::Receiver<Arc<Routes>>,
    clients: watch::Receiver<Clients>,
}

/// Where clients can connect. Connections over HTTP/2 have no link that is served: it would double the way of
/// each call.
enum Bound {
    Memory(Box<notnets::Bound>),
    Http2(Socket, Option<ServerTls>),
}

/// Finds out whether a proxy could do what the config says, as far as that is known without listening.
///
/// # Errors
/// When it can't.
pub fn check(config: &Config, settings: &Settings) -> Result<(), Failure> {
    wanted(config, &mut Vec::new(), settings).map(drop)
}

/// What is wanted of each URI. Upstreams that are not known yet are added to those that are.
fn wanted(
    config: &Config,
    upstreams: &mut Vec<Arc<Upstream>>,
    settings: &Settings,
) -> Result<BTreeMap<String, Wanted>, Failure> {
    config.check().map_err(Failure::new)?;
    let mut wanted = BTreeMap::new();
    for listener in &config.listeners {
        let mut routes = Vec::new();
        for route in &listener.routes {
            let upstream = route.upstream();
            let upstream = match upstreams.iter().find(|known| known.is(&upstream)) {
                Some(known) => Arc::clone(known),
                None => {
                    let new = Arc::new(Upstream::new(upstream, settings)?);
                    upstreams.push(Arc::clone(&new));
                    new
                }
            };
            routes.push((route.clone(), upstream));
        }
        let routes = Arc::new(Routes::new(routes));
        let tls = listener.tls.as_ref().map(OfListener::read).transpose()?;
        if let Some(tls) = &tls {
            ServerTls::new(tls.clone()).map_err(failure)?;
        }
        for uri in listener.listen.clone().into_uris() {
            let tls = tls.clone().filter(|_| uri.starts_with(HTTPS));
            let (routes, clients) = (Arc::clone(&routes), listener.clients.clone());
            wanted.insert(uri, Wanted { routes, clients, tls });
        }
    }
    Ok(wanted)
}

impl Listeners {
    /// None so far. Open calls of one that stops may go on for up to `grace`.
    pub fn new(settings: Settings, clients: Clients, grace: Duration) -> Self {
        Self { settings, clients, grace, serving: BTreeMap::new(), tasks: JoinSet::new() }
    }

    /// Listens where the config says, and there only; calls that begin go where it says. Calls that are open
    /// go on. Certificates are read anew. Returns the upstreams that are new.
    ///
    /// # Errors
    /// When that can't be done. Then all stays as it was.
    pub async fn change(&mut self, config: Config) -> Result<Vec<Arc<Upstream>>, Failure> {
        let mut upstreams = self.upstreams();
        let known = upstreams.len();
        let wanted = wanted(&config, &mut upstreams, &self.settings)?;
        let mut ready = Vec::new();
        for (uri, wanted) in &wanted {
            if !self.serving.contains_key(uri) {
                ready.push(self.bind(uri, wanted).await?);
            }
        }
        for upstream in &upstreams[..known] {
            upstream.renew()?;
        }
        // From here on nothing fails.
        self.serving.retain(|uri, _| wanted.contains_key(uri));
        for (uri, serving) in &self.serving {
            let wanted = &wanted[uri];
            serving.routes.send_replace(Arc::clone(&wanted.routes));
            serving.clients.send_replace(self.clients.of_listener(&wanted.clients));
            if let (Some(tls), Some(config)) = (&serving.tls, &wanted.tls)
                && let Err(error) = tls.replace(config.clone())
            {
                tracing::error!("the certificate of {} stays as it was: {error}", short(uri));
            }
        }
        for Ready { uri, bound, serving, stopped, routes, clients } in ready {
            self.serving.insert(uri.clone(), serving);
            let (settings, grace) = (self.settings.clone(), self.grace);
            self.tasks.spawn(async move {
                // That nobody can stop it any more is the signal.
                let stopped = async { drop(stopped.await) };
                let served = match bound {
                    Bound::Memory(bound) => {
                        let served = bound.serve_with_shutdown(stopped).await;
                        served.map_err(failure)
                    }
                    Bound::Http2(socket, tls) => {
                        serve_http2(socket, tls, routes, settings, clients, grace, stopped).await
                    }
                };
                (uri, served)
            });
        }
        Ok(upstreams.split_off(known))
    }

    async fn bind(&self, uri: &str, wanted: &Wanted) -> Result<Ready, Failure> {
        let (sender, routes) = watch::channel(Arc::clone(&wanted.routes));
        let (tell_clients, clients) = watch::channel(self.clients.of_listener(&wanted.clients));
        let tls = wanted.tls.clone().map(ServerTls::new).transpose().map_err(failure)?;
        let (bound, address) = if uri.starts_with(NOTNETS) {
            let server = self.settings.server().drain_timeout(self.grace);
            let (of, routes) = (clients.clone(), routes.clone());
            let admits = of.clone();
            let server =
                server.admission(Admission::by(move |client| admits.borrow().admission().admits(client)));
            let make = move |peer: &PeerInfo| Client::new(routes.clone(), of.borrow().process(peer));
            let bound = server.bind_make_service(uri, make).await;
            let bound = bound.map_err(failure)?;
            (Bound::Memory(Box::new(bound)), uri.to_owned())
        } else {
            let cannot = |error: &dyn std::fmt::Display| {
                Failure::new(format!("cannot listen on {}: {error}", short(uri)))
            };
            let address: Address = uri.parse().map_err(|error: http2::BadAddress| cannot(&error))?;
            let socket = Socket::bind_with(&address, false, clients.borrow().of_file());
            let socket = socket.map_err(|error| cannot(&error))?;
            let mut address = socket.address().map_err(|error| cannot(&error))?;
            if tls.is_some() {
                address = address.replacen("http:", HTTPS, 1);
            }
            (Bound::Http2(socket, tls.clone()), short(&address).to_owned())
        };
        let (stop, stopped) = oneshot::channel();
        let serving = Serving { address, routes: sender, clients: tell_clients, tls, _stop: stop };
        Ok(Ready { uri: uri.to_owned(), bound, serving, stopped, routes, clients })
    }

    /// Where clients connect.
    pub fn addresses(&self) -> Vec<&str> {
        self.serving.values().map(|serving| serving.address.as_str()).collect()
    }

    /// The services that routes name, and where their calls go.
    pub fn services(&self) -> BTreeMap<String, Arc<Upstream>> {
        let mut all = BTreeMap::new();
        for serving in self.serving.values() {
            for (service, upstream) in serving.routes.borrow().services() {
                all.entry(service.to_owned()).or_insert_with(|| Arc::clone(upstream));
            }
        }
        all
    }

    fn upstreams(&self) -> Vec<Arc<Upstream>> {
        let mut all = Vec::<Arc<Upstream>>::new();
        for serving in self.serving.values() {
            for upstream in serving.routes.borrow().upstreams() {
                if !all.iter().any(|known| Arc::ptr_eq(known, upstream)) {
                    all.push(Arc::clone(upstream));
                }
            }
        }
        all
    }

    /// Waits until no listener is left, because all have stopped by themselves.
    ///
    /// # Errors
    /// When one can't go on.
    pub async fn ended(&mut self) -> Result<(), Failure> {
        while let Some(ended) = self.tasks.join_next().await {
            let (uri, served) = ended.map_err(|error| Failure::new(format!("a listener ended: {error}")))?;
            served.map_err(|failure| Failure::new(format!("{}: {failure}", short(&uri))))?;
            // Unless it was to stop, another process has taken its name over.
            if self.tasks.is_empty() {
                break;
            }
        }
        Ok(())
    }

    /// Stops all listeners, and waits for their calls.
    ///
    /// # Errors
    /// When one can't end in order.
    pub async fn stop(mut self) -> Result<(), Failure> {
        self.serving.clear();
        self.ended().await
    }
}

fn failure(error: notnets::Error) -> Failure {
    Failure::new(error.to_string())
}

async fn serve_http2(
    socket: Socket,
    tls: Option<ServerTls>,
    routes: watch::Receiver<Arc<Routes>>,
    settings: Settings,
    clients: watch::Receiver<Clients>,
    grace: Duration,
    stopped: impl Future<Output = ()>,
) -> Result<(), Failure> {
    let failure = |error: std::io::Error| Failure::new(format!("cannot watch a socket: {error}"));
    let listener: Listener = socket.listen().map_err(failure)?;
    let make = move |origin: &Origin| -> Option<Served<Client>> {
        let clients = clients.borrow();
        let client = Client::new(routes.clone(), clients.origin(origin));
        clients.admits(origin).then(|| (client, Box::pin(std::future::pending()) as _))
    };
    let (stopping, is_stopping) = oneshot::channel();
    let stopped = async {
        stopped.await;
        let _ = stopping.send(());
    };
    let too_long = async {
        // It is not dropped before.
        let _ = is_stopping.await;
        tokio::time::sleep(grace).await;
    };
    let options = Options::new(settings.keep_alive(), u32::MAX);
    tokio::select! {
        () = server::serve(listener, tls, make, options, stopped) => {}
        () = too_long => tracing::warn!("calls were still open after {grace:?} and have been cut off"),
    }
    Ok(())
}
