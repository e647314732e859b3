//! A connection to a server: made, watched, and replaced when it dies.
//!
//! It is there once the server has said something that HTTP/2 begins with, and not when the kernel has
//! connected it. While calls are open a silent server is asked whether it is still there ([`Pings`]); a
//! connection whose server does not answer ends with its calls, and the next call makes another.

use std::fmt;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use h2::client::SendRequest;
use h2::{Ping, PingPong};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::Notify;
use tokio::sync::oneshot::error::RecvError;
use tokio::time::Instant;
use tonic::Status;

use super::last_words::LastWords;
use super::observed::{Beginning, FRAME_HEAD, Observed, Received};
use super::pings::{KeepAlive, Pings, Seen};
use super::status::status_of;
use super::{
    Address, Authority, CONNECTION_WINDOW, MAX_METADATA, STREAM_WINDOW, Stream, host_and_port, liveness,
};
use crate::tls::{self, ClientTls};

/// Calls open at once on one connection; further ones get a further connection.
/// HTTP/2 asks every server to allow at least as many, most allow 100 to 250.
const CALLS_PER_CONNECTION: usize = 100;

/// How many connections may end under a call, or a dial, before the server has seen it.
pub const ATTEMPTS: u32 = 3;

/// A connection that takes calls.
pub struct Connection {
    /// Dropped with this, for a connection goes on as long as there is one.
    sender: Arc<Mutex<SendRequest<Bytes>>>,
    life: Arc<Life>,
}

/// What a connection, its calls and its watcher share.
pub struct Life {
    state: Mutex<State>,
    /// A call has begun.
    called: Notify,
    /// It takes no more calls from now on.
    closed: Notify,
}

#[derive(Default)]
struct State {
    open: usize,
    /// When the youngest call began.
    called: Option<Instant>,
    /// When headers or data last came.
    answered: Option<Instant>,
    /// It takes no more calls.
    is_closed: bool,
    /// Why it was given up.
    given_up: Option<String>,
}

/// A call of a connection, as long as it is open.
pub struct OpenCall {
    pub(super) life: Arc<Life>,
}

impl Drop for OpenCall {
    fn drop(&mut self) {
        self.life.state().open -= 1;
    }
}

impl Life {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that headers or data have come.
    pub fn answered(&self) {
        self.state().answered = Some(Instant::now());
    }

    /// Takes no more calls.
    pub fn close(&self) {
        self.state().is_closed = true;
        self.closed.notify_waiters();
    }

    /// Waits until it takes no more calls.
    pub async fn closed(&self) {
        let mut closed = pin!(self.closed.notified());
        closed.as_mut().enable();
        if !self.state().is_closed {
            closed.await;
        }
    }

    /// The status of a call that ended with `error`.
    pub fn status_of(&self, error: &h2::Error) -> Status {
        match &self.state().given_up {
            Some(why) => Status::unavailable(why.clone()),
            None => status_of(error),
        }
    }
}

impl Connection {
    /// Returns `true` if no call can begin on it any more.
    pub fn is_closed(&self) -> bool {
        self.life.state().is_closed
    }

    /// What it shares with its calls.
    pub fn life(&self) -> Arc<Life> {
        Arc::clone(&self.life)
    }

    /// Begins a call, if there is room for one.
    pub fn begin(&self) -> Option<(SendRequest<Bytes>, OpenCall)> {
        let sender = lock(&self.sender);
        let room = sender.current_max_send_streams().clamp(1, CALLS_PER_CONNECTION);
        let mut state = self.life.state();
        if state.is_closed || state.open >= room {
            return None;
        }
        state.open += 1;
        state.called = Some(Instant::now());
        self.life.called.notify_one();
        Some((sender.clone(), OpenCall { life: Arc::clone(&self.life) }))
    }
}

/// A server, and who it has to be.
#[derive(Clone)]
pub struct Destination {
    pub address: Address,
    /// The authority of calls that bring none; by TLS, the host that the certificate has to be for.
    pub host: Authority,
    /// In place of the system's.
    pub tls: Option<ClientTls>,
}

/// Connects, and waits until the server has answered in HTTP/2.
///
/// # Errors
/// `UNAVAILABLE` with what was tried.
pub async fn connect(
    to: &Destination,
    timeout: Duration,
    keep_alive: KeepAlive,
) -> Result<Connection, Status> {
    match tokio::time::timeout(timeout, until_begun(to, keep_alive)).await {
        Ok(connected) => connected.map_err(|error| refused(&to.address, &error)),
        Err(_) => Err(refused(&to.address, &format_args!("no answer within {timeout:?}"))),
    }
}

/// The status of calls that get no connection.
pub fn refused(address: &Address, why: &dyn fmt::Display) -> Status {
    Status::unavailable(format!("cannot connect to {address}: {why}; is its server running?"))
}

/// Why a connection has not begun.
struct NotBegun {
    error: io::Error,
    /// Its server ended it and said nothing against HTTP/2. It was about to leave, and another may be there.
    has_left: bool,
}

impl From<io::Error> for NotBegun {
    fn from(error: io::Error) -> Self {
        // What was never connected is refused.
        let has_left = matches!(
            error.kind(),
            io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe | io::ErrorKind::UnexpectedEof
        );
        Self { error, has_left }
    }
}

async fn until_begun(to: &Destination, keep_alive: KeepAlive) -> io::Result<Connection> {
    let mut attempt = 1;
    loop {
        match begin(to, keep_alive).await {
            Ok(begun) => return Ok(begun),
            Err(NotBegun { has_left: true, .. }) if attempt < ATTEMPTS => attempt += 1,
            Err(NotBegun { error, .. }) => return Err(error),
        }
    }
}

