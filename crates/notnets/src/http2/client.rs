//! The client's side: a `tower` service that sends calls to one address.
//!
//! Connections are made when a call needs one and replaced when they end, so a
//! server may start later than its clients and come back as it likes. A dial is
//! a task of its own: all calls that wait for it share what comes of it. A call
//! that the server has surely not processed is made again on a new connection: as
//! often as it was never sent, once if the server says so in a GOAWAY or by refusing
//! it; no other is ever repeated. A call that fails without having been processed says so
//! ([`RetrySafe`]). Dropping the response, or the future that waits for it, resets the call at once.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use h2::client::SendRequest;
use http::uri::Authority;
use http::{HeaderName, HeaderValue, Request, Response, Uri, header};
use tokio::sync::watch;
use tonic::Status;
use tonic::body::Body;
use tower_service::Service;

use super::Address;
use super::connection::{ATTEMPTS, Connection, Destination, OpenCall, connect, refused};
use super::exchange::{Failed, exchange};
use super::pings::KeepAlive;
use super::replay::Replay;
use crate::http::RetrySafe;
use crate::tls::ClientTls;

/// How a client deals with its server.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// How long a connection may take before its calls fail.
    pub connect_timeout: Duration,
    /// How its liveness is watched.
    pub keep_alive: KeepAlive,
}

impl Default for Options {
    fn default() -> Self {
        Self { connect_timeout: Duration::from_secs(10), keep_alive: KeepAlive::default() }
    }
}

/// Headers that are HTTP/1's own.
const OF_HTTP1: [HeaderName; 5] = [
    header::CONNECTION,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
];

/// Sends calls to one address; cheap to clone. Its connections end with its last clone.
#[derive(Clone)]
pub struct Client {
    inner: Arc<Inner>,
}

struct Inner {
    to: Destination,
    options: Options,
    connections: Mutex<Connections>,
}

#[derive(Default)]
struct Connections {
    open: Vec<Connection>,
    /// The dial that goes on, if there is one.
    dial: Option<watch::Receiver<Option<Dialled>>>,
}

/// What has come of a dial: a further connection, or why there is none.
type Dialled = Result<(), Status>;

/// A call that may begin.
type Begun = (SendRequest<Bytes>, OpenCall);

/// A look for room: a call on a connection that has some, or a dial.
enum Look {
    Found(Begun),
    Dialling(watch::Receiver<Option<Dialled>>),
}

impl Client {
    /// A client of `address`; it connects when the first call needs it.
    pub fn new(address: Address, options: Options) -> Self {
        Self::with(address, options, None, None)
    }

    /// A client of `address`, with this in place of the system's for TLS, where that of another name is meant
    /// if there is one.
    pub fn with(address: Address, options: Options, tls: Option<ClientTls>, host: Option<Authority>) -> Self {
        let host = host.or_else(|| address.authority().cloned());
        let host = host.unwrap_or_else(|| Authority::from_static("localhost"));
        let to = Destination { address, host, tls };
        Self { inner: Arc::new(Inner { to, options, connections: Mutex::default() }) }
    }

    /// Connects, unless a connection is open.
    ///
    /// # Errors
    /// `UNAVAILABLE` with what was tried.
    pub async fn ready(&self) -> Result<(), Status> {
        self.inner.begin().await.map(drop)
    }

    /// Returns `true` if no connection is open that takes calls.
    pub fn is_lost(&self) -> bool {
        self.inner.connections().open.iter().all(Connection::is_closed)
    }

    /// Waits until no connection is open that takes calls.
    pub async fn lost(&self) {
        loop {
            let open =
                self.inner.connections().open.iter().find(|open| !open.is_closed()).map(Connection::life);
            match open {
                Some(life) => life.closed().await,
                None => return,
            }
        }
    }
}

impl Service<Request<Body>> for Client {
    type Response = Response<Body>;
    type Error = Status;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Status>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Status>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let inner = Arc::clone(&self.inner);
        Box::pin(async move { inner.send(request).await })
    }
}

impl Inner {
    async fn send(self: &Arc<Self>, request: Request<Body>) -> Result<Response<Body>, Status> {
        let (head, body) = self.address(request)?.into_parts();
        let mut body = Replay::new(body);
        let mut may_be_refused = true;
        for attempt in 1.. {
            let (sender, call) = self.begin().await.map_err(unprocessed)?;
            let life = Arc::clone(&call.life);
            let request = Request::from_parts(head.clone(), ());
            let (failed, request) = match exchange(sender, request, body, call).await {
                Ok(response) => return Ok(response),
                Err(failed) => failed,
            };
            body = request;
            let (error, was_sent) = match failed {
                Failed::Ended(status) => return Err(status),
                Failed::Unsent(error) => (error, false),
                Failed::Unprocessed(error) => (error, true),
            };
            // A stream may be refused on a connection that goes on.
            if !error.is_reset() {
                life.close();
            }
            let is_over = attempt == ATTEMPTS || (was_sent && !may_be_refused);
            if is_over || !body.rewind() {
                return Err(unprocessed(life.status_of(&error)));
            }
            may_be_refused &= !was_sent;
        }
        unreachable!("the last attempt returns")
    }

