//! Calls between hosts of a pod, and what ends them. The hosts are this process, with an agent and a
//! rendezvous directory for each.

mod common;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use notnets::{Endpoint, PeerInfo, RetrySafe, Server};
use notnets_core::link::rendezvous::Directory;
use notnets_memory::Coherence;
use notnets_memory::region::Region;
use notnets_memory::region::file::RegionFile;
use notnets_memory::region::format::{Plan, format};
use notnets_pod::daemon::Daemon;
use tonic::body::Body;
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::{Code, Request, Status};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;
use tower_service::Service as _;

const LEASE: Duration = Duration::from_millis(600);
const LIMIT: Duration = Duration::from_secs(30);

struct Pod(tempfile::TempDir);

struct Agent {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Pod {
    fn new() -> Self {
        Self::with(Coherence::Software)
    }

    fn with(coherence: Coherence) -> Self {
        let pod = Self(tempfile::tempdir().unwrap());
        std::fs::write(pod.region(), vec![0; 8 << 20]).unwrap();
        let lease_ms = LEASE.as_millis() as u32;
        let plan = Plan { heartbeat_ms: 20, lease_ms, coherence, ..Plan::new("pod0", 2) };
        format(&RegionFile::open(&pod.region()).unwrap(), &plan).unwrap();
        pod
    }

    fn region(&self) -> PathBuf {
        self.0.path().join("region")
    }

    fn directory(&self, host: u16) -> PathBuf {
        self.0.path().join(host.to_string())
    }

    /// An agent that can be cut off: it does not leave in order.
    fn agent(&self, host: u16) -> Agent {
        let region = Region::open(&self.region()).unwrap();
        let mut daemon = Daemon::start(region, host, &Directory::at(self.directory(host))).unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                daemon.turn().unwrap();
            }
        });
        Agent { stop, thread: Some(thread) }
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.take().unwrap().join().unwrap();
    }
}

/// Tells who calls, in place of an answer, when it is asked to.
#[derive(Clone)]
struct WhoCalls;

impl Interceptor for WhoCalls {
    fn call(&mut self, request: Request<()>) -> Result<Request<()>, Status> {
        let peer = request.extensions().get::<PeerInfo>().ok_or_else(|| Status::internal("no peer"))?;
        match request.metadata().contains_key("who") {
            true => Err(Status::already_exists(format!("{:?} {:?}", peer.host, peer.pid))),
            false => Ok(request),
        }
    }
}

async fn serve(
    directory: &Path,
    names: Vec<&str>,
) -> (tokio::task::JoinHandle<()>, tokio::sync::oneshot::Sender<()>) {
    let (reporter, service) = tonic_health::server::health_reporter();
    reporter.set_service_status("", tonic_health::ServingStatus::Serving).await;
    let (stop, stopped) = tokio::sync::oneshot::channel();
    let service = InterceptedService::new(service, WhoCalls);
    let bound = Server::builder().directory(directory).add_service(service).bind_blocking(names).unwrap();
    let task = tokio::spawn(async move {
        bound.serve_with_shutdown(async { drop(stopped.await) }).await.unwrap();
    });
    (task, stop)
}

fn request() -> HealthCheckRequest {
    HealthCheckRequest { service: String::new() }
}

/// Calls until it goes through: names get around with the next look of an agent.
async fn reach(client: &mut HealthClient<notnets::Channel>) {
    let until = Instant::now() + LIMIT;
    while let Err(status) = client.check(request()).await {
        assert_eq!(status.code(), Code::Unavailable, "{status:?}");
        assert!(Instant::now() < until, "{status:?}");
        tokio::task::yield_now().await;
    }
}

fn client(directory: PathBuf, uri: &'static str) -> HealthClient<notnets::Channel> {
    HealthClient::new(Endpoint::from_static(uri).directory(directory).connect_lazy())
}

