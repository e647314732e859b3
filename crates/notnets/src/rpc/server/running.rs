//! Runs what serves a call: in place, or as a task of its own.

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use notnets_core::call::StreamId;

use super::incoming::Serving;
use crate::link::Link;

/// Polls what serves a call once in place. If it is not done then, it goes on as a task: returns `true`.
pub(crate) fn run_in_place(link: &Arc<Link>, stream: StreamId, begin: impl FnOnce() -> Serving) -> bool {
    // With a waker that does nothing: if it is not done, a task polls it again at once, with its own.
    // Unwinding drops the call's response, which resets it.
    let pending = catch_unwind(AssertUnwindSafe(|| {
        let mut serving = begin();
        let polled = serving.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        polled.is_pending().then_some(serving)
    }));
    let Ok(Some(serving)) = pending else { return false };
    tokio::spawn(Running { serving, link: Arc::clone(link), stream, first: None::<Unobserved> });
    true
}

/// Runs what serves a call as a task. Its first poll goes through `first`, with which it can be observed.
pub(crate) fn run_as_task(
    link: &Arc<Link>,
    stream: StreamId,
    begin: impl FnOnce() -> Serving,
    first: impl FnOnce(&mut dyn FnMut()) + Send + Unpin + 'static,
) {
    if let Ok(serving) = catch_unwind(AssertUnwindSafe(begin)) {
        tokio::spawn(Running { serving, link: Arc::clone(link), stream, first: Some(first) });
    }
}

/// Observes no poll.
type Unobserved = fn(&mut dyn FnMut());

/// A call on the server, as a task. It ends as soon as its call is over without it.
struct Running<F> {
    serving: Serving,
    link: Arc<Link>,
    stream: StreamId,
    first: Option<F>,
}

impl<F: FnOnce(&mut dyn FnMut()) + Unpin> Future for Running<F> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if self.link.poll_cancelled(cx, self.stream).is_ready() {
            return Poll::Ready(());
        }
        let first = self.first.take();
        let mut polled = Poll::Pending;
        let mut poll = || polled = self.serving.as_mut().poll(cx);
        match first {
            Some(first) => first(&mut poll),
            None => poll(),
        }
        polled
    }
}
