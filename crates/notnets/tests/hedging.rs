//! Calls that are made several times at once, as a service config says.

mod common;

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use common::{Running, within};
use http::Response;
use http_body_util::{BodyExt, Full};
use notnets::rpc::{Code, Handler, Metadata, Method, Payload, Request, ServerCall, Status};
use notnets::{Channel, Endpoint, Server, ServiceConfig};
use tokio::sync::{Barrier, Notify};
use tonic::body::Body;
use tower_service::Service;

/// What becomes of an attempt.
#[derive(Clone)]
enum Act {
    Answer,
    Hang,
    /// Answers when all these are there.
    Meet(Arc<Barrier>),
    Fail(Code, Option<&'static str>),
}

/// Handles the attempts as its script says, the last of which holds for all others.
struct Scripted {
    script: Vec<Act>,
    seen: Mutex<Vec<String>>,
    open: AtomicUsize,
    ended: Notify,
}

impl Scripted {
    fn new(script: impl IntoIterator<Item = Act>) -> Arc<Self> {
        let script = script.into_iter().collect();
        Arc::new(Self { script, seen: Mutex::default(), open: 0.into(), ended: Notify::new() })
    }

    /// What the attempts said of those before, in the order in which they came.
    fn seen(&self) -> Vec<String> {
        self.seen.lock().unwrap().clone()
    }

    /// Waits until no handler runs any more.
    async fn idle(&self) {
        within("the end of all attempts", async {
            loop {
                let ended = self.ended.notified();
                if self.open.load(Ordering::SeqCst) == 0 {
                    return;
                }
                ended.await;
            }
        })
        .await;
    }
}

/// One handler that runs.
struct Open<'a>(&'a Scripted);

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::SeqCst);
        self.0.ended.notify_one();
    }
}

struct Shared(Arc<Scripted>);

impl Handler for Shared {
    async fn call(&self, call: &mut ServerCall) -> Result<(), Status> {
        let server = &*self.0;
        let previous = call.metadata.get("grpc-previous-rpc-attempts").unwrap_or_default().to_owned();
        server.open.fetch_add(1, Ordering::SeqCst);
        let _open = Open(server);
        let n = {
            let mut seen = server.seen.lock().unwrap();
            seen.push(previous.clone());
            seen.len() - 1
        };
        match server.script.get(n).or(server.script.last()).cloned() {
            None | Some(Act::Answer) => {}
            Some(Act::Hang) => std::future::pending().await,
            Some(Act::Meet(barrier)) => _ = barrier.wait().await,
            Some(Act::Fail(code, pushback)) => {
                let mut trailers = Metadata::new();
                if let Some(pushback) = pushback {
                    trailers.append("grpc-retry-pushback-ms", pushback).unwrap();
                }
                return Err(Status::new(code, format!("failure {n}")).with_metadata(trailers));
            }
        }
        let message = call.requests.only_message().await?;
        call.responses.metadata().unwrap().append("attempt", previous).unwrap();
        call.responses.send_last(message).await
    }
}

struct Host {
    directory: tempfile::TempDir,
    server: Arc<Scripted>,
    _running: Running,
}

fn serve(builder: Server, directory: &Path, server: &Arc<Scripted>) -> Running {
    let builder = builder.directory(directory).add_rpc_service("test.Hedged", Shared(Arc::clone(server)));
    Running::start(builder.bind_blocking("notnets:///test").unwrap())
}

impl Host {
    fn new(script: impl IntoIterator<Item = Act>) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let server = Scripted::new(script);
        let running = serve(Server::builder(), directory.path(), &server);
        Self { directory, server, _running: running }
    }

    fn endpoint(&self, config: &str) -> Endpoint {
        let endpoint = Endpoint::from_static("notnets:///test").directory(self.directory.path());
        endpoint.service_config(ServiceConfig::from_json(config).unwrap())
    }

    fn channel(&self, config: &str) -> Channel {
        self.endpoint(config).connect_lazy()
    }
}

/// Hedges all methods so, with these other parts.
fn config(attempts: usize, delay: &str, more: &str) -> String {
    format!(
        r#"{{"methodConfig": [{{"name": [{{"service": "test.Hedged"}}], "hedgingPolicy": {{
            "maxAttempts": {attempts}, "hedgingDelay": "{delay}", "nonFatalStatusCodes": ["unavailable"]
        }}}}]{more}}}"#
    )
}

