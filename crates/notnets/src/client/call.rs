//! One call: from a request to its response's head.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body as _;
use notnets_core::call::{AtHand, Failure, HeadError, Opened, ResponseHead, Sent};
use tokio::sync::OwnedSemaphorePermit;
use tonic::Status;
use tonic::body::Body;

use super::body::ResponseBody;
use super::channel::{ClientLink, Shared};
use super::sending;
use crate::error::failure_status;
use crate::link::Waiters;
use crate::{clock, head};

/// The response to a call. Dropping it cancels the call.
pub struct ResponseFuture(Pin<Box<dyn Future<Output = Result<Response<Body>, Status>> + Send>>);

impl ResponseFuture {
    pub(super) fn new(call: impl Future<Output = Result<Response<Body>, Status>> + Send + 'static) -> Self {
        Self(Box::pin(call))
    }
}

impl std::fmt::Debug for ResponseFuture {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ResponseFuture").finish_non_exhaustive()
    }
}

impl Future for ResponseFuture {
    type Output = Result<Response<Body>, Status>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.0.as_mut().poll(cx)
    }
}

/// An open call. Its stream is closed, and reset if need be, when it is dropped.
#[derive(Debug)]
pub(super) struct Call {
    pub(super) link: Arc<ClientLink>,
    pub(super) stream: u64,
    /// All of it has been received, and its stream is closed.
    over: bool,
    permit: Option<OwnedSemaphorePermit>,
}

impl Drop for Call {
    fn drop(&mut self) {
        if !self.over {
            self.link.0.abandon(self.stream);
        }
    }
}

pub(super) async fn call(shared: Arc<Shared>, request: Request<Body>) -> Result<Response<Body>, Status> {
    let (parts, mut body) = request.into_parts();
    let timeout = match (head::timeout(&parts.headers), shared.endpoint.timeout) {
        (Some(call), Some(endpoint)) => Some(call.min(endpoint)),
        (call, endpoint) => call.or(endpoint),
    };
    let deadline = timeout.map(clock::after);
    let mut permit = match &shared.calls {
        Some(calls) => within(deadline, Arc::clone(calls).acquire_owned()).await?.ok(),
        None => None,
    };
    let (data, end) = poll_fn(|cx| Poll::Ready(first_data(cx, Pin::new(&mut body)))).await?;
    let path = parts.uri.path_and_query().map_or("/", |path| path.as_str());
    let (mut call, (head, at_hand)) = loop {
        let mut outgoing = Outgoing { data: data.clone(), end };
        let (link, stream, sent) = loop {
            let link = match shared.usable() {
                Some(link) => link,
                None => within(deadline, shared.link()).await??,
            };
            let entries =
                || head::request_entries(&parts.method, &parts.headers, &shared.endpoint.user_agent);
            let opened = open(&link, path, entries, deadline, &mut outgoing);
            if let Some((stream, sent)) = within(deadline, opened).await?? {
                break (link, stream, sent);
            }
            // That server goes away: on to the next.
        };
        let mut call = Call { link, stream, over: false, permit };
        if sent != Sent::All {
            // The rest goes beside the response, as both sides of a stream are independent.
            let rest = if end { Body::empty() } else { std::mem::take(&mut body) };
            let Outgoing { data, end } = outgoing;
            tokio::spawn(sending::send_body(Arc::clone(&call.link), stream, data, rest, end));
        }
        match poll_fn(|cx| poll_head(cx, &call)).await {
            Ok(received) => break (call, received),
            // The server went away as the call was made, and its application has not seen it.
            Err(failure) if end && failure.retry_safe && call.link.0.is_draining() => {
                permit = call.permit.take()
            }
            Err(failure) => return Err(failure_status(&failure)),
        }
    };
    call.over = at_hand.end.is_some();
    match head {
        ResponseHead::TrailersOnly(status, metadata) => {
            let (code, mut headers) = head::response_head(metadata);
            head::set_status(&mut headers, status);
            Ok(response(code, headers, Body::empty()))
        }
        ResponseHead::Head(metadata) => {
            let (code, headers) = head::response_head(metadata);
            Ok(response(code, headers, Body::new(ResponseBody::new(call, at_hand))))
        }
    }
}

