//! Where calls go: the routes of a listener, and the channels that a client has for them.

use std::convert::Infallible;
use std::future::{Future, ready};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use http::uri::Authority;
use http::{HeaderValue, Request, Response};
use notnets::Channel;
use notnets::http2::bridge::Bridge;
use notnets::http2::counted::Counted;
use notnets::http2::{self, client};
use notnets::names::Channels;
use notnets::tls::ClientTls;
use tokio::sync::watch;
use tonic::Status;
use tonic::body::Body;
use tower_service::Service;

use super::clients::CALLER;
use super::config;
use crate::failure::Failure;
use crate::target::Settings;
use crate::tls;

/// The routes of a listener. The first that matches a call takes it.
#[derive(Debug)]
pub struct Routes(Vec<Route>);

#[derive(Debug)]
struct Route {
    service: Option<String>,
    authority: Option<String>,
    upstream: Arc<Upstream>,
}

/// Where calls go. Equal ones are one, so that clients keep their connections when the routes change.
#[derive(Debug)]
pub struct Upstream {
    wanted: config::Upstream,
    way: Way,
    /// What is in the files of the servers' certificates, if there are any.
    tls: Option<(tls::OfServers, ClientTls)>,
}

/// How an upstream is reached.
#[derive(Debug)]
enum Way {
    /// One address over HTTP/2, without a link between: that would double what a call takes.
    Direct(http2::Address, client::Options),
    Channels(Box<Channels>),
}

/// The connections of a client to an upstream.
#[derive(Clone)]
enum Connections {
    Direct(Counted),
    Channel(Channel),
}

impl Upstream {
    /// # Errors
    /// When it cannot be reached by any server, whether it runs or not.
    pub fn new(wanted: config::Upstream, settings: &Settings) -> Result<Self, Failure> {
        let service_config = wanted.service_config()?;
        let files = wanted.tls.as_ref().unwrap_or(&settings.servers.tls).clone();
        let tls = files.tls()?;
        let way = match wanted.to.http2_address().filter(|_| service_config.is_none()) {
            Some(address) => Way::Direct(address, settings.http2_client()),
            None => {
                let pick = wanted.pick.map(Into::into);
                let channels = wanted.to.channels(settings, pick, service_config, tls.clone())?;
                Way::Channels(Box::new(channels))
            }
        };
        Ok(Self { wanted, way, tls: tls.map(|tls| (files, tls)) })
    }

    /// Has connections that are made from now on go by what is in its files now.
    ///
    /// # Errors
    /// When that can't be used. Then all stays as it was.
    pub fn renew(&self) -> Result<(), Failure> {
        let Some((files, tls)) = &self.tls else { return Ok(()) };
        let config = files.read()?.unwrap_or_default();
        tls.replace(config).map_err(|error| Failure::new(error.to_string()))
    }

    /// Returns `true` if it is what is wanted.
    pub fn is(&self, wanted: &config::Upstream) -> bool {
        self.wanted == *wanted
    }

    /// Connects for a moment, to find out whether there is a server.
    ///
    /// # Errors
    /// `UNAVAILABLE` with what was tried.
    pub async fn reach(&self) -> Result<(), Status> {
        match &self.way {
            // Without a call, there is nothing to be counted.
            Way::Direct(address, options) => self.client(address, *options).ready().await,
            Way::Channels(channels) => channel(channels)?.wait_until_connected().await,
        }
    }

    fn connections(&self) -> Result<Connections, Status> {
        match &self.way {
            Way::Direct(address, options) => {
                let client = self.client(address, *options);
                Ok(Connections::Direct(Counted::new(client, &address.to_string())))
            }
            Way::Channels(channels) => channel(channels).map(Connections::Channel),
        }
    }

    fn client(&self, address: &http2::Address, options: client::Options) -> client::Client {
        let tls = self.tls.as_ref().map(|(_, tls)| tls.clone());
        client::Client::with(address.clone(), options, tls, None)
    }
}

fn channel(channels: &Channels) -> Result<Channel, Status> {
    channels.connect_lazy().map_err(|error| Status::unavailable(error.to_string()))
}

impl Routes {
    /// The routes that are wanted, with the upstream of each.
    pub fn new(wanted: impl IntoIterator<Item = (config::Route, Arc<Upstream>)>) -> Self {
        let route = |(config::Route { service, authority, .. }, upstream)| {
            let authority = authority.map(|authority| authority.to_ascii_lowercase());
            Route { service, authority, upstream }
        };
        Self(wanted.into_iter().map(route).collect())
    }

    /// The services that routes name, and where their calls go.
    pub fn services(&self) -> impl Iterator<Item = (&str, &Arc<Upstream>)> {
        self.0.iter().filter_map(|route| Some((route.service.as_deref()?, &route.upstream)))
    }

