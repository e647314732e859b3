//! Opening a call: its turn, a link, and room on it.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Buf;
use notnets_core::call::{HeadError, Sent};
use notnets_core::clock::{self, Timestamp};
use notnets_core::metadata::Metadata;
use tokio::sync::{AcquireError, OwnedSemaphorePermit};

use super::attempts::{Attempts, pushback_of};
use super::deadline_timer::DeadlineTimer;
use super::hedging::Hedging;
use super::{Call, Outbound};
use crate::Error;
use crate::client::{ClientLink, Shared};
use crate::link::{Answer, Link, OpenRequest, OpenTicket, OpenedCall};
use crate::observe::{AgainReason, Observation};
use crate::rpc::{Code, Status};

/// A call that is being opened. Mostly there is nothing to wait for: that takes no memory.
#[derive(Debug)]
pub(crate) struct Opening {
    shared: Arc<Shared>,
    deadline: Option<Timestamp>,
    permit: Option<OwnedSemaphorePermit>,
    waiting: Option<Box<Waiting>>,
    /// What hardly any call has.
    special: Option<Box<Special>>,
}

/// What is configured for a call's method, and what sees the call.
#[derive(Debug, Default)]
struct Special {
    attempts: Option<Attempts>,
    observation: Option<Observation>,
    /// The call's end is seen here: it is none of several attempts.
    ends: bool,
}

impl Special {
    /// What is sent along with the call.
    fn entries(&self) -> impl Iterator<Item = (&str, &[u8])> {
        let previous = self.attempts.as_ref().and_then(Attempts::entry);
        previous.into_iter().chain(self.observation.iter().flat_map(Observation::entries))
    }
}

impl Drop for Special {
    fn drop(&mut self) {
        if let (Some(observation), true) = (&self.observation, self.ends) {
            observation.end(Code::CANCELLED);
        }
    }
}

/// A call that was opened.
#[derive(Debug)]
pub(crate) struct Opened {
    pub(crate) call: Call,
    /// How many bytes of the data that were at hand are not sent; `None` when all is.
    pub(crate) unsent: Option<usize>,
    /// The answer, if it was there already.
    pub(crate) answer: Poll<Answer>,
}

/// The things that a call waits for before it is open.
#[derive(Default)]
struct Waiting {
    /// One of the calls that may be open at once.
    permit: Option<BoxFuture<Result<OwnedSemaphorePermit, AcquireError>>>,
    connecting: Option<BoxFuture<Result<Arc<ClientLink>, Arc<Error>>>>,
    /// Its place in the link's queue; it leaves that before it lets go of the link.
    ticket: OpenTicket,
    link: Option<Arc<ClientLink>>,
    /// The end of all waiting.
    timer: Option<Box<DeadlineTimer>>,
}

type BoxFuture<R> = Pin<Box<dyn Future<Output = R> + Send>>;

impl std::fmt::Debug for Waiting {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Waiting").finish_non_exhaustive()
    }
}

impl Opening {
    pub(crate) fn new(shared: &Arc<Shared>, deadline: Option<Timestamp>) -> Self {
        Self { shared: Arc::clone(shared), deadline, permit: None, waiting: None, special: None }
    }

    /// Returns `true` if something may be configured for the call's method, or the call is observed.
    #[inline]
    pub(super) fn may_be_configured(&self) -> bool {
        self.shared.endpoint.policies.is_some() || self.shared.observer.is_some()
    }

    /// Makes the call as it is configured for its method, and has it observed.
    #[cold]
    pub(super) fn configure(&mut self, path: &str) {
        let policies = self.shared.endpoint.policies.as_ref();
        let attempts = policies.and_then(|policies| Attempts::new(policies, path));
        let timeout = attempts.as_ref().and_then(Attempts::timeout);
        self.deadline = [self.deadline, timeout.map(clock::after)].into_iter().flatten().min();
        let observer = self.shared.observer.as_ref();
        let observation = observer.map(|observer| Observation::of_client(&*observer.0, path));
        if attempts.is_some() || observation.is_some() {
            self.special = Some(Box::new(Special { attempts, observation, ends: true }));
        }
    }

    /// Returns `true` if something is configured for the method, or the call is observed.
    #[inline]
    pub(super) fn is_special(&self) -> bool {
        self.special.is_some()
    }

    /// Returns `true` if something is configured for the method.
    #[inline]
    pub(super) fn has_attempts(&self) -> bool {
        self.attempts().is_some()
    }

    #[inline]
    fn attempts(&self) -> Option<&Attempts> {
        self.special.as_ref()?.attempts.as_ref()
    }

    #[inline]
    fn attempts_mut(&mut self) -> Option<&mut Attempts> {
        self.special.as_mut()?.attempts.as_mut()
    }

