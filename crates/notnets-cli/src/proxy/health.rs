//! How the proxy is itself, by gRPC's health protocol, for probes of orchestrators.
//!
//! The proxy as a whole (the empty name) is serving from when clients can connect until it is asked to stop.
//! A service that a route names is serving while a server of it can be reached as well.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};
use tokio_stream::Stream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_server::{Health, HealthServer};
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse};

use super::routes::Upstream;
use crate::failure::Failure;
use crate::target::{Settings, Target};

/// How long a server may take to be reached before its service is not serving.
const PATIENCE: Duration = Duration::from_secs(1);

/// How often a service is looked at that is watched.
const LOOK: Duration = Duration::from_secs(1);

/// What is asked about.
#[derive(Clone, Debug, Default)]
pub struct State {
    /// The services that routes name.
    pub services: BTreeMap<String, Arc<Upstream>>,
    pub is_stopping: bool,
}

/// Answers probes at `address` until it is dropped.
///
/// # Errors
/// When the address can't be served.
pub async fn serve(
    address: Target,
    settings: Settings,
    state: watch::Receiver<State>,
) -> Result<oneshot::Sender<()>, Failure> {
    let failure = |error: notnets::Error| Failure::new(error.to_string());
    let names: Vec<_> = address.into_uris().collect();
    let server = settings.server().add_service(HealthServer::new(Probed(state)));
    let bound = server.bind(names).await.map_err(failure)?;
    let (stop, stopped) = oneshot::channel();
    tokio::spawn(async move {
        let served = bound.serve_with_shutdown(async { drop(stopped.await) }).await;
        if let Err(error) = served {
            tracing::error!("probes are not answered any more: {error}");
        }
    });
    Ok(stop)
}

#[derive(Clone)]
struct Probed(watch::Receiver<State>);

impl Probed {
    async fn status_of(&self, service: &str) -> Option<ServingStatus> {
        let state = self.0.borrow().clone();
        if state.is_stopping {
            return Some(ServingStatus::NotServing);
        }
        if service.is_empty() {
            return Some(ServingStatus::Serving);
        }
        let upstream = state.services.get(service)?;
        match tokio::time::timeout(PATIENCE, upstream.reach()).await {
            Ok(Ok(())) => Some(ServingStatus::Serving),
            Ok(Err(_)) | Err(_) => Some(ServingStatus::NotServing),
        }
    }
}

fn response(status: ServingStatus) -> HealthCheckResponse {
    HealthCheckResponse { status: status.into() }
}

#[tonic::async_trait]
impl Health for Probed {
    type WatchStream = Pin<Box<dyn Stream<Item = Result<HealthCheckResponse, Status>> + Send>>;

    async fn check(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<HealthCheckResponse>, Status> {
        let service = request.into_inner().service;
        let status = self.status_of(&service).await;
        let unknown = || Status::not_found(format!("the proxy has no route that names {service}"));
        status.map(|status| Response::new(response(status))).ok_or_else(unknown)
    }

    async fn watch(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let service = request.into_inner().service;
        let mut probed = self.clone();
        let (sender, changes) = mpsc::channel(1);
        tokio::spawn(async move {
            let mut last = None;
            loop {
                let status = probed.status_of(&service).await.unwrap_or(ServingStatus::ServiceUnknown);
                if last != Some(status) && sender.send(Ok(response(status))).await.is_err() {
                    return;
                }
                last = Some(status);
                tokio::select! {
                    () = sender.closed() => return,
                    () = tokio::time::sleep(LOOK) => {}
                    changed = probed.0.changed() => if changed.is_err() { return },
                }
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(changes))))
    }
}
