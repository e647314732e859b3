//! tonic at one end of a call and the blocking API at the other: either may be the client.

mod common;

use std::time::Duration;

use common::{call, data, within};
use notnets::blocking::{self, Call, Response, Status, Stopper};
use notnets::{Channel, Endpoint, Wait};
use notnets_core::code::Code;
use tempfile::TempDir;
use tonic::body::Body;
use tonic_health::ServingStatus;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;

const CHECK: &str = "/grpc.health.v1.Health/Check";
/// A `HealthCheckResponse` that says SERVING.
const SERVING: &[u8] = &[8, 1];
const WAITS: [Wait; 3] = [Wait::Spin, Wait::Adaptive, Wait::Park];

fn varint(mut n: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    while n >= 128 {
        bytes.push(n as u8 | 128);
        n >>= 7;
    }
    bytes.push(n as u8);
    bytes
}

/// A `HealthCheckRequest` for this service.
fn encoded(service: &str) -> Vec<u8> {
    [&[10], &*varint(service.len()), service.as_bytes()].concat()
}

/// Runs a blocking client beside the runtime.
async fn beside<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    within("a blocking client", tokio::task::spawn_blocking(work)).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_blocking_client_calls_a_tonic_service() {
    for wait in WAITS {
        let directory = tempfile::tempdir().unwrap();
        let (reporter, service) = tonic_health::server::health_reporter();
        let long = "s".repeat(300_000);
        for name in ["", "exactly 32 bytes as it is encod", &long] {
            reporter.set_service_status(name, ServingStatus::Serving).await;
        }
        let server = notnets::Server::builder().directory(directory.path()).wait(wait).add_service(service);
        let bound = server.bind_blocking("notnets:///health").unwrap();
        let task = tokio::spawn(bound.serve());
        let endpoint = blocking::Endpoint::new("notnets:///health").unwrap().directory(directory.path());
        beside(move || {
            let mut client = endpoint.wait(wait).connect().unwrap();
            assert_eq!(client.call(CHECK, b"").unwrap(), SERVING);
            for name in ["", "exactly 32 bytes as it is encod", &long] {
                assert_eq!(client.call(CHECK, &encoded(name)).unwrap(), SERVING, "{} bytes", name.len());
            }
            let status = client.call(CHECK, &encoded("bread")).unwrap_err();
            assert_eq!((status.code, &*status.message), (Code(5), "service not registered"));
            let status = client.call("/grpc.health.v1.Health/What", b"").unwrap_err();
            assert_eq!(status.code, Code::UNIMPLEMENTED);
            // A stream that does not end after its first message.
            let call = Call {
                timeout: Some(Duration::from_millis(50)),
                ..Call::new("/grpc.health.v1.Health/Watch", b"")
            };
            let mut response = Response::default();
            let status = client.call_into(&call, &mut response).unwrap_err();
            assert_eq!((status.code, &*response.message), (Code::DEADLINE_EXCEEDED, SERVING));
            assert_eq!(client.call(CHECK, b"").unwrap(), SERVING, "and the link goes on");
        })
        .await;
        task.abort();
    }
}

/// A blocking server on a thread, stopped when this is dropped.
struct Host {
    directory: TempDir,
    stopper: Stopper,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Host {
    fn new(wait: Wait) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let server = blocking::Server::builder().directory(directory.path()).wait(wait);
        let server = server.bind("notnets:///health").unwrap();
        let stopper = server.stopper();
        let thread = std::thread::spawn(move || server.serve(serve));
        Self { directory, stopper, thread: Some(thread) }
    }

    async fn channel(&self, wait: Wait) -> Channel {
        let endpoint = Endpoint::from_static("notnets:///health").directory(self.directory.path());
        within("connecting", endpoint.wait(wait).connect()).await.unwrap()
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        self.stopper.stop();
        let ended = self.thread.take().map(std::thread::JoinHandle::join);
        assert!(std::thread::panicking() || matches!(ended, None | Some(Ok(()))));
    }
}

