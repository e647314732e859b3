//! The one place that knows how the benchmark's processes reach each other.
//!
//! Everything above is generic over [`Channel`], not behind a pointer: nothing is allocated between a
//! stub and the transport that is measured.

use std::convert::Infallible;
use std::path::Path;
use std::time::{Duration, Instant};

use http::{Request, Response};
use notnets_pod::member::PodError;
use tokio::net::{TcpListener, UnixListener};
use tokio_stream::wrappers::UnixListenerStream;
use tonic::body::Body;
use tonic::codegen::Service;
use tonic::server::NamedService;
use tonic::transport::server::TcpIncoming;
use tower::BoxError;

use super::case::{Transport, Wait};
use super::control::Serve;
use super::process::PATIENCE;
use crate::Result;

/// In a pod a name gets around by and by. One that is not there yet is looked for so often.
pub const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// What a generated client can be made with.
pub trait Channel:
    Service<Request<Body>, Response = Response<Body>, Error: Into<BoxError>, Future: Send>
    + Clone
    + Send
    + Sync
    + 'static
{
    /// Connects to the address that a server said it is at.
    fn connect(address: &str, directory: &Path, wait: Wait) -> impl Future<Output = Result<Self>> + Send;
}

impl Channel for tonic::transport::Channel {
    async fn connect(address: &str, _: &Path, _: Wait) -> Result<Self> {
        let endpoint = tonic::transport::Endpoint::from_shared(address.to_owned())?
            .tcp_nodelay(true)
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_frame_size(FRAME);
        Ok(endpoint.connect().await?)
    }
}

impl Channel for notnets::Channel {
    async fn connect(address: &str, directory: &Path, wait: Wait) -> Result<Self> {
        let endpoint = notnets::Endpoint::new(address)?.directory(directory).wait(wait.into());
        let until = Instant::now() + PATIENCE;
        loop {
            match endpoint.connect().await {
                Err(notnets::Error::Pod { source: PodError::NoService { .. }, .. })
                    if Instant::now() < until =>
                {
                    tokio::time::sleep(LOOK_AGAIN).await;
                }
                connected => return Ok(connected?),
            }
        }
    }
}

/// Serves for as long as the process lives; `ready` is told the address once clients can connect to it.
pub async fn serve<S>(order: &Serve, service: S, ready: impl FnOnce(String)) -> Result
where
    S: NamedService + Clone + Send + Sync + 'static,
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
    S::Future: Send + 'static,
{
    let http2 = || {
        tonic::transport::Server::builder()
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_frame_size(FRAME)
    };
    match order.transport {
        Transport::Tcp => {
            let listener = TcpListener::bind("127.0.0.1:0").await?;
            ready(format!("http://{}", listener.local_addr()?));
            let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
            http2().add_service(service).serve_with_incoming(incoming).await?;
        }
        Transport::Uds => {
            let path = order.directory.join(&order.name);
            let listener = UnixListener::bind(&path)?;
            ready(format!("unix://{}", path.display()));
            http2().add_service(service).serve_with_incoming(UnixListenerStream::new(listener)).await?;
        }
        Transport::NotNets => {
            let address = order.address();
            let server = notnets::Server::builder().directory(order.names()).wait(order.wait.into());
            let bound = server.add_service(service).bind(address.as_str())?;
            ready(address);
            bound.serve().await?;
        }
        transport @ (Transport::Floor | Transport::Null) => {
            return Err(format!("{transport} serves no stubs").into());
        }
    }
    Ok(())
}

// The baseline gets what it is fastest with: HTTP/2's defaults (64 KiB windows, 16 KiB frames) make
// large messages wait for their reader many times over, and do nothing for small ones.
const STREAM_WINDOW: u32 = 4 << 20;
const CONNECTION_WINDOW: u32 = 8 << 20;
const FRAME: u32 = 256 << 10;
