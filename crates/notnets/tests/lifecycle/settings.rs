//! What the builders set, as the other process experiences it.

use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::BodyExt;
use tempfile::tempdir;
use tonic::body::Body;
use tonic::{Code, Request};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tower::ServiceExt;

use crate::support::client::{Client, endpoint};
use crate::support::helper::Helper;
use crate::support::{counters, eventually, is_retry_safe, within};

const SHORT: Duration = Duration::from_millis(200);
/// What a busy machine may add.
const SLACK: Duration = Duration::from_secs(1);

#[track_caller]
fn took_about(began: Instant, expected: Duration) {
    let took = began.elapsed();
    assert!(took >= expected - Duration::from_millis(5) && took < expected + SLACK, "{took:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_servers_timeout() {
    let directory = tempdir().unwrap();
    let mut server = Helper::server(directory.path(), &format!("timeout={}", SHORT.as_millis()));
    let client = Client::connect(directory.path()).await;
    let began = Instant::now();
    let status = within(client.text("hang", "")).await.unwrap_err();
    assert_eq!(status.code(), Code::DeadlineExceeded, "{status:?}");
    took_about(began, SHORT);
    server.expect("hang began");
    server.expect("hang is gone");
    // The handler knows; a client's shorter one counts instead, a longer one does not.
    let remaining = |asked: Option<Duration>| {
        let mut request = Request::new(Bytes::new());
        asked.into_iter().for_each(|asked| request.set_timeout(asked));
        let client = &client;
        async move {
            let reply = within(client.unary("timeout", request)).await.unwrap().into_inner();
            let text = String::from_utf8(reply.into()).unwrap();
            let nanos = text.strip_suffix('n').map(|n| n.parse::<u64>().unwrap());
            let micros = text.strip_suffix('u').map(|u| u.parse::<u64>().unwrap() * 1000);
            Duration::from_nanos(nanos.or(micros).unwrap_or_else(|| panic!("{text}")))
        }
    };
    for asked in [None, Some(Duration::from_secs(60))] {
        let left = remaining(asked).await;
        assert!(left > SHORT / 2 && left <= SHORT, "{left:?} for {asked:?}");
    }
    let left = remaining(Some(SHORT / 2)).await;
    assert!(left <= SHORT / 2, "{left:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_servers_limit_of_calls_for_each_link() {
    let directory = tempdir().unwrap();
    let mut server = Helper::server(directory.path(), "concurrency=1");
    let (client, other) = (Client::connect(directory.path()).await, Client::connect(directory.path()).await);
    let caller = client.clone();
    let first = tokio::spawn(async move { caller.text("hang", "").await });
    server.expect("hang began");
    let mut second = tokio::spawn(async move { client.text("echo", "second").await });
    assert_eq!(within(other.text("echo", "other")).await.unwrap(), "other", "it has a limit of its own");
    assert!(tokio::time::timeout(SHORT, &mut second).await.is_err(), "it waits");
    first.abort();
    assert_eq!(within(second).await.unwrap().unwrap(), "second");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn load_shedding() {
    let directory = tempdir().unwrap();
    let mut server = Helper::server(directory.path(), "concurrency=1 load_shed");
    let client = Client::connect(directory.path()).await;
    let caller = client.clone();
    let first = tokio::spawn(async move { caller.text("hang", "").await });
    server.expect("hang began");
    let status = within(client.text("echo", "x")).await.unwrap_err();
    assert_eq!(status.code(), Code::ResourceExhausted, "{status:?}");
    assert!(status.message().contains("too many calls at once"), "{status:?}");
    first.abort();
    server.expect("hang is gone");
    assert_eq!(within(client.text("echo", "x")).await.unwrap(), "x");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_aged_link_is_replaced_and_its_calls_end() {
    let directory = tempdir().unwrap();
    let mut server = Helper::server(directory.path(), &format!("max_age={}", SHORT.as_millis()));
    let client = Client::connect(directory.path()).await;
    let (sender, requests) = tokio::sync::mpsc::channel(1);
    let requests = tokio_stream::wrappers::ReceiverStream::new(requests);
    let caller = client.clone();
    let counted = tokio::spawn(async move { caller.collect("count", requests).await });
    sender.send(Bytes::from("one")).await.unwrap();
    server.expect("count began");
    server.expect("count: one message");
    while counters(directory.path()).links_total < 4 {
        if let Err(status) = within(client.text("echo", "x")).await {
            panic!("{status:?}");
        }
    }
    // The call on the first link has all the time that it wants.
    drop(sender);
    assert_eq!(within(counted).await.unwrap().unwrap(), "1 messages of 3 bytes");
    eventually("only the last link is left", || counters(directory.path()).links_open <= 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_aged_link_is_cut_off_after_its_grace() {
    let directory = tempdir().unwrap();
    let options = format!("max_age={} max_age_grace={}", SHORT.as_millis(), SHORT.as_millis());
    let mut server = Helper::server(directory.path(), &options);
    let began = Instant::now();
    let client = Client::connect(directory.path()).await;
    let status = within(client.text("hang", "")).await.unwrap_err();
    took_about(began, 2 * SHORT);
    assert_eq!(status.code(), Code::Unavailable, "{status:?}");
    assert!(!is_retry_safe(&status), "{status:?}");
    server.expect("hang began");
    server.expect("hang is gone");
    assert_eq!(within(client.text("echo", "x")).await.unwrap(), "x");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn several_names_and_services() {
    let directory = tempdir().unwrap();
    let server = Helper::server(directory.path(), "names=lives,second,third");
    for uri in ["notnets:///lives", "notnets:///second", "notnets:///third"] {
        let endpoint = notnets::Endpoint::from_static(uri).directory(directory.path());
        let channel = within(endpoint.connect()).await.unwrap();
        let pid = within(Client::new(channel.clone()).text("pid", "")).await.unwrap();
        assert_eq!(pid, server.pid().to_string(), "{uri}");
        let request = HealthCheckRequest { service: String::new() };
        let reply = within(HealthClient::new(channel).check(request)).await.unwrap();
        assert_eq!(reply.into_inner().status, ServingStatus::Serving as i32);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_layer_and_a_plain_tower_service() {
    let directory = tempdir().unwrap();
    {
        let _server = Helper::server(directory.path(), "layered");
        let client = Client::connect(directory.path()).await;
        let reply = within(client.unary("echo", Request::new(Bytes::from("x")))).await.unwrap();
        assert_eq!(reply.metadata().get("x-layer").unwrap(), "was here");
    }
    let _server = Helper::server(directory.path(), "plain");
    let channel = within(endpoint(directory.path()).connect()).await.unwrap();
    let request = http::Request::put("/any/path?with=query").header("x-said", "hello");
    let request = request.body(Body::new(String::from("a body"))).unwrap();
    let response = within(channel.oneshot(request)).await.unwrap();
    assert_eq!(response.status(), 201);
    assert_eq!(response.headers().get("x-said").unwrap(), "hello");
    let body = within(response.into_body().collect()).await.unwrap().to_bytes();
    assert_eq!(body, "PUT /any/path?with=query: a body");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_endpoints_timeout_and_limit_of_calls() {
    let directory = tempdir().unwrap();
    let mut server = Helper::server(directory.path(), "");
    let client = Client::new(endpoint(directory.path()).timeout(SHORT).connect().await.unwrap());
    let began = Instant::now();
    let status = within(client.text("hang", "")).await.unwrap_err();
    assert_eq!(status.code(), Code::DeadlineExceeded, "{status:?}");
    took_about(began, SHORT);
    server.expect("hang began");
    server.expect("hang is gone");

    let client = Client::new(endpoint(directory.path()).concurrency_limit(1).connect().await.unwrap());
    let caller = client.clone();
    let first = tokio::spawn(async move { caller.text("hang", "").await });
    server.expect("hang began");
    let mut second = tokio::spawn(async move { client.text("echo", "second").await });
    assert!(tokio::time::timeout(SHORT, &mut second).await.is_err(), "it waits");
    first.abort();
    assert_eq!(within(second).await.unwrap().unwrap(), "second");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_endpoints_connect_timeout() {
    let directory = tempdir().unwrap();
    let server = Helper::server(directory.path(), "");
    // The kernel takes the connection, and nobody ever answers.
    server.suspend();
    let endpoint = endpoint(directory.path()).connect_timeout(SHORT);
    let began = Instant::now();
    let error = within(endpoint.connect()).await.unwrap_err().to_string();
    took_about(began, SHORT);
    let text = format!("no link to notnets:///lives: no answer within {SHORT:?} (Endpoint::connect_timeout)");
    assert!(error.starts_with(&text), "{error}");
    let status = within(Client::new(endpoint.connect_lazy()).text("echo", "x")).await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable, "{status:?}");
    assert!(status.message().starts_with(&text) && is_retry_safe(&status), "{status:?}");
    // A call's own deadline comes first if it is shorter.
    let client = Client::new(endpoint.connect_timeout(10 * SHORT).connect_lazy());
    let mut request = Request::new(Bytes::new());
    request.set_timeout(SHORT);
    let began = Instant::now();
    let status = within(client.unary("echo", request)).await.unwrap_err();
    assert_eq!(status.code(), Code::DeadlineExceeded, "{status:?}");
    took_about(began, SHORT);
}
