//! A server's call that is observed, if it is.

use notnets_core::call::Request;
use notnets_core::code::Code;

use super::Status;
use crate::PeerInfo;
use crate::observe::{Observation, ServerCalls};

/// What sees a call. When it is dropped, the call has ended: with the status that was sent, or without one.
#[derive(Debug, Default)]
pub struct Seen(Option<Observation>);

impl Seen {
    /// A call that is to be served.
    #[inline]
    pub fn new(observer: Option<&dyn ServerCalls>, request: &Request, peer: &PeerInfo) -> Self {
        let observation = observer.map(|calls| {
            let Request { method, metadata, deadline, .. } = request;
            Observation::of_server(calls, method, metadata, *peer, *deadline)
        });
        Self(observation)
    }

    /// Bytes of its request have come.
    #[inline]
    pub fn received(&self, bytes: usize) {
        if let Some(observation) = &self.0 {
            observation.received(bytes);
        }
    }

    /// Some of them were given back, to come again.
    pub fn given_back(&self, bytes: usize) {
        if let Some(observation) = &self.0 {
            observation.given_back(bytes);
        }
    }

    /// Bytes of its reply were sent, and its status, if that was.
    #[inline]
    pub fn sent(&self, bytes: usize, status: Option<Code>) {
        if let Some(observation) = &self.0 {
            observation.sent(bytes, status);
        }
    }

    /// Runs its handler within its context.
    #[inline]
    pub fn run(&self, handle: impl FnOnce() -> Result<(), Status>) -> Result<(), Status> {
        match &self.0 {
            None => handle(),
            Some(observation) => observation.run(handle).unwrap_or_else(|| {
                Err(Status::new(Code::INTERNAL, "the server's observer has not run the handler"))
            }),
        }
    }
}

impl Drop for Seen {
    #[inline]
    fn drop(&mut self) {
        if let Some(observation) = &self.0 {
            observation.end_as_sent();
        }
    }
}
