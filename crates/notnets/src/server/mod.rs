//! The server's side, with the names of tonic's `Server`.

mod accept;
mod calls;
mod context;
mod links;
mod lobby;
mod methods;
mod names;
#[cfg(feature = "http2")]
mod over_http2;
mod passed;
#[cfg(feature = "pod")]
mod pods;
#[cfg(not(feature = "pod"))]
#[path = "no_pods.rs"]
mod pods;
mod serve;
mod services;
mod tonic_names;
#[cfg(feature = "http2")]
mod within;

use std::sync::Arc;
use std::time::Duration;

use notnets_core::limits::{Limits, MAX_STREAMS};
use notnets_core::link::quota::UserLimits;
use tokio::sync::Semaphore;
use tonic::server::NamedService;
use tower_layer::{Identity, Layer, Stack};

use crate::Error;
#[cfg(feature = "byte-stream")]
use crate::byte_stream::{self, ByteStreams};
use crate::claim::Claim;
use crate::error::Cause;
#[cfg(feature = "stubs")]
use crate::http::DirectServices;
use crate::http::{HttpService, Routes, TraceFn, erase, erase_made};
use crate::observe::{AnyObserver, Observer};
use crate::options::{LinkOptions, link_setters};
use crate::rpc::{self, AnyHandler, Handler, PeerInfo};
use notnets_core::random;
use notnets_core::session::Keepalive;
use services::{RpcServices, Services};

pub use names::Names;
use notnets_core::link::admission::Admission;
pub use serve::Bound;
#[cfg(feature = "http2")]
pub(crate) use within::serve_within;

/// Builds a server. Unless [`admission`](Self::admission) says otherwise, it admits clients of its own user
/// only.
///
/// ```no_run
/// # async fn example() -> Result<(), notnets::Error> {
/// let (_reporter, health) = tonic_health::server::health_reporter();
/// notnets::Server::builder()
///     .timeout(std::time::Duration::from_secs(5))
///     .add_service(health)
///     .serve_with_shutdown(["notnets:///inventory", "notnets:///stock"], async {
///         tokio::signal::ctrl_c().await.ok();
///     })
///     .await
/// # }
/// ```
#[derive(Clone, Debug)]
#[must_use = "a server does nothing until it is served"]
pub struct Server<L = Identity> {
    config: Settings,
    layer: L,
}

/// To wake another thread for a handler costs about as much.
const IN_PLACE_LIMIT: Duration = Duration::from_micros(50);

/// What a server's links and calls are held to.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    link: LinkOptions,
    timeout: Option<Duration>,
    concurrency_limit: Option<usize>,
    load_shed: bool,
    in_place_limit: Duration,
    max_age: Option<Duration>,
    max_age_grace: Option<Duration>,
    trace: Option<TraceFn>,
    observer: Option<AnyObserver>,
    keepalive_interval: Option<Duration>,
    keepalive_timeout: Duration,
    admission: Admission,
    max_links: usize,
    user_limits: UserLimits,
    claim: Claim,
    drain_timeout: Option<Duration>,
    #[cfg(feature = "http2")]
    tls: Option<crate::tls::ServerTls>,
}

impl Settings {
    /// # Errors
    /// When no call could be served with these settings.
    fn check(&self) -> Result<(), Error> {
        if self.concurrency_limit == Some(0) {
            return Err(Cause::NoCalls("Server::concurrency_limit_per_connection").into());
        }
        self.link.limits.check().map_err(Cause::from)?;
        Ok(())
    }

    /// The age that a link that begins now may reach.
    fn max_age_of_link(&self) -> Option<Duration> {
        let age = self.max_age?;
        let tenths = f64::from(random::word() as u32) / f64::from(u32::MAX);
        Some(age.saturating_add(age.div_f64(10.0).mul_f64(tenths)))
    }

    fn keepalive(&self) -> Option<Keepalive> {
        let interval = self.keepalive_interval?;
        Some(Keepalive { interval, timeout: self.keepalive_timeout, while_idle: true })
    }
}

