//! Channels that choose among their servers: by health, by how calls end, by room.

mod common;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use common::{Running, within};
use notnets::names::Pick;
use notnets::rpc::{Code, Handler, Method, Request, ServerCall, Status};
use notnets::{Channel, Router, Server, ServiceConfig};
use tokio::sync::{Semaphore, oneshot};
use tonic_health::ServingStatus;
use tonic_health::server::{HealthReporter, health_reporter};

/// Says who it is.
struct Who(&'static str);

impl Handler for Who {
    async fn call(&self, call: &mut ServerCall) -> Result<(), Status> {
        call.responses.send_last(self.0).await
    }
}

/// A server with tonic's health service.
struct Host {
    running: Running,
    reporter: HealthReporter,
    addresses: Vec<String>,
}

impl Host {
    fn serve(directory: &Path, id: &'static str, address: &str) -> Self {
        let (reporter, health) = health_reporter();
        let server = Server::builder().directory(directory).replica(true).add_service(health);
        let bound = server.add_rpc_service("test.Who", Who(id)).bind_blocking(address).unwrap();
        let addresses = bound.http2_addresses();
        Self { running: Running::start(bound), reporter, addresses }
    }

    async fn say(&self, status: ServingStatus) {
        self.reporter.set_service_status("shop", status).await;
    }
}

const CONFIG: &str = r#"{"healthCheckConfig": {"serviceName": "shop"}}"#;

fn channel(directory: &Path, target: &str) -> Channel {
    let directory = directory.to_owned();
    let config = ServiceConfig::from_json(CONFIG).unwrap();
    let named = Channel::named("test").local(target).pick(Pick::RoundRobin);
    named.settings(|endpoint| endpoint.directory(directory).service_config(config)).connect_lazy().unwrap()
}

async fn who(channel: &Channel) -> Result<String, Status> {
    const ARE: Method = Method::from_static("/test.Who/Are");
    let reply = within("a call", channel.unary_call(Request::new(ARE), "")).await?;
    Ok(String::from_utf8(reply.message.into_bytes().to_vec()).unwrap())
}

/// Calls until both are called, or only one, or none.
async fn until_called_are(channel: &Channel, ids: &[&str]) {
    let begin = Instant::now();
    loop {
        let mut called = Vec::new();
        for _ in 0..8 {
            called.extend(who(channel).await.ok());
            tokio::task::yield_now().await;
        }
        called.sort_unstable();
        called.dedup();
        if called == ids {
            return;
        }
        assert!(begin.elapsed() < Duration::from_secs(8), "{called:?} are called, and not {ids:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_go_where_it_is_healthy() {
    let directory = tempfile::tempdir().unwrap();
    let hosts = ["a", "b"].map(|id| Host::serve(directory.path(), id, "notnets:///test"));
    for host in &hosts {
        host.say(ServingStatus::Serving).await;
    }
    let channel = channel(directory.path(), "notnets:///test");
    assert!(["a", "b"].contains(&who(&channel).await.unwrap().as_str()));
    until_called_are(&channel, &["a", "b"]).await;
    hosts[0].say(ServingStatus::NotServing).await;
    until_called_are(&channel, &["b"]).await;
    hosts[1].say(ServingStatus::NotServing).await;
    until_called_are(&channel, &[]).await;
    let status = who(&channel).await.unwrap_err();
    assert_eq!((status.code(), status.is_retry_safe()), (Code::UNAVAILABLE, true));
    let words = "gets no calls: its health service (grpc.health.v1.Health) says NOT_SERVING of `shop`";
    assert!(status.message().contains(words), "{status:?}");
    hosts[0].say(ServingStatus::Serving).await;
    until_called_are(&channel, &["a"]).await;
    hosts[1].say(ServingStatus::Serving).await;
    until_called_are(&channel, &["a", "b"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn so_they_do_over_http2() {
    let directory = tempfile::tempdir().unwrap();
    let hosts = ["a", "b"].map(|id| Host::serve(directory.path(), id, "http://127.0.0.1:0"));
    let named = Channel::named("test").pick(Pick::RoundRobin).health_check("shop");
    let servers = hosts.iter().map(|host| notnets::names::Address::new(&host.addresses[0]).unwrap());
    let channel = named.or_resolved("a list", notnets::names::Fixed::new(servers)).connect_lazy().unwrap();
    for host in &hosts {
        host.say(ServingStatus::Serving).await;
    }
    until_called_are(&channel, &["a", "b"]).await;
    hosts[0].say(ServingStatus::NotServing).await;
    until_called_are(&channel, &["b"]).await;
    hosts[0].say(ServingStatus::Serving).await;
    until_called_are(&channel, &["a", "b"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_farther_place_is_for_when_the_nearer_is_not_healthy() {
    let directory = tempfile::tempdir().unwrap();
    let near = Host::serve(directory.path(), "near", "notnets:///near");
    let far = Host::serve(directory.path(), "far", "notnets:///far");
    far.say(ServingStatus::Serving).await;
    near.say(ServingStatus::NotServing).await;
    let channel = channel(directory.path(), "notnets:///near, notnets:///far");
    assert_eq!(who(&channel).await.unwrap(), "far");
    near.say(ServingStatus::Serving).await;
    until_called_are(&channel, &["near"]).await;
}

#[tokio::test]
async fn a_service_that_is_not_known_is_not_healthy() {
    let directory = tempfile::tempdir().unwrap();
    let _host = Host::serve(directory.path(), "a", "notnets:///test");
    let status = who(&channel(directory.path(), "notnets:///test")).await.unwrap_err();
    // What tonic says there; others say SERVICE_UNKNOWN.
    assert!(status.message().contains("can't be asked: NOT_FOUND: "), "{status:?}");
    // Its health as a whole is another matter.
    let at = directory.path().to_owned();
    let named = Channel::named("test").health_check("").settings(|endpoint| endpoint.directory(at));
    assert_eq!(who(&named.connect_lazy().unwrap()).await.unwrap(), "a");
}

#[tokio::test]
async fn a_server_without_a_health_service_is_healthy() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::builder().directory(directory.path()).add_rpc_service("test.Who", Who("a"));
    let _running = Running::start(server.bind_blocking("notnets:///test").unwrap());
    assert_eq!(who(&channel(directory.path(), "notnets:///test")).await.unwrap(), "a");
}

/// A server waits for its last call, and a watch never ends by itself.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watch_does_not_hold_up_a_server_that_stops() {
    let directory = tempfile::tempdir().unwrap();
    for address in ["notnets:///test", "http://127.0.0.1:0"] {
        let host = Host::serve(directory.path(), "a", address);
        host.say(ServingStatus::Serving).await;
        let target = host.addresses.first().map_or("notnets:///test", String::as_str);
        let channel = channel(directory.path(), target);
        assert_eq!(who(&channel).await.unwrap(), "a");
        let begin = Instant::now();
        host.running.stop().await;
        assert!(begin.elapsed() < Duration::from_secs(5), "{address}: {:?}", begin.elapsed());
        assert_eq!(who(&channel).await.unwrap_err().code(), Code::UNAVAILABLE);
    }
}

/// Nor one of tonic's.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watch_does_not_hold_up_a_server_of_tonics() {
    let (reporter, health) = health_reporter();
    reporter.set_service_status("shop", ServingStatus::Serving).await;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let target = format!("http://{}", listener.local_addr().unwrap());
    let (stop, stopped) = oneshot::channel::<()>();
    let serving = tokio::spawn(async move {
        let incoming = tonic::transport::server::TcpIncoming::from(listener);
        let server = tonic::transport::Server::builder().add_service(health);
        server.serve_with_incoming_shutdown(incoming, async { drop(stopped.await) }).await.unwrap();
    });
    let channel = channel(Path::new("/nowhere"), &target);
    // It has no other service than that.
    assert_eq!(who(&channel).await.unwrap_err().code(), Code::UNIMPLEMENTED);
    stop.send(()).unwrap();
    within("stopping", serving).await.unwrap();
}

/// Fails, and serves later.
struct Unwell(AtomicUsize);

impl Handler for Unwell {
    async fn call(&self, call: &mut ServerCall) -> Result<(), Status> {
        if self.0.fetch_add(1, Ordering::Relaxed) == 0 {
            return Err(Status::new(Code::INTERNAL, "out of order"));
        }
        call.responses.send(&[8, 1][..]).await?;
        std::future::pending().await
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watch_that_fails_is_begun_again() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::builder().directory(directory.path()).add_rpc_service("test.Who", Who("a"));
    let server = server.add_rpc_service("grpc.health.v1.Health", Unwell(AtomicUsize::new(0)));
    let _running = Running::start(server.bind_blocking("notnets:///test").unwrap());
    let channel = channel(directory.path(), "notnets:///test");
    let begin = Instant::now();
    let status = who(&channel).await.unwrap_err();
    assert!(status.message().ends_with("can't be asked: INTERNAL: out of order"), "{status:?}");
    while who(&channel).await.is_err() {
        assert!(begin.elapsed() < Duration::from_secs(10));
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    // A second, within a fifth.
    assert!(begin.elapsed() >= Duration::from_millis(790), "{:?}", begin.elapsed());
}

/// Fails each call.
struct Fails;

impl Handler for Fails {
    async fn call(&self, _call: &mut ServerCall) -> Result<(), Status> {
        Err(Status::new(Code::INTERNAL, "always"))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_whose_calls_fail_gets_none_for_a_while() {
    let directory = tempfile::tempdir().unwrap();
    let serve = |server: Router| Running::start(server.bind_blocking("notnets:///test").unwrap());
    let builder = || Server::builder().directory(directory.path()).replica(true);
    let _fails = serve(builder().add_rpc_service("test.Who", Fails));
    let _others = ["a", "b"].map(|id| serve(builder().add_rpc_service("test.Who", Who(id))));
    let config = r#"{"loadBalancingConfig": [{"outlier_detection_experimental": {
        "interval": "0.05s", "baseEjectionTime": "0.3s", "maxEjectionPercent": 40,
        "failurePercentageEjection": {"minimumHosts": 3, "requestVolume": 5},
        "childPolicy": [{"round_robin": {}}]
    }}]}"#;
    let at = directory.path().to_owned();
    let config = ServiceConfig::from_json(config).unwrap();
    let named = Channel::named("test").settings(|endpoint| endpoint.directory(at).service_config(config));
    let channel = named.connect_lazy().unwrap();
    let begin = Instant::now();
    for _ in 0..2 {
        // It gets its turn, as the policy says, until it is ejected.
        let mut failed = 0;
        while failed < 5 {
            failed += usize::from(who(&channel).await.is_err());
        }
        let mut in_a_row = 0;
        while in_a_row < 30 {
            assert!(begin.elapsed() < Duration::from_secs(10));
            in_a_row = if who(&channel).await.is_ok() { in_a_row + 1 } else { 0 };
        }
    }
    assert!(begin.elapsed() > Duration::from_millis(300), "{:?}", begin.elapsed());
}

/// Answers when it is let.
struct Slow {
    id: &'static str,
    begun: Semaphore,
    go_on: Semaphore,
}

struct Shared(Arc<Slow>);

impl Handler for Shared {
    async fn call(&self, call: &mut ServerCall) -> Result<(), Status> {
        self.0.begun.add_permits(1);
        self.0.go_on.acquire().await.unwrap().forget();
        call.responses.send_last(self.0.id).await
    }
}

impl Slow {
    /// A server that has room for one call of a channel.
    fn serve(directory: &Path, id: &'static str) -> (Arc<Self>, Running) {
        let slow = Arc::new(Self { id, begun: Semaphore::new(0), go_on: Semaphore::new(0) });
        let server = Server::builder().directory(directory).max_concurrent_streams(1);
        let server = server.add_rpc_service("test.Who", Shared(Arc::clone(&slow)));
        let running = Running::start(server.bind_blocking(format!("notnets:///{id}")).unwrap());
        (slow, running)
    }

    async fn begun(&self) {
        within("a call begins", self.begun.acquire()).await.unwrap().forget();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_farther_place_is_for_when_the_nearer_has_no_room() {
    let directory = tempfile::tempdir().unwrap();
    let (near, _near) = Slow::serve(directory.path(), "near");
    let (far, _far) = Slow::serve(directory.path(), "far");
    let at = directory.path().to_owned();
    let named = Channel::named("test").local("notnets:///near, notnets:///far");
    let channel = named.settings(|endpoint| endpoint.directory(at)).connect_lazy().unwrap();
    let call = || {
        let channel = channel.clone();
        tokio::spawn(async move { who(&channel).await.unwrap() })
    };
    let first = call();
    near.begun().await;
    // Nothing was connected there before it is needed.
    let second = call();
    far.begun().await;
    let third = call();
    near.go_on.add_permits(1);
    assert_eq!(within("the first", first).await.unwrap(), "near");
    near.begun().await;
    near.go_on.add_permits(1);
    assert_eq!(within("the third", third).await.unwrap(), "near");
    far.go_on.add_permits(1);
    assert_eq!(within("the second", second).await.unwrap(), "far");
}

/// Where nobody is farther away, a call waits for its turn.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_waits_for_room_if_there_is_none_elsewhere() {
    let directory = tempfile::tempdir().unwrap();
    let (near, _near) = Slow::serve(directory.path(), "near");
    let at = directory.path().to_owned();
    let named = Channel::named("test").local("notnets:///near, notnets:///nowhere, unix:/nowhere/far.sock");
    let channel = named.settings(|endpoint| endpoint.directory(at)).connect_lazy().unwrap();
    let calls: Vec<_> = (0..8)
        .map(|_| {
            let channel = channel.clone();
            tokio::spawn(async move { who(&channel).await.unwrap() })
        })
        .collect();
    for _ in 0..calls.len() {
        near.begun().await;
        near.go_on.add_permits(1);
    }
    for call in calls {
        assert_eq!(within("a call", call).await.unwrap(), "near");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_farther_place_is_for_when_the_nearer_takes_no_clients() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::builder().directory(directory.path()).max_connections(1);
    let server = server.add_rpc_service("test.Who", Who("near"));
    let _near = Running::start(server.bind_blocking("notnets:///near").unwrap());
    let far = Server::builder().directory(directory.path()).add_rpc_service("test.Who", Who("far"));
    let _far = Running::start(far.bind_blocking("notnets:///far").unwrap());
    let make = || {
        let at = directory.path().to_owned();
        let named = Channel::named("test").local("notnets:///near, notnets:///far");
        named.settings(|endpoint| endpoint.directory(at)).connect_lazy().unwrap()
    };
    let (one, other) = (make(), make());
    assert_eq!(who(&one).await.unwrap(), "near");
    assert_eq!(who(&other).await.unwrap(), "far");
    drop(one);
    until_called_are(&other, &["near"]).await;
}
