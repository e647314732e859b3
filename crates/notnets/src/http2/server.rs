//! The server's side: what arrives on a listener goes to `tower` services, one for each connection.

use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use http::{Request, Response, Uri};
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tonic::body::Body;
use tower_service::Service;

use super::authority::UNKNOWN;
use super::listener::{Listener, Origin};
use super::lobby::{InLobby, Lobby};
use super::observed::{Observed, PREFACE};
use super::pings::KeepAlive;
use super::turns::Turns;
use super::{CONNECTION_WINDOW, MAX_METADATA, STREAM_WINDOW, Stream};
use crate::tls::{ServerTls, Shown};

/// Calls that one client may have open at once.
const MAX_CALLS: u32 = 10_000;

/// How long to leave a listener alone that had no room for a connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// What is offered to each client.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// How its liveness is watched.
    pub keep_alive: KeepAlive,
    /// Calls that it may have open at once.
    pub max_calls: u32,
}

impl Options {
    /// The most calls that this watches, and at most `max_calls` at once.
    pub fn new(keep_alive: KeepAlive, max_calls: u32) -> Self {
        Self { keep_alive, max_calls: max_calls.min(MAX_CALLS) }
    }
}

/// A service for one connection, and when its client is to be asked to make another connection.
pub type Served<S> = (S, Pin<Box<dyn Future<Output = ()> + Send>>);

/// Serves each connection, by TLS if that is given, with a service of its own, which `make` makes, but those
/// for which it makes none: once the client has shown who it is, if there is TLS. It does so until
/// `shutdown`. Then it refuses new clients, asks the connected ones that no further call is made, and waits
/// for the open calls.
pub async fn serve<S>(
    listener: Listener,
    tls: Option<ServerTls>,
    make: impl Fn(&Origin) -> Option<Served<S>> + Send + Sync + 'static,
    options: Options,
    shutdown: impl Future<Output = ()>,
) where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible> + Clone + Send + Sync + 'static,
    S::Future: Send + 'static,
{
    let (stop, stopping) = watch::channel(());
    let mut connections = JoinSet::new();
    let lobby = Lobby::default();
    let make = Arc::new(make);
    let begin = |stream, origin: Origin, connections: &mut JoinSet<()>| {
        let connection = |stream| Connection { stream, waiting: lobby.enter(), options };
        let Some(tls) = &tls else {
            if let Some(served) = make(&origin) {
                connections.spawn(connection(stream).serve(served, stopping.clone()));
            }
            return;
        };
        let (connection, make) = (connection(stream), Arc::clone(&make));
        let (tls, mut stopping) = (tls.clone(), stopping.clone());
        connections.spawn(async move {
            if let Some((connection, shown)) = connection.shake_hands(tls, &mut stopping).await
                && let Some(served) = make(&origin.by_tls(shown))
            {
                connection.serve(served, stopping).await;
            }
        });
    };
    let mut shutdown = pin!(shutdown);
    loop {
        tokio::select! {
            () = &mut shutdown => break,
            accepted = listener.accept(options.keep_alive) => match accepted {
                Ok((stream, origin)) => begin(stream, origin, &mut connections),
                Err(error) => {
                    tracing::warn!("cannot accept a connection: {error}; for too many open files raise RLIMIT_NOFILE");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            },
            Some(_) = connections.join_next() => {}
        }
    }
    // Those that are connected already are told to go elsewhere, and not cut off.
    while let Some(Ok((stream, origin))) = now(listener.accept(options.keep_alive)).await {
        begin(stream, origin, &mut connections);
    }
    drop(listener);
    drop(stop);
    while connections.join_next().await.is_some() {}
}

/// What there is without waiting.
async fn now<T>(work: impl Future<Output = T>) -> Option<T> {
    let mut work = pin!(work);
    poll_fn(|cx| match work.as_mut().poll(cx) {
        Poll::Ready(done) => Poll::Ready(Some(done)),
        Poll::Pending => Poll::Ready(None),
    })
    .await
}

/// A connection that a client has made.
struct Connection {
    stream: Box<dyn Stream>,
    waiting: InLobby,
    options: Options,
}

impl Connection {
    /// Goes over to TLS, and learns who the client is.
    async fn shake_hands(self, tls: ServerTls, stopping: &mut watch::Receiver<()>) -> Option<(Self, Shown)> {
        let accepted = tokio::select! {
            accepted = tls.accept(self.stream) => accepted,
            () = self.waiting.must_leave() => Err(std::io::ErrorKind::TimedOut.into()),
            // It has made no call yet.
            _ = stopping.changed() => return None,
        };
        match accepted {
            Ok((stream, shown)) => Some((Self { stream, ..self }, shown)),
            Err(error) => {
                tracing::debug!("a client's TLS failed: {error}");
                None
            }
        }
    }

    async fn serve<S>(self, (service, mut ending): Served<S>, mut stopping: watch::Receiver<()>)
    where
        S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>
            + Clone
            + Send
            + Sync
            + 'static,
        S::Future: Send + 'static,
    {
        let turns = Turns::default();
        let (stream, _, mut beginning) = Observed::new(turns.reading(self.stream), PREFACE);
        let connection = http2::Builder::new(turns)
            .timer(TokioTimer::new())
            .keep_alive_interval(self.options.keep_alive.interval)
            .keep_alive_timeout(self.options.keep_alive.timeout)
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_header_list_size(MAX_METADATA)
            .max_concurrent_streams(self.options.max_calls)
            // A client that gives up on all its calls at once is not an attacker.
            .max_pending_accept_reset_streams(MAX_CALLS as usize)
            .auto_date_header(false)
            .serve_connection(
                TokioIo::new(stream),
                service_fn(move |request| call(service.clone(), request)),
            );
        let mut connection = pin!(connection);
        let mut waiting = Some(self.waiting);
        let mut is_stopping = false;
        let ended = loop {
            let must_leave = async {
                match &waiting {
                    Some(waiting) => waiting.must_leave().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                ended = connection.as_mut() => break ended,
                _ = &mut beginning, if waiting.is_some() => waiting = None,
                () = must_leave => {
                    tracing::debug!("a client that did not say that it speaks HTTP/2 was disconnected");
                    return;
                }
                // Errs when the sender is dropped, which is the signal.
                _ = stopping.changed(), if !is_stopping => {
                    is_stopping = true;
                    connection.as_mut().graceful_shutdown();
                }
                () = ending.as_mut(), if !is_stopping => {
                    is_stopping = true;
                    connection.as_mut().graceful_shutdown();
                }
            }
        };
        if let Err(error) = ended {
            tracing::debug!("a client's connection ended: {error}");
        }
    }
}

async fn call<S>(mut service: S, request: Request<Incoming>) -> Result<Response<Body>, Infallible>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
{
    poll_fn(|cx| service.poll_ready(cx)).await?;
    let mut request = request.map(Body::new);
    if request.uri().authority().is_some_and(|authority| authority == UNKNOWN) {
        let path = request.uri().path_and_query().cloned();
        *request.uri_mut() = path.map(Uri::from).unwrap_or_default();
    }
    service.call(request).await
}
