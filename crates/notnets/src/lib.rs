//! gRPC for services that share memory.
//!
//! Generated tonic clients and servers stay as they are; only the line that constructs the channel
//! or serves changes. Calls between processes of one host then go through shared memory: no socket,
//! no HTTP/2 and no kernel is on the data path.
//!
//! ```no_run
//! use tonic_health::pb::health_client::HealthClient; // any generated client
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! // server: add_service takes what tonic-prost-build generated
//! let (_reporter, service) = tonic_health::server::health_reporter();
//! notnets::Server::builder().add_service(service).serve("notnets:///greeter").await?;
//!
//! // client: a generated client takes this channel
//! let channel = notnets::Channel::connect("notnets:///greeter").await?;
//! let mut client = HealthClient::new(channel);
//! # Ok(()) }
//! ```
//!
//! [`Endpoint`] and [`Server`] mirror the names of tonic's transport. What tonic's HTTP/2 stack does
//! silently (deadlines, cancellation, flow control, graceful stop, limits) is done here as well, for
//! whole calls and on both sides.
//!
//! # Where client and server meet
//!
//! `notnets:///greeter` is the Unix socket `greeter` in the first of these directories that applies:
//! `$NOTNETS_DIR`, `$XDG_RUNTIME_DIR/notnets`, `/run/notnets`. Both processes need the same directory, or
//! have it set with [`Endpoint::directory`] and [`Server::directory`]. A server admits processes of its own
//! user, unless its [`Admission`] says otherwise. `notnets://pod0/greeter` is a name in the pod `pod0`:
//! several hosts that share memory.
//!
//! Clients and servers that `notnets-build` generated, in place of `tonic-prost-build`, have the same
//! signatures, and their calls need no HTTP. Those of `tonic-prost-build` go by HTTP's types.
//!
//! # The other APIs
//!
//! [`rpc`] makes and serves calls without generated code and without HTTP: methods, metadata, deadlines, and
//! messages as bytes of any encoding, in all four kinds of calls. It is for code that is generated for other
//! encodings, for proxies, and for programs that take the shortest way. [`blocking`] makes and serves unary
//! calls on plain threads, without a runtime. [`http`] says what a [`Channel`] and a [`Server`] are to
//! libraries other than tonic: they carry any HTTP request. All of them understand each other. With the
//! feature `byte-stream`, `byte_stream` carries any other protocol.
//!
//! # Features
//!
//! The first five are on by default.
//!
//! | feature | what it brings |
//! | --- | --- |
//! | `client` | [`Channel`] and [`Endpoint`], on tokio; the calls of [`rpc`] |
//! | `server` | [`Server`], [`Router`] and [`Routes`], on tokio; the handlers of [`rpc`] |
//! | `stubs` | what clients and servers stand on that `notnets-build` generates: calls without HTTP |
//! | `blocking` | [`blocking`]: clients and servers on plain threads, without tokio and tonic |
//! | `pod` | names in pods: services of several hosts that share a memory region |
//! | `tonic-connect-info` | tonic's word on who connected, an extension of requests; brings in its server |
//! | `http2` | peers that are reached over HTTP/2 in a channel's [`names`], and servers of both |
//! | `tls` | TLS for these peers and servers (`https://`), by rustls |
//! | `byte-stream` | `byte_stream`: streams of bytes, for other protocols and for tonic's own transport |
//! | `testing` | settings that tests need |
//!
//! Linux only.
#![forbid(unsafe_code)]
// What clients and servers share has parts that only one of them uses.
#![cfg_attr(
    not(all(feature = "client", feature = "server", feature = "blocking")),
    allow(dead_code, unused_imports, unused_macros)
)]

pub mod admission;
#[cfg(any(feature = "client", feature = "server"))]
mod async_fd;
#[cfg(feature = "blocking")]
pub mod blocking;
#[cfg(feature = "byte-stream")]
pub mod byte_stream;
#[cfg(any(feature = "blocking", feature = "server"))]
mod claim;
#[cfg(feature = "client")]
mod client;
mod error;
#[cfg(any(feature = "client", feature = "server"))]
pub mod http;
#[cfg(feature = "http2")]
#[doc(hidden)]
pub mod http2;
#[cfg(any(feature = "client", feature = "server"))]
mod link;
#[cfg(any(feature = "client", feature = "server"))]
mod location;
mod log;
mod message_prefix;
#[cfg(feature = "client")]
pub mod names;
#[cfg(any(feature = "blocking", feature = "server"))]
mod names_in_place;
#[cfg(any(feature = "client", feature = "server", feature = "blocking"))]
pub mod observe;
mod options;
#[cfg(any(feature = "blocking", feature = "server"))]
mod passed;
mod peer;
#[cfg(any(feature = "blocking", feature = "server"))]
mod refusals;
#[cfg(any(feature = "client", feature = "server"))]
pub mod rpc;
#[cfg(feature = "server")]
mod server;
#[cfg(feature = "client")]
mod service_config;
mod shared_bytes;
#[cfg(any(feature = "blocking", feature = "server"))]
mod short_status;
mod status_message;
#[cfg(feature = "stubs")]
#[doc(hidden)]
pub mod stub;
#[cfg(feature = "tls")]
pub mod tls;
#[cfg(all(feature = "http2", not(feature = "tls")))]
#[path = "no_tls.rs"]
mod tls;

pub use admission::{Admission, Candidate, PeerCredentials, UserLimits};
#[cfg(feature = "client")]
pub use client::{Channel, Endpoint};
pub use error::{Error, ErrorKind};
#[cfg(feature = "client")]
pub use http::{ResponseFuture, RetrySafe};
#[cfg(feature = "server")]
pub use http::{Routes, RoutesBuilder};
pub use notnets_core::Wait;
#[cfg(any(feature = "client", feature = "blocking"))]
pub use notnets_core::link::expected::ExpectedServer;
pub use notnets_memory::{LoanedBytes, TrustPeerMemory};
pub use peer::PeerInfo;
#[cfg(feature = "server")]
pub use server::{Bound, Names, Router, Server};
#[cfg(feature = "client")]
pub use service_config::ServiceConfig;
pub use shared_bytes::SharedBytes;
