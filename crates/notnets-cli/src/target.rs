//! Where a service is: what users write for it, and how it is reached and served.
//!
//! | written | means |
//! | --- | --- |
//! | `inventory`, `notnets:///inventory` | a name, reached through shared memory |
//! | `127.0.0.1:50051`, `[::1]:50051`, `http://shop.internal:50051` | HTTP/2 over TCP |
//! | `unix:/run/shop.sock` | HTTP/2 over a Unix socket |

use std::convert::Infallible;
use std::fmt;
use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;
use std::str::FromStr;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::uri::{Authority, PathAndQuery};
use http::{Request, Response, Uri};
use tokio::sync::Notify;
use tonic::Status;
use tonic::body::Body;
use tower_service::Service;

use crate::failure::Failure;
use notnets::http2::client::{self, Client};
use notnets::http2::listener::Listener;
use notnets::http2::pings::KeepAlive;
use notnets::http2::{self, Address, server};

/// Where a service is reached or served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// A `notnets:` URI.
    NotNets(String),
    /// gRPC over HTTP/2.
    Http2(Address),
}

impl FromStr for Target {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            return Err(format!("the address is empty: {FORMS}"));
        }
        if text.starts_with("notnets:") {
            return Ok(Self::NotNets(text.to_owned()));
        }
        if let Some(path) = text.strip_prefix("unix:") {
            return unix(path).ok_or_else(|| format!("`{text}` has no path: write unix:/run/shop.sock"));
        }
        if text.contains("://") {
            return http(text);
        }
        if text.contains(':') {
            return with_port(text)
                .ok_or_else(|| format!("`{text}` is not a host and port (like 127.0.0.1:50051): {FORMS}"));
        }
        Ok(Self::NotNets(format!("notnets:///{text}")))
    }
}

const FORMS: &str = "write a name, notnets:///NAME, http://HOST:PORT, HOST:PORT or unix:/PATH";

fn unix(path: &str) -> Option<Target> {
    // `unix:///path` and `unix:/path` are the same file.
    let path = path.strip_prefix("//").unwrap_or(path);
    (!path.is_empty()).then(|| Target::Http2(Address::Unix(PathBuf::from(path))))
}

fn http(text: &str) -> Result<Target, String> {
    let uri: Uri = text.parse().map_err(|error| format!("`{text}` is not a URI ({error}): {FORMS}"))?;
    if uri.scheme_str() != Some("http") {
        return Err(format!("`{text}` has an unsupported scheme (there is no TLS): {FORMS}"));
    }
    if !matches!(uri.path_and_query().map(PathAndQuery::as_str), None | Some("/")) {
        return Err(format!("`{text}` has a path, which a gRPC server's address has not: {FORMS}"));
    }
    let authority = uri.authority().ok_or_else(|| format!("`{text}` has no host: {FORMS}"))?;
    Ok(Target::Http2(Address::Tcp(authority.clone())))
}

fn with_port(text: &str) -> Option<Target> {
    let authority: Authority = text.parse().ok()?;
    authority.port_u16()?;
    Some(Target::Http2(Address::Tcp(authority)))
}

impl fmt::Display for Target {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotNets(uri) => out.write_str(uri),
            Self::Http2(address) => address.fmt(out),
        }
    }
}

/// Makes upstreams of one target. Each has connections of its own: its windows, its resets and its silence
/// are felt by those alone who share it.
#[derive(Clone)]
pub enum Upstreams {
    /// Over HTTP/2.
    Http2(Address, client::Options),
    /// Through shared memory.
    NotNets(Box<notnets::Endpoint>),
}

impl Upstreams {
    /// # Errors
    /// When the target cannot be reached by any server, whether it runs or not.
    pub fn new(target: &Target, options: client::Options) -> Result<Self, Failure> {
        let uri = match target {
            Target::Http2(address) => return Ok(Self::Http2(address.clone(), options)),
            Target::NotNets(uri) => uri,
        };
        let endpoint = notnets::Endpoint::new(uri).map_err(|error| Failure::new(error.to_string()))?;
        let mut endpoint = endpoint
            .connect_timeout(options.connect_timeout)
            .max_metadata_size(http2::MAX_METADATA)
            // Parts of messages are passed on, and not kept.
            .max_unfinished_bytes(u64::MAX);
        if let Some(interval) = options.keep_alive.interval {
            endpoint = endpoint.keep_alive_interval(interval).keep_alive_timeout(options.keep_alive.timeout);
        }
        Ok(Self::NotNets(Box::new(endpoint)))
    }

    /// Makes an upstream, which connects when the first call needs it.
    pub fn one(&self) -> Upstream {
        match self {
            Self::Http2(address, options) => Upstream::Http2(Client::new(address.clone(), *options)),
            Self::NotNets(endpoint) => Upstream::NotNets(endpoint.connect_lazy()),
        }
    }
}

