//! gRPC over HTTP/2, for channels and servers that also speak it, and for the listeners of `notnets proxy`:
//! nothing is added to a call or taken away from it.
//!
//! tonic's own transport is made for applications. It extends the user agent,
//! turns deadlines into `CANCELLED` and shares one flow-control window of a few
//! megabytes among all calls of a connection. `notnets proxy` must do none of this, so
//! `server` stands on hyper directly, and `client` on h2, which tells
//! what a server has not processed and whether it is still there. Both speak HTTP/2 with
//! prior knowledge, over TCP, with TLS if the address says so, and over Unix sockets.

mod authority;
pub mod bridge;
pub mod client;
mod connection;
pub mod counted;
mod exchange;
mod last_words;
pub mod listener;
mod liveness;
mod lobby;
mod observed;
mod peer;
mod pieces;
pub mod pings;
mod replay;
pub mod server;
mod status;
mod turns;

use std::path::PathBuf;
use std::str::FromStr;

use http::Uri;
pub(crate) use http::uri::Authority;
use http::uri::PathAndQuery;
use tokio::io::{AsyncRead, AsyncWrite};

pub(crate) use peer::Peer;

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
    Tcp(Authority),
    /// The same, by TLS.
    #[cfg(feature = "tls")]
    Tls(Authority),
    /// The path of a Unix socket.
    Unix(PathBuf),
}

impl std::fmt::Display for Address {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Tcp(authority) => authority.fmt(out),
            #[cfg(feature = "tls")]
            Self::Tls(authority) => write!(out, "https://{authority}"),
            Self::Unix(path) => write!(out, "unix:{}", path.display()),
        }
    }
}

/// A text that is no [`Address`]: what it lacks, and what to write.
#[derive(Debug, thiserror::Error)]
#[error("`{text}` {why}: write http://HOST:PORT or unix:/PATH")]
pub struct BadAddress {
    text: String,
    why: &'static str,
}

/// `http://HOST:PORT` or `unix:/PATH`.
impl FromStr for Address {
    type Err = BadAddress;

    fn from_str(text: &str) -> Result<Self, BadAddress> {
        let bad = |why| BadAddress { text: text.to_owned(), why };
        if let Some(path) = text.strip_prefix("unix:") {
            // `unix:///path` and `unix:/path` are the same file.
            let path = path.strip_prefix("//").unwrap_or(path);
            return if path.is_empty() {
                Err(bad("has no path"))
            } else {
                Ok(Self::Unix(PathBuf::from(path)))
            };
        }
        let uri: Uri = text.parse().map_err(|_| bad("is not a URI"))?;
        let address = match uri.scheme_str() {
            Some("http") => Self::Tcp,
            #[cfg(feature = "tls")]
            Some("https") => Self::Tls,
            #[cfg(not(feature = "tls"))]
            Some("https") => {
                return Err(bad(
                    "asks for TLS, and this program was built without the feature `tls` of notnets",
                ));
            }
            _ => return Err(bad("is not the address of an HTTP/2 server")),
        };
        if !matches!(uri.path_and_query().map(PathAndQuery::as_str), None | Some("/")) {
            return Err(bad("has a path, which a gRPC server's address has not"));
        }
        uri.authority().cloned().map(address).ok_or_else(|| bad("has no host"))
    }
}

impl Address {
    /// The host and port as they are written, if it is not a Unix socket.
    fn authority(&self) -> Option<&Authority> {
        match self {
            Self::Tcp(authority) => Some(authority),
            #[cfg(feature = "tls")]
            Self::Tls(authority) => Some(authority),
            Self::Unix(_) => None,
        }
    }

    /// The host and port as the socket functions want them, if it is not a Unix socket.
    fn host_and_port(&self) -> Option<(&str, u16)> {
        Some(host_and_port_or(self.authority()?, if self.is_tls() { 443 } else { 80 }))
    }

    /// Returns `true` if connections are made by TLS.
    pub(crate) fn is_tls(&self) -> bool {
        match self {
            #[cfg(feature = "tls")]
            Self::Tls(_) => true,
            _ => false,
        }
    }
}

/// The host and port of `authority` as the socket functions want them, without
/// the brackets of an IPv6 address.
pub(crate) fn host_and_port(authority: &Authority) -> (&str, u16) {
    host_and_port_or(authority, 80)
}

fn host_and_port_or(authority: &Authority, default_port: u16) -> (&str, u16) {
    let host = authority.host();
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    (host, authority.port_u16().unwrap_or(default_port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_a_host_or_a_socket() {
        for (text, printed) in [
            ("http://shop.internal:50051", "shop.internal:50051"),
            ("http://[::1]:50051/", "[::1]:50051"),
            ("http://shop", "shop"),
            #[cfg(feature = "tls")]
            ("https://shop:443", "https://shop:443"),
            ("unix:/run/shop.sock", "unix:/run/shop.sock"),
            ("unix:///run/shop.sock", "unix:/run/shop.sock"),
        ] {
            assert_eq!(text.parse::<Address>().unwrap().to_string(), printed);
        }
    }

    #[test]
    fn what_is_no_address_is_told_in_a_sentence() {
        for (text, words) in [
            ("unix:", "`unix:` has no path"),
            #[cfg(not(feature = "tls"))]
            ("https://shop:443", "asks for TLS, and this program was built without"),
            ("http://shop/cart", "has a path"),
            ("http://", "is not a URI"),
            ("ftp://shop", "is not the address of an HTTP/2 server"),
            ("shop", "is not the address of an HTTP/2 server"),
        ] {
            let sentence = text.parse::<Address>().unwrap_err().to_string();
            assert!(sentence.contains(words), "{sentence}");
            assert!(sentence.ends_with("write http://HOST:PORT or unix:/PATH"), "{sentence}");
        }
    }
}