fn serve(request: &blocking::Request<'_>, reply: &mut blocking::Reply) -> Result<(), Status> {
    if !request.method.starts_with("/grpc.health.v1.Health/") {
        return Err(Status::unknown_method(request.method));
    }
    if let Some((_, value)) = request.metadata.iter().find(|(key, _)| &**key == "fail") {
        let metadata = [("reason".into(), value.clone())].into();
        return Err(Status { metadata, ..Status::new(Code(9), "as you like – 100 %") });
    }
    if request.metadata.iter().any(|(key, _)| &**key == "hang") {
        assert!(request.time_left().is_some_and(|left| left < common::LIMIT));
        std::thread::sleep(request.time_left().unwrap());
    }
    reply.message.extend_from_slice(SERVING);
    // A field that nobody knows, of as many bytes as the request has.
    reply.message.push(15 << 3 | 2);
    reply.message.extend(varint(request.message.len()));
    reply.message.extend_from_slice(request.message);
    reply.metadata.push("before", "1");
    if request.metadata.iter().any(|(key, _)| &**key == "trailers") {
        reply.trailers.push("after", "2");
    }
    Ok(())
}

fn check(service: &str) -> tonic::Request<HealthCheckRequest> {
    tonic::Request::new(HealthCheckRequest { service: service.into() })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tonic_client_calls_a_blocking_server() {
    for wait in WAITS {
        let host = Host::new(wait);
        let mut client = HealthClient::new(host.channel(wait).await);
        for len in [0, 1, 20, 28, 1000, 20_000, 300_000] {
            let service = "s".repeat(len);
            let reply = within("a call", client.check(check(&service))).await.unwrap();
            assert_eq!(
                (reply.metadata().get("before").unwrap().as_bytes(), reply.get_ref().status),
                (&b"1"[..], 1)
            );
        }
        let mut request = check("");
        request.metadata_mut().insert("fail", "sold-out".parse().unwrap());
        let status = within("a call", client.check(request)).await.unwrap_err();
        assert_eq!(status.code(), tonic::Code::FailedPrecondition);
        assert_eq!(
            (status.message(), status.metadata().get("reason").unwrap().to_str().unwrap()),
            ("as you like – 100 %", "sold-out")
        );
        let mut request = check("");
        request.metadata_mut().insert("trailers", "1".parse().unwrap());
        let mut stream = within("a stream", client.watch(request)).await.unwrap().into_inner();
        assert_eq!(within("a message", stream.message()).await.unwrap().unwrap().status, 1);
        assert_eq!(within("the end", stream.message()).await.unwrap(), None);
        let trailers = within("trailers", stream.trailers()).await.unwrap().unwrap();
        assert_eq!(trailers.get("after").unwrap(), "2");
        let mut request = check("");
        request.metadata_mut().insert("hang", "1".parse().unwrap());
        request.set_timeout(Duration::from_millis(50));
        let status = within("a call", client.check(request)).await.unwrap_err();
        assert_eq!(status.code(), tonic::Code::DeadlineExceeded);
        within("a call", client.check(check(""))).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_calls_at_once_on_a_link_are_answered_one_after_the_other() {
    for wait in [Wait::Adaptive, Wait::Park] {
        let host = Host::new(wait);
        let channel = host.channel(wait).await;
        let calls: Vec<_> = (0..300)
            .map(|nth| {
                let mut client = HealthClient::new(channel.clone());
                let service = "s".repeat(nth * 37);
                tokio::spawn(async move { client.check(check(&service)).await })
            })
            .collect();
        for call in calls {
            let reply = within("a call", call).await.unwrap().unwrap();
            assert_eq!(reply.into_inner().status, 1);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_that_are_not_one_plain_message_are_refused() {
    let host = Host::new(Wait::Park);
    let channel = host.channel(Wait::Park).await;
    let two = [0, 0, 0, 0, 1, 7, 0, 0, 0, 0, 0];
    let compressed = [1, 0, 0, 0, 0];
    for (body, code) in [(&two[..], "12"), (&compressed, "12"), (&two[..3], "13"), (b"", "13")] {
        let body = Body::new(http_body_util::Full::new(bytes::Bytes::copy_from_slice(body)));
        let mut response = within("a call", call(&channel, CHECK, body)).await.unwrap();
        assert_eq!(response.headers()["grpc-status"], code);
        assert!(data(response.body_mut()).await.is_none());
    }
    let (mut sender, body) = http_body_util::channel::Channel::<bytes::Bytes, tonic::Status>::new(1);
    let calling = tokio::spawn(call(&channel, CHECK, Body::new(body)));
    // The second one goes out when the first has been taken.
    for _ in 0..2 {
        within("sending", sender.send_data(two[..6].to_vec().into())).await.unwrap();
    }
    let response = within("a call", calling).await.unwrap().unwrap();
    assert_eq!(response.headers()["grpc-status"], "12", "before the client has ended");
}
