//! What an observer is told of calls, on both sides.

mod common;

use std::cell::Cell;
use std::sync::Arc;
use std::time::Duration;

use common::within;
use notnets::observe::{
    Again, AgainReason, CallEnd, CallToMake, CallToServe, ClientCalls, Observed, Observer, ServerCalls,
};
use notnets::rpc::{Code, Handler, Method, Request, ServerCall, Status};
use notnets::{Channel, Server, ServiceConfig};
use tokio::sync::mpsc;

/// What an observer has been told.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Told {
    Begun(String),
    Again(AgainReason, Code),
    /// The status, and bytes sent and received.
    Ended(Code, u64, u64),
}

#[derive(Clone)]
struct Recorder(mpsc::UnboundedSender<Told>);

impl Recorder {
    fn new() -> (Self, mpsc::UnboundedReceiver<Told>) {
        let (sender, receiver) = mpsc::unbounded_channel();
        (Self(sender), receiver)
    }

    fn tell(&self, told: Told) {
        // At the end of a test nobody listens any more.
        let _ended = self.0.send(told);
    }
}

impl Observer for Recorder {
    fn of_channel(&self, target: &str) -> Arc<dyn ClientCalls> {
        assert_eq!(target, "notnets:///test");
        Arc::new(self.clone())
    }

    fn of_server(&self, names: &str) -> Arc<dyn ServerCalls> {
        assert_eq!(names, "notnets:///test");
        Arc::new(self.clone())
    }
}

impl ClientCalls for Recorder {
    fn begin(&self, call: &mut CallToMake<'_>) -> Arc<dyn Observed> {
        self.tell(Told::Begun(call.method().to_owned()));
        call.send_along("context", "of the client");
        Arc::new(self.clone())
    }
}

impl ServerCalls for Recorder {
    fn begin(&self, call: &CallToServe<'_>) -> Arc<dyn Observed> {
        self.tell(Told::Begun(call.method().to_owned()));
        assert_eq!(call.metadata("context"), Some(&b"of the client"[..]));
        assert_eq!(call.peer().pid, Some(std::process::id()));
        Arc::new(self.clone())
    }
}

thread_local! {
    static IS_WITHIN: Cell<bool> = const { Cell::new(false) };
}

impl Observed for Recorder {
    fn within(&self, poll: &mut dyn FnMut()) {
        IS_WITHIN.set(true);
        poll();
        IS_WITHIN.set(false);
    }

    fn attempted_again(&self, again: &Again) {
        self.tell(Told::Again(again.reason, again.status));
    }

    fn end(&self, end: &CallEnd) {
        self.tell(Told::Ended(end.status, end.bytes_sent, end.bytes_received));
    }
}

struct Service;

impl Handler for Service {
    async fn call(&self, call: &mut ServerCall) -> Result<(), Status> {
        assert!(IS_WITHIN.get());
        tokio::task::yield_now().await;
        assert!(IS_WITHIN.get());
        match call.method.name() {
            "Echo" => {
                let message = call.requests.only_message().await?;
                call.responses.send_last(message).await
            }
            "Stream" => {
                while let Some(message) = call.requests.message().await? {
                    call.responses.send(message).await?;
                }
                Ok(())
            }
            "Hang" => {
                call.responses.send_head().await?;
                std::future::pending().await
            }
            "FailOnce" if call.metadata.get("grpc-previous-rpc-attempts").is_some() => Ok(()),
            "FailOnce" => Err(Status::new(Code::UNAVAILABLE, "once")),
            "Panic" => panic!("as the test wants it"),
            _ => Err(Status::unknown_method(&call.method)),
        }
    }
}

struct Bed {
    channel: Channel,
    client: mpsc::UnboundedReceiver<Told>,
    server: mpsc::UnboundedReceiver<Told>,
    task: tokio::task::JoinHandle<()>,
    _directory: tempfile::TempDir,
}

impl Drop for Bed {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Bed {
    fn new(config: ServiceConfig) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let (observer, server) = Recorder::new();
        let builder = Server::builder().directory(directory.path()).observer(observer);
        let bound =
            builder.add_rpc_service("test.Service", Service).bind_blocking("notnets:///test").unwrap();
        let task = tokio::spawn(async move { bound.serve().await.unwrap() });
        let (observer, client) = Recorder::new();
        let endpoint = notnets::Endpoint::from_static("notnets:///test").directory(directory.path());
        let channel = endpoint.service_config(config).observer(observer).connect_lazy();
        Self { channel, client, server, task, _directory: directory }
    }