impl Server {
    /// A server with the defaults.
    pub fn builder() -> Self {
        let config = Settings {
            link: LinkOptions::default(),
            timeout: None,
            concurrency_limit: None,
            load_shed: false,
            in_place_limit: IN_PLACE_LIMIT,
            max_age: None,
            max_age_grace: None,
            trace: None,
            observer: None,
            keepalive_interval: None,
            keepalive_timeout: Duration::from_secs(20),
            admission: Admission::default(),
            #[cfg(feature = "http2")]
            tls: None,
            max_links: usize::MAX,
            user_limits: UserLimits::default(),
            claim: Claim::default(),
            drain_timeout: None,
        };
        Self { config, layer: Identity::new() }
    }
}

impl Default for Server {
    fn default() -> Self {
        Self::builder()
    }
}

impl<L> Server<L> {
    link_setters!(config.link);

    /// The deadline of each call that does not bring a shorter one, over the whole call.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.config.timeout = Some(timeout);
        self
    }

    /// Sets how many handlers run at once for each link; more calls wait. A limit of 0, with which all would
    /// wait for ever, is an error when the server is bound.
    pub fn concurrency_limit_per_connection(mut self, limit: usize) -> Self {
        self.config.concurrency_limit = Some(limit.min(Semaphore::MAX_PERMITS));
        self
    }

    /// Sets whether calls over the
    /// [`concurrency_limit_per_connection`](Self::concurrency_limit_per_connection) fail with
    /// `RESOURCE_EXHAUSTED` instead of waiting. Off unless set.
    pub fn load_shed(mut self, load_shed: bool) -> Self {
        self.config.load_shed = load_shed;
        self
    }

    /// Runs the handlers of a method as tasks of their own when a poll of them takes longer than this, on
    /// average over its last calls. 50 µs unless set.
    ///
    /// Handlers that are sooner done run in the task that drives their link, one after the other: a task for
    /// each would cost as much as half of the call. With [`Duration::ZERO`] each runs as a task; with
    /// [`Duration::MAX`] none does unless it has to wait.
    pub fn in_place_limit(mut self, limit: Duration) -> Self {
        self.config.in_place_limit = limit;
        self
    }

    /// Calls that may be open at once on a link; a client holds more back. 16,384 unless set, and 1,048,576
    /// at most.
    pub fn max_concurrent_streams(mut self, streams: impl Into<Option<u32>>) -> Self {
        let streams = streams.into().unwrap_or(Limits::default().streams);
        self.config.link.limits.streams = streams.min(MAX_STREAMS);
        self
    }

    /// Sets the age at which a link's client is told to make a new link; the calls that are open on the old
    /// one finish. Each link may get up to a tenth older, so that clients that came at once don't all come
    /// back at once.
    pub fn max_connection_age(mut self, age: Duration) -> Self {
        self.config.max_age = Some(age);
        self
    }

    /// Sets the certificate of the addresses `https://HOST:PORT`, and which clients may connect there.
    ///
    /// # Errors
    /// When a certificate or a key can't be used.
    #[cfg(feature = "tls")]
    pub fn tls_config(self, tls: crate::tls::ServerTlsConfig) -> Result<Self, Error> {
        Ok(self.tls(crate::tls::ServerTls::new(tls)?))
    }

    /// Sets what [`tls_config`](Self::tls_config) sets, by what can be set anew while the server runs.
    #[cfg(feature = "tls")]
    pub fn tls(mut self, tls: crate::tls::ServerTls) -> Self {
        self.config.tls = Some(tls);
        self
    }

    /// Sets how long calls that are open on a link that has reached its
    /// [`max_connection_age`](Self::max_connection_age) may still take before they are cut off. For ever
    /// unless set.
    pub fn max_connection_age_grace(mut self, grace: Duration) -> Self {
        self.config.max_age_grace = Some(grace);
        self
    }

    /// Sets how often to ask each client whether it is there (keepalive). Off unless set: the end of a
    /// process is noticed without, only a client that hangs is not. Over HTTP/2 it is 20 s unless set. Zero
    /// turns it off.
    pub fn keepalive_interval(mut self, interval: Option<Duration>) -> Self {
        self.config.keepalive_interval = interval;
        self
    }

    /// Sets how long a client may take to answer whether it is there
    /// ([`keepalive_interval`](Self::keepalive_interval)), before its link is closed. 20 s unless set.
    pub fn keepalive_timeout(mut self, timeout: Option<Duration>) -> Self {
        self.config.keepalive_timeout = timeout.unwrap_or(Duration::from_secs(20));
        self
    }

    /// Sets who may connect. Only processes of the server's own uid unless set.
    pub fn admission(mut self, admission: Admission) -> Self {
        self.config.admission = admission;
        self
    }

    /// Links that may be open at once; more are refused. Unlimited unless set.
    pub fn max_connections(mut self, links: usize) -> Self {
        self.config.max_links = links;
        self
    }

    /// Links of processes of each other user that may be open at once; more are refused. The server's own
    /// user and root have no such limit. 128 unless set; it matters where
    /// [`admission`](Self::admission) lets others in.
    pub fn max_connections_per_user(mut self, links: usize) -> Self {
        self.config.user_limits.links = links;
        self
    }

    /// Sets what processes of each other user may take: links, calls at once, calls and bytes by the second.
    /// The server's own user and root have no such limits, and clients over TCP are nobody's. It matters
    /// where [`admission`](Self::admission) lets others in.
    ///
    /// ```
    /// use notnets::{Admission, Server, UserLimits};
    ///
    /// let server = Server::builder()
    ///     .admission(Admission::Anyone)
    ///     .user_limits(UserLimits::default().calls_per_second(10_000).bytes_per_second(100 << 20));
    /// # drop(server);
    /// ```
    pub fn user_limits(mut self, limits: UserLimits) -> Self {
        self.config.user_limits = limits;
        self
    }

    /// Sets whether the server takes its names of this host beside other servers that are replicas, too: each
    /// client gets to one of them. Off unless set: a second server of a name is an error. In a pod several
    /// servers may have one name in any case.
    ///
    /// ```no_run
    /// # async fn example(routes: notnets::Routes) -> Result<(), notnets::Error> {
    /// let server = notnets::Server::builder().replica(true).add_routes(routes);
    /// server.serve("notnets:///inventory").await // beside others that are started like this
    /// # }
    /// ```
    pub fn replica(mut self, replica: bool) -> Self {
        self.config.claim = self.config.claim.switched(Claim::Replica, replica);
        self
    }

    /// Sets whether the server takes its names of this host over from servers that have them, without a
    /// moment in which nobody serves. Off unless set. Bind when all is ready: from then on new calls wait
    /// for this server. An old server of which all names are taken over stops as
    /// [`serve_with_shutdown`](Router::serve_with_shutdown) says. A name that nobody serves is simply taken.
    /// Replicas need no take-over: start the new one and stop the old. Of this and [`replica`](Self::replica)
    /// the last one counts.
    ///
    /// # Example
    /// ```no_run
    /// # async fn example(routes: notnets::Routes) -> Result<(), notnets::Error> {
    /// use std::time::Duration;
    ///
    /// let server = notnets::Server::builder().take_over(true).drain_timeout(Duration::from_secs(30));
    /// // Ends when the next version of this program has taken the name over, and its own calls are over.
    /// server.add_routes(routes).serve("notnets:///inventory").await
    /// # }
    /// ```
    pub fn take_over(mut self, take_over: bool) -> Self {
        self.config.claim = self.config.claim.switched(Claim::TakeOver, take_over);
        self
    }

    /// Sets how long calls may still take once the server is stopped or another process has taken its names
    /// over. Those that are open then end with `UNAVAILABLE`, "server stops: out of time". For ever unless
    /// set.
    pub fn drain_timeout(mut self, timeout: Duration) -> Self {
        self.config.drain_timeout = Some(timeout);
        self
    }

    /// Serves each request within the span that `make` returns for its head. Services in gRPC's own terms
    /// have no HTTP head, and no span.
    ///
    /// ```
    /// notnets::Server::builder()
    ///     .trace_fn(|request| tracing::info_span!("call", path = request.uri().path()));
    /// ```
    pub fn trace_fn<F>(mut self, make: F) -> Self
    where
        F: Fn(&http::Request<()>) -> tracing::Span + Send + Sync + 'static,
    {
        self.config.trace = Some(TraceFn::new(make));
        self
    }

    /// Has the server's calls [observed](crate::observe), of all services.
    pub fn observer(mut self, observer: impl Observer) -> Self {
        self.config.observer = Some(AnyObserver(Arc::new(observer)));
        self
    }

    /// Wraps all services in a tower layer. As with tower's `ServiceBuilder`, the one added first is the
    /// outermost: it sees a request first.
    pub fn layer<N>(self, layer: N) -> Server<Stack<N, L>> {
        Server { config: self.config, layer: Stack::new(layer, self.layer) }
    }

    /// Adds a service that tonic generated. One that is added twice is an error when the server is bound.
    pub fn add_service<S: HttpService + NamedService>(self, service: S) -> Router<L> {
        self.add_routes(Routes::default()).add_service(service)
    }

    /// Adds a service if there is one.
    pub fn add_optional_service<S: HttpService + NamedService>(self, service: Option<S>) -> Router<L> {
        self.add_routes(Routes::default()).add_optional_service(service)
    }

    /// Adds services that were put together before.
    pub fn add_routes(self, routes: Routes) -> Router<L> {
        Router { server: self, routes, rpc: RpcServices::default(), rpc_names: Vec::new() }
    }

    /// Adds a service in gRPC's own terms, by its name with the package: `greeter.Greeter`. A name with a
    /// slash, or of another service, is an error when the server is bound. Layers are of HTTP, and don't see
    /// its calls.
    pub fn add_rpc_service(self, name: impl Into<Arc<str>>, handler: impl Handler) -> Router<L> {
        self.add_routes(Routes::default()).add_rpc_service(name, handler)
    }

    /// Takes [byte streams](crate::byte_stream) as well.
    #[cfg(feature = "byte-stream")]
    pub fn add_byte_streams(self, streams: ByteStreams) -> Router<L> {
        self.add_routes(Routes::default()).add_byte_streams(streams)
    }

    /// Sets the service for all calls to services that were not added: tonic's own `Routes`, connectrpc's
    /// router, any tower service. Without one they are answered with `UNIMPLEMENTED`.
    pub fn fallback_service<S: HttpService>(self, service: S) -> Router<L> {
        self.add_routes(Routes::default()).fallback_service(service)
    }

    /// Takes these names for any tower service, without routing by service name: see [`Router::bind`].
    ///
    /// # Errors
    /// When a name is in use, or can't be served.
    pub async fn bind_service<S>(self, names: impl Names, service: S) -> Result<Bound, Error>
    where
        L: Layer<S, Service: HttpService>,
    {
        let services = Services::of_http(erase(self.layer.layer(service)));
        Bound::new(names.uris(), services, self.config).await
    }

    /// Takes these names as [`bind_service`](Self::bind_service) does, for a service that `make` makes for
    /// each link. It is dropped when the link ends: what it holds is its client's alone.
    ///
    /// # Errors
    /// When a name is in use, or can't be served.
    pub async fn bind_make_service<S>(
        self,
        names: impl Names,
        make: impl Fn(&PeerInfo) -> S + Send + Sync + 'static,
    ) -> Result<Bound, Error>
    where
        L: Layer<S, Service: HttpService> + Send + Sync + 'static,
    {
        let layer = self.layer;
        let services = Services::of_http(erase_made(move |peer| layer.layer(make(peer))));
        Bound::new(names.uris(), services, self.config).await
    }

    /// Takes these names for any tower service, as [`bind_service`](Self::bind_service) does, on a plain
    /// thread. For names in pods the thread waits until their agents have taken them, for some seconds at
    /// most.
    ///
    /// # Errors
    /// When a name is in use, or can't be served.
    pub fn bind_service_blocking<S>(self, names: impl Names, service: S) -> Result<Bound, Error>
    where
        L: Layer<S, Service: HttpService>,
    {
        let services = Services::of_http(erase(self.layer.layer(service)));
        Bound::block(names.uris(), services, self.config)
    }

    /// Serves any tower service under these names, without routing by service name, until it fails.
    ///
    /// # Errors
    /// When a name is in use, or can't be served.
    pub async fn serve<S>(self, names: impl Names, service: S) -> Result<(), Error>
    where
        L: Layer<S, Service: HttpService>,
    {
        self.bind_service(names, service).await?.serve().await
    }

    /// Serves any tower service under these names until `signal` completes, then gracefully stops: see
    /// [`Router::serve_with_shutdown`].
    ///
    /// # Errors
    /// When a name is in use, or can't be served.
    pub async fn serve_with_shutdown<S>(
        self,
        names: impl Names,
        service: S,
        signal: impl Future<Output = ()>,
    ) -> Result<(), Error>
    where
        L: Layer<S, Service: HttpService>,
    {
        self.bind_service(names, service).await?.serve_with_shutdown(signal).await
    }
}

