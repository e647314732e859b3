//! One call forwarded as it is: the `tower` service between the two sides of
//! `notnets proxy`.
//!
//! Frames are passed on as they come, wherever gRPC's messages are cut. What
//! the bridge adds is that failures of the upstream become responses: one before
//! the response a trailers-only response, one inside its body trailers, so that
//! the caller sees the status and not a broken stream. Cancellation needs nothing
//! here: a caller that goes away drops the response or breaks the request's body,
//! and an upstream resets its call at either.

use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body::{Body as HttpBody, Frame};
use tonic::Status;
use tonic::body::Body;
use tower_service::Service;

/// Forwards each call to `S` and never fails itself.
#[derive(Clone, Debug)]
pub struct Bridge<S> {
    upstream: S,
}

impl<S> Bridge<S> {
    /// A bridge to `upstream`.
    pub fn new(upstream: S) -> Self {
        Self { upstream }
    }
}

impl<S> Service<Request<Body>> for Bridge<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Status> + Clone + Send + 'static,
    S::Future: Send + 'static,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let upstream = self.upstream.clone();
        Box::pin(async move { Ok(forward(upstream, request).await.unwrap_or_else(Status::into_http)) })
    }
}

async fn forward<S>(mut upstream: S, request: Request<Body>) -> Result<Response<Body>, Status>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Status>,
{
    poll_fn(|cx| upstream.poll_ready(cx)).await?;
    let (head, body) = upstream.call(request).await?.into_parts();
    // With the status in its head the response is over, whether or not the
    // upstream has said so yet. It must be sent as one block that ends the
    // stream: gRPC clients take anything else for a broken response.
    let body = if head.headers.contains_key(Status::GRPC_STATUS) {
        Body::empty()
    } else {
        Body::new(ResponseBody { body, failed: false })
    };
    Ok(Response::from_parts(head, body))
}

/// The upstream's messages and trailers; an error becomes trailers.
struct ResponseBody {
    body: Body,
    failed: bool,
}

impl HttpBody for ResponseBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if self.failed {
            return Poll::Ready(None);
        }
        let status = match Pin::new(&mut self.body).poll_frame(cx) {
            Poll::Ready(Some(Err(status))) => status,
            frame_or_end => return frame_or_end,
        };
        self.failed = true;
        let mut trailers = HeaderMap::new();
        status.add_header(&mut trailers)?;
        Poll::Ready(Some(Ok(Frame::trailers(trailers))))
    }

    fn is_end_stream(&self) -> bool {
        self.failed || self.body.is_end_stream()
    }
}
