//! Channels whose servers are reached over HTTP/2, or through memory as soon as they can be.

mod common;

use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use common::{Running, within};
use http::{HeaderMap, Request, Response};
use http_body::Frame;
use notnets::rpc::{self, Code, Metadata, Method, Status};
use notnets::rpc::{Handler, ServerCall};
use notnets::{Admission, Channel, ErrorKind, Server, names};
use tokio::sync::Notify;
use tonic::body::Body;

/// What a server has seen.
#[derive(Default)]
struct Seen {
    id: String,
    calls: AtomicUsize,
    timeout: std::sync::Mutex<Option<String>>,
    authority: std::sync::Mutex<String>,
    dropped: Notify,
}

/// A response's body: the request's, and trailers.
struct Echo(Body, Option<HeaderMap>);

impl http_body::Body for Echo {
    type Data = Bytes;
    type Error = tonic::Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, tonic::Status>>> {
        match Pin::new(&mut self.0).poll_frame(cx) {
            Poll::Ready(None) => Poll::Ready(self.1.take().map(|trailers| Ok(Frame::trailers(trailers)))),
            frame => frame,
        }
    }
}

struct OnDrop<'a>(&'a Notify);

impl Drop for OnDrop<'_> {
    fn drop(&mut self) {
        self.0.notify_one();
    }
}

async fn answer(seen: Arc<Seen>, request: Request<Body>) -> Response<Body> {
    seen.calls.fetch_add(1, Ordering::Relaxed);
    let (head, body) = request.into_parts();
    *seen.authority.lock().unwrap() = head.uri.authority().map(ToString::to_string).unwrap_or_default();
    let mut own = HeaderMap::new();
    for (name, value) in head.headers.iter().filter(|(name, _)| name.as_str().starts_with("x-")) {
        own.append(name.clone(), value.clone());
    }
    match head.uri.path() {
        "/test.Echo/Echo" => {
            let mut trailers = own.clone();
            trailers.insert("grpc-status", 0.into());
            let mut response = Response::new(Body::new(Echo(body, Some(trailers))));
            *response.headers_mut() = own;
            response.headers_mut().insert("content-type", "application/grpc".parse().unwrap());
            response.headers_mut().insert("x-id", seen.id.parse().unwrap());
            response
        }
        "/test.Echo/Fail" => {
            let details = Bytes::from_static(&[1, 2]);
            tonic::Status::with_details(tonic::Code::FailedPrecondition, "100 % ünwilling", details)
                .into_http()
        }
        "/test.Echo/Wait" => {
            let timeout = head.headers.get("grpc-timeout").map(|value| value.to_str().unwrap().to_owned());
            *seen.timeout.lock().unwrap() = timeout;
            let _dropped = OnDrop(&seen.dropped);
            std::future::pending().await
        }
        _ => tonic::Status::unimplemented("no such method").into_http(),
    }
}

/// A server that can be stopped, and ends at once when it is dropped.
struct Host {
    address: String,
    running: Running,
    seen: Arc<Seen>,
}

type Answer = Pin<Box<dyn Future<Output = Response<Body>> + Send>>;

fn service(seen: &Arc<Seen>) -> common::Handler<impl Fn(Request<Body>) -> Answer + Clone + use<>> {
    let seen = Arc::clone(seen);
    common::Handler(move |request| -> Answer { Box::pin(answer(Arc::clone(&seen), request)) })
}

impl Host {
    /// Over HTTP/2: at `http://127.0.0.1:0`, or at a socket.
    async fn over_http2(address: &str) -> Self {
        Self::serve(Server::builder(), "far", address)
    }

    /// Through memory, at the name `test`.
    fn in_memory(directory: &Path) -> Self {
        Self::serve(Server::builder().directory(directory), "near", "notnets:///test")
    }

    fn serve(server: Server, id: &str, address: &str) -> Self {
        let seen = Arc::new(Seen { id: id.into(), ..Seen::default() });
        let bound = server.bind_service_blocking(address, service(&seen)).unwrap();
        let address = bound.http2_addresses().pop().unwrap_or_else(|| address.to_owned());
        Self { address, running: Running::start(bound), seen }
    }