/// A server with services.
///
/// ```no_run
/// # async fn example() -> Result<(), notnets::Error> {
/// let (_reporter, health) = tonic_health::server::health_reporter();
/// let router = notnets::Server::builder().add_service(health);
/// router.serve("notnets:///inventory").await
/// # }
/// ```
#[derive(Clone, Debug)]
#[must_use = "a server does nothing until it is served"]
pub struct Router<L = Identity> {
    server: Server<L>,
    routes: Routes,
    rpc: RpcServices,
    /// The names of the services in gRPC's own terms, as they were added.
    rpc_names: Vec<Arc<str>>,
}

impl<L> Router<L> {
    /// Adds one more service. One that is added twice is an error when the server is bound.
    pub fn add_service<S: HttpService + NamedService>(mut self, service: S) -> Self {
        self.routes = self.routes.add_service(service);
        self
    }

    /// Adds one more service if there is one.
    pub fn add_optional_service<S: HttpService + NamedService>(self, service: Option<S>) -> Self {
        match service {
            Some(service) => self.add_service(service),
            None => self,
        }
    }

    /// Adds one more service in gRPC's own terms, by its name with the package: `greeter.Greeter`. A name
    /// with a slash, or of another service, is an error when the server is bound. Layers are of HTTP, and
    /// don't see its calls.
    pub fn add_rpc_service(self, name: impl Into<Arc<str>>, handler: impl Handler) -> Self {
        self.add_handler(name.into(), rpc::erase(handler))
    }