    fn plain() -> Self {
        Self::new(ServiceConfig::from_json("{}").unwrap())
    }

    async fn client_is_told(&mut self, expected: &[Told]) {
        assert_eq!(next(&mut self.client, expected.len()).await, expected);
    }

    async fn server_is_told(&mut self, expected: &[Told]) {
        assert_eq!(next(&mut self.server, expected.len()).await, expected);
    }
}

async fn next(told: &mut mpsc::UnboundedReceiver<Told>, count: usize) -> Vec<Told> {
    let mut seen = Vec::new();
    while seen.len() < count {
        seen.push(within("being told", told.recv()).await.unwrap());
    }
    seen
}

fn begun(name: &str) -> Told {
    Told::Begun(format!("/test.Service/{name}"))
}

const ECHO: Method = Method::from_static("/test.Service/Echo");
const STREAM: Method = Method::from_static("/test.Service/Stream");
const HANG: Method = Method::from_static("/test.Service/Hang");
const FAIL_ONCE: Method = Method::from_static("/test.Service/FailOnce");
const PANIC: Method = Method::from_static("/test.Service/Panic");
const NONE: Method = Method::from_static("/test.Service/None");

#[tokio::test]
async fn calls_of_all_kinds_are_seen_on_both_sides() {
    let mut bed = Bed::plain();
    bed.channel.unary_call(Request::new(ECHO), "hello").await.unwrap();
    let told = [begun("Echo"), Told::Ended(Code::OK, 10, 10)];
    bed.client_is_told(&told).await;
    bed.server_is_told(&told).await;

    let (mut sender, mut receiver) = bed.channel.streaming_call(Request::new(STREAM)).await.unwrap();
    for _ in 0..3 {
        sender.send("x").await.unwrap();
        assert!(receiver.message().await.unwrap().is_some());
    }
    sender.send(vec![7; 100_000]).await.unwrap();
    assert_eq!(receiver.message().await.unwrap().unwrap().len(), 100_000);
    sender.finish().await.unwrap();
    assert!(receiver.message().await.unwrap().is_none());
    let told = [begun("Stream"), Told::Ended(Code::OK, 100_023, 100_023)];
    bed.client_is_told(&told).await;
    bed.server_is_told(&told).await;

    let failed = bed.channel.unary_call(Request::new(NONE), "").await;
    assert_eq!(failed.unwrap_err().code(), Code::UNIMPLEMENTED);
    bed.client_is_told(&[begun("None"), Told::Ended(Code::UNIMPLEMENTED, 5, 0)]).await;
    bed.server_is_told(&[begun("None"), Told::Ended(Code::UNIMPLEMENTED, 0, 5)]).await;
}

#[tokio::test]
async fn calls_that_are_cut_short_are_seen() {
    let mut bed = Bed::plain();
    let receiver = bed.channel.server_streaming_call(Request::new(HANG), "").await.unwrap();
    drop(receiver);
    bed.client_is_told(&[begun("Hang"), Told::Ended(Code::CANCELLED, 5, 0)]).await;
    bed.server_is_told(&[begun("Hang"), Told::Ended(Code::CANCELLED, 0, 5)]).await;

    let (sender, mut receiver) = bed.channel.streaming_call(Request::new(HANG)).await.unwrap();
    receiver.head().await.unwrap();
    drop((sender, receiver));
    bed.client_is_told(&[begun("Hang"), Told::Ended(Code::CANCELLED, 0, 0)]).await;
    bed.server_is_told(&[begun("Hang"), Told::Ended(Code::CANCELLED, 0, 0)]).await;

    let request = Request::new(HANG).timeout(Duration::from_millis(20));
    let late = bed.channel.unary_call(request, "").await;
    assert_eq!(late.unwrap_err().code(), Code::DEADLINE_EXCEEDED);
    bed.client_is_told(&[begun("Hang"), Told::Ended(Code::DEADLINE_EXCEEDED, 5, 0)]).await;
    bed.server_is_told(&[begun("Hang"), Told::Ended(Code::DEADLINE_EXCEEDED, 0, 5)]).await;

    let panicked = bed.channel.unary_call(Request::new(PANIC), "").await;
    assert_eq!(panicked.unwrap_err().code(), Code::INTERNAL);
    bed.client_is_told(&[begun("Panic"), Told::Ended(Code::INTERNAL, 5, 0)]).await;
    bed.server_is_told(&[begun("Panic"), Told::Ended(Code::INTERNAL, 0, 5)]).await;
}

