//! Runs what serves a call: polled once in place, and as a task of its own if it is not done then.

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use notnets_core::call::StreamId;

use super::incoming::Serving;
use crate::link::Link;

/// Runs a call that `begin` begins to serve.
pub(crate) fn run(link: &Arc<Link>, stream: StreamId, begin: impl FnOnce() -> Serving) {
    // With a waker that does nothing: if it is not done, a task polls it again at once, with its own.
    // Unwinding drops the call's response, which resets it.
    let pending = catch_unwind(AssertUnwindSafe(|| {
        let mut serving = begin();
        let polled = serving.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        polled.is_pending().then_some(serving)
    }));
    if let Ok(Some(serving)) = pending {
        tokio::spawn(Running { serving, link: Arc::clone(link), stream });
    }
}

/// A call on the server, as a task. It ends as soon as its call is over without it.
struct Running {
    serving: Serving,
    link: Arc<Link>,
    stream: StreamId,
}

impl Future for Running {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if self.link.poll_cancelled(cx, self.stream).is_ready() {
            return Poll::Ready(());
        }
        self.serving.as_mut().poll(cx)
    }
}
