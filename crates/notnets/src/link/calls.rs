//! The operations on one call of a link, for the layers above. Each method locks the link once, and none runs
//! code of an upper layer under the lock but what a frame is filled from: the iterators over a head's
//! entries, and the `Buf` of the data.

use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::{Buf, Bytes};
use notnets_core::call::{
    Buffered, Connection, End, Failure, HeadError, OpenOutcome, Received, ResponseHead, Sent, StreamId,
};
use notnets_core::clock::{self, Timestamp};
use notnets_core::code::Code;
use notnets_core::session::Ending;
use notnets_memory::LoanedBytes;

use super::state::State;
use super::{Link, StreamWakers};

/// A response's head and the data and end that came with it, or why the call failed.
pub(crate) type Answer = Result<(ResponseHead, Buffered), Failure>;

/// The parameters of opening a call.
#[derive(Debug)]
pub(crate) struct OpenRequest<'a, E, D> {
    /// The method's path.
    pub method: &'a str,
    /// The metadata.
    pub entries: E,
    pub deadline: Option<Timestamp>,
    /// The messages that are ready; advanced by what was sent.
    pub data: &'a mut D,
    /// Nothing comes after `data`.
    pub end: bool,
}

/// A call that was opened.
#[derive(Debug)]
pub(crate) struct OpenedCall {
    pub stream: StreamId,
    /// How much of the data went out.
    pub sent: Sent,
    /// The answer, if it was there already.
    pub answer: Poll<Answer>,
}

/// The place of a task in the queue of those that wait to open a call. Dropped, it is left to others.
#[derive(Debug, Default)]
pub(crate) struct OpenTicket(Option<(Arc<Link>, u64)>);

impl Drop for OpenTicket {
    fn drop(&mut self) {
        if let Some((link, number)) = self.0.take() {
            link.with(|state| state.leave_open_queue(number, false));
        }
    }
}