#[tokio::test]
async fn a_call_without_a_server_is_seen() {
    let (observer, mut told) = Recorder::new();
    let directory = tempfile::tempdir().unwrap();
    let endpoint = notnets::Endpoint::from_static("notnets:///test").directory(directory.path());
    let channel = endpoint.observer(observer).connect_lazy();
    for _ in 0..2 {
        channel.unary_call(Request::new(ECHO), "").await.unwrap_err();
        assert!(channel.streaming_call(Request::new(ECHO)).await.is_err());
    }
    for _ in 0..4 {
        assert_eq!(next(&mut told, 2).await, [begun("Echo"), Told::Ended(Code::UNAVAILABLE, 0, 0)]);
    }
}

#[tokio::test]
async fn attempts_are_seen() {
    let policy = |policy: &str| {
        let config = format!(r#"{{"methodConfig": [{{"name": [{{}}], {policy}}}]}}"#);
        ServiceConfig::from_json(&config).unwrap()
    };
    let retries = r#""retryPolicy": {"maxAttempts": 2, "initialBackoff": "0.001s", "maxBackoff": "0.001s",
        "backoffMultiplier": 1, "retryableStatusCodes": ["UNAVAILABLE"]}"#;
    let mut bed = Bed::new(policy(retries));
    let empty = bed.channel.unary_call(Request::new(FAIL_ONCE), "").await;
    assert_eq!(empty.unwrap_err().message(), "the response has no message");
    let again = Told::Again(AgainReason::Retry, Code::UNAVAILABLE);
    bed.client_is_told(&[begun("FailOnce"), again, Told::Ended(Code::OK, 5, 0)]).await;
    let ended = |code| Told::Ended(code, 0, 5);
    let calls = [begun("FailOnce"), ended(Code::UNAVAILABLE), begun("FailOnce"), ended(Code::OK)];
    bed.server_is_told(&calls).await;

    let hedges = r#""hedgingPolicy": {"maxAttempts": 2, "hedgingDelay": "60s"}"#;
    let mut bed = Bed::new(policy(&hedges.replace("60s", "0s")));
    bed.channel.unary_call(Request::new(ECHO), "").await.unwrap();
    let told = next(&mut bed.client, 3).await;
    assert_eq!(told[..2], [begun("Echo"), Told::Again(AgainReason::Hedge, Code::OK)]);
    assert!(matches!(told[2], Told::Ended(Code::OK, ..)), "{told:?}");
}

/// Over HTTP, as tonic's stubs call and serve.
#[tokio::test]
async fn calls_by_http_are_seen() {
    let directory = tempfile::tempdir().unwrap();
    let (observer, mut server) = Recorder::new();
    let (_reporter, health) = tonic_health::server::health_reporter();
    let builder = Server::builder().directory(directory.path()).observer(observer).add_service(health);
    let bound = builder.bind_blocking("notnets:///test").unwrap();
    let task = tokio::spawn(async move { bound.serve().await.unwrap() });
    let (observer, mut client) = Recorder::new();
    let endpoint = notnets::Endpoint::from_static("notnets:///test").directory(directory.path());
    let channel = endpoint.observer(observer).connect_lazy();
    let mut health = tonic_health::pb::health_client::HealthClient::new(channel);
    let request = |service: &str| tonic_health::pb::HealthCheckRequest { service: service.to_owned() };
    health.check(request("")).await.unwrap();
    health.check(request("none")).await.unwrap_err();
    let seen = |told: Vec<Told>| -> Vec<_> {
        told.into_iter()
            .map(|told| if let Told::Ended(code, ..) = told { Some(code) } else { None })
            .collect()
    };
    let expected = [None, Some(Code::OK), None, Some(Code::NOT_FOUND)];
    assert_eq!(seen(next(&mut client, 4).await), expected);
    assert_eq!(seen(next(&mut server, 4).await), expected);
    task.abort();
}
