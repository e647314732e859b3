//! Calls over HTTP/2 without a link between, counted for tools as those of a link are.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body::{Body as HttpBody, Frame, SizeHint};
use notnets_core::messages::Messages;
use notnets_core::stats::{OutsideCall, OutsideCalls};
use tonic::Status;
use tonic::body::Body;
use tower_service::Service;

use super::client::Client;
use crate::http::timeout;
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
        let request = request.map(|body| Body::new(Sent { body, calls, messages: Messages::default() }));
        let response = self.client.call(request);
        Box::pin(async move {
            let response = response.await.inspect_err(|status| fail(&mut call, status))?;
            if let Some(status) = status_in(response.headers()) {
                call.end(status);
                return Ok(response);
            }
            Ok(response.map(|body| Body::new(Received { body, call, messages: Messages::default() })))
        })
    }
}

/// The status of a call, if it is there.
fn status_in(headers: &HeaderMap) -> Option<Code> {
    let status = headers.get(Status::GRPC_STATUS)?;
    Some(status.to_str().ok().and_then(|status| status.parse().ok()).map_or(Code::UNKNOWN, Code))
}

fn fail(call: &mut OutsideCall, status: &Status) {
    call.fail(Code(status.code() as u32), status.message());
}

/// The body of a request.
struct Sent {
    body: Body,
    calls: Arc<OutsideCalls>,
    messages: Messages,
}

impl HttpBody for Sent {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        if let Poll::Ready(Some(Ok(frame))) = &polled
            && let Some(data) = frame.data_ref()
        {
            let ended = self.messages.after(data);
            self.calls.sent(data.len(), ended);
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// The body of a response. Its trailers end the call.
struct Received {
    body: Body,
    call: OutsideCall,
    messages: Messages,
}

impl HttpBody for Received {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        let Self { call, messages, .. } = &mut *self;
        match &polled {
            Poll::Ready(Some(Ok(frame))) => {
                if let Some(data) = frame.data_ref() {
                    call.of().received(data.len(), messages.after(data));
                } else if let Some(trailers) = frame.trailers_ref() {
                    call.end(status_in(trailers).unwrap_or(Code::UNKNOWN));
                }
            }
            Poll::Ready(Some(Err(status))) => fail(call, status),
            Poll::Ready(None) => call.fail(Code::UNKNOWN, "the server has ended the call without a status"),
            Poll::Pending => {}
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
