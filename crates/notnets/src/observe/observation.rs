//! A call that is observed, as the layers below have it.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use notnets_core::clock::{self, Timestamp};
use notnets_core::code::Code;
use notnets_core::metadata::Metadata;

use super::{
    Again, AgainReason, CallEnd, CallToMake, CallToServe, ClientCalls, Entries, Observed, PeerInfo,
    ServerCalls,
};

/// No status was sent.
const NOT_SENT: u32 = u32::MAX;

/// A call that is observed. What has it is to end it.
#[derive(Clone)]
pub(crate) struct Observation(Arc<Shared>);

struct Shared {
    call: Arc<dyn Observed>,
    /// What is sent along with a client's call.
    entries: Entries,
    deadline: Option<Timestamp>,
    bytes_sent: AtomicU64,
    bytes_received: AtomicU64,
    /// The status that a server has sent.
    status: AtomicU32,
    has_ended: AtomicBool,
}

impl Observation {
    /// Of a client's call of this method.
    #[cold]
    pub(crate) fn of_client(calls: &dyn ClientCalls, method: &str) -> Self {
        let mut call = CallToMake { method, entries: Vec::new() };
        let observed = calls.begin(&mut call);
        Self::new(observed, call.entries, None)
    }

    /// Of a call that a server gets.
    #[cold]
    pub(crate) fn of_server(
        calls: &dyn ServerCalls,
        method: &str,
        metadata: &Metadata,
        peer: PeerInfo,
        deadline: Option<Timestamp>,
    ) -> Self {
        Self::new(calls.begin(&CallToServe { method, metadata, peer }), Vec::new(), deadline)
    }

    fn new(call: Arc<dyn Observed>, entries: Entries, deadline: Option<Timestamp>) -> Self {
        let shared = Shared {
            call,
            entries,
            deadline,
            bytes_sent: AtomicU64::new(0),
            bytes_received: AtomicU64::new(0),
            status: AtomicU32::new(NOT_SENT),
            has_ended: AtomicBool::new(false),
        };
        Self(Arc::new(shared))
    }

    /// What is sent along with the call.
    pub(crate) fn entries(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.0.entries.iter().map(|(key, value)| (&**key, &**value))
    }

    /// Bytes of messages were sent, and a server's status, if one was.
    #[cold]
    pub(crate) fn sent(&self, bytes: usize, status: Option<Code>) {
        self.0.bytes_sent.fetch_add(bytes as u64, Ordering::Relaxed);
        if let Some(status) = status {
            self.0.status.store(status.0, Ordering::Relaxed);
        }
    }

    /// Bytes of messages have come.
    #[cold]
    pub(crate) fn received(&self, bytes: usize) {
        self.0.bytes_received.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// Some of the bytes that have come were given back, to come again.
    #[cold]
    pub(crate) fn given_back(&self, bytes: usize) {
        self.0.bytes_received.fetch_sub(bytes as u64, Ordering::Relaxed);
    }

    /// The call is attempted again. Only the last attempt's bytes are counted.
    #[cold]
    pub(crate) fn attempted_again(&self, reason: AgainReason, status: Code, delay: Duration) {
        let bytes_sent = match reason {
            AgainReason::Hedge => 0,
            _ => self.0.bytes_sent.swap(0, Ordering::Relaxed),
        };
        self.0.call.attempted_again(&Again { reason, status, delay, bytes_sent });
    }

    /// The call has ended, if it had not before.
    #[cold]
    pub(crate) fn end(&self, status: Code) {
        if self.0.has_ended.swap(true, Ordering::Relaxed) {
            return;
        }
        self.0.call.end(&CallEnd {
            status,
            bytes_sent: self.0.bytes_sent.load(Ordering::Relaxed),
            bytes_received: self.0.bytes_received.load(Ordering::Relaxed),
        });
    }

    /// A server's call has ended, with the status that was sent. If none was, its client has let go of it.
    #[cold]
    pub(crate) fn end_as_sent(&self) {
        let sent = match self.0.status.load(Ordering::Relaxed) {
            NOT_SENT => None,
            status => Some(Code(status)),
        };
        let is_late = || self.0.deadline.is_some_and(|deadline| deadline <= clock::now());
        let abandoned = || if is_late() { Code::DEADLINE_EXCEEDED } else { Code::CANCELLED };
        self.end(sent.unwrap_or_else(abandoned));
    }

    /// Runs this within the call's context.
    pub(crate) fn run<R>(&self, run: impl FnOnce() -> R) -> Option<R> {
        let (mut run, mut result) = (Some(run), None);
        self.0.call.within(&mut || result = run.take().map(|run| run()));
        result
    }

    /// What serves the call, within its context.
    pub(crate) fn serve<F>(&self, serving: F) -> Within<F> {
        Within { observation: self.clone(), serving }
    }
}

impl fmt::Debug for Observation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Observation").finish_non_exhaustive()
    }
}

/// What serves a call, polled within the context of its observer.
pub(crate) struct Within<F> {
    observation: Observation,
    serving: F,
}

impl<F: Future<Output = ()> + Unpin> Future for Within<F> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let Self { observation, serving } = &mut *self;
        observation.run(|| Pin::new(serving).poll(cx)).unwrap_or(Poll::Pending)
    }
}
