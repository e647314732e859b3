//! What the tests share: servers in this process, the command in others.

#[path = "../../examples/foreign-server/probe.rs"]
pub mod probe;
#[path = "../../examples/foreign-server/routes.rs"]
mod routes;
#[path = "../../examples/foreign-server/trailers.rs"]
mod trailers;

use std::fmt::Display;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Output, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader, Lines};
use tokio::net::{TcpListener, UnixListener};
use tokio::process::{Child, ChildStdout, Command};
use tokio::task::JoinHandle;
use tokio_stream::wrappers::UnixListenerStream;
use tonic::body::Body;
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Endpoint, Server};
use tonic::{Request, Status};
use tower::ServiceExt;
use tower::util::BoxCloneService;

use probe::pb::await_request::State;
use probe::pb::probe_client::ProbeClient;
use probe::pb::{AwaitRequest, Handler};

pub use routes::Reflection;

/// Any free port.
pub const ANY: &str = "127.0.0.1:0";

/// Calls that tonic's server, as set up here, takes on one connection.
pub const CALLS_PER_CONNECTION: u32 = 100;

/// Long enough for the slowest machine, short enough to end a run that hangs.
const PATIENCE: Duration = Duration::from_secs(60);

/// Fails the test if `work` does not end.
pub async fn in_time<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, work).await.expect("it should have ended long ago")
}

/// A rendezvous directory and files of a test's own. All processes of the test use it.
pub struct World {
    directory: TempDir,
}

impl World {
    pub fn new() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        std::fs::create_dir(directory.path().join("names")).expect("a new directory");
        Self { directory }
    }

    /// `NOTNETS_DIR` of all that is started here.
    pub fn names(&self) -> PathBuf {
        self.directory.path().join("names")
    }

    /// A path that nothing is at yet.
    pub fn path(&self, file: &str) -> PathBuf {
        self.directory.path().join(file)
    }

    /// The address of a Unix socket.
    pub fn unix(&self, file: &str) -> String {
        format!("unix:{}", self.path(file).display())
    }

    /// A server on a name of its own, reached through shared memory.
    pub async fn server(&self) -> String {
        let uri = format!("notnets:///{}", key("probe"));
        let server = notnets::Server::builder().directory(self.names());
        let bound = server.bind_service(uri.as_str(), routes::all().await).await.expect("a free name");
        tokio::spawn(bound.serve());
        uri
    }

    /// The same services over HTTP/2 and through shared memory.
    pub async fn servers(&self) -> [String; 2] {
        [http2_server().await, self.server().await]
    }

    /// A server like [`server`](Self::server) that takes as much metadata as the proxy.
    pub async fn roomy_server(&self) -> String {
        let uri = format!("notnets:///{}", key("roomy"));
        let server = notnets::Server::builder().directory(self.names()).max_metadata_size(64 << 10);
        let bound = server.bind_service(uri.as_str(), routes::all().await).await.expect("a free name");
        tokio::spawn(bound.serve());
        uri
    }

    /// All ways through a proxy that shared memory can be on, and one without it.
    pub async fn ways(&self) -> Vec<Way> {
        let [http2, notnets] = self.servers().await;
        let name = format!("notnets:///{}", key("proxy"));
        vec![
            Way { proxy: self.proxy(ANY, &http2).await, server: http2.clone() },
            Way { proxy: self.proxy(ANY, &notnets).await, server: notnets },
            Way { proxy: self.proxy(&name, &http2).await, server: http2 },
        ]
    }

    /// The command with its arguments.
    pub fn notnets<'a>(&self, arguments: impl IntoIterator<Item = &'a str>) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_notnets"));
        command.args(arguments).stdin(Stdio::null()).env_remove("RUST_LOG").kill_on_drop(true);
        command.env("NOTNETS_DIR", self.names());
        command
    }

    /// Runs the command to its end.
    pub async fn run<'a>(&self, arguments: impl IntoIterator<Item = &'a str>) -> Ended {
        Ended(in_time(self.notnets(arguments).output()).await.expect("the command starts"))
    }

    /// Starts `notnets proxy` and waits until it is ready.
    pub async fn proxy(&self, listen: &str, to: &str) -> Proxy {
        self.proxy_of(["proxy", "--listen", listen, "--to", to]).await
    }

    /// The same with these arguments.
    pub async fn proxy_of<'a>(&self, arguments: impl IntoIterator<Item = &'a str>) -> Proxy {
        let mut command = self.notnets(arguments);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts");
        let mut out = BufReader::new(child.stdout.take().expect("piped")).lines();
        let line = in_time(out.next_line()).await.expect("readable").expect("a line");
        let address = line.strip_prefix("READY ").expect("READY ADDRESS").to_owned();
        Proxy { address, child, out }
    }

    /// A client of `HOST:PORT`, `unix:PATH` or `notnets:///NAME`: tonic's transport or ours.
    pub async fn client(&self, address: &str) -> Probe {
        if address.starts_with("notnets:") {
            let endpoint = notnets::Endpoint::new(address).expect("a URI").directory(self.names());
            let channel = in_time(endpoint.connect()).await.expect("a server");
            return ProbeClient::new(BoxCloneService::new(channel));
        }
        let uri = if address.starts_with("unix:") { address.to_owned() } else { format!("http://{address}") };
        let endpoint = Endpoint::from_shared(uri).expect("a URI");
        let channel = in_time(endpoint.connect()).await.expect("a server");
        ProbeClient::new(BoxCloneService::new(channel.map_err(|error| Status::from_error(error.into()))))
    }
}

/// A proxy and the server behind it.
pub struct Way {
    pub proxy: Proxy,
    pub server: String,
}

/// A client, whatever it calls over.
pub type Probe = ProbeClient<AnyChannel>;

