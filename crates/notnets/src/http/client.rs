//! From a request to its response's head.

use std::any::Any;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use http::request::Parts;
use http::{Request, Response};
use http_body::Body as _;
use notnets_core::call::ResponseHead;
use notnets_core::clock;
use tonic::Status;
use tonic::body::Body;

use super::BoxError;
#[cfg(feature = "stubs")]
use super::arrival::{Arrival, Asked};
use super::head;
use super::response_body::ResponseBody;
use super::send_body::send_body;
use super::status::{from_tonic, to_tonic};
use crate::Channel;
use crate::rpc::{self, Answered, Call, Exchange, Opening, Outbound};

/// Takes requests with a body of any type, so that tower's `ready` alone has to be told one:
/// `ServiceExt::<Request<Body>>::ready(&mut channel)`. An error is the call's status.
impl<B> tower_service::Service<Request<B>> for Channel
where
    B: http_body::Body<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
{
    type Response = Response<Body>;
    type Error = Status;
    type Future = ResponseFuture;

    /// Always ready: a missing server is reported by the call.
    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Status>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> ResponseFuture {
        #[cfg_attr(not(feature = "stubs"), allow(unused_mut, reason = "nobody asks where it arrives"))]
        let (mut parts, body) = request.map(own_body).into_parts();
        #[cfg(feature = "stubs")]
        if let Some(asked) = Asked::take(&mut parts.extensions) {
            asked.answer(Arrival { channel: self.clone(), head: parts });
            return ResponseFuture(None);
        }
        let timeout = [head::timeout(&parts.headers), self.timeout()].into_iter().flatten().min();
        let opening = Opening::new(&self.shared, timeout.map(clock::after));
        ResponseFuture(Some(Exchange::new(opening, HttpOutbound { parts, body, first: None })))
    }
}

/// A body as it is kept, which tonic's is already.
fn own_body<B>(body: B) -> Body
where
    B: http_body::Body<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
{
    let mut body = Some(body);
    match (&mut body as &mut dyn Any).downcast_mut::<Option<Body>>() {
        Some(own) => own.take().unwrap_or_default(),
        None => body.map_or_else(Body::empty, Body::new),
    }
}

/// The response to a call. Dropping it cancels the call.
// `None` for a request that only asked where it arrives.
pub struct ResponseFuture(Option<Exchange<HttpOutbound>>);

impl std::fmt::Debug for ResponseFuture {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ResponseFuture").finish_non_exhaustive()
    }
}

impl Future for ResponseFuture {
    type Output = Result<Response<Body>, Status>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Some(exchange) = &mut self.0 else { return Poll::Ready(Ok(Response::default())) };
        Poll::Ready(match ready!(exchange.poll_head(cx)) {
            Ok(answered) => Ok(response(answered)),
            Err(status) => Err(to_tonic(&status)),
        })
    }
}

/// A request, until its response is there.
#[derive(Debug)]
struct HttpOutbound {
    parts: Parts,
    body: Body,
    /// The part of the body that is ready; `None` until it was looked at.
    first: Option<Prefetched>,
}

/// A body's first data, and whether they are all.
#[derive(Clone, Debug)]
struct Prefetched {
    data: Bytes,
    end: bool,
}

impl Outbound for HttpOutbound {
    fn method(&self) -> &str {
        self.parts.uri.path_and_query().map_or("/", |path| path.as_str())
    }

    #[inline]
    fn entries<'a>(&'a self, user_agent: &'a str) -> impl Iterator<Item = (&'a str, &'a [u8])> {
        let Parts { method, uri, headers, .. } = &self.parts;
        head::request_entries(method, uri.authority(), headers, user_agent)
    }

    #[inline]
    fn prefetch(&mut self, cx: &mut Context<'_>) -> Result<(), rpc::Status> {
        if self.first.is_none() {
            let first = prefetch_body(cx, Pin::new(&mut self.body)).map_err(|status| from_tonic(&status))?;
            self.first = Some(first);
        }
        Ok(())
    }

    #[inline]
    fn data(&self) -> impl Buf + '_ {
        self.first.as_ref().map_or(&[][..], |first| &first.data)
    }

    #[inline]
    fn is_whole(&self) -> bool {
        self.first.as_ref().is_some_and(|first| first.end)
    }

    /// The rest goes beside the response, as both sides of a stream are independent.
    fn send_rest(&mut self, call: &Call, unsent: usize) {
        let Some(Prefetched { data, end }) = &self.first else { return };
        let data = data.slice(data.len() - unsent..);
        let body = if *end { Body::empty() } else { std::mem::take(&mut self.body) };
        let spawned = call.spawn(send_body(call.sending(), data, body, *end));
        if let Err(error) = spawned {
            tracing::warn!(%error, "a request's body has no runtime to be sent in");
        }
    }
}

/// The first data of a body that are ready now, and whether they are all: a unary request then goes
/// out as one frame.
fn prefetch_body(cx: &mut Context<'_>, mut body: Pin<&mut Body>) -> Result<Prefetched, Status> {
    if body.is_end_stream() {
        return Ok(Prefetched { data: Bytes::new(), end: true });
    }
    let data = match body.as_mut().poll_frame(cx) {
        Poll::Pending => return Ok(Prefetched { data: Bytes::new(), end: false }),
        Poll::Ready(None) => return Ok(Prefetched { data: Bytes::new(), end: true }),
        Poll::Ready(Some(frame)) => frame?.into_data().unwrap_or_default(),
    };
    // tonic's unary body reports its end only when it is polled once more.
    if !body.is_end_stream() {
        match body.as_mut().poll_frame(cx) {
            Poll::Pending => return Ok(Prefetched { data, end: false }),
            Poll::Ready(None) => {}
            Poll::Ready(Some(frame)) => {
                let more = frame?.into_data().unwrap_or_default();
                let mut both = bytes::BytesMut::from(data);
                both.extend_from_slice(&more);
                return Ok(Prefetched { data: both.freeze(), end: body.is_end_stream() });
            }
        }
    }
    Ok(Prefetched { data, end: true })
}

/// The response, as tonic takes it.
fn response((call, head, buffered): Answered) -> Response<Body> {
    let (code, headers, body) = match head {
        ResponseHead::TrailersOnly(status, metadata) => {
            let (code, mut headers) = head::response_head(metadata);
            head::set_status(&mut headers, status);
            (code, headers, Body::empty())
        }
        ResponseHead::Head(metadata) => {
            let (code, headers) = head::response_head(metadata);
            (code, headers, Body::new(ResponseBody::new(call, buffered)))
        }
    };
    let mut response = Response::new(body);
    *response.status_mut() = code;
    *response.headers_mut() = headers;
    response
}
