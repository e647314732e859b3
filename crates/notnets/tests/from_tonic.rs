//! What programs that were written for tonic's transport call and read.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use notnets::{Channel, Endpoint, Routes, Server};
use tonic::{Request, Status};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;
use tower::{Service, ServiceExt};

const NAME: &str = "notnets://./from-tonic";

/// Builders that are tuned with all that tonic has.
fn tuned_endpoint(endpoint: Endpoint) -> Endpoint {
    endpoint
        .http2_keep_alive_interval(Duration::from_secs(30))
        .keep_alive_timeout(Duration::from_secs(5))
        .keep_alive_while_idle(true)
        .http2_adaptive_window(true)
        .http2_header_table_size(4096)
        .http2_max_header_list_size(16 << 10)
        .http2_max_concurrent_reset_streams(10)
        .http2_reset_stream_duration(Duration::from_secs(1))
        .http2_max_local_error_reset_streams(1024)
        .initial_stream_window_size(1 << 20)
        .initial_connection_window_size(4 << 20)
        .max_frame_size(1 << 16)
        .buffer_size(1024)
        .concurrency_limit(100)
        .rate_limit(1000, Duration::from_secs(1))
        .origin(http::Uri::from_static("http://example.com"))
        .executor(())
        .local_address(None)
        .tcp_nodelay(true)
        .tcp_keepalive(Some(Duration::from_secs(10)))
        .tcp_keepalive_interval(None)
        .tcp_keepalive_retries(None)
        .timeout(Duration::from_secs(20))
        .connect_timeout(Duration::from_secs(20))
}

fn tuned_server() -> Server {
    Server::builder()
        .concurrency_limit_per_connection(100)
        .load_shed(true)
        .timeout(Duration::from_secs(20))
        .initial_stream_window_size(1 << 20)
        .initial_connection_window_size(4 << 20)
        .max_concurrent_streams(100)
        .http2_keepalive_interval(Some(Duration::from_secs(30)))
        .http2_keepalive_timeout(None)
        .http2_adaptive_window(Some(true))
        .http2_max_pending_accept_reset_streams(None)
        .http2_max_local_error_reset_streams(None)
        .http2_max_header_list_size(16 << 10)
        .max_frame_size(None)
        .accept_http1(true)
        .tcp_nodelay(true)
        .tcp_keepalive(None)
        .tcp_keepalive_interval(None)
        .tcp_keepalive_retries(None)
        .max_connection_age(Duration::from_secs(60))
        .max_connection_age_grace(Duration::from_secs(60))
}

async fn check(channel: Channel) {
    let mut client = HealthClient::new(channel);
    client.check(HealthCheckRequest::default()).await.unwrap();
}

#[tokio::test]
async fn tuned_builders_work_as_they_are() {
    let directory = tempfile::tempdir().unwrap();
    let paths = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&paths);
    let (_reporter, health) = tonic_health::server::health_reporter();
    let mut routes = Routes::builder();
    routes.add_service(health);
    let server = tuned_server().directory(directory.path()).trace_fn(move |request| {
        seen.lock().unwrap().push(request.uri().path().to_owned());
        tracing::Span::none()
    });
    let uri: http::Uri = NAME.parse().unwrap();
    let bound = server.add_routes(routes.routes().prepare()).bind(&uri).await.unwrap();
    let task = tokio::spawn(bound.serve());
    let endpoint = tuned_endpoint(Channel::builder(uri)).directory(directory.path());
    check(endpoint.connect().await.unwrap()).await;
    check(endpoint.connect_lazy()).await;
    assert_eq!(*paths.lock().unwrap(), ["/grpc.health.v1.Health/Check"; 2]);
    task.abort();
}

#[tokio::test]
async fn towers_ready_is_told_a_body() {
    let mut channel = Endpoint::from_static(NAME).connect_lazy();
    // A channel takes bodies of any type, so that `ready` alone does not say which.
    let ready: &mut Channel =
        ServiceExt::<http::Request<tonic::body::Body>>::ready(&mut channel).await.unwrap();
    let request = http::Request::new(tonic::body::Body::empty());
    assert!(ready.call(request).await.is_err(), "nobody serves the name");
}

#[tokio::test]
async fn interceptors_find_who_connected() {
    let directory = tempfile::tempdir().unwrap();
    let found = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&found);
    let intercept = move |request: Request<()>| -> Result<Request<()>, Status> {
        #[cfg(feature = "tonic-connect-info")]
        {
            assert_eq!(request.remote_addr(), None);
            let info = request.extensions().get::<tonic::transport::server::UdsConnectInfo>();
            let credentials = info.unwrap().peer_cred.unwrap();
            assert_eq!(credentials.pid(), Some(std::process::id().cast_signed()));
            assert_eq!(credentials.uid(), rustix::process::geteuid().as_raw());
        }
        let peer = request.extensions().get::<notnets::PeerInfo>().unwrap();
        counter.fetch_add(usize::from(peer.pid == Some(std::process::id())), Ordering::Relaxed);
        Ok(request)
    };
    let (_reporter, health) = tonic_health::server::health_reporter();
    let server = Server::builder().directory(directory.path());
    let server = server.layer(tonic::service::InterceptorLayer::new(intercept)).add_service(health);
    let task = tokio::spawn(server.bind(NAME).await.unwrap().serve());
    check(Endpoint::from_static(NAME).directory(directory.path()).connect().await.unwrap()).await;
    assert_eq!(found.load(Ordering::Relaxed), 1);
    task.abort();
}