type AnyChannel = BoxCloneService<http::Request<Body>, http::Response<Body>, Status>;

/// Everything that servers here serve.
pub async fn services() -> trailers::EchoMetadata<tonic::service::Routes> {
    routes::all().await
}

/// Serves everything with tonic's own HTTP/2 server; the address.
pub async fn http2_server() -> String {
    let listener = TcpListener::bind(ANY).await.expect("a free port");
    let address = listener.local_addr().expect("an address").to_string();
    let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
    let server = Server::builder().max_concurrent_streams(CALLS_PER_CONNECTION);
    tokio::spawn(server.serve_with_incoming(routes::all().await, incoming));
    address
}

/// The same on a Unix socket.
pub async fn unix_server(path: &Path) -> String {
    let incoming = UnixListenerStream::new(UnixListener::bind(path).expect("a free path"));
    tokio::spawn(Server::builder().serve_with_incoming(routes::all().await, incoming));
    format!("unix:{}", path.display())
}

/// The same with the HTTP/2 server that the proxy has.
pub async fn server_of_ours() -> String {
    let server = notnets::Server::builder().max_metadata_size(64 << 10);
    let bound = server.bind_service("http://127.0.0.1:0", routes::all().await).await.expect("a free port");
    let address = bound.http2_addresses().pop().expect("an address");
    tokio::spawn(bound.serve());
    address.strip_prefix("http://").expect("HTTP/2").to_owned()
}

/// A server without reflection, or with that of `v1alpha` only.
pub async fn server_of(reflection: Reflection) -> String {
    let listener = TcpListener::bind(ANY).await.expect("a free port");
    let address = listener.local_addr().expect("an address").to_string();
    tokio::spawn(
        Server::builder().serve_with_incoming(routes::some(reflection).await, TcpIncoming::from(listener)),
    );
    address
}

/// A server whose reflection lists these services besides its own, and has these descriptions.
pub async fn server_described(listed: &[&str], descriptions: prost_types::FileDescriptorSet) -> String {
    let listener = TcpListener::bind(ANY).await.expect("a free port");
    let address = listener.local_addr().expect("an address").to_string();
    let builder = tonic_reflection::server::Builder::configure().register_file_descriptor_set(descriptions);
    let builder = listed.iter().fold(builder, |builder, name| builder.with_service_name(*name));
    let reflection = builder.build_v1().expect("it does not look at what is missing");
    let mut routes = tonic::service::RoutesBuilder::default();
    routes.add_service(reflection);
    routes.add_service(probe::pb::probe_server::ProbeServer::new(probe::ProbeService::default()));
    tokio::spawn(Server::builder().serve_with_incoming(routes.routes(), TcpIncoming::from(listener)));
    address
}

/// An address that nobody listens on.
pub async fn unbound() -> String {
    let listener = TcpListener::bind(ANY).await.expect("a free port");
    listener.local_addr().expect("an address").to_string()
}

/// What a command left.
pub struct Ended(Output);

impl Ended {
    pub fn code(&self) -> Option<i32> {
        self.0.status.code()
    }

    pub fn out(&self) -> &str {
        str::from_utf8(&self.0.stdout).expect("UTF-8")
    }

    pub fn err(&self) -> &str {
        str::from_utf8(&self.0.stderr).expect("UTF-8")
    }

    /// The only line of output, as JSON.
    pub fn json(&self) -> serde_json::Value {
        assert_eq!(self.code(), Some(0), "{}", self.err());
        serde_json::from_str(self.out()).expect("one JSON value")
    }
}

/// A running `notnets proxy`; killed on drop.
pub struct Proxy {
    pub address: String,
    child: Child,
    out: Lines<BufReader<ChildStdout>>,
}

impl Proxy {
    pub fn pid(&self) -> u32 {
        self.child.id().expect("not yet reaped")
    }

    pub fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_raw(self.pid().cast_signed());
        rustix::process::kill_process(pid.expect("a pid"), signal).expect("it is ours");
    }

    /// The next line that it prints.
    pub async fn line(&mut self) -> String {
        in_time(self.out.next_line()).await.expect("readable").expect("a line")
    }

    /// Waits for its end: how it ended and what it had to say.
    pub async fn ended(mut self) -> (ExitStatus, String) {
        let mut err = String::new();
        let mut stderr = self.child.stderr.take().expect("piped");
        in_time(stderr.read_to_string(&mut err)).await.expect("UTF-8");
        (in_time(self.child.wait()).await.expect("it can be waited for"), err)
    }
}

/// A key that no other handler has.
pub fn key(of: impl Display) -> String {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    format!("{of}-{}", NEXT.fetch_add(1, Ordering::Relaxed))
}

pub fn handler(key: &str) -> Handler {
    Handler { key: key.to_owned() }
}

/// Waits until the handler of `key` runs.
pub async fn started(client: &mut Probe, key: &str) {
    reached(client, key, State::Started).await;
}

/// Waits until the handler of `key` has been dropped.
pub async fn dropped(client: &mut Probe, key: &str) {
    reached(client, key, State::Dropped).await;
}

/// A call whose handler has begun, and waits for as long as the call is open.
pub async fn hanging(client: &mut Probe) -> JoinHandle<()> {
    let key = key("hangs");
    let (mut caller, request) = (client.clone(), handler(&key));
    let call = tokio::spawn(async move { drop(caller.wait(request).await) });
    started(client, &key).await;
    call
}

async fn reached(client: &mut Probe, key: &str, state: State) {
    let request = AwaitRequest { key: key.to_owned(), state: state.into() };
    in_time(client.r#await(request)).await.expect("an answer");
}

/// A request whose handler can be awaited by `key`.
pub fn keyed<T>(key: &str, message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("key", key.parse().expect("ASCII"));
    request
}
