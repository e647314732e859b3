//! The calls of one link: from what the link hands over to what serves them.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use notnets_core::call::{self, Buffered};
use notnets_core::clock;
use notnets_core::code::Code;
use notnets_core::link::quota::Meter;
use tokio::sync::Semaphore;

use super::context::ServerContext;
use super::methods::{Method, Methods};
use super::services::{LinkServices, Target};
use crate::link::Link;
use crate::link::driver::{Accept, Started};
use crate::log;
use crate::observe::{Observation, ServerCalls};
use crate::rpc::{self, IncomingCall, PeerInfo, RequestHalf, ResponseHalf, Serving, Throttle, Turn};

/// Handlers that are run in place one after the other take no longer than this in all, in nanoseconds: others
/// may have threads to run them on.
const IN_PLACE: u32 = 1_000_000;

/// Of the calls that are run in place those are timed whose stream's number is a multiple of this.
const SAMPLED: u64 = 7;

/// What all calls of a link have in common.
pub(super) struct LinkCalls {
    pub(super) server: Arc<ServerContext>,
    pub(super) services: LinkServices,
    pub(super) methods: Methods,
    pub(super) observer: Option<Arc<dyn ServerCalls>>,
    pub(super) peer: PeerInfo,
    /// Counts what the client's user takes, if that is limited.
    pub(super) meter: Option<Meter>,
    pub(super) timeout: Option<Duration>,
    pub(super) running: Option<Arc<Semaphore>>,
    pub(super) load_shed: bool,
    /// Handlers that take longer, in nanoseconds, run as tasks.
    pub(super) in_place_limit: u32,
    /// Calls that are to be run in place, where there were several at once. A handler that blocks keeps none
    /// of them: whoever drives the link next goes on with them.
    pub(super) waiting: Mutex<VecDeque<Call>>,
}

/// A call that is to be served.
pub(super) struct Call {
    request: call::Request,
    buffered: Buffered,
    method: Arc<Method>,
}

impl Accept for LinkCalls {
    fn accept(
        &self,
        link: &Arc<Link>,
        requests: &mut Vec<(call::Request, Buffered)>,
        leave: bool,
    ) -> Started {
        let mut total = 0_u32;
        let mut started = Started { tasks: false, left: false };
        for (request, buffered) in requests.drain(..) {
            let method = self.method(&request.method);
            let limit = self.in_place_limit;
            let in_place = method.cost.within(limit).filter(|cost| total.saturating_add(*cost) <= IN_PLACE);
            let call = Call { request, buffered, method };
            match in_place {
                None => {
                    self.run_as_task(link, call);
                    started.tasks = true;
                }
                Some(cost) if leave => {
                    total = total.saturating_add(cost);
                    self.waiting().push_back(call);
                    started.left = true;
                }
                Some(_) => started.tasks |= self.run_in_place(link, call),
            }
        }
        started
    }

    fn go_on(&self, link: &Arc<Link>) -> Started {
        // The last task that was started runs on this thread only, in some runtimes: nothing that may block
        // is run in place before it.
        let mut tasks = false;
        while !tasks && let Some(call) = self.next_waiting() {
            tasks = self.run_in_place(link, call);
        }
        Started { tasks, left: tasks && !self.waiting().is_empty() }
    }
}

impl LinkCalls {
    fn method(&self, path: &Arc<str>) -> Arc<Method> {
        self.methods.get(path, &self.server.costs, || self.services.find(path))
    }

    /// Runs a call in place. Returns `true` if it goes on as a task.
    fn run_in_place(&self, link: &Arc<Link>, call: Call) -> bool {
        let Call { request, buffered, method } = call;
        let stream = request.stream;
        let begin = || self.begin(link, request, buffered, &method.target);
        if !stream.get().is_multiple_of(SAMPLED) {
            return rpc::run_in_place(link, stream, begin);
        }
        let from = clock::now();
        let task = rpc::run_in_place(link, stream, begin);
        method.cost.record(from, clock::now());
        task
    }

    fn run_as_task(&self, link: &Arc<Link>, call: Call) {
        let Call { request, buffered, method } = call;
        let stream = request.stream;
        let cost = Arc::clone(&method.cost);
        let observe = move |poll: &mut dyn FnMut()| cost.observe(poll);
        let begin = || self.begin(link, request, buffered, &method.target);
        rpc::run_as_task(link, stream, begin, observe);
    }

    /// Begins to serve a call, unless it must not run.
    fn begin(
        &self,
        link: &Arc<Link>,
        request: call::Request,
        buffered: Buffered,
        target: &Target,
    ) -> Serving {
        let call::Request { stream, method, metadata, mut deadline, .. } = request;
        let mut response = ResponseHalf::new(Arc::clone(link), stream);
        if let Some(timeout) = self.timeout {
            let own = clock::after(timeout);
            deadline = Some(deadline.map_or(own, |client| client.min(own)));
            link.shorten(stream, own);
        }
        let observation = self.observer.as_ref().map(|calls| {
            let observation = Observation::of_server(&**calls, &method, &metadata, self.peer, deadline);
            response.observe(observation.clone());
            observation
        });
        let mut throttle = None;
        if let Some(meter) = &self.meter {
            let bytes = buffered.data.as_ref().map_or(0, Bytes::len);
            if let Err(over) = meter.begin_call(bytes as u64, clock::now()) {
                log::over_rate(self.peer.pid, &over);
                link.count(over.rate.into());
                return Box::pin(response.refuse(Code::RESOURCE_EXHAUSTED, over.to_string().into()));
            }
            throttle = Some(Throttle::new(meter.clone()));
        }
        let turn = match &self.running {
            None => Some(Turn::Unlimited),
            Some(permits) => Turn::of(permits, !self.load_shed),
        };
        let Some(turn) = turn else {
            let text = "the server has too many calls at once";
            return Box::pin(response.refuse(Code::RESOURCE_EXHAUSTED, text.into()));
        };
        let mut requests = RequestHalf::new(Arc::clone(link), stream, buffered, throttle);
        let peer = self.peer;
        if let Some(observation) = &observation {
            requests.observe(observation.clone());
        }
        let call = IncomingCall { method, metadata, deadline, peer, turn, requests, response };
        match observation {
            None => self.services.serve(call, target),
            Some(observation) => self.serve_observed(call, target, &observation),
        }
    }

    #[cold]
    fn serve_observed(&self, call: IncomingCall, target: &Target, observation: &Observation) -> Serving {
        let serving = observation.run(|| self.services.serve(call, target));
        Box::pin(observation.serve(serving.unwrap_or_else(|| Box::pin(async {}))))
    }

    /// Takes the next call, and leaves the others to whoever comes while it runs.
    fn next_waiting(&self) -> Option<Call> {
        self.waiting().pop_front()
    }

    fn waiting(&self) -> MutexGuard<'_, VecDeque<Call>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
