//! Counts what becomes of handlers, by the key in their call's metadata, and
//! the service by which a client asks for it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use tokio::sync::{Barrier, watch};
use tonic::{Request, Response, Status};
use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;

use crate::pb::{
    ArriveReply, ArriveRequest, Counters, HealthChange, Key, Nothing, WaitRequest, probe_server,
};

/// All counters of a server; clones share them.
#[derive(Clone)]
pub struct Probe {
    counters: Arc<watch::Sender<HashMap<String, Counters>>>,
}

impl Default for Probe {
    fn default() -> Self {
        Self { counters: Arc::new(watch::channel(HashMap::new()).0) }
    }
}

impl Probe {
    /// Begins to count a handler, under its call's `x-key`.
    pub fn enter<T>(&self, request: &Request<T>) -> Handler {
        let text = |key| request.metadata().get(key).and_then(|value| value.to_str().ok()).map(str::to_owned);
        let tally = Tally { probe: self.clone(), key: text("x-key") };
        tally.add(|counters| {
            counters.started += 1;
            counters.timeouts.push(text("grpc-timeout").unwrap_or_default());
        });
        Handler { tally, finished: false }
    }

    fn read(&self, key: &str) -> Counters {
        self.counters.borrow().get(key).cloned().unwrap_or_default()
    }

    async fn wait(&self, key: &str, reached: impl Fn(&Counters) -> bool) -> Counters {
        let mut counters = self.counters.subscribe();
        let found = counters.wait_for(|all| reached(all.get(key).unwrap_or(&Counters::default()))).await;
        found.ok().and_then(|all| all.get(key).cloned()).unwrap_or_default()
    }
}

/// The counters of one key. Calls without a key are not counted.
#[derive(Clone)]
pub struct Tally {
    probe: Probe,
    key: Option<String>,
}

impl Tally {
    /// Changes the counters and wakes those who wait for them.
    pub fn add(&self, change: impl FnOnce(&mut Counters)) {
        if let Some(key) = &self.key {
            self.probe.counters.send_modify(|all| change(all.entry(key.clone()).or_default()));
        }
    }

    /// Waits for the client to release this key's handlers.
    pub async fn released(&self) {
        if let Some(key) = &self.key {
            self.probe.wait(key, |counters| counters.released > 0).await;
        }
    }
}

/// Lives as long as a handler (its future and then its reply stream) and
/// counts how it ended.
pub struct Handler {
    tally: Tally,
    finished: bool,
}

impl Handler {
    /// The counters that this handler counts in.
    pub fn tally(&self) -> Tally {
        self.tally.clone()
    }

    /// The handler came to its end; without this it counts as dropped.
    pub fn finish(mut self) {
        self.finished = true;
    }
}

impl Drop for Handler {
    fn drop(&mut self) {
        let finished = self.finished;
        self.tally.add(|counters| {
            counters.ended += 1;
            if finished {
                counters.finished += 1;
            } else {
                counters.dropped += 1;
            }
        });
    }
}

/// Whether each counter is at least what is asked for.
fn reaches(counters: &Counters, wanted: &Counters) -> bool {
    counters.started >= wanted.started
        && counters.finished >= wanted.finished
        && counters.dropped >= wanted.dropped
        && counters.ended >= wanted.ended
        && counters.request_streams_gone >= wanted.request_streams_gone
        && counters.consumed >= wanted.consumed
        && counters.produced >= wanted.produced
        && counters.released >= wanted.released
        && counters.timeouts.len() >= wanted.timeouts.len()
}

/// Answers questions about the counters.
pub struct ProbeService {
    probe: Probe,
    health: HealthReporter,
    barriers: Mutex<HashMap<String, Arc<Barrier>>>,
}

impl ProbeService {
    /// Over these counters and this health service.
    pub fn new(probe: Probe, health: HealthReporter) -> Self {
        Self { probe, health, barriers: Mutex::default() }
    }
}

#[tonic::async_trait]
impl probe_server::Probe for ProbeService {
    async fn read(&self, request: Request<Key>) -> Result<Response<Counters>, Status> {
        Ok(Response::new(self.probe.read(&request.into_inner().key)))
    }

    async fn wait(&self, request: Request<WaitRequest>) -> Result<Response<Counters>, Status> {
        let WaitRequest { key, at_least } = request.into_inner();
        let wanted = at_least.unwrap_or_default();
        Ok(Response::new(self.probe.wait(&key, |counters| reaches(counters, &wanted)).await))
    }

    async fn release(&self, request: Request<Key>) -> Result<Response<Nothing>, Status> {
        let tally = Tally { probe: self.probe.clone(), key: Some(request.into_inner().key) };
        tally.add(|counters| counters.released += 1);
        Ok(Response::new(Nothing {}))
    }

    async fn arrive(&self, request: Request<ArriveRequest>) -> Result<Response<ArriveReply>, Status> {
        let ArriveRequest { key, expected, body } = request.into_inner();
        let barrier = {
            let mut barriers = self.barriers.lock().map_err(|_| Status::internal("a handler panicked"))?;
            let new = || Arc::new(Barrier::new(expected as usize));
            Arc::clone(barriers.entry(key).or_insert_with(new))
        };
        barrier.wait().await;
        Ok(Response::new(ArriveReply { body }))
    }

    async fn set_health(&self, request: Request<HealthChange>) -> Result<Response<Nothing>, Status> {
        let HealthChange { service, serving } = request.into_inner();
        let status = if serving { ServingStatus::Serving } else { ServingStatus::NotServing };
        self.health.set_service_status(service, status).await;
        Ok(Response::new(Nothing {}))
    }
}
