//! One request: from its frame to its handler, and back.

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};

use bytes::Buf;
use http::Request;
use notnets_core::call::{self, Buffered, HeadError, Sent, StreamId};
use notnets_core::code::Code;
use tokio::sync::{AcquireError, OwnedSemaphorePermit};
use tonic::Status;
use tonic::body::Body;

use super::context::ServerContext;
use super::request::Caller;
use super::respond::Responding;
use super::service::ResponseFuture;
use crate::link::Link;

/// Runs a request's handler: polled once in place, and as a task of its own if it is not done then.
pub(super) fn start(caller: &mut Caller, link: &Arc<Link>, request: call::Request, buffered: Buffered) {
    let stream = request.stream;
    let call = CallGuard { link: Arc::clone(link), server: Arc::clone(&caller.server), stream, over: false };
    // With a waker that does nothing: if it is not done, a task polls it again at once, with its own.
    // Unwinding drops the guard, which resets the call.
    let pending = catch_unwind(AssertUnwindSafe(|| {
        let mut handler = Handler { stage: Stage::Over, call, permit: None };
        handler.stage = begin(caller, link, request, buffered, &mut handler.permit);
        let polled = handler.poll_stages(&mut Context::from_waker(Waker::noop()));
        polled.is_pending().then_some(handler)
    }));
    if let Ok(Some(handler)) = pending {
        tokio::spawn(handler);
    }
}

/// Calls the service, unless it must not be called, or not yet.
fn begin(
    caller: &mut Caller,
    link: &Arc<Link>,
    request: call::Request,
    buffered: Buffered,
    permit: &mut Option<OwnedSemaphorePermit>,
) -> Stage {
    let refused = |status: Status| Stage::Responding(Responding::new(status.into_http()));
    let request = match caller.request(link, request, buffered) {
        Ok(request) => request,
        Err(status) => return refused(status),
    };
    if let Some(running) = &caller.running {
        match Arc::clone(running).try_acquire_owned() {
            Ok(acquired) => *permit = Some(acquired),
            Err(_) if caller.load_shed => {
                return refused(Status::resource_exhausted("the server has too many calls at once"));
            }
            Err(_) => {
                let permit = Box::pin(Arc::clone(running).acquire_owned());
                return Stage::Queued(Box::new(Queued { permit, request: Some(request) }));
            }
        }
    }
    Stage::Called(caller.server.service.call(request))
}

/// A call on the server. As a task it ends as soon as its call is over without it.
struct Handler {
    stage: Stage,
    call: CallGuard,
    /// To run at all, if that is limited.
    permit: Option<OwnedSemaphorePermit>,
}

#[expect(clippy::large_enum_variant, reason = "each call comes to it, and a box would be an allocation more")]
enum Stage {
    /// Waits for its permit.
    Queued(Box<Queued>),
    /// Waits for the service.
    Called(ResponseFuture),
    Responding(Responding),
    Over,
}

struct Queued {
    permit: Pin<Box<dyn Future<Output = Result<OwnedSemaphorePermit, AcquireError>> + Send>>,
    /// Until it is given to the service.
    request: Option<Request<Body>>,
}

impl Handler {
    fn poll_stages(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            let next = match &mut self.stage {
                Stage::Queued(queued) => {
                    self.permit = ready!(queued.permit.as_mut().poll(cx)).ok();
                    match queued.request.take() {
                        Some(request) => Stage::Called(self.call.server.service.call(request)),
                        None => Stage::Over,
                    }
                }
                Stage::Called(response) => {
                    Stage::Responding(Responding::new(ready!(response.as_mut().poll(cx))))
                }
                Stage::Responding(responding) => {
                    ready!(responding.poll(cx, &mut self.call));
                    Stage::Over
                }
                Stage::Over => return Poll::Ready(()),
            };
            self.stage = next;
        }
    }
}

impl Future for Handler {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if self.call.link.poll_cancelled(cx, self.call.stream).is_ready() {
            return Poll::Ready(());
        }
        self.poll_stages(cx)
    }
}

/// Resets the call if it is dropped before its response is sent: on a panic, or when the runtime ends.
pub(super) struct CallGuard {
    link: Arc<Link>,
    server: Arc<ServerContext>,
    stream: StreamId,
    over: bool,
}

impl Drop for CallGuard {
    fn drop(&mut self) {
        if !self.over {
            let reason =
                if std::thread::panicking() { "the handler panicked" } else { "the handler was dropped" };
            self.reset(Code::INTERNAL, reason);
        }
    }
}

impl CallGuard {
    /// All is said.
    pub(super) fn end(&mut self, status: Code) {
        self.over = true;
        if status != Code::OK {
            self.server.stats.call_failed();
        }
    }

    /// The client listens no more.
    pub(super) fn abandoned(&mut self) {
        self.over = true;
    }

    /// Ends the call with that status instead of what its handler would have said.
    pub(super) fn reset(&mut self, code: Code, reason: &'static str) {
        self.end(code);
        self.link.reset(self.stream, code, reason);
    }

    /// Sends data, or waits for room as long as the call lives.
    pub(super) fn poll_send(&self, cx: &mut Context<'_>, data: &mut impl Buf) -> Poll<Sent> {
        self.link.poll_send(cx, self.stream, data, false)
    }

    /// Sends the head with as much of `data` as fits, and with `status` the end if all fits.
    pub(super) fn poll_head<'a>(
        &self,
        cx: &mut Context<'_>,
        entries: impl Iterator<Item = (&'a str, &'a [u8])>,
        data: &mut impl Buf,
        status: Option<Code>,
    ) -> Poll<Result<Sent, HeadError>> {
        self.link.poll_respond(cx, self.stream, entries, data, status)
    }

    /// Sends a response that is only a status and metadata.
    pub(super) fn poll_trailers_only<'a>(
        &self,
        cx: &mut Context<'_>,
        entries: impl Iterator<Item = (&'a str, &'a [u8])>,
        status: Code,
    ) -> Poll<Result<Sent, HeadError>> {
        self.link.poll_respond_trailers_only(cx, self.stream, entries, status)
    }

    /// Ends a response whose head was sent.
    pub(super) fn poll_finish<'a>(
        &self,
        cx: &mut Context<'_>,
        entries: impl Iterator<Item = (&'a str, &'a [u8])>,
        status: Code,
    ) -> Poll<Result<Sent, HeadError>> {
        self.link.poll_finish(cx, self.stream, entries, status)
    }
}