    /// Returns when the call's attempts are made from now on, if they are hedged.
    #[cold]
    pub(super) fn hedging(&self, outbound: &impl Outbound) -> Option<Hedging> {
        let attempts = self.attempts()?;
        let can_repeat = outbound.is_whole() && attempts.keeps(outbound.data().remaining());
        if can_repeat { attempts.hedging() } else { None }
    }

    /// An attempt of a hedged call, behind so many others. The call has its turn.
    pub(super) fn attempt(&self, previous: u32) -> Self {
        let attempts = self.attempts().map(|attempts| attempts.behind(previous));
        let special = Special { attempts, observation: self.observation().cloned(), ends: false };
        Self { special: Some(Box::new(special)), ..Self::new(&self.shared, self.deadline) }
    }

    /// What sees the call, if it is observed.
    #[inline]
    pub(super) fn observation(&self) -> Option<&Observation> {
        self.special.as_ref()?.observation.as_ref()
    }

    /// Lets go of what sees the call, for whoever ends it.
    #[inline]
    pub(super) fn take_observation(&mut self) -> Option<Observation> {
        self.special.as_mut()?.observation.take()
    }

    /// When the call has to be over.
    pub(super) fn deadline(&self) -> Option<Timestamp> {
        self.deadline
    }

    /// Returns the call's turn.
    pub(super) fn take_permit(&mut self) -> Option<OwnedSemaphorePermit> {
        self.permit.take()
    }

    /// An attempt has ended with this code. Returns `true` if there is another one, after a
    /// [pause](Self::poll_pause).
    pub(super) fn fail(&mut self, code: Code, trailers: &Metadata, outbound: &impl Outbound) -> bool {
        let Some(Special { attempts: Some(attempts), observation, .. }) = self.special.as_deref_mut() else {
            return false;
        };
        let can_repeat = outbound.is_whole() && attempts.keeps(outbound.data().remaining());
        let goes_on = attempts.fail(code, pushback_of(trailers), can_repeat);
        if let (true, Some(observation)) = (goes_on, observation) {
            observation.attempted_again(AgainReason::Retry, code, attempts.delay());
        }
        goes_on
    }

    /// The server has begun to answer.
    pub(super) fn succeed(&mut self) {
        if let Some(attempts) = self.special.as_mut().and_then(|special| special.attempts.take()) {
            attempts.succeed();
        }
    }

