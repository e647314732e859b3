//! Services of any type behind one: their errors have become responses.

use std::any::Any;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use http::{Request, Response};
use tonic::Status;
use tonic::body::Body;
use tower_service::Service;

use super::{BoxError, ResponseLike, Routes};

/// A service whose type is forgotten.
pub(super) trait AnyService: Send + Sync {
    fn call(&self, request: Request<Body>) -> ResponseFuture;
}

pub(super) type ResponseFuture = Pin<Box<dyn Future<Output = Response<Body>> + Send>>;

/// Any tower service that answers with HTTP responses.
pub(super) fn erase<S, B>(service: S) -> Arc<dyn AnyService>
where
    S: Service<Request<Body>, Response = Response<B>, Error: Into<BoxError>> + Clone + Send + Sync + 'static,
    S::Future: Send + 'static,
    B: http_body::Body<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
{
    // Without layers around them, routes need no second future around that of the service they find.
    match (&service as &dyn Any).downcast_ref::<Routes>() {
        Some(routes) => Arc::new(routes.clone()),
        None => erase_like(service),
    }
}

pub(super) fn erase_like<S>(service: S) -> Arc<dyn AnyService>
where
    S: Service<Request<Body>, Response: ResponseLike, Error: Into<BoxError>> + Clone + Send + Sync + 'static,
    S::Future: Send + 'static,
{
    Arc::new(Erased(service))
}

struct Erased<S>(S);

impl<S> AnyService for Erased<S>
where
    S: Service<Request<Body>, Response: ResponseLike, Error: Into<BoxError>> + Clone + Send + Sync + 'static,
    S::Future: Send + 'static,
{
    fn call(&self, request: Request<Body>) -> ResponseFuture {
        let mut service = self.0.clone();
        // Most services are always ready; those are called at once, and waited for in a small future.
        match service.poll_ready(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(Ok(())) => {
                let response = service.call(request);
                Box::pin(async move { answer(response.await) })
            }
            Poll::Ready(Err(error)) => {
                let response = failed(error);
                Box::pin(async move { response })
            }
            Poll::Pending => Box::pin(async move {
                if let Err(response) = poll_fn(|cx| service.poll_ready(cx).map_err(failed)).await {
                    return response;
                }
                answer(service.call(request).await)
            }),
        }
    }
}

fn answer<R: ResponseLike, E: Into<BoxError>>(answered: Result<R, E>) -> Response<Body> {
    answered.map_or_else(failed, ResponseLike::into_response)
}

fn failed<E: Into<BoxError>>(error: E) -> Response<Body> {
    Status::from_error(error.into()).into_http()
}
