//! The calls of one link: from what the link hands over to what serves them.

use std::sync::Arc;
use std::time::Duration;

use notnets_core::call::{self, Buffered};
use notnets_core::clock;
use notnets_core::code::Code;
use tokio::sync::Semaphore;

use super::context::ServerContext;
use super::services::LinkServices;
use crate::link::Link;
use crate::rpc::{self, IncomingCall, PeerInfo, RequestHalf, ResponseHalf, Serving, Turn};

/// What all calls of a link have in common.
pub(super) struct LinkCalls {
    pub(super) server: Arc<ServerContext>,
    pub(super) services: LinkServices,
    pub(super) peer: PeerInfo,
    pub(super) timeout: Option<Duration>,
    pub(super) running: Option<Arc<Semaphore>>,
    pub(super) load_shed: bool,
}

impl LinkCalls {
    /// Runs a call: in place if that is soon done, else as a task.
    pub(super) fn run(&mut self, link: &Arc<Link>, request: call::Request, buffered: Buffered) {
        self.server.stats.calls(1);
        let stream = request.stream;
        rpc::run(link, stream, || self.begin(link, request, buffered));
    }

    /// Begins to serve a call, unless it must not run.
    fn begin(&mut self, link: &Arc<Link>, request: call::Request, buffered: Buffered) -> Serving {
        let call::Request { stream, method, metadata, mut deadline, .. } = request;
        let response = ResponseHalf::new(Arc::clone(link), Arc::clone(&self.server.stats), stream);
        if let Some(timeout) = self.timeout {
            let own = clock::after(timeout);
            deadline = Some(deadline.map_or(own, |client| client.min(own)));
            link.shorten(stream, own);
        }
        let turn = match &self.running {
            None => Some(Turn::Unlimited),
            Some(permits) => Turn::of(permits, !self.load_shed),
        };
        let Some(turn) = turn else {
            let text = "the server has too many calls at once";
            return Box::pin(response.refuse(Code::RESOURCE_EXHAUSTED, text.into()));
        };
        let requests = RequestHalf::new(Arc::clone(link), stream, buffered);
        let peer = self.peer;
        self.services.serve(IncomingCall { method, metadata, deadline, peer, turn, requests, response })
    }
}