    /// Takes [byte streams](crate::byte_stream) as well. Layers don't see them.
    #[cfg(feature = "byte-stream")]
    pub fn add_byte_streams(self, streams: ByteStreams) -> Self {
        self.add_handler(byte_stream::SERVICE.into(), streams.erase())
    }

    fn add_handler(mut self, name: Arc<str>, handler: Arc<dyn AnyHandler>) -> Self {
        self.rpc_names.push(Arc::clone(&name));
        self.rpc.add(name, handler);
        self
    }

    /// Sets the service for all calls to services that were not added: tonic's own `Routes`, connectrpc's
    /// router, any tower service. Without one they are answered with `UNIMPLEMENTED`.
    pub fn fallback_service<S: HttpService>(mut self, service: S) -> Self {
        self.routes = self.routes.fallback_service(service);
        self
    }

    /// Takes these names: clients can connect from now on, and are answered once [`Bound::serve`] is awaited.
    /// For names in pods it waits until their agents have taken them, for some seconds at most.
    ///
    /// # Errors
    /// When a name is in use, or can't be served.
    pub async fn bind(self, names: impl Names) -> Result<Bound, Error>
    where
        L: Layer<Routes, Service: HttpService>,
    {
        let (services, config) = self.into_services()?;
        Bound::new(names.uris(), services, config).await
    }

