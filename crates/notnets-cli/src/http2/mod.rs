//! gRPC over HTTP/2 as the proxy needs it: nothing is added to a call or taken
//! away from it.
//!
//! tonic's own transport is made for applications. It extends the user agent,
//! turns deadlines into `CANCELLED` and shares one flow-control window of a few
//! megabytes among all calls of a connection. A bridge must do none of this, so
//! [`server`] stands on hyper directly, and [`client`] on h2, which tells
//! what a server has not processed and whether it is still there. Both speak HTTP/2 with
//! prior knowledge, without TLS, over TCP and over Unix sockets.

mod authority;
pub mod client;
mod connection;
mod exchange;
pub mod listener;
mod liveness;
mod lobby;
mod observed;
pub mod pings;
mod replay;
pub mod server;
mod status;
mod turns;

use tokio::io::{AsyncRead, AsyncWrite};

/// The bytes that one call may have in flight in one direction.
const STREAM_WINDOW: u32 = 1 << 20;

/// The bytes that all calls of a connection may have in flight. Many times the window of
/// one call, so that calls whose reader has stopped do not stop the client's others.
const CONNECTION_WINDOW: u32 = 64 << 20;

/// The largest metadata block; gRPC's own default is 8 KiB, ours 16 KiB.
pub const MAX_METADATA: u32 = 64 << 10;

/// A connection, whatever it runs over.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// Where HTTP/2 is spoken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// A host name or IP address and a port, as in a URI.
    Tcp(http::uri::Authority),
    /// The path of a Unix socket.
    Unix(std::path::PathBuf),
}

impl std::fmt::Display for Address {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Tcp(authority) => authority.fmt(out),
            Self::Unix(path) => write!(out, "unix:{}", path.display()),
        }
    }
}

/// The host and port of `authority` as the socket functions want them, without
/// the brackets of an IPv6 address.
fn host_and_port(authority: &http::uri::Authority) -> (&str, u16) {
    let host = authority.host();
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    (host, authority.port_u16().unwrap_or(80))
}