    /// All upstreams.
    pub fn upstreams(&self) -> impl Iterator<Item = &Arc<Upstream>> {
        self.0.iter().map(|route| &route.upstream)
    }

    fn find(&self, authority: Option<&Authority>, path: &str) -> Option<&Arc<Upstream>> {
        let service =
            path.strip_prefix('/').and_then(|path| path.rsplit_once('/')).map(|(service, _)| service);
        let route = self.0.iter().find(|route| route.takes(authority, service));
        route.map(|route| &route.upstream)
    }

    fn has(&self, upstream: &Arc<Upstream>) -> bool {
        self.upstreams().any(|present| Arc::ptr_eq(present, upstream))
    }
}

impl Route {
    fn takes(&self, authority: Option<&Authority>, service: Option<&str>) -> bool {
        self.service.as_deref().is_none_or(|wanted| service == Some(wanted))
            && self
                .authority
                .as_deref()
                .is_none_or(|wanted| authority.is_some_and(|it| is_called(it, wanted)))
    }
}

/// With a port in it, `wanted` has to be all of the authority.
fn is_called(authority: &Authority, wanted: &str) -> bool {
    authority.as_str().eq_ignore_ascii_case(wanted) || authority.host().eq_ignore_ascii_case(wanted)
}

/// An upstream, and the connections of a client to it.
type Connected = (Arc<Upstream>, Connections);

/// Passes the calls of one client on, over connections that are its alone.
#[derive(Clone)]
pub struct Client {
    routes: watch::Receiver<Arc<Routes>>,
    connections: Arc<Mutex<Vec<Connected>>>,
    /// What servers are told of it.
    caller: Option<HeaderValue>,
}

impl Client {
    /// A client of a listener with these routes, of which servers are told that it is `caller`.
    pub fn new(routes: watch::Receiver<Arc<Routes>>, caller: Option<HeaderValue>) -> Self {
        Self { routes, connections: Arc::default(), caller }
    }

    /// The connections for a call.
    fn find(&self, request: &Request<Body>) -> Result<Connections, Status> {
        let routes = Arc::clone(&self.routes.borrow());
        let path = request.uri().path();
        let Some(upstream) = routes.find(request.uri().authority(), path) else {
            return Err(Status::unimplemented(format!("the proxy has no route for {path}")));
        };
        let mut present = self.connections.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, connections)) = present.iter().find(|(its, _)| Arc::ptr_eq(its, upstream)) {
            return Ok(connections.clone());
        }
        // Calls that are open hold what they are made on.
        present.retain(|(its, _)| routes.has(its));
        let connections = upstream.connections()?;
        present.push((Arc::clone(upstream), connections.clone()));
        Ok(connections)
    }
}

impl Service<Request<Body>> for Client {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        // Nobody says of itself who it is.
        request.headers_mut().remove(&CALLER);
        if let Some(caller) = &self.caller {
            request.headers_mut().insert(CALLER, caller.clone());
        }
        match self.find(&request) {
            Ok(Connections::Direct(client)) => Bridge::new(client).call(request),
            Ok(Connections::Channel(channel)) => Bridge::new(channel).call(request),
            Err(status) => Box::pin(ready(Ok(status.into_http()))),
        }
    }
}

/// A server that starts later than its proxy is fine; one that never does should not be a riddle.
pub async fn warn_if_missing(upstream: Arc<Upstream>) {
    if let Err(status) = upstream.reach().await {
        tracing::warn!("calls will fail until the server is there: {}", status.message());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_first_route_that_matches_takes_a_call() {
        let json = r#"{"listeners": [{"listen": "a:1", "routes": [
            {"service": "shop.Cart", "authority": "Here:80", "to": "one"},
            {"service": "shop.Cart", "to": "two"},
            {"authority": "here", "to": "three"}
        ]}]}"#;
        let config: config::Config = serde_json::from_str(json).expect("it is right");
        let routes = config.listeners[0].routes.iter().cloned().map(|route| {
            let upstream = Upstream::new(route.upstream(), &Settings::default()).expect("it is right");
            (route, Arc::new(upstream))
        });
        let routes = Routes::new(routes);
        for (authority, path, to) in [
            (Some("HERE:80"), "/shop.Cart/Add", Some("notnets:///one")),
            (Some("here:81"), "/shop.Cart/Add", Some("notnets:///two")),
            (None, "/shop.Cart/Add", Some("notnets:///two")),
            (Some("here:81"), "/shop.Orders/Add", Some("notnets:///three")),
            (Some("there"), "/shop.Orders/Add", None),
            (None, "*", None),
        ] {
            let authority = authority.map(|authority| authority.parse().expect("an authority"));
            let found = routes.find(authority.as_ref(), path);
            assert_eq!(found.map(|upstream| upstream.wanted.to.to_string()).as_deref(), to, "{path}");
        }
    }
}
