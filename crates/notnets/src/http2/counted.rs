//! Calls over HTTP/2 without a link between, counted for tools as those of a link are.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{Request, Response};
use http_body::{Body as HttpBody, Frame, SizeHint};
use notnets_core::messages::Messages;
use notnets_core::stats::{OutsideCall, OutsideCalls};
use tonic::Status;
use tonic::body::Body;
use tower_service::Service;

use super::client::Client;
use crate::http::{grpc_status, timeout};
use crate::rpc::{Code, Deadline};

/// A client whose calls are counted.
#[derive(Clone)]
pub struct Counted {
    client: Client,
    /// `None` without memory for them.
    calls: Option<Arc<OutsideCalls>>,
}

impl Counted {
    /// Has the calls of `client` counted, as such to `target`.
    pub fn new(client: Client, target: &str) -> Self {
        Self { client, calls: OutsideCalls::to(target) }
    }
}

impl Service<Request<Body>> for Counted {
    type Response = Response<Body>;
    type Error = Status;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Status>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Status>> {
        self.client.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let Some(calls) = self.calls.clone() else { return self.client.call(request) };
        let deadline = timeout(request.headers()).map(|left| Deadline::after(left).time());
        let mut call = calls.begin(request.uri().path(), deadline);
        let request = request.map(|body| sent(body, calls));
        let response = self.client.call(request);
        Box::pin(async move {
            let response = response.await.inspect_err(|status| fail(&mut call, status))?;
            if let Some(status) = grpc_status(response.headers()) {
                call.end(status);
                return Ok(response);
            }
            Ok(response.map(|body| received(body, call)))
        })
    }
}

fn fail(call: &mut OutsideCall, status: &Status) {
    call.fail(Code(status.code() as u32), status.message());
}

/// What polling a body came to.
type Polled = Poll<Option<Result<Frame<Bytes>, Status>>>;

/// A body that is looked at.
struct Seen<F> {
    body: Body,
    see: F,
}

impl<F: FnMut(&Polled) + Send + Unpin + 'static> Seen<F> {
    fn body(body: Body, see: F) -> Body {
        Body::new(Self { body, see })
    }
}

impl<F: FnMut(&Polled) + Unpin> HttpBody for Seen<F> {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Polled {
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        (self.see)(&polled);
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// The body of a request.
fn sent(body: Body, calls: Arc<OutsideCalls>) -> Body {
    let mut messages = Messages::default();
    Seen::body(body, move |polled| {
        if let Poll::Ready(Some(Ok(frame))) = polled
            && let Some(data) = frame.data_ref()
        {
            calls.sent(data.len(), messages.after(data));
        }
    })
}

/// The body of a response. Its trailers end the call.
fn received(body: Body, mut call: OutsideCall) -> Body {
    let mut messages = Messages::default();
    Seen::body(body, move |polled| match polled {
        Poll::Ready(Some(Ok(frame))) => {
            if let Some(data) = frame.data_ref() {
                call.of().received(data.len(), messages.after(data));
            } else if let Some(trailers) = frame.trailers_ref() {
                call.end(grpc_status(trailers).unwrap_or(Code::UNKNOWN));
            }
        }
        Poll::Ready(Some(Err(status))) => fail(&mut call, status),
        Poll::Ready(None) => call.fail(Code::UNKNOWN, "the server has ended the call without a status"),
        Poll::Pending => {}
    })
}
