//! One call: from a request to its response's head.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::request::Parts;
use http::{Request, Response};
use http_body::Body as _;
use notnets_core::call::{Buffered, Failure, HeadError, OpenOutcome, ResponseHead, Sent, StreamId};
use tokio::sync::OwnedSemaphorePermit;
use tonic::Status;
use tonic::body::Body;

use super::body::ResponseBody;
use super::channel::{ClientLink, Shared};
use super::sending;
use crate::clock::{self, Timestamp};
use crate::error::failure_status;
use crate::head;
use crate::link::{State, StreamWakers};

/// The response to a call. Dropping it cancels the call.
pub struct ResponseFuture {
    phase: Phase,
    /// The request, but while it is being opened.
    outgoing: Option<Outgoing>,
}

/// Where a call is. Most are opened at once: that needs no future of its own.
enum Phase {
    New,
    /// Waits for its turn, for a link, or for room on it.
    Opening(Pin<Box<dyn Future<Output = Opening> + Send>>),
    /// Waits for the response's head.
    Open(Call),
    /// Could not be opened, or is answered.
    Over,
}

/// The call, and its request again.
type Opening = Result<(Call, Outgoing), Status>;

/// The response's head and what has come with it.
type Answer = Result<(ResponseHead, Buffered), Failure>;

impl ResponseFuture {
    pub(super) fn new(shared: &Arc<Shared>, request: Request<Body>) -> Self {
        Self { phase: Phase::New, outgoing: Some(Outgoing::new(shared, request)) }
    }

    /// What the application gets; `None` when the call is made again.
    fn answer(&mut self, answer: Answer) -> Option<Result<Response<Body>, Status>> {
        let Phase::Open(call) = std::mem::replace(&mut self.phase, Phase::Over) else { return None };
        let outgoing = self.outgoing.take();
        match (answer, outgoing) {
            (Ok((head, buffered)), _) => Some(Ok(response(call, head, buffered))),
            (Err(failure), Some(outgoing)) if outgoing.may_open_again(&failure, &call) => {
                self.phase = Phase::Opening(Box::pin(outgoing.open_again(call)));
                None
            }
            (Err(failure), _) => Some(Err(failure_status(&failure))),
        }
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
        let this = &mut *self;
        loop {
            let answer = match (&mut this.phase, &mut this.outgoing) {
                (Phase::New, Some(outgoing)) => match outgoing.open_at_once(cx) {
                    Ok(Some((call, answer))) => {
                        outgoing.send_rest(&call);
                        this.phase = Phase::Open(call);
                        answer
                    }
                    Ok(None) => {
                        let opening = this.outgoing.take().map(|outgoing| Box::pin(outgoing.open()) as _);
                        this.phase = opening.map_or(Phase::Over, Phase::Opening);
                        continue;
                    }
                    Err(status) => {
                        this.phase = Phase::Over;
                        return Poll::Ready(Err(status));
                    }
                },
                (Phase::Opening(opening), _) => match ready!(opening.as_mut().poll(cx)) {
                    Ok((call, mut outgoing)) => {
                        outgoing.send_rest(&call);
                        (this.phase, this.outgoing) = (Phase::Open(call), Some(outgoing));
                        continue;
                    }
                    Err(status) => {
                        this.phase = Phase::Over;
                        return Poll::Ready(Err(status));
                    }
                },
                (Phase::Open(call), _) => poll_head(cx, call),
                (Phase::New | Phase::Over, _) => {
                    return Poll::Ready(Err(Status::internal("a response was polled after it was given")));
                }
            };
            if let Some(response) = this.answer(ready!(answer)) {
                return Poll::Ready(response);
            }
        }
    }
}

/// An open call. Its stream is closed, and reset if need be, when it is dropped.
#[derive(Debug)]
pub(super) struct Call {
    pub(super) link: Arc<ClientLink>,
    pub(super) stream: StreamId,
    /// All of it has been received, and its stream is closed.
    over: bool,
    permit: Option<OwnedSemaphorePermit>,
}

