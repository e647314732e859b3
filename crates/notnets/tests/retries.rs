//! Calls that are made again, as a service config says.

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use common::within;
use notnets::rpc::{Code, Handler, Metadata, Method, Payload, Request, ServerCall, Status};
use notnets::{Channel, Server, ServiceConfig};
use tokio::task::JoinHandle;

/// Fails as often as it is told, then echoes.
#[derive(Default)]
struct Flaky {
    calls: AtomicUsize,
    failures: AtomicUsize,
    /// What further attempts are told.
    pushback: Option<&'static str>,
}

impl Handler for Flaky {
    async fn call(&self, call: &mut ServerCall) -> Result<(), Status> {
        let attempts = call.metadata.get("grpc-previous-rpc-attempts").map(str::to_owned);
        let n = self.calls.fetch_add(1, Ordering::Relaxed);
        let fails = self.failures.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| n.checked_sub(1));
        if fails.is_ok() {
            let mut trailers = Metadata::new();
            if let Some(pushback) = self.pushback {
                trailers.append("grpc-retry-pushback-ms", pushback).unwrap();
            }
            if call.method.name() == "FailLate" {
                call.responses.send("one").await?;
            }
            return Err(Status::new(Code::UNAVAILABLE, format!("failure {n}")).with_metadata(trailers));
        }
        let message = call.requests.only_message().await?;
        call.responses.metadata().unwrap().append("attempts", attempts.unwrap_or_default()).unwrap();
        call.responses.send_last(message).await
    }
}

struct Host {
    directory: tempfile::TempDir,
    flaky: Arc<Flaky>,
    task: JoinHandle<()>,
}

impl Drop for Host {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct Shared(Arc<Flaky>);

impl Handler for Shared {
    async fn call(&self, call: &mut ServerCall) -> Result<(), Status> {
        self.0.call(call).await
    }
}

fn bind(directory: &std::path::Path, flaky: &Arc<Flaky>) -> JoinHandle<()> {
    let server = Server::builder().directory(directory);
    let server = server.add_rpc_service("test.Flaky", Shared(Arc::clone(flaky)));
    let bound = server.bind_blocking("notnets:///test").unwrap();
    tokio::spawn(async move { bound.serve().await.unwrap() })
}

impl Host {
    fn failing(failures: usize, pushback: Option<&'static str>) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let flaky = Arc::new(Flaky { failures: failures.into(), pushback, ..Flaky::default() });
        let task = bind(directory.path(), &flaky);
        Self { directory, flaky, task }
    }

    fn channel(&self, config: &str) -> Channel {
        channel(self.directory.path(), ServiceConfig::from_json(config).unwrap())
    }

    fn calls(&self) -> usize {
        self.flaky.calls.load(Ordering::Relaxed)
    }
}

fn channel(directory: &std::path::Path, config: ServiceConfig) -> Channel {
    let endpoint = notnets::Endpoint::from_static("notnets:///test").directory(directory);
    endpoint.service_config(config).connect_lazy()
}

/// Retries of all methods of the service, with these other parts.
fn config(attempts: usize, more: &str) -> String {
    format!(
        r#"{{"methodConfig": [{{"name": [{{"service": "test.Flaky"}}], "retryPolicy": {{
            "maxAttempts": {attempts}, "initialBackoff": "0.001s", "maxBackoff": "0.002s",
            "backoffMultiplier": 2, "retryableStatusCodes": ["unavailable"]
        }}}}]{more}}}"#
    )
}

const CALL: Method = Method::from_static("/test.Flaky/Call");
const FAIL_LATE: Method = Method::from_static("/test.Flaky/FailLate");

async fn call(channel: &Channel, message: impl Into<Payload>) -> Result<String, Status> {
    let reply = within("a call", channel.unary_call(Request::new(CALL), message)).await?;
    Ok(reply.metadata.get("attempts").unwrap().to_owned())
}

#[tokio::test]
async fn failed_calls_are_made_again_and_say_so() {
    for failures in 0..4 {
        let host = Host::failing(failures, None);
        let attempts = call(&host.channel(&config(4, "")), "x").await.unwrap();
        assert_eq!(attempts, if failures == 0 { String::new() } else { failures.to_string() });
        assert_eq!(host.calls(), failures + 1);
    }
}

#[tokio::test]
async fn attempts_end_with_the_last_status() {
    let host = Host::failing(100, None);
    let status = call(&host.channel(&config(3, "")), "x").await.unwrap_err();
    assert_eq!((status.message(), host.calls()), ("failure 2", 3));
    // More than five are not made.
    let status = call(&host.channel(&config(50, "")), "x").await.unwrap_err();
    assert_eq!((status.message(), host.calls()), ("failure 7", 8));
}

#[tokio::test]
async fn without_a_policy_a_call_is_made_once() {
    let host = Host::failing(100, None);
    for config in ["{}", r#"{"methodConfig": [{"name": [{"service": "test.Other"}], "timeout": "1s"}]}"#] {
        let before = host.calls();
        call(&host.channel(config), "x").await.unwrap_err();
        assert_eq!(host.calls(), before + 1);
    }
}

#[tokio::test]
async fn a_server_decides_about_further_attempts() {
    let host = Host::failing(1, Some("-1"));
    assert_eq!(call(&host.channel(&config(3, "")), "x").await.unwrap_err().message(), "failure 0");
    let host = Host::failing(1, Some("60"));
    let begin = Instant::now();
    call(&host.channel(&config(3, "")), "x").await.unwrap();
    assert!(begin.elapsed() >= Duration::from_millis(60));
}