/// Client.
impl Link {
    /// Opens a call as soon as there is room for it, and polls for its answer at once. `None` when the link
    /// takes no new calls.
    ///
    /// # Errors
    /// When the head is too large for the peer.
    pub(crate) fn poll_open<'a>(
        self: &Arc<Self>,
        cx: &mut Context<'_>,
        ticket: &mut OpenTicket,
        request: OpenRequest<'_, impl Iterator<Item = (&'a str, &'a [u8])>, impl Buf>,
    ) -> Poll<Result<Option<OpenedCall>, HeadError>> {
        let OpenRequest { method, entries, deadline, data, end } = request;
        let Some(mut state) = self.lock() else { return Poll::Ready(Ok(None)) };
        // The server may have said that it takes no more calls.
        if state.session.is_ready() {
            state.receive();
        }
        let Some(calls) = state.session.live() else {
            self.finish_turn(state);
            return Poll::Ready(Ok(None));
        };
        let deadline = deadline.map(|at| calls.deadline(at, clock::now));
        let mut wakers = Some(StreamWakers::default());
        let opened = match calls.open(method, entries, deadline, data, end, &mut wakers) {
            Ok(OpenOutcome::Opened(stream, sent)) => {
                if let Some((_, number)) = ticket.0.take() {
                    state.leave_open_queue(number, true);
                }
                // A peer that sleeps is rung before we poll for its answer.
                if state.pause_turn() {
                    self.socket.ring();
                }
                let answer = self.wait_received(cx, state, stream, |state| state.take_answer(stream));
                return Poll::Ready(Ok(Some(OpenedCall { stream, sent, answer })));
            }
            Ok(OpenOutcome::Blocked) => {
                let mut number = ticket.0.as_ref().map(|(_, number)| *number);
                state.wait_to_open(&mut number, cx.waker());
                ticket.0 = number.map(|number| (Arc::clone(self), number));
                Poll::Pending
            }
            Ok(OpenOutcome::Draining) => Poll::Ready(Ok(None)),
            Err(error) => Poll::Ready(Err(error)),
        };
        self.finish_turn(state);
        opened
    }

    /// Waits for a response's head.
    pub(crate) fn poll_head(&self, cx: &mut Context<'_>, stream: StreamId) -> Poll<Answer> {
        self.poll_received(cx, stream, Err, |state| state.take_answer(stream))
    }

    /// Waits for a response's next data, or its end. The first task that waits polls the lane for a while, in
    /// place.
    pub(crate) fn poll_data(&self, cx: &mut Context<'_>, stream: StreamId) -> Poll<Received> {
        self.poll_received(cx, stream, failed, |state| state.take(stream))
    }

    /// Waits until there is room for another call, or the link takes none any more.
    pub(crate) fn poll_room(self: &Arc<Self>, cx: &mut Context<'_>, ticket: &mut OpenTicket) -> Poll<()> {
        let room = self.with(|state| {
            let is_full = state.session.live().is_some_and(|calls| calls.is_full());
            if !is_full {
                return Poll::Ready(());
            }
            let mut number = ticket.0.as_ref().map(|(_, number)| *number);
            state.wait_to_open(&mut number, cx.waker());
            ticket.0 = number.map(|number| (Arc::clone(self), number));
            state.session.calls().want_to_open();
            Poll::Pending
        });
        room.unwrap_or(Poll::Ready(()))
    }

    /// Waits until the link takes no more calls: its server goes away, or it has ended.
    pub(crate) fn poll_unusable(&self, cx: &mut Context<'_>) -> Poll<()> {
        let unusable = self.with(|state| {
            if !state.session.is_usable() {
                return Poll::Ready(());
            }
            state.wait_unusable(cx.waker());
            Poll::Pending
        });
        unusable.unwrap_or(Poll::Ready(()))
    }

    /// Has the rest of a message put together in one piece behind its `first` bytes, which were taken.
    ///
    /// # Errors
    /// `first`, when the rest comes as all data do.
    pub(crate) fn gather(&self, stream: StreamId, first: Bytes, total: usize) -> Result<(), Bytes> {
        let mut first = Some(first);
        self.with(|state| {
            let (calls, taken) = (state.session.live()?, first.take()?);
            first = calls.gather(stream, taken, total).err();
            Some(())
        });
        first.map_or(Ok(()), Err)
    }

    /// These bytes of a message were taken, and are kept until the rest is there.
    pub(crate) fn keep_unfinished(&self, stream: StreamId, bytes: usize) {
        self.with(|state| {
            if let Some(calls) = state.session.live() {
                calls.keep_unfinished(stream, bytes);
            }
        });
    }

    /// Waits until a call takes no more data: it is over, in whichever way.
    pub(crate) fn poll_stopped(&self, cx: &mut Context<'_>, stream: StreamId) -> Poll<()> {
        let stopped = self.with(|state| {
            if !state.session.live().is_some_and(|calls| calls.is_sending(stream)) {
                return Poll::Ready(());
            }
            state.wait_writable(stream, cx);
            Poll::Pending
        });
        stopped.unwrap_or(Poll::Ready(()))
    }

    /// Ends a call whose messages can't be sent: it fails with this status, and the server gets a reset.
    pub(crate) fn fail_sending(&self, stream: StreamId, code: Code, message: &str) {
        self.with(|state| {
            if let Some(calls) = state.session.live() {
                calls.fail_locally(stream, code, message);
            }
        });
    }

    /// Returns the deadline of a call that is not over, if it has one.
    pub(crate) fn deadline_of(&self, stream: StreamId) -> Option<Timestamp> {
        self.lock()?.session.calls().deadline_of(stream)
    }

    /// Ends the calls whose deadline has passed by `now`, for a caller that doesn't rely on the driver.
    pub(crate) fn expire(&self, now: Timestamp) {
        self.with(|state| state.session.expire(now));
    }

    /// Ends a call that its application has dropped, and with it the task that sends its messages.
    pub(crate) fn abandon(&self, stream: StreamId) {
        let Some(mut state) = self.lock() else { return };
        state.close(stream);
        state.stop_polling(stream, 0);
        self.finish_turn(state);
    }
}

