//! The one place that knows how the shop's processes talk.
//!
//! The services and the customer are the same for each transport: they see a generated
//! client over a [`Channel`], and a generated server that is given to [`serve`].

use std::convert::Infallible;
use std::fmt;
use std::path::PathBuf;

use clap::ValueEnum;
use serde::{Deserialize, Serialize};
use tokio::net::{TcpListener, UnixListener};
use tokio_stream::wrappers::UnixListenerStream;
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::Service;
use tonic::server::NamedService;
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Endpoint, Server};
use tower::util::BoxCloneSyncService;
use tower::{BoxError, ServiceExt};

use crate::Result;

/// What carries the calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Transport {
    /// tonic's HTTP/2 over TCP on the loopback interface.
    Tcp,
    /// tonic's HTTP/2 over Unix sockets.
    Uds,
    /// NotNets: shared memory.
    #[value(name = "notnets")]
    NotNets,
}

impl Transport {
    /// The name for people.
    pub fn label(self) -> &'static str {
        match self {
            Self::Tcp => "TCP",
            Self::Uds => "Unix socket",
            Self::NotNets => "NotNets",
        }
    }

    /// The name as it stands in arguments and JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Uds => "uds",
            Self::NotNets => "notnets",
        }
    }

    /// The class of its lines and bars in a report.
    pub fn class(self) -> &'static str {
        match self {
            Self::Tcp => "t-tcp",
            Self::Uds => "t-uds",
            Self::NotNets => "t-notnets",
        }
    }

    /// Whether this is the one that the others are compared with.
    pub fn is_ours(self) -> bool {
        !matches!(self, Self::Tcp | Self::Uds)
    }
}

impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// Where a service is served.
#[derive(Clone, Debug, clap::Args)]
pub struct Place {
    /// What carries the calls.
    #[arg(long)]
    pub transport: Transport,
    /// The directory for the shop's sockets.
    #[arg(long)]
    pub directory: PathBuf,
    /// The pod, over NotNets; without one, this host alone.
    #[arg(long, default_value = "")]
    pub pod: String,
}

/// The address over NotNets of a service in a pod, or on this host if that is empty.
pub fn notnets_address(pod: &str, name: &str) -> String {
    format!("notnets://{pod}/{name}")
}

/// A way to a service, whatever carries it.
pub type Channel = BoxCloneSyncService<http::Request<Body>, http::Response<Body>, Status>;

/// Wraps what a transport calls its channel.
pub fn boxed<S>(channel: S) -> Channel
where
    S: Service<http::Request<Body>, Response = http::Response<Body>> + Clone + Send + Sync + 'static,
    S::Error: Into<BoxError>,
    S::Future: Send + 'static,
{
    BoxCloneSyncService::new(channel.map_err(|error| Status::from_error(error.into())))
}

/// Connects to the address that a server's process said it is at. Over NotNets the first call does so:
/// in a pod the services of another host may come later.
pub async fn connect(address: &str) -> Result<Channel> {
    if address.starts_with("notnets:") {
        return Ok(boxed(notnets::Endpoint::new(address)?.connect_lazy()));
    }
    let endpoint = Endpoint::from_shared(address.to_owned())?
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_frame_size(FRAME);
    Ok(boxed(endpoint.connect().await?))
}

/// Serves `service` under `name`, for as long as the process lives; `ready` is told the address
/// once clients can connect to it.
pub async fn serve<S>(place: &Place, name: &str, service: S, ready: impl FnOnce(String)) -> Result
where
    S: NamedService + Clone + Send + Sync + 'static,
    S: Service<http::Request<Body>, Response = http::Response<Body>, Error = Infallible>,
    S::Future: Send + 'static,
{
    let http2 = || {
        Server::builder()
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_frame_size(FRAME)
    };
    match place.transport {
        Transport::Tcp => {
            let listener = TcpListener::bind("127.0.0.1:0").await?;
            ready(format!("http://{}", listener.local_addr()?));
            let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
            http2().add_service(service).serve_with_incoming(incoming).await?;
        }
        Transport::Uds => {
            let path = place.directory.join(name);
            let listener = UnixListener::bind(&path)?;
            ready(format!("unix://{}", path.display()));
            http2().add_service(service).serve_with_incoming(UnixListenerStream::new(listener)).await?;
        }
        Transport::NotNets => {
            // Finds its rendezvous directory in `$NOTNETS_DIR`, which the demo sets to `place.directory`
            // on one host.
            let address = notnets_address(&place.pod, name);
            let bound = notnets::Server::builder().add_service(service).bind(address.as_str())?;
            ready(address);
            bound.serve().await?;
        }
    }
    Ok(())
}

// HTTP/2's defaults (64 KiB windows, 16 KiB frames) make a picture or a table wait for its reader
// many times over. The baseline gets what it was fastest with, of windows from 64 KiB to 4 MiB and
// frames from 16 KiB to 1 MiB.
const STREAM_WINDOW: u32 = 4 << 20;
const CONNECTION_WINDOW: u32 = 8 << 20;
const FRAME: u32 = 256 << 10;