#[tokio::test]
async fn names_of_hosts_and_pods_are_served_at_once() {
    let pod = Pod::new();
    let _agents = [pod.agent(0), pod.agent(1)];
    let (server, stop) = serve(&pod.directory(1), vec!["notnets:///health", "notnets://pod0/health"]).await;
    let (mut near, mut far) =
        (client(pod.directory(1), "notnets:///health"), client(pod.directory(0), "notnets://pod0/health"));
    reach(&mut near).await;
    reach(&mut far).await;
    for (client, host) in [(&mut near, "None"), (&mut far, "Some(0)")] {
        let mut who = Request::new(request());
        who.metadata_mut().insert("who", "?".parse().unwrap());
        let told = client.check(who).await.unwrap_err();
        assert_eq!(told.message(), format!("{host} Some({})", std::process::id()));
    }
    // A replica on the caller's host is found as well.
    let mut own = client(pod.directory(1), "notnets://pod0/health");
    reach(&mut own).await;
    stop.send(()).unwrap();
    server.await.unwrap();
    let refused = far.check(request()).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unavailable, "{refused:?}");
}

/// On a runtime of one thread.
#[tokio::test]
async fn serving_waits_for_the_agent_and_not_with_the_thread() {
    let pod = Pod::new();
    // One that is there and says nothing.
    let directory = Directory::at(pod.directory(0));
    let silent = directory.listen(&"silent".parse().unwrap()).unwrap();
    std::fs::rename(silent.path(), pod.directory(0).join(".pod-pod0")).unwrap();
    let (_, service) = tonic_health::server::health_reporter();
    let server = Server::builder().directory(pod.directory(0)).add_service(service);
    let mut serving = std::pin::pin!(server.serve("notnets://pod0/health"));
    let begin = Instant::now();
    tokio::select! {
        biased;
        served = &mut serving => panic!("{served:?}"),
        () = std::future::ready(()) => {}
    }
    assert!(begin.elapsed() < Duration::from_secs(4), "the thread goes on");
    drop(silent);
    let refused = serving.await.unwrap_err();
    assert!(refused.to_string().contains("no agent of the pod pod0 answers"), "{refused}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn a_handler_that_blocks_its_thread_holds_nobody_up() {
    let _awake = common::Awake::keep();
    // Without checksums, which take long in a build that is not optimized: short calls are short.
    let pod = Pod::with(Coherence::Hardware);
    let _agents = [pod.agent(0), pod.agent(1)];
    let (begun, has_begun) = mpsc::channel();
    // Dropped by a test that fails: then the thread goes on, too.
    let (release, released) = mpsc::channel::<()>();
    let released = Arc::new(Mutex::new(released));
    let handler = move |request: http::Request<_>| {
        let block = request.headers().contains_key("block").then(|| (begun.clone(), Arc::clone(&released)));
        async move {
            if let Some((begun, released)) = block {
                begun.send(()).unwrap();
                let _ = tokio::task::block_in_place(|| released.lock().unwrap().recv());
            }
            common::ok()
        }
    };
    let server = Server::builder().in_place_limit(Duration::from_millis(1)).directory(pod.directory(1));
    let bound = server.bind_service_blocking("notnets://pod0/test", common::Handler(handler)).unwrap();
    let server = tokio::spawn(bound.serve());
    let endpoint = Endpoint::new("notnets://pod0/test").unwrap().directory(pod.directory(0));
    let channel = common::within("connecting", endpoint.connect()).await.unwrap();
    for _ in 0..200 {
        common::call(&channel, "/a.B/C", Body::empty()).await.unwrap();
    }
    let request = http::Request::builder().method("POST").uri("/a.B/C").header("block", "");
    let blocked = tokio::spawn(channel.clone().call(request.body(Body::empty()).unwrap()));
    tokio::task::spawn_blocking(move || has_begun.recv_timeout(common::LIMIT)).await.unwrap().unwrap();
    for _ in 0..20 {
        let beside = common::call(&channel, "/a.B/C", Body::empty());
        common::within("a call beside one that blocks its thread", beside).await.unwrap();
    }
    release.send(()).unwrap();
    blocked.await.unwrap().unwrap();
    server.abort();
}

#[tokio::test]
async fn a_host_that_is_cut_off_is_unavailable_and_comes_back() {
    let pod = Pod::new();
    let (_first, second) = (pod.agent(0), pod.agent(1));
    let (_server, _stop) = serve(&pod.directory(1), vec!["notnets://pod0/health"]).await;
    let mut client = client(pod.directory(0), "notnets://pod0/health");
    reach(&mut client).await;
    let mut watch = client.watch(request()).await.unwrap().into_inner();
    assert!(watch.message().await.unwrap().is_some());
    drop(second);
    // The stream waits for a change of health; what comes is the end of the host.
    let ended = tokio::time::timeout(LIMIT, watch.message()).await.unwrap().unwrap_err();
    assert_eq!(ended.code(), Code::Unavailable, "{ended:?}");
    let refused = client.check(request()).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unavailable, "{refused:?}");
    let _second = pod.agent(1);
    reach(&mut client).await;
}

