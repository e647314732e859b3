//! Services of any type behind one: their errors have become responses.

use std::any::Any;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use http::{Request, Response};
use tonic::Status;
use tonic::body::Body;
use tower_service::Service;

use super::respond::respond;
use super::{BoxError, Routes};
use crate::rpc::{PeerInfo, ResponseHalf, Serving, Turn};

/// A tower service that a [`Server`](crate::Server) can serve: it takes HTTP requests with tonic's body, and
/// answers with a body of any type. Services that tonic-prost-build generates are such, and so are tonic's
/// `Routes`, connectrpc's services, and all of these within tower layers. There is nothing to implement.
pub trait HttpService:
    Service<Request<Body>, Response: HttpResponse, Error: Into<BoxError>, Future: Send + 'static>
    + Clone
    + Send
    + Sync
    + 'static
{
}

impl<S> HttpService for S where
    S: Service<Request<Body>, Response: HttpResponse, Error: Into<BoxError>, Future: Send + 'static>
        + Clone
        + Send
        + Sync
        + 'static
{
}

/// An HTTP response whose body a link can carry. There is nothing to implement.
pub trait HttpResponse: Send + sealed::Sealed {
    /// With a body of tonic's, which takes one of any type.
    fn into_response(self) -> Response<Body>;
}

impl<B> HttpResponse for Response<B>
where
    B: http_body::Body<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
{
    fn into_response(self) -> Response<Body> {
        self.map(Body::new)
    }
}

mod sealed {
    pub trait Sealed {}
    impl<B> Sealed for http::Response<B> {}
}

/// A service whose type is forgotten.
pub(crate) trait AnyService: Send + Sync {
    /// Calls the service.
    fn call(&self, request: Request<Body>) -> BoxResponse;

    /// Calls the service, and answers with its response.
    fn serve(&self, request: Request<Body>, turn: Turn, response: ResponseHalf) -> Serving;

    /// Returns the service of one link, if each has its own.
    fn for_link(&self, _peer: &PeerInfo) -> Option<Arc<dyn AnyService>> {
        None
    }
}

pub(crate) type BoxResponse = Pin<Box<dyn Future<Output = Response<Body>> + Send>>;

/// Forgets a service's type.
pub(crate) fn erase<S: HttpService>(service: S) -> Arc<dyn AnyService> {
    // Without layers around them, routes need no second future around that of the service they find.
    match (&service as &dyn Any).downcast_ref::<Routes>() {
        Some(routes) => Arc::new(routes.clone()),
        None => Arc::new(Erased(service)),
    }
}

/// Forgets the type of the services that `make` makes, one for each link.
pub(crate) fn erase_made<S: HttpService>(
    make: impl Fn(&PeerInfo) -> S + Send + Sync + 'static,
) -> Arc<dyn AnyService> {
    Arc::new(Made(make))
}

struct Made<M>(M);

impl<M, S> AnyService for Made<M>
where
    M: Fn(&PeerInfo) -> S + Send + Sync + 'static,
    S: HttpService,
{
    fn call(&self, request: Request<Body>) -> BoxResponse {
        match self.of_caller(&request) {
            Some(service) => service.call(request),
            None => Box::pin(async { nobody().into_http() }),
        }
    }

    fn serve(&self, request: Request<Body>, turn: Turn, half: ResponseHalf) -> Serving {
        match self.of_caller(&request) {
            Some(service) => service.serve(request, turn, half),
            None => Box::pin(async { respond(nobody().into_http(), half).await }),
        }
    }

    fn for_link(&self, peer: &PeerInfo) -> Option<Arc<dyn AnyService>> {
        Some(erase((self.0)(peer)))
    }
}

impl<M, S> Made<M>
where
    M: Fn(&PeerInfo) -> S + Send + Sync + 'static,
    S: HttpService,
{
    fn of_caller(&self, request: &Request<Body>) -> Option<Arc<dyn AnyService>> {
        self.for_link(request.extensions().get::<PeerInfo>()?)
    }
}

fn nobody() -> Status {
    Status::internal("the request does not say who its caller is")
}

struct Erased<S>(S);

impl<S: HttpService> AnyService for Erased<S> {
    fn call(&self, request: Request<Body>) -> BoxResponse {
        Box::pin(call(self.0.clone(), request))
    }

    fn serve(&self, request: Request<Body>, mut turn: Turn, half: ResponseHalf) -> Serving {
        let service = self.0.clone();
        Box::pin(async move {
            turn.come().await;
            let response = call(service, request).await;
            respond(response, half).await;
        })
    }
}

pub(super) async fn call<S: HttpService>(mut service: S, request: Request<Body>) -> Response<Body> {
    if let Err(error) = poll_fn(|cx| service.poll_ready(cx)).await {
        return failed(error);
    }
    service.call(request).await.map_or_else(failed, HttpResponse::into_response)
}

fn failed<E: Into<BoxError>>(error: E) -> Response<Body> {
    Status::from_error(error.into()).into_http()
}
