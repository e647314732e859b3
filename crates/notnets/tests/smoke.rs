//! A channel and a server in one process: calls, ends, and coming back.

use std::time::Duration;

use notnets::{Endpoint, Server, Wait};
use tonic::Code;
use tonic_health::ServingStatus;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus as Reported;
use tonic_health::pb::health_client::HealthClient;

const LIMIT: Duration = Duration::from_secs(20);

fn request() -> HealthCheckRequest {
    HealthCheckRequest { service: String::new() }
}

async fn within<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(LIMIT, work).await.expect("this should not take so long")
}

async fn health(
    directory: &std::path::Path,
    wait: Wait,
) -> (tokio::task::JoinHandle<()>, tokio::sync::oneshot::Sender<()>) {
    let (reporter, service) = tonic_health::server::health_reporter();
    reporter.set_service_status("", ServingStatus::Serving).await;
    let (stop, stopped) = tokio::sync::oneshot::channel();
    let server = Server::builder().directory(directory).wait(wait).add_service(service);
    let bound = server.bind_blocking("notnets:///health").unwrap();
    let task = tokio::spawn(async move {
        bound.serve_with_shutdown(async { drop(stopped.await) }).await.unwrap();
    });
    (task, stop)
}

async fn calls_and_restarts(wait: Wait) {
    let directory = tempfile::tempdir().unwrap();
    let (server, stop) = health(directory.path(), wait).await;
    let endpoint = Endpoint::from_static("notnets:///health").directory(directory.path()).wait(wait);
    let mut client = HealthClient::new(endpoint.connect().await.unwrap());
    for _ in 0..1000 {
        let reply = within(client.check(request())).await.unwrap();
        assert_eq!(reply.into_inner().status, Reported::Serving as i32);
    }
    let mut watch = within(client.watch(request())).await.unwrap().into_inner();
    assert_eq!(within(watch.message()).await.unwrap().unwrap().status, Reported::Serving as i32);
    drop(watch);
    stop.send(()).unwrap();
    within(server).await.unwrap();
    let refused = within(client.check(request())).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unavailable, "{refused:?}");
    let refused = within(client.check(request())).await.unwrap_err();
    assert!(refused.message().contains("nobody serves the name `health`"), "{refused:?}");
    let (server, stop) = health(directory.path(), wait).await;
    let back = within(async {
        loop {
            match client.check(request()).await {
                Ok(reply) => break reply,
                Err(status) => assert_eq!(status.code(), Code::Unavailable),
            }
            tokio::task::yield_now().await;
        }
    });
    assert_eq!(back.await.into_inner().status, Reported::Serving as i32);
    stop.send(()).unwrap();
    within(server).await.unwrap();
}

#[tokio::test]
async fn current_thread() {
    calls_and_restarts(Wait::Adaptive).await;
}

#[tokio::test]
async fn current_thread_parking() {
    calls_and_restarts(Wait::Park).await;
}

#[tokio::test]
async fn current_thread_spinning() {
    calls_and_restarts(Wait::Spin).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn multi_thread() {
    calls_and_restarts(Wait::Adaptive).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn multi_thread_parking() {
    calls_and_restarts(Wait::Park).await;
}