    fn calls(&self) -> usize {
        self.seen.calls.load(Ordering::Relaxed)
    }
}

const ECHO: Method = Method::from_static("/test.Echo/Echo");
const FAIL: Method = Method::from_static("/test.Echo/Fail");
const WAIT: Method = Method::from_static("/test.Echo/Wait");

/// A look at a directory is a matter of microseconds, but the machine may be busy.
const SOON: Duration = Duration::from_secs(5);

/// A channel to memory in the directory, else to the address.
fn channel(directory: &Path, address: &str) -> Channel {
    let directory = directory.to_owned();
    let named = Channel::named("test").local("notnets:///test").or(address);
    named.settings(|endpoint| endpoint.directory(directory)).connect_lazy().unwrap()
}

async fn echo(channel: &Channel, message: &'static str) -> Result<rpc::Reply, Status> {
    let reply = within("a call", channel.unary_call(rpc::Request::new(ECHO), message)).await?;
    assert_eq!(reply.message.clone().into_bytes(), message);
    Ok(reply)
}

/// Which server answers.
async fn who(channel: &Channel) -> Result<String, Status> {
    echo(channel, "who").await.map(|reply| reply.metadata.get("x-id").unwrap().to_owned())
}

/// Calls until that one answers; returns how long it took.
async fn until_it_is(channel: &Channel, id: &str) -> Duration {
    let begin = Instant::now();
    while who(channel).await.map_err(|status| status.to_string()) != Ok(id.to_owned()) {
        assert!(begin.elapsed() < SOON, "not {id} within {SOON:?}");
        tokio::task::yield_now().await;
    }
    begin.elapsed()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_of_all_kinds_go_over_http2() {
    let directory = tempfile::tempdir().unwrap();
    let socket = format!("unix:{}", directory.path().join("socket").display());
    for address in ["http://127.0.0.1:0", &socket] {
        let host = Host::over_http2(address).await;
        let channel = channel(directory.path(), &host.address);
        let mut metadata = Metadata::new();
        metadata.append("x-text", "a value").unwrap();
        metadata.append_bin("x-bytes-bin", [0, 1, 255]).unwrap();
        let request = || rpc::Request::new(ECHO).metadata(metadata.clone());
        for size in [0, 10, 100_000, 3 << 20] {
            let message = Bytes::from(vec![7; size]);
            let reply = within("a call", channel.unary_call(request(), message.clone())).await.unwrap();
            assert_eq!(reply.message.into_bytes(), message);
            for got in [&reply.metadata, &reply.trailers] {
                assert_eq!(got.get("x-text"), Some("a value"));
                assert_eq!(got.get_bin("x-bytes-bin"), Some(vec![0, 1, 255]));
            }
        }
        let call = channel.server_streaming_call(request(), "one");
        let mut receiver = within("a call", call).await.unwrap();
        assert_eq!(receiver.message().await.unwrap().unwrap().into_bytes(), "one");
        assert!(within("the end", receiver.message()).await.unwrap().is_none());
        assert_eq!(receiver.trailers().get("x-text"), Some("a value"));

        let (mut sender, mut receiver) = within("a call", channel.streaming_call(request())).await.unwrap();
        for message in ["a", "b", "c"] {
            sender.send(message).await.unwrap();
            let echoed = within("an echo", receiver.message()).await.unwrap().unwrap();
            assert_eq!(echoed.into_bytes(), message);
        }
        sender.finish().await.unwrap();
        assert!(within("the end", receiver.message()).await.unwrap().is_none());

        let status = within("a call", channel.unary_call(rpc::Request::new(FAIL), "")).await.unwrap_err();
        assert_eq!((status.code(), status.message()), (Code::FAILED_PRECONDITION, "100 % ünwilling"));
        assert_eq!(status.details(), Some(vec![1, 2]));
        assert!(!status.is_retry_safe());
        assert_eq!(host.calls(), 7);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn deadlines_and_cancellation_reach_the_server() {
    let directory = tempfile::tempdir().unwrap();
    let host = Host::over_http2("http://127.0.0.1:0").await;
    let channel = channel(directory.path(), &host.address);
    let request = rpc::Request::new(WAIT).timeout(Duration::from_millis(100));
    let status = within("a call", channel.unary_call(request, "")).await.unwrap_err();
    assert_eq!(status.code(), Code::DEADLINE_EXCEEDED);
    within("the handler is dropped", host.seen.dropped.notified()).await;
    let timeout = host.seen.timeout.lock().unwrap().take().unwrap();
    assert!(timeout.ends_with(['n', 'u', 'm']), "{timeout}");

    let before = host.calls();
    let call = tokio::spawn({
        let channel = channel.clone();
        async move { channel.unary_call(rpc::Request::new(WAIT), "").await }
    });
    within("it has come", async {
        while host.calls() == before {
            tokio::task::yield_now().await;
        }
    })
    .await;
    call.abort();
    within("the handler is dropped", host.seen.dropped.notified()).await;
    assert_eq!(*host.seen.timeout.lock().unwrap(), None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn new_calls_move_to_memory_and_back() {
    let directory = tempfile::tempdir().unwrap();
    let far = Host::over_http2("http://127.0.0.1:0").await;
    let channel = channel(directory.path(), &far.address);
    assert_eq!(who(&channel).await.unwrap(), "far");
    let stream = channel.streaming_call(rpc::Request::new(ECHO));
    let (mut sender, mut receiver) = within("a stream", stream).await.unwrap();
    // More rounds are for those who measure how long it takes: docs/names.md.
    let rounds = std::env::var("NOTNETS_TEST_ROUNDS").map_or(3, |rounds| rounds.parse().unwrap());
    let mut all_took = Vec::new();
    for _ in 0..rounds {
        let near = Host::in_memory(directory.path());
        all_took.push(until_it_is(&channel, "near").await);
        let before = far.calls();
        for _ in 0..10 {
            assert_eq!(who(&channel).await.unwrap(), "near");
        }
        assert_eq!(far.calls(), before);
        // The stream ends where it began.
        sender.send("on").await.unwrap();
        assert_eq!(within("an echo", receiver.message()).await.unwrap().unwrap().into_bytes(), "on");
        near.running.stop().await;
        assert_eq!(who(&channel).await.unwrap(), "far");
    }
    all_took.sort_unstable();
    let (middle, last) = (all_took[rounds / 2], all_took[rounds - 1]);
    println!("{rounds} rounds: by memory after {middle:?}, at most {last:?}");
    sender.finish().await.unwrap();
    assert!(within("the end", receiver.message()).await.unwrap().is_none());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_gone_is_told_and_found_again() {
    let directory = tempfile::tempdir().unwrap();
    let host = Host::over_http2("http://127.0.0.1:0").await;
    let address = host.address.clone();
    let channel = channel(directory.path(), &address);
    assert_eq!(who(&channel).await.unwrap(), "far");
    let stream = channel.streaming_call(rpc::Request::new(ECHO));
    let (mut sender, mut receiver) = within("a stream", stream).await.unwrap();
    sender.send("on").await.unwrap();
    assert!(within("an echo", receiver.message()).await.unwrap().is_some());
    host.running.kill().await;
    let status = within("the end", receiver.message()).await.unwrap_err();
    assert_eq!(status.code(), Code::UNAVAILABLE, "{status:?}");
    let status = loop {
        match who(&channel).await {
            Err(status) if status.channel_error().is_some() => break status,
            Err(status) => assert_eq!(status.code(), Code::UNAVAILABLE, "{status:?}"),
            Ok(_) => panic!("there is no server"),
        }
    };
    let port = address.strip_prefix("http://").unwrap();
    let expected = format!(
        "cannot connect to {port}: Connection refused (os error 111); is its server running?; \
         at notnets:///test there is none"
    );
    assert_eq!(status.message(), expected);
    assert!(status.is_retry_safe());
    assert_eq!(status.channel_error().unwrap().kind(), ErrorKind::Unavailable);
    let again = Host::over_http2(&address).await;
    until_it_is(&channel, "far").await;
    assert!(again.calls() > 0);
}

#[tokio::test]
async fn nobody_there_is_an_error_of_connecting() {
    let directory = tempfile::tempdir().unwrap();
    let at = directory.path().to_owned();
    let socket = format!("unix:{}", directory.path().join("none").display());
    let named = Channel::named("test").local(format!("notnets:///test,{socket}"));
    let error = named.settings(|endpoint| endpoint.directory(at)).connect().await.unwrap_err();
    let expected = format!(
        "cannot connect to {socket}: No such file or directory (os error 2); is its server running?; \
         at notnets:///test there is none"
    );
    assert_eq!((error.to_string(), error.kind()), (expected, ErrorKind::Unavailable));
    for (address, words) in [
        ("https://shop/cart", "has a path"),
        ("http://shop/cart", "has a path"),
        ("unix:", "has no path"),
        ("ftp://shop", "write notnets:///NAME, notnets://POD/NAME, http://HOST:PORT or unix:/PATH"),
    ] {
        let error = Channel::named("test").or(address).connect_lazy().unwrap_err();
        assert!(error.to_string().contains(words), "{error}");
        assert_eq!(error.kind(), ErrorKind::InvalidUri);
        assert_eq!(names::Address::new(address).unwrap_err().to_string(), error.to_string());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_servers_of_a_name_in_dns_are_found() {
    let directory = tempfile::tempdir().unwrap();
    let far = Host::over_http2("http://127.0.0.1:0").await;
    let port = far.address.rsplit_once(':').unwrap().1;
    let channel = channel(directory.path(), &format!("dns:///localhost:{port}"));
    assert_eq!(who(&channel).await.unwrap(), "far");
    assert_eq!(*far.seen.authority.lock().unwrap(), format!("localhost:{port}"));
    let near = Host::in_memory(directory.path());
    until_it_is(&channel, "near").await;
    near.running.stop().await;
    assert_eq!(who(&channel).await.unwrap(), "far");
}

#[tokio::test]
async fn a_name_that_dns_does_not_know_is_told() {
    let directory = tempfile::tempdir().unwrap();
    // Such names are never given to hosts.
    let channel = channel(directory.path(), "dns:///nowhere.invalid:80");
    let status = echo(&channel, "x").await.unwrap_err();
    let message = status.message();
    assert_eq!(status.code(), Code::UNAVAILABLE);
    assert!(
        message.starts_with("no server of `test`; at notnets:///test there is none; at dns:///"),
        "{message}"
    );
    assert!(message.contains("no address of `nowhere.invalid` was found: "), "{message}");
    assert!(message.ends_with("which `getent ahosts nowhere.invalid` asks as well"), "{message}");
    let error = names::Address::new("dns:///shop:80").unwrap_err();
    assert!(error.to_string().contains("a channel that finds its servers takes it"), "{error}");
}

/// Says who calls it.
struct Who;

impl Handler for Who {
    async fn call(&self, call: &mut ServerCall) -> Result<(), Status> {
        call.responses.send_last(format!("{:?}", call.peer.pid.map(|_| call.peer.uid))).await
    }
}

async fn peer(channel: &Channel) -> Result<String, Status> {
    const WHO: Method = Method::from_static("/test.Who/Are");
    let reply = within("a call", channel.unary_call(rpc::Request::new(WHO), "")).await?;
    Ok(String::from_utf8(reply.message.into_bytes().to_vec()).unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_server_serves_memory_and_http2() {
    let directory = tempfile::tempdir().unwrap();
    let socket = format!("unix:{}", directory.path().join("socket").display());
    let seen = Arc::new(Seen { id: "both".into(), ..Seen::default() });
    let (_reporter, health) = tonic_health::server::health_reporter();
    let server = Server::builder().directory(directory.path()).timeout(Duration::from_millis(200));
    let server = server.add_service(health).add_rpc_service("test.Who", Who).fallback_service(service(&seen));
    let bound = server.bind(["notnets:///test", "http://127.0.0.1:0", &socket]).await.unwrap();
    let addresses = bound.http2_addresses();
    assert_eq!(addresses[1], socket);
    let running = Running::start(bound);
    let own = format!("Some({})", rustix::process::getuid().as_raw());
    for (address, who_i_am) in [("notnets:///test", &*own), (&addresses[0], "None"), (&socket, &*own)] {
        let at = directory.path().to_owned();
        let named = Channel::named("test").local(address).settings(|endpoint| endpoint.directory(at));
        let channel = named.connect().await.unwrap();
        assert_eq!(who(&channel).await.unwrap(), "both", "{address}");
        assert_eq!(peer(&channel).await.unwrap(), who_i_am, "{address}");
        let mut client = tonic_health::pb::health_client::HealthClient::new(channel.clone());
        let request = tonic_health::pb::HealthCheckRequest { service: String::new() };
        let health = within("a call", client.check(request)).await.unwrap().into_inner();
        assert_eq!(health.status, 1, "{address}");
        // The server's own deadline.
        let status = within("a call", channel.unary_call(rpc::Request::new(WAIT), "")).await.unwrap_err();
        assert_eq!(status.code(), Code::DEADLINE_EXCEEDED, "{address}");
    }
    running.stop().await;
    assert!(!directory.path().join("socket").exists());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_stops_ends_its_calls_over_http2() {
    let directory = tempfile::tempdir().unwrap();
    let mut host = Host::serve(Server::builder(), "far", "http://127.0.0.1:0");
    let channel = channel(directory.path(), &host.address);
    let stream = channel.streaming_call(rpc::Request::new(ECHO));
    let (mut sender, mut receiver) = within("a stream", stream).await.unwrap();
    sender.send("on").await.unwrap();
    assert!(within("an echo", receiver.message()).await.unwrap().is_some());
    host.running.tell();
    // Refused now, while the stream goes on.
    within("new calls are refused", async {
        while who(&channel).await.is_ok() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    sender.send("on").await.unwrap();
    assert!(within("an echo", receiver.message()).await.unwrap().is_some());
    assert!(!host.running.task.is_finished());
    sender.finish().await.unwrap();
    assert!(within("the end", receiver.message()).await.unwrap().is_none());
    within("stopping", &mut host.running.task).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_over_http2_that_go_on_for_too_long_are_told() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::builder().drain_timeout(Duration::from_millis(50));
    let host = Host::serve(server, "far", "http://127.0.0.1:0");
    let channel = channel(directory.path(), &host.address);
    let stream = channel.streaming_call(rpc::Request::new(ECHO));
    let (mut sender, mut receiver) = within("a stream", stream).await.unwrap();
    sender.send("on").await.unwrap();
    assert!(within("an echo", receiver.message()).await.unwrap().is_some());
    host.running.stop().await;
    let status = within("the end", receiver.message()).await.unwrap_err();
    assert_eq!((status.code(), status.message()), (Code::UNAVAILABLE, "server stops: out of time"));
}

/// Whoever can read the directory can lock it, and a process that was stopped may hold the lock.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_holds_the_lock_on_a_sockets_directory_keeps_nobody_from_serving_and_stopping() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("socket");
    let held = std::fs::File::open(directory.path()).unwrap();
    rustix::fs::flock(&held, rustix::fs::FlockOperation::LockExclusive).unwrap();
    let begin = Instant::now();
    let host = Host::over_http2(&format!("unix:{}", path.display())).await;
    assert_eq!(who(&channel(directory.path(), &host.address)).await.unwrap(), "far");
    within("the end", host.running.stop()).await;
    assert!(!path.exists());
    assert!(begin.elapsed() < SOON, "{:?}", begin.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_over_http2_are_admitted_and_counted() {
    let directory = tempfile::tempdir().unwrap();
    let socket = format!("unix:{}", directory.path().join("socket").display());
    let nobody = Server::builder().admission(Admission::by(|_| false));
    let host = Host::serve(nobody, "far", &socket);
    let refused = who(&channel(directory.path(), &host.address)).await.unwrap_err();
    assert_eq!(refused.code(), Code::UNAVAILABLE);
    assert!(refused.message().starts_with(&format!("cannot connect to {socket}: ")), "{refused}");
    assert_eq!(host.calls(), 0);

    let host = Host::serve(Server::builder().max_connections(1), "far", "http://127.0.0.1:0");
    let first = channel(directory.path(), &host.address);
    assert_eq!(who(&first).await.unwrap(), "far");
    let second = channel(directory.path(), &host.address);
    assert_eq!(who(&second).await.unwrap_err().code(), Code::UNAVAILABLE);
    assert_eq!(who(&first).await.unwrap(), "far");
    drop(first);
    until_it_is(&second, "far").await;
}

#[tokio::test]
async fn an_address_that_cannot_be_served_is_told_in_a_sentence() {
    let directory = tempfile::tempdir().unwrap();
    let host = Host::serve(Server::builder(), "far", "http://127.0.0.1:0");
    let bind = |address: &str| {
        let server = Server::builder().directory(directory.path());
        server.bind_service_blocking(["notnets:///test", address], service(&host.seen)).unwrap_err()
    };
    let error = bind(&host.address);
    let expected = format!(
        "cannot listen on {}: Address already in use (os error 98); another process has it: choose another \
         port, or stop that process",
        host.address
    );
    assert_eq!((error.to_string(), error.kind()), (expected, ErrorKind::NameInUse));
    let file = directory.path().join("file");
    std::fs::write(&file, "").unwrap();
    let error = bind(&format!("unix:{}", file.display()));
    let words = "there is a file of that name which is not a socket: use another path";
    assert!(error.to_string().ends_with(words), "{error}");
    let error = bind("https://127.0.0.1:0");
    assert!(error.to_string().contains("TLS needs a certificate and its key"), "{error}");
    // The name was not taken.
    assert!(!directory.path().join("test").exists());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn servers_that_are_replaced_share_their_port() {
    let directory = tempfile::tempdir().unwrap();
    let serve = |id: &str, address: &str| {
        let server = Server::builder().directory(directory.path()).take_over(true);
        Host::serve(server, id, address)
    };
    let mut old = serve("old", "http://127.0.0.1:0");
    let address = old.address.clone();
    let channel = channel(directory.path(), &address);
    assert_eq!(who(&channel).await.unwrap(), "old");
    for round in 0..3 {
        let id = format!("new-{round}");
        let new = serve(&id, &address);
        old.running.stop().await;
        until_it_is(&channel, &id).await;
        old = new;
    }
}

/// Servers appear and stop on both transports under load: no call fails.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_move_between_transports_while_servers_come_and_go() {
    let mut random: u64 = std::env::var("SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(7);
    println!("SEED={random}");
    let directory = tempfile::tempdir().unwrap();
    let mut far = Host::over_http2("http://127.0.0.1:0").await;
    let address = far.address.clone();
    let channel = channel(directory.path(), &address);
    let stop = Arc::new(AtomicUsize::new(0));
    let callers: Vec<_> = (0..4)
        .map(|_| {
            let (channel, stop) = (channel.clone(), Arc::clone(&stop));
            tokio::spawn(async move {
                let (mut done, mut failed) = (0usize, Vec::new());
                while stop.load(Ordering::Relaxed) == 0 {
                    match who(&channel).await {
                        Ok(_) => done += 1,
                        Err(status) => failed.push(status),
                    }
                }
                (done, failed)
            })
        })
        .collect();
    let mut moved = Duration::ZERO;
    for _ in 0..12 {
        let near = Host::in_memory(directory.path());
        moved = moved.max(until_it_is(&channel, "near").await);
        // What is not needed can be replaced meanwhile.
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        if random >> 63 == 0 {
            far.running.stop().await;
            far = Host::serve(Server::builder(), "far", &address);
        }
        near.running.stop().await;
        until_it_is(&channel, "far").await;
    }
    stop.store(1, Ordering::Relaxed);
    let mut calls = 0;
    for caller in callers {
        let (done, failed) = within("a caller", caller).await.unwrap();
        assert!(failed.is_empty(), "{failed:?}");
        calls += done;
    }
    println!("{calls} calls; memory was used within {moved:?}");
    assert!(calls > 0 && moved < SOON);
}