impl Call {
    /// Lets go of all that the call holds, though its body may be held on to.
    pub(super) fn end(&mut self) {
        if !std::mem::replace(&mut self.over, true) {
            self.link.0.abandon(self.stream);
        }
        self.permit = None;
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        self.end();
    }
}

/// A request, until its response is there.
struct Outgoing {
    shared: Arc<Shared>,
    parts: Parts,
    body: Body,
    /// What of the body is at hand; `None` until it was looked at.
    first: Option<First>,
    /// How many of the first data are not sent yet.
    unsent: usize,
    /// The body, or what is left of it, has to be sent beside the response.
    more: bool,
    deadline: Option<Timestamp>,
    permit: Option<OwnedSemaphorePermit>,
}

/// A body's first data, and whether they are all.
#[derive(Clone, Debug)]
struct First {
    data: Bytes,
    end: bool,
}

impl Outgoing {
    fn new(shared: &Arc<Shared>, request: Request<Body>) -> Self {
        let (parts, body) = request.into_parts();
        let timeout = match (head::timeout(&parts.headers), shared.endpoint.timeout) {
            (Some(call), Some(endpoint)) => Some(call.min(endpoint)),
            (call, endpoint) => call.or(endpoint),
        };
        Self {
            shared: Arc::clone(shared),
            parts,
            body,
            first: None,
            unsent: 0,
            more: false,
            deadline: timeout.map(clock::after),
            permit: None,
        }
    }

    /// Opens the call if nothing has to be waited for, and polls for its answer.
    fn open_at_once(&mut self, cx: &mut Context<'_>) -> Result<Option<(Call, Poll<Answer>)>, Status> {
        if let Some(calls) = &self.shared.calls {
            let Ok(permit) = Arc::clone(calls).try_acquire_owned() else { return Ok(None) };
            self.permit = Some(permit);
        }
        self.look(cx)?;
        let Some(link) = self.shared.present() else { return Ok(None) };
        let open = |state: &mut State| match state.broken {
            Some(_) => Err(None),
            None => match self.open_on(state, &mut Some(StreamWakers::default())) {
                Ok(OpenOutcome::Opened(stream, _)) => Ok(stream),
                Ok(OpenOutcome::Blocked | OpenOutcome::Draining) => Err(None),
                Err(error) => Err(Some(head_status(&error))),
            },
        };
        match link.0.open_and_poll(cx, open, buffered_head) {
            Ok((stream, answer)) => Ok(Some((self.opened(link, stream), answer))),
            Err(None) => Ok(None),
            Err(Some(status)) => Err(status),
        }
    }

    /// Opens the call as soon as that is possible.
    async fn open(mut self) -> Result<(Call, Self), Status> {
        let deadline = self.deadline;
        if let (Some(calls), None) = (&self.shared.calls, &self.permit) {
            self.permit = within(deadline, Arc::clone(calls).acquire_owned()).await?.ok();
        }
        poll_fn(|cx| Poll::Ready(self.look(cx))).await?;
        loop {
            let link = match self.shared.usable() {
                Some(link) => link,
                None => within(deadline, self.shared.link()).await??,
            };
            if let Some(stream) = within(deadline, self.open_stream(&link)).await?? {
                return Ok((self.opened(link, stream), self));
            }
            // That server goes away: on to the next.
        }
    }

    /// The server went away as the call was made, and its application has not seen it.
    fn may_open_again(&self, failure: &Failure, call: &Call) -> bool {
        self.first.as_ref().is_some_and(|first| first.end) && failure.retry_safe && call.link.0.is_draining()
    }

    async fn open_again(mut self, mut call: Call) -> Result<(Call, Self), Status> {
        self.permit = call.permit.take();
        drop(call);
        self.open().await
    }

    /// Looks for the body's first data, once.
    fn look(&mut self, cx: &mut Context<'_>) -> Result<(), Status> {
        if self.first.is_none() {
            let (data, end) = first_data(cx, Pin::new(&mut self.body))?;
            self.first = Some(First { data, end });
        }
        Ok(())
    }

