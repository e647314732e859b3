//! A call that a server was sent, below its messages: bytes as they are, in order.

use std::borrow::Cow;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use notnets_core::call::{Buffered, End, Failure, HeadError, Received, Sent, StreamId};
use notnets_core::clock::Timestamp;
use notnets_core::code::Code;
use notnets_core::metadata::Metadata;
use notnets_core::stats::Count;
use notnets_memory::LoanedBytes;
use tokio::sync::{AcquireError, OwnedSemaphorePermit, Semaphore};

use super::throttle::Throttle;
use crate::link::Link;
use crate::observe::Observation;
use crate::rpc::{PeerInfo, Pieces};
use crate::short_status::ShortStatus;
use crate::status_message;

/// A future that serves a call to its end. Dropped before, it resets the call.
pub(crate) type Serving = Pin<Box<dyn Future<Output = ()> + Send>>;

/// A call that a server was sent.
pub(crate) struct IncomingCall {
    pub(crate) method: Arc<str>,
    pub(crate) metadata: Metadata,
    pub(crate) deadline: Option<Timestamp>,
    pub(crate) peer: PeerInfo,
    /// To be waited for before the call's handler runs, and kept until its end.
    pub(crate) turn: Turn,
    pub(crate) requests: RequestHalf,
    pub(crate) response: ResponseHalf,
}

/// Whether a call may run, where that is limited.
pub(crate) enum Turn {
    Unlimited,
    Come { _permit: Option<OwnedSemaphorePermit> },
    Waiting(Pin<Box<dyn Future<Output = Result<OwnedSemaphorePermit, AcquireError>> + Send>>),
}

impl Turn {
    /// Takes one of these permits, or waits for one. `None` if it must not wait.
    pub(crate) fn of(permits: &Arc<Semaphore>, may_wait: bool) -> Option<Self> {
        match Arc::clone(permits).try_acquire_owned() {
            Ok(permit) => Some(Self::Come { _permit: Some(permit) }),
            Err(_) if may_wait => Some(Self::Waiting(Box::pin(Arc::clone(permits).acquire_owned()))),
            Err(_) => None,
        }
    }

    /// Waits until the call may run.
    #[inline]
    pub(crate) async fn come(&mut self) {
        if let Self::Waiting(permit) = self {
            let permit = permit.await.ok();
            *self = Self::Come { _permit: permit };
        }
    }
}

/// The client's half of a call.
pub(crate) struct RequestHalf {
    link: Arc<Link>,
    stream: StreamId,
    /// Data that came with the request itself.
    first: Option<Bytes>,
    ended: bool,
    /// What hardly any call has.
    special: Option<Box<Special>>,
}

/// What follows a request as it is read.
#[derive(Default)]
struct Special {
    /// How fast it is read, if that is limited.
    throttle: Option<Box<Throttle>>,
    /// Of a call that is observed.
    observation: Option<Observation>,
}

impl RequestHalf {
    pub(crate) fn new(
        link: Arc<Link>,
        stream: StreamId,
        buffered: Buffered,
        throttle: Option<Box<Throttle>>,
    ) -> Self {
        let ended = buffered.end == Some(End::Requests);
        let special =
            throttle.map(|throttle| Box::new(Special { throttle: Some(throttle), observation: None }));
        Self { link, stream, first: buffered.data, ended, special }
    }

    /// Is seen by this from now on.
    #[cold]
    pub(crate) fn observe(&mut self, observation: Observation) {
        observation.received(self.first.as_ref().map_or(0, Bytes::len));
        self.special.get_or_insert_default().observation = Some(observation);
    }

    /// Waits for the next data. `None` is the end.
    #[inline]
    pub(crate) fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Failure>>> {
        if let Some(first) = self.first.take() {
            return Poll::Ready(Some(Ok(first)));
        }
        if self.ended {
            return Poll::Ready(None);
        }
        if let Some(Special { throttle: Some(throttle), .. }) = self.special.as_deref_mut() {
            ready!(throttle.poll(cx));
        }
        self.link.poll_data_idly(cx, self.stream).map(|received| {
            let end = match received {
                Received::Data(data) => {
                    if let Some(special) = &mut self.special {
                        special.take(data.len(), &self.link);
                    }
                    return Some(Ok(data));
                }
                Received::End(end) => end,
                Received::Pending => return None,
            };
            self.ended = true;
            match end {
                End::Failed(failure) => Some(Err(failure)),
                End::Requests | End::Trailers(..) => None,
            }
        })
    }

