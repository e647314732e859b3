//! The one bound that a channel must meet, and clients on top of it.

use std::time::Duration;

use http::{Request, Response};
use tonic::body::Body;
use tower_service::Service;

use crate::pb::bulk_client::BulkClient;
use crate::pb::faults_client::FaultsClient;
use crate::pb::probe_client::ProbeClient;
use crate::pb::test_client::TestClient;
use crate::pb::{Counters, Key, Nothing, WaitRequest};

/// A channel as tonic's generated clients take it: cheap to clone, used from
/// many tasks. Every such service is a `tonic::client::GrpcService<Body>`.
pub trait Rpc:
    Service<
        Request<Body>,
        Response = Response<Body>,
        Error: Into<tonic::codegen::StdError> + Send + Sync,
        Future: Send + 'static,
    > + Clone
    + Send
    + Sync
    + 'static
{
}

impl<T> Rpc for T where
    T: Service<
            Request<Body>,
            Response = Response<Body>,
            Error: Into<tonic::codegen::StdError> + Send + Sync,
            Future: Send + 'static,
        > + Clone
        + Send
        + Sync
        + 'static
{
}

/// A client of the well-behaved calls.
pub fn test<C: Rpc>(channel: &C) -> TestClient<C> {
    TestClient::new(channel.clone())
}

/// A client of the handlers that misbehave.
pub fn faults<C: Rpc>(channel: &C) -> FaultsClient<C> {
    FaultsClient::new(channel.clone())
}

/// A client of the service with raised limits.
pub fn bulk<C: Rpc>(channel: &C) -> BulkClient<C> {
    BulkClient::new(channel.clone())
}

/// A client of the probe.
pub fn probe<C: Rpc>(channel: &C) -> ProbeClient<C> {
    ProbeClient::new(channel.clone())
}

/// A request that the probe counts under `key`.
pub fn keyed<T>(key: &'static str, message: T) -> tonic::Request<T> {
    let mut request = tonic::Request::new(message);
    request.metadata_mut().insert("x-key", key.parse().expect("a key is valid metadata"));
    request
}

/// What the probe counted under `key` so far.
pub async fn counters<C: Rpc>(channel: &C, key: &str) -> Counters {
    probe(channel).read(Key { key: key.into() }).await.expect("the probe answers").into_inner()
}

/// How long a case waits for what must happen at once.
const PATIENCE: Duration = Duration::from_secs(20);

/// Waits for something that must happen by itself.
///
/// # Panics
/// When it does not.
pub async fn expect<T>(what: &str, event: impl Future<Output = T>) -> T {
    match tokio::time::timeout(PATIENCE, event).await {
        Ok(outcome) => outcome,
        Err(_) => panic!("{what}: not within {PATIENCE:?}"),
    }
}

/// Waits until the probe has counted `at_least` that much under `key`.
///
/// # Panics
/// When that takes too long, with what was counted.
pub async fn wait_for<C: Rpc>(channel: &C, key: &str, at_least: Counters) -> Counters {
    let mut client = probe(channel);
    let request = WaitRequest { key: key.into(), at_least: Some(at_least.clone()) };
    match tokio::time::timeout(PATIENCE, client.wait(request)).await {
        Ok(reply) => reply.expect("the probe answers").into_inner(),
        Err(_) => {
            let found = counters(channel, key).await;
            panic!("after {PATIENCE:?} the probe counts {found:?} under {key:?}, expected {at_least:?}")
        }
    }
}

/// Asserts that the channel still carries calls.
pub async fn assert_alive<C: Rpc>(channel: &C) {
    test(channel).empty(Nothing {}).await.expect("other calls on the same channel go on");
}