/// Server.
impl Link {
    /// Sends a response's head with as much of `data` as fits, and with `status` the end if all fits.
    ///
    /// # Errors
    /// When the head is too large for the peer.
    pub(crate) fn poll_respond<'a>(
        &self,
        cx: &mut Context<'_>,
        stream: StreamId,
        entries: impl Iterator<Item = (&'a str, &'a [u8])>,
        data: &mut impl Buf,
        status: Option<Code>,
    ) -> Poll<Result<Sent, HeadError>> {
        self.poll_push(cx, stream, |calls| calls.respond(stream, entries, data, status))
    }

    /// Sends a response that is only a status and metadata.
    ///
    /// # Errors
    /// When these are too large for the peer.
    pub(crate) fn poll_respond_trailers_only<'a>(
        &self,
        cx: &mut Context<'_>,
        stream: StreamId,
        entries: impl Iterator<Item = (&'a str, &'a [u8])>,
        status: Code,
    ) -> Poll<Result<Sent, HeadError>> {
        self.poll_push(cx, stream, |calls| calls.respond_trailers_only(stream, entries, status))
    }

    /// Ends a response whose head was sent.
    ///
    /// # Errors
    /// When the trailers are too large for the peer.
    pub(crate) fn poll_finish<'a>(
        &self,
        cx: &mut Context<'_>,
        stream: StreamId,
        entries: impl Iterator<Item = (&'a str, &'a [u8])>,
        status: Code,
    ) -> Poll<Result<Sent, HeadError>> {
        self.poll_push(cx, stream, |calls| calls.finish(stream, entries, status))
    }

    /// Waits until a call is over before its handler is.
    pub(crate) fn poll_cancelled(&self, cx: &mut Context<'_>, stream: StreamId) -> Poll<()> {
        let cancelled = self.with(|state| {
            let Some(calls) = state.session.live().filter(|calls| calls.is_open(stream)) else {
                return Poll::Ready(());
            };
            if let Some(wakers) = calls.user_or_default(stream) {
                wakers.wait_cancelled(cx.waker());
            }
            Poll::Pending
        });
        cancelled.unwrap_or(Poll::Ready(()))
    }

    /// Returns `true` while neither side has ended the call.
    #[cold]
    pub(crate) fn is_open(&self, stream: StreamId) -> bool {
        let is_open = |calls: &mut Connection<_>| calls.is_open(stream);
        self.with(|state| state.session.live().is_some_and(is_open)).unwrap_or(false)
    }

    /// Brings the end of a call forward.
    pub(crate) fn shorten(&self, stream: StreamId, deadline: Timestamp) {
        self.with(|state| state.session.calls().shorten(stream, deadline));
    }

    /// Ends a call with that status instead of what its handler would have answered.
    pub(crate) fn reset(&self, stream: StreamId, code: Code, reason: &'static str) {
        self.with(|state| {
            if let Some(calls) = state.session.live() {
                calls.reset(stream, code, reason);
            }
        });
    }

    /// Ends a call that no application has seen, so that the client may make it elsewhere. With `goes_away`
    /// it makes no more calls here.
    #[cfg(feature = "http2")]
    pub(crate) fn refuse_call(&self, stream: StreamId, code: Code, reason: &'static str, goes_away: bool) {
        self.with(|state| {
            if goes_away {
                state.session.go_away(clock::now());
                state.wake_driver();
            }
            if let Some(calls) = state.session.live() {
                calls.refuse_call(stream, code, reason);
            }
        });
    }
}

