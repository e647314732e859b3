//! A tower layer around the whole server. It shows that layers see each call,
//! and does what tonic's handlers cannot: set trailers on a call that ends well.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use http::{HeaderMap, HeaderValue, Request, Response};
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;
use tower_layer::Layer;
use tower_service::Service;

/// Adds `x-layer-path`, the path that it saw, to each response's head, and the
/// request's `x-echo-trailing*` to its trailers.
#[derive(Clone, Copy, Debug, Default)]
pub struct TraceLayer;

impl<S> Layer<S> for TraceLayer {
    type Service = Trace<S>;

    fn layer(&self, inner: S) -> Trace<S> {
        Trace { inner }
    }
}

/// The service of [`TraceLayer`].
#[derive(Clone, Debug)]
pub struct Trace<S> {
    inner: S,
}

impl<S, A, B> Service<Request<A>> for Trace<S>
where
    S: Service<Request<A>, Response = Response<B>>,
{
    type Response = Response<TracedBody<B>>;
    type Error = S::Error;
    type Future = TracedFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<A>) -> Self::Future {
        let path = HeaderValue::from_str(request.uri().path()).ok();
        let mut trailers = HeaderMap::new();
        for (key, value) in request.headers() {
            if key.as_str().starts_with("x-echo-trailing") {
                trailers.append(key.clone(), value.clone());
            }
        }
        TracedFuture { inner: self.inner.call(request), path, trailers: Some(trailers) }
    }
}

pin_project! {
    /// The future of [`Trace`].
    pub struct TracedFuture<F> {
        #[pin]
        inner: F,
        path: Option<HeaderValue>,
        trailers: Option<HeaderMap>,
    }
}

impl<F, B, E> Future for TracedFuture<F>
where
    F: Future<Output = Result<Response<B>, E>>,
{
    type Output = Result<Response<TracedBody<B>>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let mut response = ready!(this.inner.poll(cx))?;
        if let Some(path) = this.path.take() {
            response.headers_mut().insert("x-layer-path", path);
        }
        let trailers = this.trailers.take().unwrap_or_default();
        Poll::Ready(Ok(response.map(|inner| TracedBody { inner, trailers })))
    }
}

pin_project! {
    /// The body of [`Trace`]'s responses.
    pub struct TracedBody<B> {
        #[pin]
        inner: B,
        trailers: HeaderMap,
    }
}

impl<B: Body> Body for TracedBody<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        let this = self.project();
        let Some(mut frame) = ready!(this.inner.poll_frame(cx)?) else {
            return Poll::Ready(None);
        };
        if let Some(trailers) = frame.trailers_mut() {
            for (key, value) in std::mem::take(this.trailers).iter() {
                trailers.append(key.clone(), value.clone());
            }
        }
        Poll::Ready(Some(Ok(frame)))
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
