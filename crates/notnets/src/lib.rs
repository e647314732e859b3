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
//! // server: add_service takes what tonic-build generated
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
//! Linux only.
#![forbid(unsafe_code)]

mod async_fd;
pub mod blocking;
mod client;
mod error;
mod grpc_message;
pub mod http;
mod link;
mod options;
pub mod rpc;
mod server;

use notnets_core::wait;

pub use client::{Channel, Endpoint};
pub use error::{Error, ErrorKind};
pub use http::{ResponseFuture, RetrySafe, Routes};
pub use rpc::PeerInfo;
pub use server::{Admission, Bound, Names, Router, Server};
pub use wait::Wait;