    fn open_on(
        &mut self,
        state: &mut State,
        wakers: &mut Option<StreamWakers>,
    ) -> Result<OpenOutcome, HeadError> {
        let Self { shared, parts, first, .. } = self;
        let path = parts.uri.path_and_query().map_or("/", |path| path.as_str());
        let entries = head::request_entries(&parts.method, &parts.headers, &shared.endpoint.user_agent);
        let (mut data, end) = first.as_ref().map_or((&[][..], false), |first| (&first.data[..], first.end));
        let deadline = self.deadline.map(|at| state.connection.deadline(at, clock::now));
        let opened = state.connection.open(path, entries, deadline, &mut data, end, wakers)?;
        if let OpenOutcome::Opened(_, sent) = opened {
            self.unsent = data.len();
            self.more = !end || sent != Sent::All;
        }
        Ok(opened)
    }

    fn opened(&mut self, link: Arc<ClientLink>, stream: StreamId) -> Call {
        Call { link, stream, over: false, permit: self.permit.take() }
    }

    /// Opens a stream as soon as there is room for it. `None` when the server takes no new ones.
    async fn open_stream(&mut self, link: &Arc<ClientLink>) -> Result<Option<StreamId>, Status> {
        let mut wakers = Some(StreamWakers::default());
        let mut place = Place { link, ticket: None };
        poll_fn(|cx| {
            link.0.with(|state| {
                if state.broken.is_some() {
                    return Poll::Ready(Ok(None));
                }
                match self.open_on(state, &mut wakers) {
                    Ok(OpenOutcome::Opened(stream, _)) => {
                        if let Some(ticket) = place.ticket.take() {
                            state.leave_open_queue(ticket, true);
                        }
                        Poll::Ready(Ok(Some(stream)))
                    }
                    Ok(OpenOutcome::Blocked) => {
                        state.wait_to_open(&mut place.ticket, cx.waker());
                        Poll::Pending
                    }
                    Ok(OpenOutcome::Draining) => Poll::Ready(Ok(None)),
                    Err(error) => Poll::Ready(Err(head_status(&error))),
                }
            })
        })
        .await
    }

    /// What did not go out with the head goes beside the response, as both sides of a stream are
    /// independent.
    fn send_rest(&mut self, call: &Call) {
        if !std::mem::take(&mut self.more) {
            return;
        }
        let Some(First { data, end }) = &self.first else { return };
        let data = data.slice(data.len() - self.unsent..);
        let body = if *end { Body::empty() } else { std::mem::take(&mut self.body) };
        tokio::spawn(sending::send_body(Arc::clone(&call.link), call.stream, data, body, *end));
    }
}

fn poll_head(cx: &mut Context<'_>, call: &Call) -> Poll<Answer> {
    let stream = call.stream;
    call.link.0.poll_received(cx, stream, |state| buffered_head(state, stream))
}

/// The response's head, once it is there, and what has come with it.
fn buffered_head(state: &mut State, stream: StreamId) -> Option<Answer> {
    // An answer that came before the link's end still counts.
    let head = match state.connection.response(stream) {
        Some(Ok(head)) => head,
        Some(Err(failure)) => return Some(Err(failure)),
        None => return state.failure_of(stream).map(Err),
    };
    let buffered = state.connection.take_buffered(stream);
    if buffered.end.is_some() {
        state.close(stream);
    }
    Some(Ok((head, buffered)))
}

/// The response, as tonic takes it.
fn response(mut call: Call, head: ResponseHead, buffered: Buffered) -> Response<Body> {
    if buffered.end.is_some() {
        (call.over, call.permit) = (true, None);
    }
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

/// A place among those that wait to open a stream, if there was a need to wait.
struct Place<'a> {
    link: &'a ClientLink,
    ticket: Option<u64>,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket {
            self.link.0.with(|state| state.leave_open_queue(ticket, false));
        }
    }
}

fn head_status(error: &HeadError) -> Status {
    Status::resource_exhausted(error.to_string())
}

/// Waits no longer than the call may take.
async fn within<R>(deadline: Option<Timestamp>, work: impl Future<Output = R>) -> Result<R, Status> {
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