    /// Addresses the call to this server, with the headers gRPC asks for.
    fn address(&self, mut request: Request<Body>) -> Result<Request<Body>, Status> {
        let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
        let authority = request.uri().authority().unwrap_or(&self.to.host).clone();
        *request.uri_mut() = Uri::builder()
            .scheme(if self.to.address.is_tls() { "https" } else { "http" })
            .authority(authority)
            .path_and_query(path)
            .build()
            .map_err(|error| Status::internal(format!("no URI for the path {path}: {error}")))?;
        *request.version_mut() = http::Version::HTTP_2;
        let headers = request.headers_mut();
        headers.remove(header::HOST);
        for name in OF_HTTP1 {
            headers.remove(name);
        }
        headers.insert(header::TE, HeaderValue::from_static("trailers"));
        headers.entry(header::CONTENT_TYPE).or_insert(HeaderValue::from_static("application/grpc"));
        Ok(request)
    }

    /// Begins a call on an open connection with room for it.
    async fn begin(self: &Arc<Self>) -> Result<Begun, Status> {
        loop {
            let mut dial = match self.look() {
                Look::Found(begun) => return Ok(begun),
                Look::Dialling(dial) => dial,
            };
            match dial.wait_for(Option::is_some).await.as_deref() {
                Ok(Some(Err(status))) => return Err(status.clone()),
                // It has room, unless others were faster.
                Ok(_) => {}
                Err(_) => return Err(refused(&self.to.address, &"the dial was cut short")),
            }
        }
    }

    /// Finds a connection with room, or the dial that makes one; begins one if need be.
    fn look(self: &Arc<Self>) -> Look {
        let mut connections = self.connections();
        connections.open.retain(|connection| !connection.is_closed());
        if let Some(begun) = connections.open.iter().find_map(Connection::begin) {
            return Look::Found(begun);
        }
        let present = connections.dial.take().filter(|dial| dial.has_changed().is_ok());
        Look::Dialling(connections.dial.insert(present.unwrap_or_else(|| self.dial())).clone())
    }

    /// Begins to connect. Given up once nobody waits for it and the client is gone.
    fn dial(self: &Arc<Self>) -> watch::Receiver<Option<Dialled>> {
        let (sender, dial) = watch::channel(None);
        let inner = Arc::downgrade(self);
        let (to, options) = (self.to.clone(), self.options);
        tokio::spawn(async move {
            let dialled = tokio::select! {
                dialled = connect(&to, options.connect_timeout, options.keep_alive) => dialled,
                () = sender.closed() => return,
            };
            let Some(inner) = inner.upgrade() else { return };
            let mut connections = inner.connections();
            connections.dial = None;
            let dialled = dialled.map(|connection| connections.open.push(connection));
            drop(connections);
            sender.send_replace(Some(dialled));
        });
        dial
    }

