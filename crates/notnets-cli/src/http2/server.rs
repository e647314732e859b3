//! The server's side: what arrives on a listener goes to a `tower` service.

use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::time::Duration;

use http::{Request, Response, Uri};
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tonic::body::Body;
use tower_service::Service;

use super::authority::UNKNOWN;
use super::listener::Listener;
use super::{CONNECTION_WINDOW, MAX_METADATA, STREAM_WINDOW, Stream};

/// Calls that one client may have open at once.
const MAX_CALLS: u32 = 10_000;

/// How long to leave a listener alone that had no room for a connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Serves until `shutdown`, then refuses new clients, asks the connected ones
/// that no further call is taken, and waits up to `grace` for the open calls.
pub async fn serve<S>(listener: Listener, service: S, shutdown: impl Future<Output = ()>, grace: Duration)
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible> + Clone + Send + Sync + 'static,
    S::Future: Send + 'static,
{
    let (stop, stopping) = watch::channel(());
    let mut connections = JoinSet::new();
    let mut shutdown = pin!(shutdown);
    loop {
        tokio::select! {
            () = &mut shutdown => break,
            accepted = listener.accept() => match accepted {
                Ok(stream) => {
                    connections.spawn(serve_connection(stream, service.clone(), stopping.clone()));
                }
                Err(error) => {
                    tracing::warn!("cannot accept a connection: {error}; for too many open files raise RLIMIT_NOFILE");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            },
            Some(_) = connections.join_next() => {}
        }
    }
    drop(listener);
    drop(stop);
    let last_calls = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(grace, last_calls).await.is_err() {
        tracing::warn!("calls were still open after {grace:?} and have been cut off");
    }
}

async fn serve_connection<S>(stream: Box<dyn Stream>, service: S, mut stopping: watch::Receiver<()>)
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible> + Clone + Send + Sync + 'static,
    S::Future: Send + 'static,
{
    let service = service_fn(move |request: Request<Incoming>| {
        let mut service = service.clone();
        async move {
            poll_fn(|cx| service.poll_ready(cx)).await?;
            let mut request = request.map(Body::new);
            if request.uri().authority().is_some_and(|authority| authority == UNKNOWN) {
                let path = request.uri().path_and_query().cloned();
                *request.uri_mut() = path.map(Uri::from).unwrap_or_default();
            }
            service.call(request).await
        }
    });
    let connection = http2::Builder::new(TokioExecutor::new())
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_header_list_size(MAX_METADATA)
        .max_concurrent_streams(MAX_CALLS)
        // A client that gives up on all its calls at once is not an attacker.
        .max_pending_accept_reset_streams(MAX_CALLS as usize)
        .auto_date_header(false)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        // Errs when the sender is dropped, which is the signal.
        _ = stopping.changed() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!("a client's connection ended: {error}");
    }
}