    /// Takes what there is to read, and leaves nothing.
    #[cfg(feature = "stubs")]
    pub(crate) fn take(&mut self) -> Self {
        let Self { link, stream, first, ended, special } = self;
        let (link, first, special) = (Arc::clone(link), first.take(), special.take());
        let taken = Self { link, stream: *stream, first, ended: *ended, special };
        self.ended = true;
        taken
    }

    /// Takes all bytes that there are, if they have come with the request itself.
    #[cfg(feature = "stubs")]
    #[inline]
    pub(crate) fn take_all(&mut self) -> Option<Bytes> {
        if self.ended { self.first.take() } else { None }
    }

    /// How many bytes there still are, if that is known.
    pub(crate) fn known_len(&self) -> Option<usize> {
        self.ended.then(|| self.first.as_ref().map_or(0, Bytes::len))
    }
}

impl Special {
    #[cold]
    fn take(&mut self, bytes: usize, link: &Link) {
        if let Some(throttle) = &mut self.throttle
            && throttle.take(bytes)
        {
            link.count(Count::ReadLater);
        }
        if let Some(observation) = &self.observation {
            observation.received(bytes);
        }
    }
}

impl Pieces for RequestHalf {
    fn gather(&self, first: Bytes, total: usize) -> Result<(), Bytes> {
        if self.ended || self.first.is_some() {
            return Err(first);
        }
        let bytes = first.len();
        self.link.gather(self.stream, first, total)?;
        if let Some(Special { observation: Some(observation), .. }) = self.special.as_deref() {
            observation.given_back(bytes);
        }
        Ok(())
    }

    fn keep_unfinished(&self, bytes: usize) {
        if !self.ended {
            self.link.keep_unfinished(self.stream, bytes);
        }
    }
}

/// The response to a call. Dropped before its end it resets the call: on a panic, or because the server or
/// its runtime goes away.
pub(crate) struct ResponseHalf {
    link: Arc<Link>,
    stream: StreamId,
    over: bool,
    /// Of a call that is observed. It ends here.
    observation: Option<Observation>,
}

impl ResponseHalf {
    pub(crate) fn new(link: Arc<Link>, stream: StreamId) -> Self {
        Self { link, stream, over: false, observation: None }
    }

    /// Is seen by this from now on.
    #[cold]
    pub(crate) fn observe(&mut self, observation: Observation) {
        self.observation = Some(observation);
    }

