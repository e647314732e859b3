//! An open call's two halves, below its messages: bytes as they are, in order.

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::{Buf, Bytes};
use notnets_core::call::{Received, Sent, StreamId};
use tokio::sync::OwnedSemaphorePermit;

use super::deadline_timer::DeadlineTimer;
#[cfg(feature = "byte-stream")]
use crate::PeerInfo;
use crate::client::ClientLink;
use crate::link::Answer;
use crate::rpc::{Code, Pieces};

/// An open call: its receiving half. Its stream is closed, and reset if need be, when it is dropped.
#[derive(Debug)]
pub(crate) struct Call {
    link: Arc<ClientLink>,
    stream: StreamId,
    /// All of it has been received, and its stream is closed.
    over: bool,
    has_deadline: bool,
    permit: Option<OwnedSemaphorePermit>,
    timer: Option<Box<DeadlineTimer>>,
}

impl Call {
    pub(super) fn new(
        link: Arc<ClientLink>,
        stream: StreamId,
        permit: Option<OwnedSemaphorePermit>,
        has_deadline: bool,
    ) -> Self {
        Self { link, stream, over: false, has_deadline, permit, timer: None }
    }

    /// The half that sends. There is one at most.
    pub(crate) fn sending(&self) -> SendHalf {
        let Self { stream, has_deadline, .. } = *self;
        SendHalf { link: Arc::clone(&self.link), stream, over: false, has_deadline, timer: None }
    }

    /// Waits for the response's head.
    pub(crate) fn poll_head(&mut self, cx: &mut Context<'_>) -> Poll<Answer> {
        self.check_deadline(cx);
        self.link.poll_head(cx, self.stream)
    }

    /// Waits for the response's next data, or its end.
    pub(crate) fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Received> {
        self.check_deadline(cx);
        self.link.poll_data(cx, self.stream)
    }

    /// Looks at the call's deadline. The waits do it; so does the call that waits from its opening on.
    #[inline]
    pub(super) fn check_deadline(&mut self, cx: &mut Context<'_>) {
        if self.has_deadline {
            DeadlineTimer::check(&mut self.timer, cx, &self.link, self.stream);
        }
    }

    /// Starts a task of the call, beside its caller.
    ///
    /// # Errors
    /// When the caller is in no runtime, and none can be started.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) -> io::Result<()> {
        self.link.home().beside_caller()?.spawn(task);
        Ok(())
    }

    /// The server. `None` in a forked child.
    #[cfg(feature = "byte-stream")]
    pub(crate) fn peer(&self) -> Option<PeerInfo> {
        self.link.peer()
    }

    /// Its end has come with the head, and the link has closed its stream.
    pub(crate) fn closed(&mut self) {
        self.over = true;
        self.permit = None;
    }

    /// Lets go of all that the call holds, though it may be held on to.
    pub(crate) fn end(&mut self) {
        if !std::mem::replace(&mut self.over, true) {
            self.link.abandon(self.stream);
        }
        self.permit = None;
    }

    /// Returns `true` if the call's server takes no new calls.
    pub(super) fn is_draining(&self) -> bool {
        self.link.is_draining()
    }

    /// Gives the call its turn, which it was opened without.
    pub(super) fn hold(&mut self, permit: Option<OwnedSemaphorePermit>) {
        self.permit = permit;
    }

    /// Ends the call, and keeps its turn for the next.
    pub(super) fn take_permit(mut self) -> Option<OwnedSemaphorePermit> {
        self.permit.take()
    }
}

impl Pieces for Call {
    fn gather(&self, first: Bytes, total: usize) -> Result<(), Bytes> {
        if self.over { Err(first) } else { self.link.gather(self.stream, first, total) }
    }

    fn keep_unfinished(&self, bytes: usize) {
        if !self.over {
            self.link.keep_unfinished(self.stream, bytes);
        }
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        self.end();
    }
}

/// The sending half of an open call. Dropped before its end, it fails the call.
#[derive(Debug)]
pub(crate) struct SendHalf {
    link: Arc<ClientLink>,
    stream: StreamId,
    over: bool,
    has_deadline: bool,
    timer: Option<Box<DeadlineTimer>>,
}

impl SendHalf {
    /// Sends data as soon as there is room. `end` means that nothing comes after them. Returns
    /// [`Stopped`](Sent::Stopped) when the call is over.
    pub(crate) fn poll_send(&mut self, cx: &mut Context<'_>, data: &mut impl Buf, end: bool) -> Poll<Sent> {
        self.check_deadline(cx);
        let sent = self.link.poll_send(cx, self.stream, data, end);
        self.over |= matches!(sent, Poll::Ready(Sent::Stopped)) || (end && sent.is_ready());
        sent
    }

    /// Waits until the call takes no more data.
    pub(crate) fn poll_stopped(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.check_deadline(cx);
        let stopped = self.link.poll_stopped(cx, self.stream);
        self.over |= stopped.is_ready();
        stopped
    }

    fn check_deadline(&mut self, cx: &mut Context<'_>) {
        if self.has_deadline {
            DeadlineTimer::check(&mut self.timer, cx, &self.link, self.stream);
        }
    }

    /// Ends the call when its data can't be sent: it fails with this, and the server gets a reset.
    pub(crate) fn fail(&mut self, code: Code, message: &str) {
        self.over = true;
        self.link.fail_sending(self.stream, code, message);
    }
}

impl Drop for SendHalf {
    fn drop(&mut self) {
        if !self.over {
            self.fail(Code::CANCELLED, "the request's messages were dropped before their end");
        }
    }
}
