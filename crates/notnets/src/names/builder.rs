//! How a channel is made that finds its servers.

use std::path::PathBuf;
use std::sync::Arc;

use notnets_core::name::{Name, Uri};
use tokio::sync::watch;

use super::follower::{Follower, Route};
use super::pick::{Pick, Turn};
use super::place::Place;
use super::relay::Relay;
use super::resolve::Resolve;
use super::routes;
use super::server::Settings;
use super::servers::{Known, Looks, Servers};
use super::target::Target;
use crate::client::{Channel, Endpoint, Home};
use crate::error::Cause;
use crate::service_config::OutlierDetection;
use crate::{Error, names};

/// A channel that has a name and finds its servers: see [`names`](crate::names).
#[must_use = "a builder does nothing until it is connected"]
pub struct Builder {
    name: String,
    places: Vec<Wanted>,
    routes: Option<PathBuf>,
    pick: Option<Pick>,
    health: Option<Arc<str>>,
    outliers: Option<OutlierDetection>,
    settings: Vec<Setting>,
}

type Setting = Box<dyn FnOnce(Endpoint) -> Endpoint + Send>;

/// A place to look for servers.
enum Wanted {
    At(String),
    By(String, Box<dyn Resolve>),
}

impl std::fmt::Debug for Builder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Builder").field("name", &self.name).field("pick", &self.pick).finish_non_exhaustive()
    }
}

impl Builder {
    pub(crate) fn new(name: String) -> Self {
        let (places, settings) = (Vec::new(), Vec::new());
        Self { name, places, routes: None, pick: None, health: None, outliers: None, settings }
    }

    /// Looks for servers at this target, behind those that were added before. Unless one is added, servers
    /// are looked for where the routes file says ([`routes`](Self::routes)), else at `notnets:///NAME`.
    pub fn local(self, target: impl Into<String>) -> Self {
        self.or(target)
    }

    /// Looks for servers at this target when the ones before have none that takes calls.
    pub fn or(mut self, target: impl Into<String>) -> Self {
        self.places.push(Wanted::At(target.into()));
        self
    }

    /// Gets the servers from a resolver when the targets before have none that takes calls. `text` says in
    /// errors where that looks.
    pub fn or_resolved(mut self, text: impl Into<String>, resolver: impl Resolve) -> Self {
        self.places.push(Wanted::By(text.into(), Box::new(resolver)));
        self
    }

    /// Looks for servers where this routes file says, if no target is added: its JSON has targets by names.
    /// Unless set it is the file that the environment names (`NOTNETS_ROUTES`), if it does. The file is
    /// watched; when it changes, new calls go where it says.
    ///
    /// ```json
    /// {
    ///     "inventory": "notnets:///inventory, http://inventory:50051",
    ///     "cart": ["notnets:///cart", "dns:///cart.shop.svc:50051"],
    ///     "*": "notnets:///{name}"
    /// }
    /// ```
    pub fn routes(mut self, path: impl Into<PathBuf>) -> Self {
        self.routes = Some(path.into());
        self
    }

    /// How to choose among servers that are equally near. Unless set, it is as `loadBalancingConfig` of the
    /// [`ServiceConfig`](crate::ServiceConfig) says.
    pub fn pick(mut self, pick: Pick) -> Self {
        self.pick = Some(pick);
        self
    }

    /// Asks each server for the health of a service by gRPC's health protocol (`grpc.health.v1.Health`, gRFC
    /// A17), and makes calls only on servers that say `SERVING`, or that have no health service. The empty
    /// name stands for the server as a whole. Unless set, it is done if `healthCheckConfig` of the
    /// [`ServiceConfig`](crate::ServiceConfig) says so.
    pub fn health_check(mut self, service: impl Into<String>) -> Self {
        self.health = Some(service.into().into());
        self
    }

    /// Makes no calls for a while on a server of which far more fail than of the others of its place, or
    /// nearly all: with the defaults of gRFC A50. Others can be set by `loadBalancingConfig` of the
    /// [`ServiceConfig`](crate::ServiceConfig), which counts unless this is called.
    pub fn eject_outliers(mut self) -> Self {
        self.outliers = Some(OutlierDetection::of_both());
        self
    }

    /// Sets how to deal with the TLS of servers at `https://` places. Unless set, the system's roots have to
    /// vouch for their certificates.
    ///
    /// # Errors
    /// When a certificate or a key can't be used.
    #[cfg(feature = "tls")]
    pub fn tls_config(self, tls: crate::tls::ClientTlsConfig) -> Result<Self, Error> {
        Ok(self.tls(crate::tls::ClientTls::new(tls)?))
    }

    /// Sets what [`tls_config`](Self::tls_config) sets, by what can be set anew while the channel is in use.
    #[cfg(feature = "tls")]
    pub fn tls(self, tls: crate::tls::ClientTls) -> Self {
        self.settings(|endpoint| endpoint.with_tls(tls))
    }

    /// Sets what can be set of an [`Endpoint`], for the channel and the links to all of its servers.
    ///
    /// ```no_run
    /// # async fn example() -> Result<(), notnets::Error> {
    /// use std::time::Duration;
    ///
    /// let channel = notnets::Channel::named("inventory")
    ///     .settings(|endpoint| endpoint.timeout(Duration::from_secs(2)))
    ///     .connect()
    ///     .await?;
    /// # Ok(()) }
    /// ```
    pub fn settings(mut self, set: impl FnOnce(Endpoint) -> Endpoint + Send + 'static) -> Self {
        self.settings.push(Box::new(set));
        self
    }