    fn connections(&self) -> MutexGuard<'_, Connections> {
        self.connections.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The server has surely not processed the call: it says so, or was not sent it.
fn unprocessed(mut status: Status) -> Status {
    status.set_source(Arc::new(RetrySafe::because_of(None)));
    status
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::os::unix::net::UnixListener;

    use super::*;
    use rustix::net::sockopt::set_socket_linger;
    use tokio::net::TcpSocket;
    use tokio::sync::oneshot;
    use tokio::task::JoinHandle;
    use tokio::time::Instant;

    const TIMEOUT: Duration = Duration::from_secs(3);

    /// A listener that takes no more connections; those that fill its queue; and its address.
    fn full() -> (tokio::net::TcpListener, [std::net::TcpStream; 2], Address) {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        // The kernel takes one more than is asked for.
        let listener = socket.listen(1).unwrap();
        let address = listener.local_addr().unwrap();
        let filled = std::array::from_fn(|_| std::net::TcpStream::connect(address).unwrap());
        (listener, filled, Address::Tcp(address.to_string().parse().unwrap()))
    }

    fn client_of(address: Address) -> Client {
        Client::new(address, Options { connect_timeout: TIMEOUT, ..Options::default() })
    }

    #[tokio::test(start_paused = true)]
    async fn all_that_wait_for_a_dial_fail_with_it() {
        let (_listener, _filled, address) = full();
        let (client, start) = (client_of(address), Instant::now());
        let calls: Vec<_> = (0..4)
            .map(|_| {
                let client = client.clone();
                tokio::spawn(async move { client.ready().await })
            })
            .collect();
        for call in calls {
            let status = call.await.unwrap().unwrap_err();
            assert!(status.message().contains("no answer within 3s"), "{status:?}");
        }
        assert!(start.elapsed() < TIMEOUT * 2, "they fail after {:?}", start.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_that_is_polled_once_and_kept_holds_up_no_other() {
        let (_listener, _filled, address) = full();
        let client = client_of(address);
        let mut kept = Box::pin(client.ready());
        assert!(std::future::poll_fn(|cx| Poll::Ready(kept.as_mut().poll(cx))).await.is_pending());
        let start = Instant::now();
        let other = tokio::time::timeout(TIMEOUT * 2, client.ready()).await;
        assert!(other.unwrap().is_err() && start.elapsed() < TIMEOUT * 2);
        assert!(kept.await.is_err());
    }

    trait Socket: Read + Write + Send {}
    impl<T: Read + Write + Send> Socket for T {}

    /// A server that does as each test says: its next connection.
    type Accept = Arc<dyn Fn() -> Box<dyn Socket> + Send + Sync>;

    /// Frames of a server: its first, and one that says that it leaves and has processed nothing.
    const SETTINGS: [u8; 9] = [0, 0, 0, 4, 0, 0, 0, 0, 0];
    const GOAWAY: [u8; 17] = [0, 0, 8, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    /// What a client answers to the first.
    const ACKNOWLEDGED: [u8; 9] = [0, 0, 0, 4, 1, 0, 0, 0, 0];

    /// Servers over TCP, with closed connections that are reset, and over a Unix socket.
    fn servers(directory: &std::path::Path) -> [(Accept, Address); 2] {
        let tcp = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = Address::Tcp(tcp.local_addr().unwrap().to_string().parse().unwrap());
        let path = directory.join("socket");
        let unix = UnixListener::bind(&path).unwrap();
        let accept_tcp = move || {
            let (stream, _) = tcp.accept().unwrap();
            set_socket_linger(&stream, Some(Duration::ZERO)).unwrap();
            Box::new(stream) as Box<dyn Socket>
        };
        let accept_unix = move || Box::new(unix.accept().unwrap().0) as Box<dyn Socket>;
        [(Arc::new(accept_tcp), port), (Arc::new(accept_unix), Address::Unix(path))]
    }

    /// Has a server do something. A test that fails does not wait for it.
    async fn done<T: Send + 'static>(server: impl FnOnce() -> T + Send + 'static) -> T {
        let (sender, done) = oneshot::channel();
        std::thread::spawn(move || sender.send(server()));
        tokio::time::timeout(TIMEOUT, done).await.expect("the client does its part").unwrap()
    }

    /// Reads up to these bytes.
    fn read_to(socket: &mut dyn Socket, last: &[u8]) {
        let mut received = Vec::new();
        while !received.ends_with(last) {
            let mut byte = [0];
            socket.read_exact(&mut byte).unwrap();
            received.push(byte[0]);
        }
    }

    fn call(mut client: Client) -> JoinHandle<Result<Response<Body>, Status>> {
        let request = Request::new(Body::default());
        tokio::spawn(async move { client.call(request).await })
    }

    /// Accepts a connection and reads until a call begins on it.
    async fn called(accept: &Accept) -> Box<dyn Socket> {
        let accept = Arc::clone(accept);
        done(move || {
            let mut socket = accept();
            socket.write_all(&SETTINGS).unwrap();
            // The headers of the first call, their length aside.
            read_to(&mut *socket, &[1, 4, 0, 0, 0, 1]);
            socket
        })
        .await
    }

    #[tokio::test]
    async fn what_a_server_said_last_is_heard_although_it_can_be_sent_nothing() {
        let directory = tempfile::tempdir().unwrap();
        for (accept, address) in servers(directory.path()) {
            let client = client_of(address);
            let server = Arc::clone(&accept);
            let begun = done(move || {
                let mut socket = server();
                socket.write_all(&SETTINGS).unwrap();
                read_to(&mut *socket, &ACKNOWLEDGED);
                socket
            });
            let (mut socket, ready) = tokio::join!(begun, client.ready());
            ready.unwrap();
            // The runtime learns of this only after the call has begun.
            socket.write_all(&GOAWAY).unwrap();
            drop(socket);
            let call = call(client);
            let _again = called(&accept).await;
            assert!(!call.is_finished());
            call.abort();
        }
    }

    #[tokio::test]
    async fn a_server_that_leaves_at_once_is_sought_again() {
        let directory = tempfile::tempdir().unwrap();
        for (accept, address) in servers(directory.path()) {
            for words in [Vec::new(), [&SETTINGS[..], &GOAWAY[..]].concat()] {
                let server = Arc::clone(&accept);
                let call = call(client_of(address.clone()));
                done(move || server().write_all(&words)).await.unwrap();
                let _again = called(&accept).await;
                assert!(!call.is_finished());
                call.abort();
            }
        }
    }
}
