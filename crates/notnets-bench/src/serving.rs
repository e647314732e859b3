//! Serves and reaches a service over each transport that is compared.

use std::convert::Infallible;
use std::path::PathBuf;

use http::{Request, Response};
use notnets::byte_stream::ByteStreams;
use tokio::net::{TcpListener, UnixListener};
use tokio_stream::wrappers::UnixListenerStream;
use tonic::body::Body;
use tonic::codegen::Service;
use tonic::server::NamedService;
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Endpoint, Server};

use crate::Result;

// HTTP/2's defaults (64 KiB windows, 16 KiB frames) make large messages wait for their reader many times
// over, and do nothing for small ones. The baseline gets what it was fastest with, of windows from 64 KiB to
// 4 MiB and frames from 16 KiB to 1 MiB.
const STREAM_WINDOW: u32 = 4 << 20;
const CONNECTION_WINDOW: u32 = 8 << 20;
const FRAME: u32 = 256 << 10;

/// Where a service is served.
pub enum Listen {
    /// HTTP/2 on any free port of the loopback interface.
    Tcp,
    /// HTTP/2 on a Unix socket at this path.
    Uds(PathBuf),
    /// HTTP/2 over byte streams in shared memory, at this address.
    Streams {
        /// The server that serves there.
        server: Box<notnets::Server>,
        /// A `notnets:` URI.
        address: String,
    },
    /// Shared memory, at this address.
    NotNets {
        /// The server that serves there.
        server: Box<notnets::Server>,
        /// A `notnets:` URI.
        address: String,
    },
}

/// Serves for as long as the process lives. `ready` is called with the address once clients can connect to
/// it.
///
/// # Errors
/// When the address cannot be served.
pub async fn serve_over<S>(listen: Listen, service: S, ready: impl FnOnce(String)) -> Result
where
    S: NamedService + Clone + Send + Sync + 'static,
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
    S::Future: Send + 'static,
{
    match listen {
        Listen::Tcp => {
            let listener = TcpListener::bind("127.0.0.1:0").await?;
            ready(format!("http://{}", listener.local_addr()?));
            let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
            http2_server().add_service(service).serve_with_incoming(incoming).await?;
        }
        Listen::Uds(path) => {
            let listener = UnixListener::bind(&path)?;
            ready(format!("unix://{}", path.display()));
            let incoming = UnixListenerStream::new(listener);
            http2_server().add_service(service).serve_with_incoming(incoming).await?;
        }
        Listen::Streams { server, address } => {
            let (streams, incoming) = ByteStreams::new();
            let bound = server.add_byte_streams(streams).bind(address.as_str()).await?;
            ready(address);
            let served = http2_server().add_service(service).serve_with_incoming(incoming);
            let (below, served) = tokio::join!(bound.serve(), served);
            below?;
            served?;
        }
        Listen::NotNets { server, address } => {
            let bound = server.add_service(service).bind(address.as_str()).await?;
            ready(address);
            bound.serve().await?;
        }
    }
    Ok(())
}

fn http2_server() -> Server {
    Server::builder()
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_frame_size(FRAME)
}

/// Creates the endpoint of an address that is served over HTTP/2.
///
/// # Errors
/// When it is not a URI.
pub fn http2_endpoint(address: &str) -> Result<Endpoint> {
    Ok(Endpoint::from_shared(address.to_owned())?
        .tcp_nodelay(true)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_frame_size(FRAME))
}
