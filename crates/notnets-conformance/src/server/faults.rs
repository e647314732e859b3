//! Handlers that misbehave.

use std::convert::Infallible;
use std::future::pending;
use std::panic::resume_unwind;

use tokio_stream::StreamExt;
use tonic::metadata::MetadataMap;
use tonic::{Request, Response, Status, Streaming};

use super::probe::Probe;
use super::test_service::status;
use super::watched::{Replies, Requests, replies};
use crate::payload::pattern;
use crate::pb::{Chunk, DuplexRequest, Nothing, ProduceRequest, Summary, faults_server};

/// Misbehaves as it is told.
pub struct FaultsService {
    probe: Probe,
}

impl FaultsService {
    /// Counts its handlers with this probe.
    pub fn new(probe: Probe) -> Self {
        Self { probe }
    }
}

/// Panics as a handler would, without the panic hook's message on stderr.
fn panic_quietly() -> ! {
    resume_unwind(Box::new("a handler panics because it was told to"))
}

#[tonic::async_trait]
impl faults_server::Faults for FaultsService {
    type SleepDuplexStream = Replies<Chunk>;
    type PanicAtEmptyStream = Replies<Chunk>;
    type ProduceStream = Replies<Chunk>;
    type EndEarlyStream = Replies<Chunk>;
    type HoldStream = Replies<Chunk>;

    async fn sleep(&self, request: Request<Nothing>) -> Result<Response<Nothing>, Status> {
        let _handler = self.probe.enter(&request);
        match pending::<Infallible>().await {}
    }

    async fn sleep_duplex(
        &self,
        request: Request<Streaming<Chunk>>,
    ) -> Result<Response<Replies<Chunk>>, Status> {
        let handler = self.probe.enter(&request);
        let _requests = Requests::new(request.into_inner(), &handler);
        match pending::<Infallible>().await {}
    }

    async fn panic(&self, request: Request<Nothing>) -> Result<Response<Nothing>, Status> {
        let _handler = self.probe.enter(&request);
        panic_quietly()
    }

    async fn panic_at_empty(
        &self,
        request: Request<Streaming<Chunk>>,
    ) -> Result<Response<Replies<Chunk>>, Status> {
        let handler = self.probe.enter(&request);
        let mut requests = Requests::new(request.into_inner(), &handler);
        let chunks = replies(handler, async move |out| {
            while let Some(chunk) = requests.next().await {
                let chunk = chunk?;
                if chunk.body.is_empty() {
                    panic_quietly();
                }
                out.send(chunk).await;
            }
            Ok(())
        });
        Ok(Response::new(chunks))
    }

    async fn produce(&self, request: Request<ProduceRequest>) -> Result<Response<Replies<Chunk>>, Status> {
        let handler = self.probe.enter(&request);
        let size = request.into_inner().size as usize;
        let chunks = replies(handler, async move |out| {
            for index in 0.. {
                out.send(Chunk { index, body: pattern(index, size) }).await;
            }
            Ok(())
        });
        Ok(Response::new(chunks))
    }

    async fn hold(&self, request: Request<Streaming<Chunk>>) -> Result<Response<Replies<Chunk>>, Status> {
        let handler = self.probe.enter(&request);
        let mut requests = Requests::new(request.into_inner(), &handler);
        let chunks = replies(handler, async move |out| {
            if let Some(chunk) = requests.next().await {
                out.send(chunk?).await;
            }
            match pending::<Infallible>().await {}
        });
        Ok(Response::new(chunks))
    }

    async fn stall(&self, request: Request<Streaming<Chunk>>) -> Result<Response<Summary>, Status> {
        let handler = self.probe.enter(&request);
        let mut requests = Requests::new(request.into_inner(), &handler);
        let mut summary = Summary::default();
        while let Some(chunk) = requests.next().await {
            summary.add(&chunk?);
            handler.tally().released().await;
        }
        handler.finish();
        Ok(Response::new(summary))
    }

    async fn answer_early(
        &self,
        request: Request<Streaming<DuplexRequest>>,
    ) -> Result<Response<Summary>, Status> {
        let handler = self.probe.enter(&request);
        let mut requests = Requests::new(request.into_inner(), &handler);
        let mut summary = Summary::default();
        let mut outcome = None;
        for index in 0..3 {
            let Some(request) = requests.next().await.transpose()? else { break };
            summary.add(&Chunk { index, body: request.body });
            outcome = request.outcome.or(outcome);
        }
        handler.finish();
        match outcome {
            Some(outcome) => Err(status(outcome, MetadataMap::new())),
            None => Ok(Response::new(summary)),
        }
    }

    async fn end_early(
        &self,
        request: Request<Streaming<Chunk>>,
    ) -> Result<Response<Replies<Chunk>>, Status> {
        let handler = self.probe.enter(&request);
        let mut requests = Requests::new(request.into_inner(), &handler);
        let chunks = replies(handler, async move |out| {
            for _ in 0..3 {
                let Some(chunk) = requests.next().await.transpose()? else { break };
                out.send(chunk).await;
            }
            Ok(())
        });
        Ok(Response::new(chunks))
    }
}
