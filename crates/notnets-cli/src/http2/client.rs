//! The client's side: a `tower` service that sends calls to one address.
//!
//! Connections are made when a call needs one and replaced when they end, so a
//! server may start later than its clients and come back as it likes. A dial is
//! a task of its own: all calls that wait for it share what comes of it. A call
//! that the server has surely not seen is sent again on a new connection; no
//! other is ever repeated. Dropping the response, or the future that waits for
//! it, resets the call at once.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;
use std::{fmt, io};

use bytes::Bytes;
use h2::Reason;
use http::{HeaderValue, Request, Response, Uri, header};
use http_body::{Body as HttpBody, Frame, SizeHint};
use hyper::body::Incoming;
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::{oneshot, watch};
use tonic::Status;
use tonic::body::Body;
use tower_service::Service;

use super::status::status_of;
use super::{Address, CONNECTION_WINDOW, MAX_METADATA, STREAM_WINDOW, Stream, host_and_port};

/// How long a connection may take before its calls fail.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Calls open at once on one connection; further ones get a further connection.
/// HTTP/2 asks every server to allow at least as many, most allow 100 to 250.
const CALLS_PER_CONNECTION: usize = 100;

/// How many connections may end under a call before it was sent.
const ATTEMPTS: u32 = 3;

/// Sends calls to one address; cheap to clone.
#[derive(Clone)]
pub struct Client {
    inner: Arc<Inner>,
}

struct Inner {
    address: Address,
    connect_timeout: Duration,
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

#[derive(Clone)]
struct Connection {
    sender: SendRequest<RequestBody>,
    /// Held once here and once by each open call.
    open: Arc<()>,
}

/// A look for room: a connection that has some, or a dial.
enum Look {
    Found(Connection),
    Dialling(watch::Receiver<Option<Dialled>>),
}

impl Client {
    /// A client of `address`; it connects when the first call needs it.
    pub fn new(address: Address) -> Self {
        Self::with_timeout(address, CONNECT_TIMEOUT)
    }

    fn with_timeout(address: Address, connect_timeout: Duration) -> Self {
        Self { inner: Arc::new(Inner { address, connect_timeout, connections: Mutex::default() }) }
    }

    /// Connects, unless a connection is open.
    ///
    /// # Errors
    /// `UNAVAILABLE` with what was tried.
    pub async fn ready(&self) -> Result<(), Status> {
        self.inner.connection().await.map(drop)
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
        let (wanted, unwanted) = oneshot::channel();
        let mut request = self.address(request)?.map(|body| RequestBody { body, unwanted });
        let mut attempt = 1;
        loop {
            let Connection { mut sender, open } = self.connection().await?;
            let mut error = match sender.try_send_request(request).await {
                Ok(response) => {
                    return Ok(
                        response.map(|body| Body::new(ResponseBody { body, _open: open, _wanted: wanted }))
                    );
                }
                Err(error) => error,
            };
            // It comes back if the connection ended before it took the call.
            match error.take_message() {
                Some(unsent) if attempt < ATTEMPTS => request = unsent,
                _ => return Err(status_of(error.error())),
            }
            attempt += 1;
        }
    }

    /// Addresses the call to this server, with the headers gRPC asks for.
    fn address(&self, mut request: Request<Body>) -> Result<Request<Body>, Status> {
        let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
        let asked_for = request.uri().authority().map(|authority| authority.as_str().to_owned());
        let authority = asked_for.unwrap_or_else(|| match &self.address {
            Address::Tcp(authority) => authority.as_str().to_owned(),
            Address::Unix(_) => "localhost".to_owned(),
        });
        *request.uri_mut() = Uri::builder()
            .scheme("http")
            .authority(authority.as_str())
            .path_and_query(path)
            .build()
            .map_err(|error| Status::internal(format!("no URI for the path {path}: {error}")))?;
        *request.version_mut() = http::Version::HTTP_2;
        let headers = request.headers_mut();
        headers.remove(header::HOST);
        headers.insert(header::TE, HeaderValue::from_static("trailers"));
        headers.entry(header::CONTENT_TYPE).or_insert(HeaderValue::from_static("application/grpc"));
        Ok(request)
    }

    /// An open connection with room for a call.
    async fn connection(self: &Arc<Self>) -> Result<Connection, Status> {
        loop {
            let mut dial = match self.look() {
                Look::Found(connection) => return Ok(connection),
                Look::Dialling(dial) => dial,
            };
            match dial.wait_for(Option::is_some).await.as_deref() {
                Ok(Some(Err(status))) => return Err(status.clone()),
                // It has room, unless others were faster.
                Ok(_) => {}
                Err(_) => return Err(refused(&self.address, &"the dial was cut short")),
            }
        }
    }