#[tokio::test]
async fn the_layer_that_is_added_first_sees_a_request_first() {
    let directory = tempfile::tempdir().unwrap();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let layer = |name: &'static str| {
        let seen = Arc::clone(&seen);
        tonic::service::InterceptorLayer::new(move |request: Request<()>| {
            seen.lock().unwrap().push(name);
            Ok(request)
        })
    };
    let (_reporter, health) = tonic_health::server::health_reporter();
    let server = Server::builder().directory(directory.path()).layer(layer("outer")).layer(layer("inner"));
    let task = tokio::spawn(server.add_service(health).bind(NAME).await.unwrap().serve());
    check(Endpoint::from_static(NAME).directory(directory.path()).connect_lazy()).await;
    assert_eq!(*seen.lock().unwrap(), ["outer", "inner"]);
    task.abort();
}

/// The version of tonic that this workspace is built with, and what becomes of the line by which programs
/// connect most often.
#[tokio::test]
async fn the_page_on_migrating_names_the_version_and_the_trap() {
    let read =
        |path: &str| std::fs::read_to_string(format!("{}/../../{path}", env!("CARGO_MANIFEST_DIR"))).unwrap();
    let manifest = read("Cargo.toml");
    let (_, version) = manifest.split_once("\ntonic = { version = \"").unwrap();
    let (version, _) = version.split_once('"').unwrap();
    let page = read("docs/migrating-from-tonic.md");
    for said in [format!("tonic {version} "), format!("tonic = \"{version}\"")] {
        assert!(page.contains(&said), "the page does not say `{said}`");
    }
    // As a generated client's own `connect` does.
    let connect = async || tonic::transport::Endpoint::new("notnets:///greeter")?.connect().await;
    let error = connect().await.unwrap_err();
    let row =
        format!("| `GreeterClient::connect(\"notnets:///greeter\")` | compiles, and fails with “{error}”");
    assert!(page.contains(&row), "the page does not say `{row}`");
}

/// The public methods of `Endpoint`, `Channel`, `Server`, `Router`, `Routes` and `RoutesBuilder` of tonic
/// 0.14.9.
const METHODS: &[&str] = &[
    "accept_http1",
    "add_optional_service",
    "add_routes",
    "add_service",
    "axum_router_mut",
    "balance_channel",
    "balance_channel_with_executor",
    "balance_list",
    "buffer_size",
    "builder",
    "concurrency_limit",
    "concurrency_limit_per_connection",
    "connect",
    "connect_lazy",
    "connect_timeout",
    "connect_with_connector",
    "connect_with_connector_lazy",
    "executor",
    "from_shared",
    "from_static",
    "get_connect_timeout",
    "get_tcp_keepalive",
    "get_tcp_keepalive_interval",
    "get_tcp_keepalive_retries",
    "get_tcp_nodelay",
    "http2_adaptive_window",
    "http2_header_table_size",
    "http2_keep_alive_interval",
    "http2_keepalive_interval",
    "http2_keepalive_timeout",
    "http2_max_concurrent_reset_streams",
    "http2_max_header_list_size",
    "http2_max_local_error_reset_streams",
    "http2_max_pending_accept_reset_streams",
    "http2_reset_stream_duration",
    "initial_connection_window_size",
    "initial_stream_window_size",
    "into_axum_router",
    "keep_alive_timeout",
    "keep_alive_while_idle",
    "layer",
    "load_shed",
    "local_address",
    "max_concurrent_streams",
    "max_connection_age",
    "max_connection_age_grace",
    "max_frame_size",
    "new",
    "origin",
    "prepare",
    "rate_limit",
    "routes",
    "serve",
    "serve_with_incoming",
    "serve_with_incoming_shutdown",
    "serve_with_shutdown",
    "tcp_keepalive",
    "tcp_keepalive_interval",
    "tcp_keepalive_retries",
    "tcp_nodelay",
    "timeout",
    "tls_config",
    "tls_config_with_verifier",
    "trace_fn",
    "uri",
    "user_agent",
];

#[test]
fn the_page_on_migrating_forgets_no_method() {
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/migrating-from-tonic.md");
    let page = std::fs::read_to_string(page).unwrap();
    // What is between backticks.
    let code: Vec<&str> = page.split('`').skip(1).step_by(2).collect();
    let is_named = |method: &str| {
        code.iter()
            .any(|code| code.split(|c: char| !c.is_alphanumeric() && c != '_').any(|word| word == method))
    };
    let forgotten: Vec<_> = METHODS.iter().filter(|method| !is_named(method)).collect();
    assert!(forgotten.is_empty(), "{forgotten:?}");
}
