//! The one place that knows how the shop's processes talk.
//!
//! The services and the customer are the same for each transport: they see a generated
//! client over a [`Channel`], and a generated server that is given to [`serve`].

use std::convert::Infallible;
use std::fmt;
use std::path::PathBuf;

use clap::ValueEnum;
use serde::{Deserialize, Serialize};
use tonic::body::Body;
use tonic::codegen::Service;
use tonic::server::NamedService;
use tower::BoxError;

use crate::Result;
use crate::serving::{Listen, http2_endpoint, serve_over};

/// The transport.
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
    /// The transport.
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

/// A way to a service that generated clients can be made with, whatever carries it. Their calls know its
/// type: over [`notnets::Channel`] they go without HTTP.
pub trait Channel:
    Service<http::Request<Body>, Response = http::Response<Body>, Error: Into<BoxError>, Future: Send>
    + Clone
    + Send
    + Sync
    + 'static
{
}

impl<S> Channel for S where
    S: Service<http::Request<Body>, Response = http::Response<Body>, Error: Into<BoxError>, Future: Send>
        + Clone
        + Send
        + Sync
        + 'static
{
}

/// A way to a service in another process.
pub trait Connect: Channel {
    /// Connects to the address that a server's process reported.
    fn connect(address: &str) -> impl Future<Output = Result<Self>> + Send;
}

impl Connect for tonic::transport::Channel {
    async fn connect(address: &str) -> Result<Self> {
        Ok(http2_endpoint(address)?.connect().await?)
    }
}

impl Connect for notnets::Channel {
    /// The first call connects: in a pod the services of another host may come later.
    async fn connect(address: &str) -> Result<Self> {
        Ok(notnets::Endpoint::new(address)?.connect_lazy())
    }
}

/// Serves `service` under `name` for as long as the process lives. `ready` is called with the address once
/// clients can connect to it.
pub async fn serve<S>(place: &Place, name: &str, service: S, ready: impl FnOnce(String)) -> Result
where
    S: NamedService + Clone + Send + Sync + 'static,
    S: Service<http::Request<Body>, Response = http::Response<Body>, Error = Infallible>,
    S::Future: Send + 'static,
{
    let listen = match place.transport {
        Transport::Tcp => Listen::Tcp,
        Transport::Uds => Listen::Uds(place.directory.join(name)),
        // Finds its rendezvous directory in `$NOTNETS_DIR`, which the demo sets to `place.directory` on one
        // host.
        Transport::NotNets => Listen::NotNets {
            server: Box::new(notnets::Server::builder()),
            address: notnets_address(&place.pod, name),
        },
    };
    serve_over(listen, service, ready).await
}