    /// Finds a connection with room, or the dial that makes one; begins one if need be.
    fn look(self: &Arc<Self>) -> Look {
        let mut connections = self.connections();
        connections.open.retain(|connection| !connection.sender.is_closed());
        let has_room = |connection: &&Connection| Arc::strong_count(&connection.open) <= CALLS_PER_CONNECTION;
        if let Some(found) = connections.open.iter().find(has_room) {
            return Look::Found(found.clone());
        }
        let present = connections.dial.take().filter(|dial| dial.has_changed().is_ok());
        Look::Dialling(connections.dial.insert(present.unwrap_or_else(|| self.dial())).clone())
    }

    /// Begins to connect. Given up once nobody waits for it and the client is gone.
    fn dial(self: &Arc<Self>) -> watch::Receiver<Option<Dialled>> {
        let (sender, dial) = watch::channel(None);
        let inner = Arc::downgrade(self);
        let (address, timeout) = (self.address.clone(), self.connect_timeout);
        tokio::spawn(async move {
            let dialled = tokio::select! {
                dialled = connect(&address, timeout) => dialled,
                () = sender.closed() => return,
            };
            let Some(inner) = inner.upgrade() else { return };
            let mut connections = inner.connections();
            connections.dial = None;
            let dialled = dialled.map(|sender| {
                connections.open.push(Connection { sender, open: Arc::new(()) });
            });
            drop(connections);
            sender.send_replace(Some(dialled));
        });
        dial
    }

    fn connections(&self) -> MutexGuard<'_, Connections> {
        self.connections.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn connect(address: &Address, timeout: Duration) -> Result<SendRequest<RequestBody>, Status> {
    let stream = match tokio::time::timeout(timeout, dial(address)).await {
        Ok(dialled) => dialled.map_err(|error| refused(address, &error))?,
        Err(_) => return Err(refused(address, &format_args!("no answer within {timeout:?}"))),
    };
    let (sender, connection) = http2::Builder::new(TokioExecutor::new())
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_header_list_size(MAX_METADATA)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(|error| refused(address, &error))?;
    let address = address.clone();
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!("the connection to {address} ended: {error}");
        }
    });
    Ok(sender)
}

fn refused(address: &Address, why: &dyn fmt::Display) -> Status {
    Status::unavailable(format!("cannot connect to {address}: {why}; is its server running?"))
}

async fn dial(address: &Address) -> io::Result<Box<dyn Stream>> {
    match address {
        Address::Tcp(authority) => {
            let stream = TcpStream::connect(host_and_port(authority)).await?;
            stream.set_nodelay(true)?;
            Ok(Box::new(stream))
        }
        Address::Unix(path) => Ok(Box::new(UnixStream::connect(path).await?)),
    }
}

/// A request's body; an error in it or a response that is no longer wanted
/// resets the call, whether or not the caller has more to send.
///
/// It does not announce its length even if it knows: hyper would add a
/// `content-length`, which gRPC clients don't send.
struct RequestBody {
    body: Body,
    /// Resolves when the future or the body of the response is dropped.
    unwanted: oneshot::Receiver<Infallible>,
}

impl HttpBody for RequestBody {
    type Data = Bytes;
    /// hyper resets the stream with the reason it finds in here.
    type Error = h2::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, h2::Error>>> {
        if Pin::new(&mut self.unwanted).poll(cx).is_ready() {
            return Poll::Ready(Some(Err(Reason::CANCEL.into())));
        }
        Pin::new(&mut self.body).poll_frame(cx).map_err(|_| Reason::CANCEL.into())
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }
}

/// A response's body, which counts as an open call as long as it is there.
struct ResponseBody {
    body: Incoming,
    _open: Arc<()>,
    _wanted: oneshot::Sender<Infallible>,
}

impl HttpBody for ResponseBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        Pin::new(&mut self.body).poll_frame(cx).map_err(|error| status_of(&error))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::TcpSocket;
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

    #[tokio::test(start_paused = true)]
    async fn all_that_wait_for_a_dial_fail_with_it() {
        let (_listener, _filled, address) = full();
        let (client, start) = (Client::with_timeout(address, TIMEOUT), Instant::now());
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
        let client = Client::with_timeout(address, TIMEOUT);
        let mut kept = Box::pin(client.ready());
        assert!(std::future::poll_fn(|cx| Poll::Ready(kept.as_mut().poll(cx))).await.is_pending());
        let start = Instant::now();
        let other = tokio::time::timeout(TIMEOUT * 2, client.ready()).await;
        assert!(other.unwrap().is_err() && start.elapsed() < TIMEOUT * 2);
        assert!(kept.await.is_err());
    }
}