async fn begin(to: &Destination, keep_alive: KeepAlive) -> Result<Connection, NotBegun> {
    let address = &to.address;
    let stream = dial(to, keep_alive).await?;
    let (stream, received, mut beginning) = Observed::new(stream, FRAME_HEAD);
    let (sender, mut connection) = h2::client::Builder::new()
        .enable_push(false)
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_header_list_size(MAX_METADATA)
        .handshake::<_, Bytes>(stream)
        .await
        .map_err(io::Error::other)?;
    let ended = tokio::select! {
        begun = &mut beginning => {
            check(begun)?;
            None
        }
        ended = &mut connection => Some(ended),
    };
    if let Some(ended) = ended {
        // What came before says more than how HTTP/2 failed.
        drop(connection);
        let io = ended.as_ref().err().and_then(h2::Error::get_io).map(tls::explained);
        if address.is_tls()
            && let Some(error) = io
        {
            return Err(NotBegun { error, has_left: false });
        }
        check(beginning.await)?;
        let left = || io::Error::other("its server ended the connection as soon as it had begun");
        return Err(NotBegun { error: ended.err().map_or_else(left, io::Error::other), has_left: true });
    }
    let pings = connection.ping_pong();
    let life = Arc::new(Life { state: Mutex::default(), called: Notify::new(), closed: Notify::new() });
    let sender = Arc::new(Mutex::new(sender));
    let (address, watched) = (address.clone(), Arc::clone(&life));
    let connection = until_ended(connection, Arc::downgrade(&sender), Arc::clone(&life));
    tokio::spawn(async move {
        let ended = tokio::select! {
            ended = connection => ended.map_err(|error| error.to_string()),
            why = watch(pings, &watched, &received, keep_alive) => {
                watched.state().given_up = Some(format!("the connection to {address} was given up: {why}"));
                Err(why)
            }
        };
        watched.close();
        if let Err(error) = ended {
            tracing::debug!("the connection to {address} ended: {error}");
        }
    });
    Ok(Connection { sender, life })
}

/// Drives a connection. It is closed to new calls as soon as the server says that it goes away, though it
/// may go on for long with those that are open.
async fn until_ended<S: Stream>(
    mut connection: h2::client::Connection<S, Bytes>,
    sender: Weak<Mutex<SendRequest<Bytes>>>,
    life: Arc<Life>,
) -> Result<(), h2::Error> {
    let mut goes_away = false;
    poll_fn(|cx| {
        let ended = Pin::new(&mut connection).poll(cx);
        if !goes_away
            && let Some(sender) = sender.upgrade()
            && matches!(lock(&sender).poll_ready(cx), Poll::Ready(Err(_)))
        {
            goes_away = true;
            life.close();
        }
        ended
    })
    .await
}

fn lock(sender: &Mutex<SendRequest<Bytes>>) -> MutexGuard<'_, SendRequest<Bytes>> {
    sender.lock().unwrap_or_else(PoisonError::into_inner)
}

fn check(begun: Result<Beginning, RecvError>) -> Result<(), NotBegun> {
    let Ok(begun) = begun else { return Ok(()) };
    begun.check().map_err(|why| NotBegun { error: io::Error::other(why), has_left: begun.is_empty() })
}

async fn dial(to: &Destination, keep_alive: KeepAlive) -> io::Result<Box<dyn Stream>> {
    let address = &to.address;
    if let Address::Unix(path) = address {
        return Ok(Box::new(LastWords::new(UnixStream::connect(path).await?)));
    }
    let (host, port) = address.host_and_port().ok_or(io::ErrorKind::AddrNotAvailable)?;
    let stream = TcpStream::connect((host, port)).await?;
    liveness::set(&stream, keep_alive)?;
    let stream = LastWords::new(stream);
    if !address.is_tls() {
        return Ok(Box::new(stream));
    }
    let tls = to.tls.clone().map_or_else(ClientTls::of_system, Ok)?;
    tls.connect(host_and_port(&to.host).0, stream).await
}

/// Asks a silent server whether it is there; returns when and why it is given up.
async fn watch(pings: Option<PingPong>, life: &Life, received: &Received, keep_alive: KeepAlive) -> String {
    let (Some(mut ping_pong), Some(interval)) = (pings, keep_alive.interval) else {
        return std::future::pending().await;
    };
    let mut pings = Pings::new(interval);
    loop {
        let due = {
            let state = life.state();
            let called = state.called.filter(|_| state.open > 0);
            pings.due(Seen { received: received.last(), answered: state.answered, called })
        };
        let Some(due) = due else {
            life.called.notified().await;
            continue;
        };
        if due > Instant::now() {
            // A call that begins meanwhile may make it due earlier.
            tokio::select! {
                () = tokio::time::sleep_until(due) => {}
                () = life.called.notified() => {}
            }
            continue;
        }
        pings.sent(Instant::now());
        let mut pong = pin!(ping_pong.ping(Ping::opaque()));
        let mut heard = Instant::now();
        loop {
            match tokio::time::timeout_at(heard + keep_alive.timeout, pong.as_mut()).await {
                Ok(Ok(_)) => break,
                // The connection says itself how it ended.
                Ok(Err(_)) => return std::future::pending().await,
                // Its answer stands behind what it sends.
                Err(_) if received.last() > heard => heard = received.last(),
                Err(_) => return format!("its server did not answer within {:?}", keep_alive.timeout),
            }
        }
    }
}
