//! Services by their names, found by the first part of a call's path.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use foldhash::HashMap;
use http::{Request, Response};
use tonic::Status;
use tonic::body::Body;
use tonic::server::NamedService;
use tower_service::Service;

use super::service::{AnyService, ResponseFuture, erase_like};
use super::{BoxError, ResponseLike};

/// A set of services. A call to a service that is not among them is answered with `UNIMPLEMENTED`.
#[derive(Clone, Default)]
pub struct Routes {
    services: Arc<HashMap<&'static str, Arc<dyn AnyService>>>,
}

impl std::fmt::Debug for Routes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.services.keys()).finish()
    }
}

impl Routes {
    /// One service.
    pub fn new<S>(service: S) -> Self
    where
        S: Service<Request<Body>, Response: ResponseLike, Error: Into<BoxError>>
            + NamedService
            + Clone
            + Send
            + Sync
            + 'static,
        S::Future: Send + 'static,
    {
        Self::default().add_service(service)
    }

    /// One more.
    pub fn add_service<S>(mut self, service: S) -> Self
    where
        S: Service<Request<Body>, Response: ResponseLike, Error: Into<BoxError>>
            + NamedService
            + Clone
            + Send
            + Sync
            + 'static,
        S::Future: Send + 'static,
    {
        Arc::make_mut(&mut self.services).insert(S::NAME, erase_like(service));
        self
    }
}

impl AnyService for Routes {
    fn call(&self, request: Request<Body>) -> ResponseFuture {
        let name = request.uri().path().strip_prefix('/').and_then(|path| path.split_once('/'));
        match name.and_then(|(name, _)| self.services.get(name)) {
            Some(service) => service.call(request),
            None => Box::pin(async { Status::unimplemented("").into_http() }),
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