/// Sends calls to a target.
#[derive(Clone)]
pub enum Upstream {
    /// Over HTTP/2.
    Http2(Client),
    /// Through shared memory.
    NotNets(notnets::Channel),
}

impl Upstream {
    /// Connects now, to find out whether there is a server.
    ///
    /// # Errors
    /// `UNAVAILABLE` with what was tried.
    pub async fn ready(&self) -> Result<(), Status> {
        match self {
            Self::Http2(client) => client.ready().await,
            Self::NotNets(channel) => channel.wait_until_connected().await,
        }
    }
}

impl Service<Request<Body>> for Upstream {
    type Response = Response<Body>;
    type Error = Status;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Status>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Status>> {
        match self {
            Self::Http2(client) => client.poll_ready(cx),
            Self::NotNets(channel) => Service::<Request<Body>>::poll_ready(channel, cx),
        }
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        match self {
            Self::Http2(client) => client.call(request),
            Self::NotNets(channel) => Box::pin(channel.call(request)),
        }
    }
}

/// Serves each client at `target` with a service that `make` makes for it, until `shutdown`; then lets open
/// calls end for up to `grace`. `ready` is sent the address once clients can connect.
///
/// # Errors
/// When the target cannot be served.
pub async fn serve<S>(
    target: &Target,
    make: impl Fn() -> S + Send + Sync + 'static,
    keep_alive: KeepAlive,
    ready: impl FnOnce(&str),
    shutdown: impl Future<Output = ()>,
    grace: Duration,
) -> Result<(), Failure>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible> + Clone + Send + Sync + 'static,
    S::Future: Send + 'static,
{
    match target {
        Target::NotNets(uri) => {
            let cannot = |error: notnets::Error| Failure::new(error.to_string());
            let server = notnets::Server::builder()
                .max_metadata_size(http2::MAX_METADATA)
                .max_unfinished_bytes(u64::MAX)
                .keepalive_interval(keep_alive.interval)
                .keepalive_timeout(Some(keep_alive.timeout));
            let bound = server.bind_make_service(uri.as_str(), move |_| make()).await.map_err(cannot)?;
            ready(uri);
            let stopping = Arc::new(Notify::new());
            let stopped = async {
                shutdown.await;
                stopping.notify_one();
            };
            let too_long = async {
                stopping.notified().await;
                tokio::time::sleep(grace).await;
            };
            tokio::select! {
                served = bound.serve_with_shutdown(stopped) => served.map_err(cannot),
                () = too_long => {
                    tracing::warn!("calls were still open after {grace:?} and have been cut off");
                    Ok(())
                }
            }
        }
        Target::Http2(address) => {
            let cannot = |error| Failure::new(format!("cannot listen on {target}: {error}"));
            let listener = Listener::bind(address).await.map_err(cannot)?;
            ready(&listener.address().map_err(cannot)?);
            server::serve(listener, make, keep_alive, shutdown, grace).await;
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> String {
        match text.parse() {
            Ok(Target::NotNets(uri)) => format!("name {uri}"),
            Ok(Target::Http2(Address::Tcp(authority))) => format!("tcp {authority}"),
            Ok(Target::Http2(Address::Unix(path))) => format!("unix {}", path.display()),
            Err(sentence) => sentence,
        }
    }

    #[test]
    fn every_form_is_understood() {
        assert_eq!(parsed("inventory"), "name notnets:///inventory");
        assert_eq!(parsed("notnets:///inventory"), "name notnets:///inventory");
        assert_eq!(parsed("notnets://pod0/inventory"), "name notnets://pod0/inventory");
        assert_eq!(parsed("127.0.0.1:0"), "tcp 127.0.0.1:0");
        assert_eq!(parsed("[::1]:50051"), "tcp [::1]:50051");
        assert_eq!(parsed("http://shop.internal:50051/"), "tcp shop.internal:50051");
        assert_eq!(parsed("unix:/run/shop.sock"), "unix /run/shop.sock");
        assert_eq!(parsed("unix:///run/shop.sock"), "unix /run/shop.sock");
        assert_eq!(parsed("unix:shop.sock"), "unix shop.sock");
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (text, word) in [
            ("", "empty"),
            ("https://shop", "no TLS"),
            ("http://shop/cart", "path"),
            ("http://", "URI"),
            ("unix:", "no path"),
            ("shop:many", "host and port"),
        ] {
            let sentence = parsed(text);
            assert!(sentence.contains(word), "{text}: {sentence}");
            assert!(sentence.contains("write "), "{text}: {sentence}");
        }
    }
}
