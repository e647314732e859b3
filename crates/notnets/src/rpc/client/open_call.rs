//! An open call's two halves, below its messages: bytes as they are, in order.

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::{Buf, Bytes};
use notnets_core::call::{Buffered, End, Received, ResponseHead, Sent, StreamId};
use tokio::sync::OwnedSemaphorePermit;

use super::deadline_timer::DeadlineTimer;
#[cfg(feature = "byte-stream")]
use crate::PeerInfo;
use crate::client::ClientLink;
use crate::link::Answer;
use crate::observe::Observation;
use crate::rpc::{Code, Pieces};

/// An open call: its receiving half. Its stream is closed, and reset if need be, when it is dropped.
#[derive(Debug)]
pub(crate) struct Call {
    link: Arc<ClientLink>,
    stream: StreamId,
    /// All of it has been received, and its stream is closed.
    over: bool,
    has_deadline: bool,
    timer: Option<Box<DeadlineTimer>>,
    /// What hardly any call has.
    held: Option<Box<Held>>,
}

/// What is let go of when a call is over.
#[derive(Debug, Default)]
struct Held {
    permit: Option<OwnedSemaphorePermit>,
    observation: Option<Observation>,
    /// The call's end is seen here: there will be no other attempt.
    is_observed_to_end: bool,
}

impl Call {
    pub(super) fn new(
        link: Arc<ClientLink>,
        stream: StreamId,
        permit: Option<OwnedSemaphorePermit>,
        has_deadline: bool,
    ) -> Self {
        let held = permit.map(|permit| Box::new(Held { permit: Some(permit), ..Held::default() }));
        Self { link, stream, over: false, has_deadline, timer: None, held }
    }

    #[inline]
    fn observation(&self) -> Option<&Observation> {
        self.held.as_ref()?.observation.as_ref()
    }

    /// Is seen by this from now on. With `to_end` the call ends when it is let go of.
    #[cold]
    pub(super) fn observe(&mut self, observation: Observation, to_end: bool) {
        let held = self.held.get_or_insert_default();
        held.observation = Some(observation);
        held.is_observed_to_end = to_end;
    }

    /// The answer has come, or will not: for what sees the call.
    #[inline]
    pub(super) fn observe_answer(&self, answer: &Answer) {
        if let Some(observation) = self.observation() {
            match answer {
                Ok((head, buffered)) => observe_head(observation, head, buffered),
                Err(failure) => observation.end(failure.code),
            }
        }
    }

    /// The answer has come: it is seen by this, which ends the call.
    pub(super) fn observe_head(
        &mut self,
        observation: Observation,
        head: &ResponseHead,
        buffered: &Buffered,
    ) {
        observe_head(&observation, head, buffered);
        self.observe(observation, true);
    }

    /// The half that sends. There is one at most.
    pub(crate) fn sending(&self) -> SendHalf {
        let (stream, has_deadline) = (self.stream, self.has_deadline);
        let observation = self.observation().cloned();
        SendHalf { link: Arc::clone(&self.link), stream, over: false, has_deadline, timer: None, observation }
    }

    /// Waits for the response's head.
    pub(crate) fn poll_head(&mut self, cx: &mut Context<'_>) -> Poll<Answer> {
        self.check_deadline(cx);
        self.link.poll_head(cx, self.stream)
    }

    /// Waits for the response's next data, or its end.
    pub(crate) fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Received> {
        self.check_deadline(cx);
        let received = self.link.poll_data(cx, self.stream);
        if let (Some(observation), Poll::Ready(received)) = (self.observation(), &received) {
            observe_received(observation, received);
        }
        received
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
        if let Some(held) = &mut self.held {
            held.permit = None;
        }
    }

    /// Lets go of all that the call holds, though it may be held on to.
    pub(crate) fn end(&mut self) {
        if !std::mem::replace(&mut self.over, true) {
            self.link.abandon(self.stream);
        }
        if let Some(held) = self.held.take() {
            held.let_go();
        }
    }

    /// Returns `true` if the call's server takes no new calls.
    pub(super) fn is_draining(&self) -> bool {
        self.link.is_draining()
    }

    /// Gives the call its turn, which it was opened without.
    pub(super) fn hold(&mut self, permit: Option<OwnedSemaphorePermit>) {
        if permit.is_some() {
            self.held.get_or_insert_default().permit = permit;
        }
    }

    /// Ends the call, and keeps its turn for the next.
    pub(super) fn take_permit(mut self) -> Option<OwnedSemaphorePermit> {
        self.held.as_mut()?.permit.take()
    }
}

impl Held {
    #[cold]
    fn let_go(&self) {
        if let (Some(observation), true) = (&self.observation, self.is_observed_to_end) {
            observation.end(Code::CANCELLED);
        }
    }
}

/// What has come of an answered call, for what sees it.
#[cold]
fn observe_head(observation: &Observation, head: &ResponseHead, buffered: &Buffered) {
    if let ResponseHead::TrailersOnly(code, _) = head {
        return observation.end(*code);
    }
    observation.received(buffered.data.as_ref().map_or(0, Bytes::len));
    if let Some(end) = &buffered.end {
        observe_end(observation, end);
    }
}

#[cold]
fn observe_received(observation: &Observation, received: &Received) {
    match received {
        Received::Data(data) => observation.received(data.len()),
        Received::End(end) => observe_end(observation, end),
        Received::Pending => {}
    }
}

fn observe_end(observation: &Observation, end: &End) {
    match end {
        End::Trailers(code, _) => observation.end(*code),
        End::Failed(failure) => observation.end(failure.code),
        End::Requests => observation.end(Code::NONE),
    }
}

impl Pieces for Call {
    fn gather(&self, first: Bytes, total: usize) -> Result<(), Bytes> {
        if self.over {
            return Err(first);
        }
        let bytes = first.len();
        self.link.gather(self.stream, first, total)?;
        if let Some(observation) = self.observation() {
            observation.given_back(bytes);
        }
        Ok(())
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
    /// Of a call that is observed.
    observation: Option<Observation>,
}

impl SendHalf {
    /// Sends data as soon as there is room. `end` means that nothing comes after them. Returns
    /// [`Stopped`](Sent::Stopped) when the call is over.
    pub(crate) fn poll_send(&mut self, cx: &mut Context<'_>, data: &mut impl Buf, end: bool) -> Poll<Sent> {
        self.check_deadline(cx);
        let before = self.observation.as_ref().map_or(0, |_| data.remaining());
        let sent = self.link.poll_send(cx, self.stream, data, end);
        if let Some(observation) = &self.observation {
            observation.sent(before - data.remaining(), None);
        }
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