#[tokio::test]
async fn calls_outlive_the_agents_on_both_sides() {
    let pod = Pod::new();
    let mut agents = [Some(pod.agent(0)), Some(pod.agent(1))];
    let (_server, _stop) = serve(&pod.directory(1), vec!["notnets://pod0/health"]).await;
    let mut client = client(pod.directory(0), "notnets://pod0/health");
    reach(&mut client).await;
    let mut watch = client.watch(request()).await.unwrap().into_inner();
    assert!(watch.message().await.unwrap().is_some());
    for round in 0..4 {
        agents[round % 2] = None;
        client.check(request()).await.unwrap();
        agents[round % 2] = Some(pod.agent(round as u16 % 2));
        client.check(request()).await.unwrap();
    }
    // Longer than the lease: nobody is taken for dead.
    let until = Instant::now() + LEASE * 2;
    while Instant::now() < until {
        client.check(request()).await.unwrap();
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let still = tokio::time::timeout(Duration::from_millis(1), watch.message()).await;
    assert!(still.is_err(), "the stream is open: {still:?}");
}

#[tokio::test]
async fn memory_that_is_lost_ends_calls_and_not_the_process() {
    let pod = Pod::new();
    let _agents = [pod.agent(0), pod.agent(1)];
    let (_server, _stop) = serve(&pod.directory(1), vec!["notnets://pod0/health"]).await;
    let mut client = client(pod.directory(0), "notnets://pod0/health");
    reach(&mut client).await;
    let mut watch = client.watch(request()).await.unwrap().into_inner();
    assert!(watch.message().await.unwrap().is_some());
    // As a device that vanishes: every access to it is a bus error.
    std::fs::File::options().write(true).open(pod.region()).unwrap().set_len(0).unwrap();
    let ended = tokio::time::timeout(LIMIT, watch.message()).await.unwrap().unwrap_err();
    assert!(matches!(ended.code(), Code::Unavailable | Code::Internal), "{ended:?}");
    let refused = client.check(request()).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unavailable, "{refused:?}");
}

/// Its server has taken the name, and does not serve it.
#[tokio::test]
async fn a_dial_that_takes_too_long_names_what_was_dialled() {
    const URI: &str = "notnets://pod0/health";
    const PATIENCE: Duration = Duration::from_millis(100);
    let pod = Pod::new();
    let _agents = [pod.agent(0), pod.agent(1)];
    let (_, service) = tonic_health::server::health_reporter();
    let _idle =
        Server::builder().directory(pod.directory(1)).add_service(service).bind_blocking(URI).unwrap();
    let endpoint = Endpoint::from_static(URI).directory(pod.directory(0)).connect_timeout(PATIENCE);
    let late = endpoint.connect().await.unwrap_err();
    let blocking = notnets::blocking::Endpoint::new(URI).unwrap();
    let blocking = blocking.directory(pod.directory(0)).connect_timeout(PATIENCE);
    let blocked = tokio::task::spawn_blocking(move || blocking.connect().map(drop)).await.unwrap();
    for error in [late, blocked.unwrap_err()] {
        let text = "no link to notnets://pod0/health: the agent, or the process that serves the name, did not answer in time";
        assert_eq!(error.to_string(), text);
    }
}

#[tokio::test]
async fn what_is_missing_is_told() {
    let pod = Pod::new();
    let mut client = client(pod.directory(0), "notnets://pod0/health");
    let refused = client.check(request()).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unavailable);
    assert!(refused.message().contains("start one with `notnets agent"), "{refused:?}");
    assert!(std::error::Error::source(&refused).is_some_and(|source| source.is::<RetrySafe>()));
    let _agent = pod.agent(0);
    let until = Instant::now() + LIMIT;
    loop {
        let refused = client.check(request()).await.unwrap_err();
        if refused
            .message()
            .starts_with("no link to notnets://pod0/health: no host of the pod pod0 serves health")
        {
            break;
        }
        assert!(Instant::now() < until, "{refused:?}");
        tokio::task::yield_now().await;
    }
}