    /// Connects to a server now.
    ///
    /// # Errors
    /// When the name, a target or the routes file can't be understood, and when no server can be reached.
    pub async fn connect(self) -> Result<Channel, Error> {
        self.connect_lazy()?.connected().await
    }

    /// Makes a channel that connects when the first call is made.
    ///
    /// # Errors
    /// When the name, a target or the routes file can't be understood.
    pub fn connect_lazy(self) -> Result<Channel, Error> {
        self.plan()?.follow()
    }

    /// Makes what makes such channels. They share what is known of the servers, and each has links of its own
    /// to them, so that the calls on one are not felt by those on another.
    ///
    /// # Errors
    /// When the name, a target or the routes file can't be understood.
    pub fn channels(self) -> Result<Channels, Error> {
        let Plan { name, endpoint, places, route, pick, health, outliers } = self.plan()?;
        let places = places.into_iter().map(Place::relayed).collect();
        Ok(Channels { name, endpoint, places, route, pick, health, outliers })
    }

    fn plan(self) -> Result<Plan, Error> {
        let name: Name = self.name.parse().map_err(|reason| Cause::Names(format!("{reason}")))?;
        let endpoint: Endpoint = Uri::on_host(name.clone()).to_string().parse()?;
        let endpoint = self.settings.into_iter().fold(endpoint, |endpoint, set| set(endpoint));
        let mut places = Vec::new();
        for wanted in self.places {
            match wanted {
                Wanted::At(target) => places.extend(Place::all_of(target.parse()?, &endpoint)),
                Wanted::By(text, resolver) => places.push(Place::new(text, resolver)),
            }
        }
        let mut route = None;
        if places.is_empty() {
            let target = match self.routes.or_else(routes::from_env) {
                Some(path) => {
                    let table = routes::follow(&path)?;
                    route.insert(Route { name: name.clone(), table }).target()
                }
                None => Target::on_host(name.clone()),
            };
            places.extend(Place::all_of(target, &endpoint));
        }
        let config = endpoint.policies.as_deref();
        let health = self.health.or_else(|| config?.health_service().map(Arc::clone));
        let outliers = self.outliers.or_else(|| config?.balancing().outliers.clone());
        let pick = self.pick.or_else(|| config?.balancing().policy.map(Pick::of)).unwrap_or_default();
        Ok(Plan { name, endpoint, places, route, pick, health, outliers })
    }
}

/// What a channel is made of.
struct Plan {
    name: Name,
    endpoint: Endpoint,
    places: Vec<Place>,
    route: Option<Route>,
    pick: Pick,
    health: Option<Arc<str>>,
    outliers: Option<OutlierDetection>,
}

/// Makes channels of one name that have links of their own: see [`Builder::channels`].
///
/// ```no_run
/// # fn example() -> Result<(), notnets::Error> {
/// let channels = notnets::Channel::named("inventory").channels()?;
/// let (mine, yours) = (channels.connect_lazy()?, channels.connect_lazy()?);
/// # Ok(()) }
/// ```
pub struct Channels {
    name: Name,
    endpoint: Endpoint,
    places: Vec<(String, Relay)>,
    route: Option<Route>,
    pick: Pick,
    health: Option<Arc<str>>,
    outliers: Option<OutlierDetection>,
}

impl std::fmt::Debug for Channels {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Channels").field("name", &self.name).field("pick", &self.pick).finish_non_exhaustive()
    }
}

impl Channels {
    /// Makes a channel that connects when the first call is made.
    ///
    /// # Errors
    /// When the system has no thread for what follows the servers.
    pub fn connect_lazy(&self) -> Result<Channel, Error> {
        let place = |(text, relay): &(String, Relay)| Place::new(text.clone(), Box::new(relay.clone()));
        let plan = Plan {
            name: self.name.clone(),
            endpoint: self.endpoint.clone(),
            places: self.places.iter().map(place).collect(),
            route: self.route.clone(),
            pick: self.pick,
            health: self.health.clone(),
            outliers: self.outliers.clone(),
        };
        plan.follow()
    }
}

impl Plan {
    /// Makes the channel, whose servers are followed from now on.
    fn follow(self) -> Result<Channel, Error> {
        let Self { name, endpoint, places, route, pick, health, outliers } = self;
        let (sender, known) = watch::channel(Known::default());
        let looks = Arc::<Looks>::default();
        let follower = Follower {
            places,
            known: sender,
            looks: Arc::clone(&looks),
            settings: Settings { endpoint: endpoint.clone(), home: Home::present(), health, outliers },
        };
        // It goes on whatever becomes of the runtimes of callers.
        let home = Home::fallback()?;
        let follower = home.spawn(follower.follow(route)).abort_handle();
        let servers = Servers { name, known, pick, turn: Turn::default(), looks, home, follower };
        Ok(Channel::of_peers(endpoint, Arc::new(servers)))
    }
}

impl Channel {
    /// Makes a channel that finds its servers by this name: see [`names`].
    ///
    /// ```no_run
    /// # async fn example() -> Result<(), notnets::Error> {
    /// let channel = notnets::Channel::named("inventory").connect().await?;
    /// # Ok(()) }
    /// ```
    pub fn named(name: impl Into<String>) -> names::Builder {
        names::Builder::new(name.into())
    }
}