    /// Takes these names as [`bind`](Self::bind) does, on a plain thread.
    ///
    /// # Errors
    /// When a name is in use, or can't be served.
    pub fn bind_blocking(self, names: impl Names) -> Result<Bound, Error>
    where
        L: Layer<Routes, Service: HttpService>,
    {
        let (services, config) = self.into_services()?;
        Bound::block(names.uris(), services, config)
    }

    /// Serves under these names, until it fails, or another process has taken them over.
    ///
    /// # Errors
    /// When a name is in use, or can't be served.
    pub async fn serve(self, names: impl Names) -> Result<(), Error>
    where
        L: Layer<Routes, Service: HttpService>,
    {
        let (services, config) = self.into_services()?;
        Bound::new(names.uris(), services, config).await?.serve().await
    }

    /// Serves under these names until `signal` completes, then gracefully stops: calls in flight
    /// end, new ones are refused with `UNAVAILABLE`.
    ///
    /// # Errors
    /// When a name is in use, or can't be served.
    pub async fn serve_with_shutdown(
        self,
        names: impl Names,
        signal: impl Future<Output = ()>,
    ) -> Result<(), Error>
    where
        L: Layer<Routes, Service: HttpService>,
    {
        let (services, config) = self.into_services()?;
        Bound::new(names.uris(), services, config).await?.serve_with_shutdown(signal).await
    }