const CALL: Method = Method::from_static("/test.Hedged/Call");
/// Longer than any test.
const NEVER: &str = "1000s";
const UNAVAILABLE: Act = Act::Fail(Code::UNAVAILABLE, None);

async fn call(channel: &Channel, message: impl Into<Payload>) -> Result<String, Status> {
    let reply = within("a call", channel.unary_call(Request::new(CALL), message)).await?;
    Ok(reply.metadata.get("attempt").unwrap().to_owned())
}

#[tokio::test]
async fn the_first_answer_counts_and_the_others_are_cancelled() {
    let host = Host::new([Act::Hang, Act::Hang, Act::Answer]);
    assert_eq!(call(&host.channel(&config(3, "0.005s", "")), "x").await.unwrap(), "2");
    host.server.idle().await;
    assert_eq!(host.server.seen(), ["", "1", "2"]);
}

#[tokio::test]
async fn without_a_delay_all_attempts_are_made_at_once() {
    let host = Host::new([Act::Meet(Arc::new(Barrier::new(3)))]);
    call(&host.channel(&config(3, "0s", "")), "x").await.unwrap();
    host.server.idle().await;
    assert_eq!(host.server.seen(), ["", "1", "2"]);
}

#[tokio::test]
async fn a_quick_answer_leaves_the_call_at_one_attempt() {
    let host = Host::new([]);
    let channel = host.channel(&config(3, NEVER, ""));
    for _ in 0..3 {
        assert_eq!(call(&channel, "x").await.unwrap(), "");
    }
    assert_eq!(host.server.seen(), ["", "", ""]);
}

#[tokio::test]
async fn an_attempt_that_fails_is_followed_by_the_next_at_once() {
    let host = Host::new([UNAVAILABLE, UNAVAILABLE, Act::Answer]);
    assert_eq!(call(&host.channel(&config(3, NEVER, "")), "x").await.unwrap(), "2");
}

#[tokio::test]
async fn other_errors_end_the_call_and_cancel_the_rest() {
    let host = Host::new([Act::Hang, Act::Fail(Code::INTERNAL, None)]);
    let status = call(&host.channel(&config(2, "0.005s", "")), "x").await.unwrap_err();
    assert_eq!((status.code(), status.message()), (Code::INTERNAL, "failure 1"));
    host.server.idle().await;
    assert_eq!(host.server.seen().len(), 2);
}

#[tokio::test]
async fn the_last_failure_is_that_of_the_call() {
    let host = Host::new([UNAVAILABLE]);
    let status = call(&host.channel(&config(3, "0.001s", "")), "x").await.unwrap_err();
    assert_eq!((status.code(), host.server.seen().len()), (Code::UNAVAILABLE, 3));
    // More than five are not made.
    call(&host.channel(&config(50, "0s", "")), "x").await.unwrap_err();
    assert_eq!(host.server.seen().len(), 8);
}

#[tokio::test]
async fn a_server_decides_about_further_attempts() {
    let host = Host::new([Act::Fail(Code::UNAVAILABLE, Some("-1"))]);
    let status = call(&host.channel(&config(3, NEVER, "")), "x").await.unwrap_err();
    assert_eq!((status.message(), host.server.seen().len()), ("failure 0", 1));
    let host = Host::new([Act::Fail(Code::UNAVAILABLE, Some("60")), Act::Answer]);
    let begin = Instant::now();
    call(&host.channel(&config(3, NEVER, "")), "x").await.unwrap();
    assert!(begin.elapsed() >= Duration::from_millis(60));
}

#[tokio::test]
async fn one_deadline_holds_for_all_attempts() {
    let host = Host::new([Act::Hang]);
    let channel = host.channel(&config(2, "0s", ""));
    let request = Request::new(CALL).timeout(Duration::from_millis(500));
    let status = within("the deadline", channel.unary_call(request, "x")).await.unwrap_err();
    assert_eq!(status.code(), Code::DEADLINE_EXCEEDED);
    host.server.idle().await;
    assert_eq!(host.server.seen(), ["", "1"]);
    // Also while the next attempt is waited for, and none is open.
    let host = Host::new([Act::Fail(Code::UNAVAILABLE, Some("60000"))]);
    let channel = host.channel(&config(2, NEVER, ""));
    let request = Request::new(CALL).timeout(Duration::from_millis(500));
    let status = within("the deadline", channel.unary_call(request, "x")).await.unwrap_err();
    assert_eq!((status.code(), host.server.seen().len()), (Code::DEADLINE_EXCEEDED, 1));
}

