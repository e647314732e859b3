//! Echoes two keys of metadata, as gRPC's interoperability tests do: one into
//! the response's head and one into its trailers, which a tonic handler cannot
//! set on a reply that succeeds.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use http::{HeaderMap, HeaderName, HeaderValue, Request, Response};
use http_body::{Body as HttpBody, Frame};
use tonic::Status;
use tonic::body::Body;
use tower_service::Service;

const INITIAL: HeaderName = HeaderName::from_static("x-grpc-test-echo-initial");
const TRAILING: HeaderName = HeaderName::from_static("x-grpc-test-echo-trailing-bin");

/// Adds the echoes to the responses of `S`.
#[derive(Clone)]
pub struct EchoMetadata<S> {
    /// What answers.
    pub inner: S,
}

impl<S> Service<Request<Body>> for EchoMetadata<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
    S::Future: Send + 'static,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let initial = request.headers().get(INITIAL).cloned();
        let trailing = request.headers().get(TRAILING).cloned();
        let response = self.inner.call(request);
        Box::pin(async move {
            let mut response = response.await?;
            if let Some(value) = initial {
                response.headers_mut().insert(INITIAL, value);
            }
            Ok(match trailing {
                Some(value) => response.map(|body| Body::new(WithTrailer { body, value })),
                None => response,
            })
        })
    }
}

/// A body whose trailers carry one value more.
struct WithTrailer {
    body: Body,
    value: HeaderValue,
}

impl HttpBody for WithTrailer {
    type Data = bytes::Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<bytes::Bytes>, Status>>> {
        let this = &mut *self;
        Pin::new(&mut this.body).poll_frame(cx).map_ok(|frame| match frame.into_trailers() {
            Ok(trailers) => Frame::trailers(with(trailers, &this.value)),
            Err(data) => data,
        })
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }
}

fn with(mut trailers: HeaderMap, value: &HeaderValue) -> HeaderMap {
    trailers.insert(TRAILING, value.clone());
    trailers
}