    /// Waits for the next attempt.
    ///
    /// # Errors
    /// `DEADLINE_EXCEEDED`.
    pub(super) fn poll_pause(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Status>> {
        let deadline = self.deadline;
        match self.attempts_mut() {
            Some(attempts) => attempts.poll_pause(cx, deadline),
            None => Poll::Ready(Ok(())),
        }
    }

    /// Waits until no more calls are open than may be.
    ///
    /// # Errors
    /// `DEADLINE_EXCEEDED`.
    #[inline]
    pub(crate) fn poll_turn(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Status>> {
        match (&self.shared.calls, &self.permit) {
            (None, _) | (_, Some(_)) => Poll::Ready(Ok(())),
            (Some(_), None) => self.poll_permit(cx),
        }
    }

    fn poll_permit(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Status>> {
        let Some(calls) = self.shared.calls.as_ref().map(Arc::clone) else { return Poll::Ready(Ok(())) };
        let waiting = self.waiting.get_or_insert_default();
        if waiting.permit.is_none()
            && let Ok(permit) = Arc::clone(&calls).try_acquire_owned()
        {
            self.permit = Some(permit);
            return Poll::Ready(Ok(()));
        }
        let permit = waiting.permit.get_or_insert_with(|| Box::pin(calls.acquire_owned()));
        let Poll::Ready(acquired) = permit.as_mut().poll(cx) else { return self.poll_deadline(cx) };
        waiting.permit = None;
        self.permit = acquired.ok();
        Poll::Ready(Ok(()))
    }

    /// Opens the call with what of its messages is at hand, as soon as there is room for it.
    ///
    /// # Errors
    /// When there is no link to the server, when the head is too large, and `DEADLINE_EXCEEDED`.
    #[inline]
    pub(crate) fn poll_open(
        &mut self,
        cx: &mut Context<'_>,
        outbound: &impl Outbound,
    ) -> Poll<Result<Opened, Status>> {
        loop {
            let link = match self.poll_link(cx) {
                Poll::Ready(link) => link?,
                Poll::Pending => return self.poll_deadline(cx),
            };
            let mut first = OpenTicket::default();
            let ticket = self.waiting.as_mut().map_or(&mut first, |waiting| &mut waiting.ticket);
            let mut data = outbound.data();
            let request = OpenRequest {
                method: outbound.method(),
                entries: outbound.entries(&self.shared.endpoint.user_agent),
                deadline: self.deadline,
                data: &mut data,
                end: outbound.is_whole(),
            };
            let opened = match &self.special {
                None => link.poll_open(cx, ticket, request),
                Some(special) => poll_open_with(&link, cx, ticket, request, special.entries()),
            };
            match opened {
                Poll::Ready(Ok(Some(OpenedCall { stream, sent, answer }))) => {
                    let is_all = outbound.is_whole() && sent == Sent::All;
                    let unsent = (!is_all).then(|| data.remaining());
                    self.waiting = None;
                    let mut call = Call::new(link, stream, self.permit.take(), self.deadline.is_some());
                    if let Some(observation) = self.observation() {
                        observation.sent(outbound.data().remaining() - data.remaining(), None);
                        call.observe(observation.clone(), false);
                    }
                    if answer.is_pending() {
                        call.check_deadline(cx);
                    }
                    return Poll::Ready(Ok(Opened { call, unsent, answer }));
                }
                // That server goes away: on to the next.
                Poll::Ready(Ok(None)) => self.connect(),
                Poll::Ready(Err(error)) => {
                    return Poll::Ready(Err(Status::new(Code::RESOURCE_EXHAUSTED, error.to_string())));
                }
                Poll::Pending => {
                    let new = || Box::new(Waiting { ticket: first, ..Waiting::default() });
                    self.waiting.get_or_insert_with(new).link = Some(link);
                    return self.poll_deadline(cx);
                }
            }
        }
    }

    /// The link that the call waits on; else the channel's present one, or the next.
    #[inline]
    fn poll_link(&mut self, cx: &mut Context<'_>) -> Poll<Result<Arc<ClientLink>, Status>> {
        if self.waiting.is_none()
            && let Some(link) = self.shared.present()
        {
            return Poll::Ready(Ok(link));
        }
        self.poll_connected(cx)
    }

    fn poll_connected(&mut self, cx: &mut Context<'_>) -> Poll<Result<Arc<ClientLink>, Status>> {
        loop {
            let waiting = self.waiting.get_or_insert_default();
            if let Some(link) = &waiting.link {
                return Poll::Ready(Ok(Arc::clone(link)));
            }
            if let Some(attempts) = self.special.as_mut().and_then(|special| special.attempts.as_mut()) {
                ready!(attempts.poll_pause(cx, self.deadline))?;
            }
            let connecting = waiting.connecting.get_or_insert_with(|| {
                let shared = Arc::clone(&self.shared);
                Box::pin(async move { shared.link().await })
            });
            let link = ready!(connecting.as_mut().poll(cx));
            waiting.connecting = None;
            let status = match link {
                Ok(link) => return Poll::Ready(Ok(link)),
                Err(error) => Status::no_link(&error),
            };
            if !self.attempts_mut().is_some_and(|attempts| attempts.wait_for_server(&status)) {
                return Poll::Ready(Err(status));
            }
        }
    }

    /// Lets go of the turn and of all that was waited for, though this may be held on to.
    pub(super) fn give_up(&mut self) {
        self.waiting = None;
        self.permit = None;
    }

    /// Ends a call that is to be opened again, and keeps its turn.
    pub(super) fn reopen(&mut self, call: Call) {
        self.permit = call.take_permit();
    }

    /// The next look is for another link.
    fn connect(&mut self) {
        let waiting = self.waiting.get_or_insert_default();
        waiting.ticket = OpenTicket::default();
        waiting.link = None;
    }

    /// Waits no longer than the call may take.
    fn poll_deadline<R>(&mut self, cx: &mut Context<'_>) -> Poll<Result<R, Status>> {
        let Some(deadline) = self.deadline else { return Poll::Pending };
        let waiting = self.waiting.get_or_insert_default();
        DeadlineTimer::poll(&mut waiting.timer, cx, deadline).map(|()| {
            let text = "the call's deadline passed before it could be sent";
            Err(Status::new(Code::DEADLINE_EXCEEDED, text))
        })
    }
}

/// Opens a call with more metadata than its own: of the attempts before, and of its observer.
#[cold]
fn poll_open_with<'a>(
    link: &Arc<Link>,
    cx: &mut Context<'_>,
    ticket: &mut OpenTicket,
    request: OpenRequest<'_, impl Iterator<Item = (&'a str, &'a [u8])>, impl Buf>,
    more: impl IntoIterator<Item = (&'a str, &'a [u8])>,
) -> Poll<Result<Option<OpenedCall>, HeadError>> {
    let OpenRequest { method, entries, deadline, data, end } = request;
    let entries = entries.chain(more);
    link.poll_open(cx, ticket, OpenRequest { method, entries, deadline, data, end })
}
