//! gRPC's channelz service, version 1, for the links of a process: `grpcdebug` and the like show them as
//! sockets.
//!
//! ```no_run
//! # async fn example() -> Result<(), notnets::Error> {
//! let server = notnets::Server::builder().add_service(notnets_channelz::service());
//! server.serve("notnets:///inventory").await
//! # }
//! ```
//!
//! It is a service of tonic's: any server can have it. It reads the counters that each process has of its
//! links, and needs `/proc` for that.
//!
//! | channelz | here |
//! | --- | --- |
//! | server | a server of this process, by its names |
//! | server socket | a link to it |
//! | top channel | all open client links of this process to one target |
//! | subchannel, and its socket | one of these links |
//!
//! A channel's calls are those of its open links. What a socket has beyond channelz's own numbers (the peer,
//! whether it sleeps, what it waited for) are its options.
//!
//! Whoever may call the server sees the peers of all servers of the process, and how many calls fail: keep it
//! from those that need not know, by a server of its own with its own `Admission`.
#![forbid(unsafe_code)]

mod entities;
mod pages;
mod service;

/// The protocol: messages, the client and the server.
#[allow(missing_docs, clippy::all)]
pub mod pb {
    tonic::include_proto!("grpc.channelz.v1");
}

pub use service::{Channelz, service};