#[tokio::test]
async fn one_deadline_holds_for_all_attempts() {
    let host = Host::failing(1, Some("60000"));
    let request = Request::new(CALL).timeout(Duration::from_millis(50));
    let channel = host.channel(&config(3, ""));
    let status = within("the deadline", channel.unary_call(request, "x")).await.unwrap_err();
    assert_eq!(status.code(), Code::DEADLINE_EXCEEDED, "{status:?}");
    assert_eq!(host.calls(), 1);
}

#[tokio::test]
async fn an_answer_that_has_begun_commits_the_call() {
    let host = Host::failing(1, None);
    let channel = host.channel(&config(3, ""));
    let receiver = channel.server_streaming_call(Request::new(FAIL_LATE), "x");
    let mut receiver = within("a head", receiver).await.unwrap();
    assert_eq!(within("one", receiver.message()).await.unwrap().unwrap().into_bytes(), "one");
    assert_eq!(within("an end", receiver.message()).await.unwrap_err().message(), "failure 0");
    assert_eq!(host.calls(), 1);
}

#[tokio::test]
async fn a_request_that_is_too_large_to_be_kept_is_made_once() {
    let host = Host::failing(100, None);
    let config = ServiceConfig::from_json(&config(3, "")).unwrap().max_replay_bytes(100);
    let channel = channel(host.directory.path(), config);
    call(&channel, vec![0; 200]).await.unwrap_err();
    assert_eq!(host.calls(), 1);
    call(&channel, vec![0; 50]).await.unwrap_err();
    assert_eq!(host.calls(), 4);
}

#[tokio::test]
async fn many_failures_stop_further_attempts() {
    let host = Host::failing(1000, None);
    let channel = host.channel(&config(5, r#", "retryThrottling": {"maxTokens": 10, "tokenRatio": 1}"#));
    // 9, 8, 7, 6 are more than half of 10; 5 is not.
    call(&channel, "x").await.unwrap_err();
    assert_eq!(host.calls(), 5);
    call(&channel, "x").await.unwrap_err();
    assert_eq!(host.calls(), 6);
    host.flaky.failures.store(0, Ordering::Relaxed);
    for _ in 0..10 {
        call(&channel, "x").await.unwrap();
    }
    host.flaky.failures.store(1, Ordering::Relaxed);
    assert_eq!(call(&channel, "x").await.unwrap(), "1");
}

#[tokio::test]
async fn a_call_waits_until_a_server_is_there_or_its_time_is_up() {
    let directory = tempfile::tempdir().unwrap();
    let json = r#"{"methodConfig": [{"name": [{}], "waitForReady": true, "timeout": "0.05s"}]}"#;
    let short = channel(directory.path(), ServiceConfig::from_json(json).unwrap());
    assert_eq!(call(&short, "x").await.unwrap_err().code(), Code::DEADLINE_EXCEEDED);
    let json = r#"{"methodConfig": [{"name": [{}], "waitForReady": true}]}"#;
    let plain = channel(directory.path(), ServiceConfig::from_json(json).unwrap());
    let at = directory.path().to_owned();
    let config = ServiceConfig::from_json(json).unwrap();
    let named = Channel::named("test").settings(|endpoint| endpoint.directory(at).service_config(config));
    let named = named.connect_lazy().unwrap();
    let calls = [plain, named].map(|channel| tokio::spawn(async move { call(&channel, "x").await }));
    // They wait, whatever else runs.
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    assert!(calls.iter().all(|call| !call.is_finished()));
    let flaky = Arc::<Flaky>::default();
    let task = bind(directory.path(), &flaky);
    for call in calls {
        within("a call", call).await.unwrap().unwrap();
    }
    task.abort();
}

/// Replicas that are killed one after the other fail no call whose method may be executed again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kills_of_replicas_fail_no_call_that_may_be_made_again() {
    let directory = tempfile::tempdir().unwrap();
    let serve = || {
        let server = Server::builder().directory(directory.path()).replica(true);
        let server = server.add_rpc_service("test.Flaky", Flaky::default());
        let bound = server.bind_blocking("notnets:///test").unwrap();
        tokio::spawn(async move { bound.serve().await.unwrap() })
    };
    let mut replicas: std::collections::VecDeque<_> = (0..3).map(|_| serve()).collect();
    let at = directory.path().to_owned();
    let config = ServiceConfig::from_json(&config(5, "")).unwrap();
    let named = Channel::named("test").settings(|endpoint| endpoint.directory(at).service_config(config));
    let channel = named.connect_lazy().unwrap();
    let (stop, calls) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let callers: Vec<_> = (0..4)
        .map(|_| {
            let (channel, stop, calls) = (channel.clone(), Arc::clone(&stop), Arc::clone(&calls));
            tokio::spawn(async move {
                while stop.load(Ordering::Relaxed) == 0 {
                    call(&channel, "x").await.unwrap();
                    calls.fetch_add(1, Ordering::Relaxed);
                }
            })
        })
        .collect();
    for _ in 0..50 {
        replicas.push_back(serve());
        let killed = replicas.pop_front().unwrap();
        killed.abort();
        let _ended = within("ending", killed).await;
        let before = calls.load(Ordering::Relaxed);
        within("calls go on", async {
            while calls.load(Ordering::Relaxed) < before + 50 && !callers.iter().any(JoinHandle::is_finished)
            {
                tokio::task::yield_now().await;
            }
        })
        .await;
    }
    stop.store(1, Ordering::Relaxed);
    for caller in callers {
        within("a caller", caller).await.unwrap();
    }
    println!("{} calls", calls.load(Ordering::Relaxed));
}