/// The response's head, and what has come with it.
fn poll_head(cx: &mut Context<'_>, call: &Call) -> Poll<Result<(ResponseHead, AtHand), Failure>> {
    let stream = call.stream;
    call.link.0.poll_received(cx, stream, |state| {
        // An answer that came before the link's end still counts.
        let head = match state.connection.response(stream) {
            Some(Ok(head)) => head,
            Some(Err(failure)) => return Some(Err(failure)),
            None => return state.failure_of(stream).map(Err),
        };
        let at_hand = state.connection.take_at_hand(stream);
        if at_hand.end.is_some() {
            state.close(stream);
        }
        Some(Ok((head, at_hand)))
    })
}

fn response(code: http::StatusCode, headers: http::HeaderMap, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = code;
    *response.headers_mut() = headers;
    response
}

/// What of the request's body is at hand.
struct Outgoing {
    data: Bytes,
    end: bool,
}

/// The first data of a body that are ready now, and whether they are all: a unary request then goes
/// out as one frame.
fn first_data(cx: &mut Context<'_>, mut body: Pin<&mut Body>) -> Result<(Bytes, bool), Status> {
    if body.is_end_stream() {
        return Ok((Bytes::new(), true));
    }
    let data = match body.as_mut().poll_frame(cx) {
        Poll::Pending => return Ok((Bytes::new(), false)),
        Poll::Ready(None) => return Ok((Bytes::new(), true)),
        Poll::Ready(Some(frame)) => frame?.into_data().unwrap_or_default(),
    };
    // tonic's unary body says that it has ended only when it is asked once more.
    if !body.is_end_stream() {
        match body.as_mut().poll_frame(cx) {
            Poll::Pending => return Ok((data, false)),
            Poll::Ready(None) => {}
            Poll::Ready(Some(frame)) => {
                let more = frame?.into_data().unwrap_or_default();
                let mut both = bytes::BytesMut::from(data);
                both.extend_from_slice(&more);
                return Ok((both.freeze(), body.is_end_stream()));
            }
        }
    }
    Ok((data, true))
}

/// Opens a stream as soon as there is room for it. `None` when the server takes no new ones.
async fn open<'a, I: Iterator<Item = (&'a str, &'a [u8])>>(
    link: &Arc<ClientLink>,
    path: &str,
    entries: impl Fn() -> I,
    deadline: Option<u64>,
    outgoing: &mut Outgoing,
) -> Result<Option<(u64, Sent)>, Status> {
    let mut waiters = Some(Waiters::default());
    let mut place = Place { link, ticket: None };
    poll_fn(|cx| {
        link.0.with(|state| {
            if state.broken.is_some() {
                return Poll::Ready(Ok(None));
            }
            let Outgoing { data, end } = outgoing;
            match state.connection.open(path, entries(), deadline, data, *end, &mut waiters) {
                Ok(Opened::Stream(stream, sent)) => {
                    if let Some(ticket) = place.ticket.take() {
                        state.leave_openers(ticket, true);
                    }
                    let sent = if *end || sent != Sent::All { sent } else { Sent::Part };
                    Poll::Ready(Ok(Some((stream, sent))))
                }
                Ok(Opened::NotYet) => {
                    state.wait_to_open(&mut place.ticket, cx.waker());
                    Poll::Pending
                }
                Ok(Opened::Never) => Poll::Ready(Ok(None)),
                Err(error) => Poll::Ready(Err(head_status(&error))),
            }
        })
    })
    .await
}

/// A place among those that wait to open a stream, if there was a need to wait.
struct Place<'a> {
    link: &'a ClientLink,
    ticket: Option<u64>,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket {
            self.link.0.with(|state| state.leave_openers(ticket, false));
        }
    }
}

fn head_status(error: &HeadError) -> Status {
    Status::resource_exhausted(error.to_string())
}

/// Waits no longer than the call may take.
async fn within<R>(deadline: Option<u64>, work: impl Future<Output = R>) -> Result<R, Status> {
    let mut work = pin!(work);
    if let Some(ready) = poll_fn(|cx| Poll::Ready(ready_now(work.as_mut().poll(cx)))).await {
        return Ok(ready);
    }
    let Some(deadline) = deadline else { return Ok(work.await) };
    tokio::time::timeout(clock::until(deadline), work)
        .await
        .map_err(|_| Status::deadline_exceeded("the call's deadline passed before it could be sent"))
}

fn ready_now<R>(poll: Poll<R>) -> Option<R> {
    match poll {
        Poll::Ready(ready) => Some(ready),
        Poll::Pending => None,
    }
}
