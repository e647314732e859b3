//! Services by their names, found by the first part of a call's path.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use foldhash::HashMap;
use http::{Request, Response};
use notnets_core::code::Code;
use tonic::Status;
use tonic::body::Body;
use tonic::server::NamedService;
use tower_service::Service;

use super::HttpService;
#[cfg(feature = "stubs")]
use super::direct::{self, DirectService};
use super::service::{AnyService, BoxResponse, erase};
use crate::rpc::{ResponseHalf, Serving, Turn};

/// A set of services. A call to a service that is not among them goes to the fallback, or is answered with
/// `UNIMPLEMENTED` if no service has it.
#[derive(Clone, Default)]
pub struct Routes {
    services: Arc<HashMap<&'static str, Arc<dyn AnyService>>>,
    /// A service that was added more than once.
    twice: Option<&'static str>,
    fallback: Option<Arc<dyn AnyService>>,
    /// What serves calls without HTTP, of those services that can.
    #[cfg(feature = "stubs")]
    direct: DirectServices,
}

/// Services that serve calls without HTTP, by their names.
#[cfg(feature = "stubs")]
pub(crate) type DirectServices = Arc<HashMap<&'static str, Arc<dyn DirectService>>>;

impl std::fmt::Debug for Routes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.services.keys()).finish()
    }
}

impl Routes {
    /// One service.
    pub fn new<S: HttpService + NamedService>(service: S) -> Self {
        Self::default().add_service(service)
    }

    /// A builder that takes services one after the other.
    pub fn builder() -> RoutesBuilder {
        RoutesBuilder::default()
    }

    /// Returns the routes as they are: they are always prepared. tonic's are not, before this is called.
    pub fn prepare(self) -> Self {
        self
    }

    /// Adds one more service. Of two with one name the later one is called, and a [`Server`](crate::Server)
    /// does not serve them.
    pub fn add_service<S: HttpService + NamedService>(mut self, service: S) -> Self {
        self.insert(service);
        self
    }

    fn insert<S: HttpService + NamedService>(&mut self, service: S) {
        #[cfg(feature = "stubs")]
        if let Some(direct) = direct::find(&service) {
            Arc::make_mut(&mut self.direct).insert(S::NAME, direct);
        }
        if Arc::make_mut(&mut self.services).insert(S::NAME, erase(service)).is_some() {
            self.twice = Some(S::NAME);
        }
    }

    /// Returns `true` if there is a service of this name.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.services.contains_key(name)
    }

    /// What serves calls without HTTP.
    #[cfg(feature = "stubs")]
    pub(crate) fn direct(&self) -> &DirectServices {
        &self.direct
    }

    /// A service that was added more than once, if there is one.
    pub(crate) fn added_twice(&self) -> Option<&'static str> {
        self.twice
    }

    /// The service that gets all calls to services that are not among these: tonic's own `Routes`, for one,
    /// or connectrpc's router.
    pub fn fallback_service<S: HttpService>(mut self, service: S) -> Self {
        self.fallback = Some(erase(service));
        self
    }

    fn find(&self, request: &Request<Body>) -> Option<&Arc<dyn AnyService>> {
        service_of(request).and_then(|name| self.services.get(name)).or(self.fallback.as_ref())
    }
}

/// The service that a request is for, by its path.
fn service_of(request: &Request<Body>) -> Option<&str> {
    let path = request.uri().path().strip_prefix('/')?;
    path.split_once('/').map(|(name, _)| name)
}

/// The message of the status for a request that no service is there for.
fn no_service(request: &Request<Body>) -> String {
    match service_of(request) {
        Some(name) => format!("this server has no service {name}"),
        None => format!("{} is not the path of a method: /package.Service/Method", request.uri().path()),
    }
}

/// Puts [`Routes`] together by reference, as where services are chosen while the program runs.
///
/// ```
/// let (_reporter, health) = tonic_health::server::health_reporter();
/// let mut routes = notnets::Routes::builder();
/// routes.add_service(health);
/// let server = notnets::Server::builder().add_routes(routes.routes());
/// # drop(server);
/// ```
#[derive(Clone, Debug, Default)]
pub struct RoutesBuilder(Routes);

impl RoutesBuilder {
    /// Adds a service.
    pub fn add_service<S: HttpService + NamedService>(&mut self, service: S) -> &mut Self {
        self.0.insert(service);
        self
    }

    /// The routes with the services that were added.
    pub fn routes(self) -> Routes {
        self.0
    }
}

impl From<Routes> for RoutesBuilder {
    fn from(routes: Routes) -> Self {
        Self(routes)
    }
}

impl AnyService for Routes {
    fn call(&self, request: Request<Body>) -> BoxResponse {
        match self.find(&request) {
            Some(service) => service.call(request),
            None => {
                let status = Status::unimplemented(no_service(&request));
                Box::pin(async { status.into_http() })
            }
        }
    }

    fn serve(&self, request: Request<Body>, turn: Turn, response: ResponseHalf) -> Serving {
        match self.find(&request) {
            Some(service) => service.serve(request, turn, response),
            None => Box::pin(response.refuse(Code::UNIMPLEMENTED, no_service(&request).into())),
        }
    }
}

impl Service<Request<Body>> for Routes {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let response = AnyService::call(self, request);
        Box::pin(async move { Ok(response.await) })
    }
}
