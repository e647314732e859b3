//! One call forwarded as it is: the `tower` service between a link and a connection.
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

/// Makes a call upstream. An error in the response's body is in its trailers.
///
/// # Errors
/// When there is no response.
pub(super) async fn forward<S>(mut upstream: S, request: Request<Body>) -> Result<Response<Body>, Status>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Status>,
{
    poll_fn(|cx| upstream.poll_ready(cx)).await?;
    let (head, body) = upstream.call(request).await?.into_parts();
    // With the status in its head the response is over, whether or not the
    // upstream has announced it yet. It must be sent as one block that ends the
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

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use http_body_util::BodyExt;
    use tonic::Code;
    use tower::service_fn;

    use super::*;

    /// A body of the given frames that does not announce its end.
    struct Frames(Vec<Result<Frame<Bytes>, Status>>);

    impl HttpBody for Frames {
        type Data = Bytes;
        type Error = Status;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
            Poll::Ready((!self.0.is_empty()).then(|| self.0.remove(0)))
        }
    }

    async fn bridged(response: Result<Response<Body>, Status>) -> Response<Body> {
        let response = Arc::new(Mutex::new(Some(response)));
        let upstream = service_fn(move |_| {
            let response = response.lock().expect("not poisoned").take().expect("one call");
            async move { response }
        });
        let answer = Bridge::new(upstream).call(Request::new(Body::empty())).await;
        answer.unwrap_or_else(|never| match never {})
    }

    #[tokio::test]
    async fn an_error_instead_of_a_response_is_a_trailers_only_response() {
        let status = Status::with_details(Code::Unavailable, "käse", Bytes::from_static(&[1, 2]));
        let response = bridged(Err(status)).await;
        assert!(response.body().is_end_stream());
        assert_eq!(response.headers()["content-type"], "application/grpc");
        let status = Status::from_header_map(response.headers()).expect("a status");
        assert_eq!(
            (status.code(), status.message(), status.details()),
            (Code::Unavailable, "käse", &[1, 2][..])
        );
    }

    #[tokio::test]
    async fn an_error_in_the_body_becomes_trailers() {
        let frames = vec![
            Ok(Frame::data(Bytes::from_static(b"abc"))),
            Err(Status::data_loss("gone")),
            Ok(Frame::data(Bytes::from_static(b"never"))),
        ];
        let response = bridged(Ok(Response::new(Body::new(Frames(frames))))).await;
        let collected = response.into_body().collect().await.expect("no error is left");
        let status = Status::from_header_map(collected.trailers().expect("trailers")).expect("a status");
        assert_eq!((status.code(), status.message()), (Code::DataLoss, "gone"));
        assert_eq!(collected.to_bytes(), "abc");
    }

    #[tokio::test]
    async fn a_status_in_the_head_ends_the_response_there() {
        let mut response = Response::new(Body::new(Frames(Vec::new())));
        response.headers_mut().insert("grpc-status", "5".parse().expect("a value"));
        assert!(!response.body().is_end_stream());
        let response = bridged(Ok(response)).await;
        assert!(response.body().is_end_stream());
        assert_eq!(response.headers()["grpc-status"], "5");
    }

    #[tokio::test]
    async fn frames_and_trailers_pass_as_they_are() {
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", "0".parse().expect("a value"));
        let frames = vec![
            Ok(Frame::data(Bytes::from_static(b"ab"))),
            Ok(Frame::data(Bytes::from_static(b"c"))),
            Ok(Frame::trailers(trailers.clone())),
        ];
        let mut body = bridged(Ok(Response::new(Body::new(Frames(frames))))).await.into_body();
        let mut data = Vec::new();
        let passed = loop {
            match body.frame().await.expect("not the end").expect("no error").into_data() {
                Ok(bytes) => data.push(bytes),
                Err(frame) => break frame.into_trailers().expect("trailers"),
            }
        };
        assert_eq!(data, ["ab", "c"]);
        assert_eq!(passed, trailers);
        assert!(body.frame().await.is_none());
    }
}