    /// Sends the head with as much of `data` as fits, and with `status` the end if all fits.
    ///
    /// # Errors
    /// When the head is too large for the peer.
    pub(crate) fn poll_send_head<'a>(
        &self,
        cx: &mut Context<'_>,
        entries: impl Iterator<Item = (&'a str, &'a [u8])>,
        data: &mut impl Buf,
        status: Option<Code>,
    ) -> Poll<Result<Sent, HeadError>> {
        let before = self.observation.as_ref().map_or(0, |_| data.remaining());
        let sent = self.link.poll_respond(cx, self.stream, entries, data, status);
        if let Some(observation) = &self.observation {
            let status = status.filter(|_| matches!(sent, Poll::Ready(Ok(Sent::All))));
            observation.sent(before - data.remaining(), status);
        }
        sent
    }

    /// Bytes to be written where they are sent from.
    pub(crate) fn loan(&self, len: usize) -> LoanedBytes {
        self.link.loan(len)
    }

    /// Sends data, or waits for room as long as the call lives.
    pub(crate) fn poll_send(&self, cx: &mut Context<'_>, data: &mut impl Buf) -> Poll<Sent> {
        let before = self.observation.as_ref().map_or(0, |_| data.remaining());
        let sent = self.link.poll_send(cx, self.stream, data, false);
        if let Some(observation) = &self.observation {
            observation.sent(before - data.remaining(), None);
        }
        sent
    }

    /// Ends a response whose head was sent. What is too large for the peer is [shortened](ShortStatus).
    pub(crate) fn poll_finish<'a, I: Iterator<Item = (&'a str, &'a [u8])>>(
        &self,
        cx: &mut Context<'_>,
        entries: impl Fn() -> I,
        status: Code,
    ) -> Poll<Sent> {
        let finished = ready!(self.link.poll_finish(cx, self.stream, entries(), status));
        self.observe_status(status, &finished);
        match finished {
            Ok(sent) => Poll::Ready(sent),
            Err(error) => {
                let short = ShortStatus::of(&error, status, entries());
                let sent = self.link.poll_finish(cx, self.stream, short.entries(), short.code());
                shortened(ready!(sent), &short, &error)
            }
        }
    }

    /// Sends a response that is only a status and metadata. What is too large for the peer is
    /// [shortened](ShortStatus).
    pub(crate) fn poll_trailers_only<'a, I: Iterator<Item = (&'a str, &'a [u8])>>(
        &self,
        cx: &mut Context<'_>,
        entries: impl Fn() -> I,
        status: Code,
    ) -> Poll<Sent> {
        let responded = ready!(self.link.poll_respond_trailers_only(cx, self.stream, entries(), status));
        self.observe_status(status, &responded);
        match responded {
            Ok(sent) => Poll::Ready(sent),
            Err(error) => {
                let short = ShortStatus::of(&error, status, entries());
                let (entries, code) = (short.entries(), short.code());
                let sent = self.link.poll_respond_trailers_only(cx, self.stream, entries, code);
                shortened(ready!(sent), &short, &error)
            }
        }
    }

    /// A status was sent, unless the client listens no more: for what sees the call. One that is too large is
    /// sent shortened.
    #[inline]
    fn observe_status(&self, status: Code, sent: &Result<Sent, HeadError>) {
        if let Some(observation) = &self.observation
            && !matches!(sent, Ok(Sent::Stopped))
        {
            observation.sent(0, Some(status));
        }
    }

    /// The response's end was sent, or the client listens no more.
    pub(crate) fn end(&mut self) {
        self.over = true;
        if let Some(observation) = self.observation.take() {
            observation.end_as_sent();
        }
    }

    /// Returns `true` once the response has an end, whatever that is.
    pub(crate) fn is_over(&self) -> bool {
        self.over
    }

    /// Ends the call with that status instead of what its handler would have answered.
    pub(crate) fn reset(&mut self, code: Code, reason: &'static str) {
        self.observe_reset(code);
        self.end();
        self.link.reset(self.stream, code, reason);
    }

    /// Ends the call, which no application has seen, so that its client may make it elsewhere. With
    /// `goes_away` it makes no more calls on this link.
    #[cfg(feature = "http2")]
    pub(crate) fn turn_away(mut self, code: Code, reason: &'static str, goes_away: bool) {
        self.observe_reset(code);
        self.end();
        self.link.refuse_call(self.stream, code, reason, goes_away);
    }

    /// For what sees the call: it ends with that status, unless it was over before.
    #[inline]
    fn observe_reset(&self, code: Code) {
        if let Some(observation) = &self.observation
            && self.link.is_open(self.stream)
        {
            observation.end(code);
        }
    }

    /// The head can't be sent.
    pub(crate) fn head_too_large(&mut self, error: &HeadError) {
        tracing::debug!(%error, "a response could not be sent");
        self.reset(Code::RESOURCE_EXHAUSTED, "response metadata too large");
    }

    /// Answers with a status instead of running a handler.
    pub(crate) async fn refuse(mut self, code: Code, message: Cow<'static, str>) {
        let message = status_message::encode(&message);
        let entries =
            || (!message.is_empty()).then_some((status_message::KEY, message.as_bytes())).into_iter();
        poll_fn(|cx| self.poll_trailers_only(cx, entries, code)).await;
        self.end();
    }
}

/// What has come of an end that was shortened. A client that takes not even that has no room for any status.
#[cold]
fn shortened(sent: Result<Sent, HeadError>, short: &ShortStatus, error: &HeadError) -> Poll<Sent> {
    let sent = sent.unwrap_or(Sent::Stopped);
    if sent != Sent::Stopped {
        short.log(error);
    }
    Poll::Ready(sent)
}

impl Drop for ResponseHalf {
    fn drop(&mut self) {
        if !self.over {
            if std::thread::panicking() {
                self.reset(Code::INTERNAL, "the handler panicked");
            } else {
                // As for a call whose server was killed: another server may answer it.
                self.reset(Code::UNAVAILABLE, "the server went away");
            }
        }
    }
}
