//! Calls that a client makes past all links, over HTTP/2 alone: to tools they are those of a link.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use notnets_memory::process::{ForkGuard, PeerCredentials};

use super::layout::{AREA, method};
use super::link::Counted;
use super::{Count, LinkAbout, LinkCounters, OpenLink, WaitsFor, of_clients};
use crate::call::StreamId;
use crate::clock::Timestamp;
use crate::code::Code;
use crate::link::{IdentitySource, PeerIdentity};

/// The calls of a client to one server, without a link between.
#[derive(Debug)]
pub struct OutsideCalls {
    calls: Mutex<Calls>,
    fork: ForkGuard,
    _open: OpenLink,
}

#[derive(Debug)]
struct Calls {
    counters: LinkCounters,
    /// Numbers for paths, of as many as have counters of their own.
    paths: HashMap<Box<str>, u16>,
    /// Calls there have been.
    begun: u64,
}

impl OutsideCalls {
    /// Has calls to `target` counted among those of this process's links. `None` without memory for that.
    pub fn to(target: &str) -> Option<Arc<Self>> {
        // Whoever is there has not said so.
        let peer = PeerIdentity {
            credentials: PeerCredentials::NOBODY,
            incarnation: Default::default(),
            label: None,
            user_agent: String::new(),
            identity_source: IdentitySource::Kernel,
        };
        let fork = ForkGuard::new().ok()?;
        let about = LinkAbout { peer: &peer, target, is_http2: true };
        let (open, counters) = OpenLink::new(&of_clients()?, about);
        let calls = Calls { counters: counters?, paths: HashMap::new(), begun: 0 };
        Some(Arc::new(Self { calls: Mutex::new(calls), fork, _open: open }))
    }

    /// A call begins.
    pub fn begin(self: &Arc<Self>, path: &str, deadline: Option<Timestamp>) -> OutsideCall {
        let begin = |calls: &mut Calls| {
            let Calls { counters, paths, begun } = calls;
            let known = paths.get(path).copied().or_else(|| {
                // Paths are the caller's: no more of them are kept than can be counted apart.
                let new = u16::try_from(paths.len()).ok().filter(|_| paths.len() < method::count(AREA))?;
                paths.insert(path.into(), new);
                Some(new)
            });
            let method = counters.method(known, path);
            *begun += 1;
            counters.begin(StreamId::new(*begun), method, deadline, WaitsFor::Peer)
        };
        let counted = self.calls().map_or_else(Counted::default, |mut calls| begin(&mut calls));
        OutsideCall { of: Arc::clone(self), counted }
    }

    /// Bytes of a request have gone, with which so many messages end.
    pub fn sent(&self, bytes: usize, messages: u64) {
        if let Some(calls) = self.calls() {
            calls.counters.count(Count::BytesSent, bytes as u64);
            calls.counters.count(Count::MessagesSent, messages);
        }
    }

    /// Bytes of a response have come, with which so many messages end.
    pub fn received(&self, bytes: usize, messages: u64) {
        if let Some(calls) = self.calls() {
            calls.counters.count(Count::BytesReceived, bytes as u64);
            calls.counters.count(Count::MessagesReceived, messages);
        }
    }

    /// `None` in a forked child, which has not the counters.
    fn calls(&self) -> Option<MutexGuard<'_, Calls>> {
        let is_here = !self.fork.is_forked_child();
        is_here.then(|| self.calls.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// A call that is open. One that is dropped before it has ended was cancelled.
#[derive(Debug)]
pub struct OutsideCall {
    of: Arc<OutsideCalls>,
    counted: Counted,
}

impl OutsideCall {
    /// The calls that this is one of.
    pub fn of(&self) -> &OutsideCalls {
        &self.of
    }

    /// The server has ended it with that status. It ends once.
    pub fn end(&mut self, status: Code) {
        if let Some(mut calls) = self.of.calls() {
            calls.counters.end(&mut self.counted, status);
        }
    }

    /// It has ended without an answer of the server's application.
    pub fn fail(&mut self, status: Code, why: &str) {
        if let Some(mut calls) = self.of.calls() {
            calls.counters.end_unanswered(&mut self.counted, status, why);
        }
    }
}

impl Drop for OutsideCall {
    fn drop(&mut self) {
        self.fail(Code::CANCELLED, "the caller has given the call up");
    }
}