#[tokio::test]
async fn many_failures_stop_further_attempts() {
    let host = Host::new([UNAVAILABLE, UNAVAILABLE, UNAVAILABLE, Act::Answer, UNAVAILABLE, Act::Answer]);
    let throttling = r#", "retryThrottling": {"maxTokens": 3, "tokenRatio": 3}"#;
    let channel = host.channel(&config(5, NEVER, throttling));
    // Two of three tokens are more than half of them; one is not.
    assert_eq!(call(&channel, "x").await.unwrap_err().message(), "failure 1");
    assert_eq!(call(&channel, "x").await.unwrap_err().message(), "failure 2");
    assert_eq!(call(&channel, "x").await.unwrap(), "");
    assert_eq!(call(&channel, "x").await.unwrap(), "1");
}

#[tokio::test]
async fn what_can_not_be_kept_is_made_once() {
    let host = Host::new([UNAVAILABLE]);
    let limited = ServiceConfig::from_json(&config(3, "0s", "")).unwrap().max_replay_bytes(100);
    let channel = host.endpoint("{}").service_config(limited).connect_lazy();
    call(&channel, vec![0; 200]).await.unwrap_err();
    assert_eq!(host.server.seen().len(), 1);
    let (sender, mut receiver) = within("opening", channel.streaming_call(Request::new(CALL))).await.unwrap();
    within("an end", receiver.message()).await.unwrap_err();
    drop(sender);
    assert_eq!(host.server.seen().len(), 2);
}

#[tokio::test]
async fn all_attempts_of_a_call_take_one_turn() {
    let host = Host::new([Act::Hang, Act::Hang, Act::Answer, Act::Hang, Act::Answer]);
    let channel = host.endpoint(&config(3, "0.002s", "")).concurrency_limit(1).connect_lazy();
    assert_eq!(call(&channel, "x").await.unwrap(), "2");
    // On a busy machine the third attempt is made as well.
    assert_ne!(call(&channel, "x").await.unwrap(), "");
    host.server.idle().await;
}

/// A message that needs more memory than there is when the call is opened.
#[tokio::test]
async fn each_attempt_sends_all_of_a_large_message() {
    let host = Host::new([Act::Hang, Act::Meet(Arc::new(Barrier::new(2)))]);
    let message: Vec<u8> = (0..900_000u32).map(|n| (n % 251) as u8).collect();
    let channel = host.channel(&config(3, "0.002s", ""));
    let reply = within("a call", channel.unary_call(Request::new(CALL), message.clone())).await.unwrap();
    assert!(reply.message.into_bytes() == message);
    host.server.idle().await;
}

#[tokio::test]
async fn requests_of_http_are_hedged_as_well() {
    let host = Host::new([Act::Hang, Act::Answer]);
    let mut channel = host.channel(&config(2, "0.005s", ""));
    let body = Full::new(bytes::Bytes::from_static(b"\0\0\0\0\x01x"));
    let request = http::Request::post("/test.Hedged/Call").header("content-type", "application/grpc");
    let request = request.body(Body::new(body)).unwrap();
    let response: Response<Body> = within("a call", channel.call(request)).await.unwrap();
    assert_eq!(response.headers()["attempt"], "1");
    let body = within("a body", response.into_body().collect()).await.unwrap().to_bytes();
    assert_eq!(&body[..], b"\0\0\0\0\x01x");
    host.server.idle().await;
}

/// A replica that hangs costs a call no more than the delay.
#[tokio::test]
async fn an_attempt_goes_to_another_replica() {
    let directory = tempfile::tempdir().unwrap();
    let (hangs, answers) = (Scripted::new([Act::Hang]), Scripted::new([]));
    let _running =
        [&hangs, &answers].map(|server| serve(Server::builder().replica(true), directory.path(), server));
    let at = directory.path().to_owned();
    let config = ServiceConfig::from_json(&config(3, "0.005s", "")).unwrap();
    let named = Channel::named("test").settings(|endpoint| endpoint.directory(at).service_config(config));
    let channel = named.connect_lazy().unwrap();
    for _ in 0..30 {
        call(&channel, "x").await.unwrap();
    }
    // On a busy machine an answer may take longer than the delay.
    assert!(answers.seen().len() >= 30);
    hangs.idle().await;
}