/// Both sides.
impl Link {
    /// Waits for a stream's next data, or their end, and leaves it to others to poll the lane: on a server to
    /// the driver; on a client to other calls, or to the doorbell.
    pub(crate) fn poll_data_idly(&self, cx: &mut Context<'_>, stream: StreamId) -> Poll<Received> {
        let received = self.with(|state| match state.take(stream) {
            Some(received) => Poll::Ready(received),
            None => {
                state.wait_received(stream, cx.waker());
                Poll::Pending
            }
        });
        received.unwrap_or_else(|| Poll::Ready(failed(Ending::Forked.into())))
    }

    /// Bytes to be written where they are sent from, as far as the link has room for them.
    pub(crate) fn loan(&self, len: usize) -> LoanedBytes {
        let loan = self.with(|state| state.session.live().map(|calls| calls.loan(len)));
        loan.flatten().unwrap_or_else(|| LoanedBytes::private(len))
    }

    /// Sends data as soon as there is room; `end` (of a client) means that nothing comes after them.
    pub(crate) fn poll_send(
        &self,
        cx: &mut Context<'_>,
        stream: StreamId,
        data: &mut impl Buf,
        end: bool,
    ) -> Poll<Sent> {
        self.poll_push(cx, stream, |calls| Ok(calls.send(stream, data, end)))
            .map(|sent: Result<_, HeadError>| sent.unwrap_or(Sent::Stopped))
    }

    /// Pushes something, or waits for room as long as the call lives.
    fn poll_push(
        &self,
        cx: &mut Context<'_>,
        stream: StreamId,
        push: impl FnOnce(&mut Connection<StreamWakers>) -> Result<Sent, HeadError>,
    ) -> Poll<Result<Sent, HeadError>> {
        let pushed = self.with(|state| {
            let Some(calls) = state.session.live() else { return Poll::Ready(Ok(Sent::Stopped)) };
            match push(calls) {
                Ok(Sent::Nothing) => {
                    state.wait_writable(stream, cx);
                    Poll::Pending
                }
                sent => Poll::Ready(sent),
            }
        });
        pushed.unwrap_or(Poll::Ready(Ok(Sent::Stopped)))
    }
}

/// The end of a call that is cut short.
fn failed(failure: Failure) -> Received {
    Received::End(End::Failed(failure))
}

impl State {
    /// The response's head, once it is there, and what has come with it.
    fn take_answer(&mut self, stream: StreamId) -> Option<Answer> {
        // An answer that came before the link's end still counts.
        let head = match self.session.calls().response(stream) {
            Some(Ok(head)) => head,
            Some(Err(failure)) => return Some(Err(self.fail(failure))),
            None => return self.session.failure_of(stream).map(|failure| Err(self.fail(failure))),
        };
        let buffered = self.session.calls().take_buffered(stream);
        if let Some(outcomes) = &self.outcomes {
            match (&head, &buffered.end) {
                (ResponseHead::TrailersOnly(code, _), _) => outcomes.count(*code),
                (ResponseHead::Head(_), Some(end)) => outcomes.count_end(end),
                (ResponseHead::Head(_), None) => {}
            }
        }
        if buffered.end.is_some() {
            self.close(stream);
        }
        Some(Ok((head, buffered)))
    }

    /// Counts a call that was cut short.
    #[cold]
    fn fail(&self, failure: Failure) -> Failure {
        if let Some(outcomes) = &self.outcomes {
            outcomes.count_failure(&failure);
        }
        failure
    }

    /// The next data or the end, once they are there.
    fn take(&mut self, stream: StreamId) -> Option<Received> {
        let received = match (self.session.calls().take(stream), self.session.ended()) {
            (Received::Pending, None) => return None,
            (Received::Pending, Some(failure)) => Received::End(End::Failed(failure.clone())),
            (received, _) => received,
        };
        if let (Some(outcomes), Received::End(end)) = (&self.outcomes, &received) {
            outcomes.count_end(end);
        }
        Some(received)
    }

    fn wait_writable(&mut self, stream: StreamId, cx: &Context<'_>) {
        if let Some(wakers) = self.session.calls().user_or_default(stream) {
            wakers.wait_writable(cx.waker());
        }
    }
}