    fn into_services(self) -> Result<(Services, Settings), Error>
    where
        L: Layer<Routes, Service: HttpService>,
    {
        self.check_names()?;
        #[cfg(feature = "stubs")]
        let direct = self.direct();
        let Server { config, layer } = self.server;
        let services = Services {
            rpc: self.rpc,
            http: erase(layer.layer(self.routes)),
            #[cfg(feature = "stubs")]
            direct,
        };
        Ok((services, config))
    }

    /// The services whose calls need no HTTP: none if layers, or a span, are to have its requests.
    #[cfg(feature = "stubs")]
    fn direct(&self) -> DirectServices {
        let is_plain = typeid::of::<L>() == typeid::of::<Identity>() && self.server.config.trace.is_none();
        if is_plain { Arc::clone(self.routes.direct()) } else { DirectServices::default() }
    }

    /// # Errors
    /// When a service's name can't be in a call's path, or two services have one name: calls would find one
    /// of them only.
    fn check_names(&self) -> Result<(), Error> {
        if let Some(name) = self.routes.added_twice() {
            return Err(Cause::ServiceTwice(name.to_owned()).into());
        }
        for (i, name) in self.rpc_names.iter().enumerate() {
            if name.is_empty() || name.contains('/') {
                return Err(Cause::ServiceName(name.to_string()).into());
            }
            if self.rpc_names[..i].contains(name) || self.routes.has(name) {
                return Err(Cause::ServiceTwice(name.to_string()).into());
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_of_one_time_do_not_all_end_at_once() {
        let age = Duration::from_secs(100);
        let settings = Server::builder().max_connection_age(age).config;
        let ages: Vec<_> = (0..50).map(|_| settings.max_age_of_link().unwrap()).collect();
        assert!(ages.iter().all(|of_link| (age..=age * 11 / 10).contains(of_link)), "{ages:?}");
        let (first, last) = (ages.iter().min().unwrap(), ages.iter().max().unwrap());
        assert!(*last - *first > Duration::from_secs(1), "{ages:?}");
        assert_eq!(Server::builder().config.max_age_of_link(), None);
    }

    #[test]
    fn any_number_of_streams_can_be_asked_for() {
        let settings = Server::builder().max_concurrent_streams(u32::MAX).config;
        assert_eq!(settings.link.limits.streams, MAX_STREAMS);
        assert!(settings.check().is_ok());
    }
}
