//! Calls in gRPC's own terms: methods, metadata, deadlines, messages, statuses. No HTTP, no types of a gRPC
//! library.
//!
//! A client makes calls on a [`Channel`](crate::Channel): [`unary_call`](crate::Channel::unary_call),
//! [`server_streaming_call`](crate::Channel::server_streaming_call), and
//! [`streaming_call`](crate::Channel::streaming_call) for the other two kinds. A server runs a [`Handler`]
//! for the calls of a service ([`add_rpc_service`](crate::Server::add_rpc_service)). Messages are
//! [`Payload`]s: their encoded bytes. The other end may be a tonic client or server, or any other.
//!
//! A call's deadline holds for all of it, on both sides. Dropping what a call is held by ends it.
//!
//! Each side has two floors. The upper one is public: messages. The lower one carries bytes as they are, in
//! order, and is what the HTTP layer stands on: bodies need not be gRPC's.

#[cfg(feature = "client")]
mod client;
mod deadline;
mod framing;
mod metadata;
mod method;
mod outgoing;
mod payload;
mod protocol;
mod request;
#[cfg(feature = "server")]
mod server;
mod status;

pub use crate::peer::PeerInfo;
#[cfg(feature = "client")]
pub(crate) use client::{Answered, Call, Exchange, Opening, Outbound, SendHalf};
#[cfg(feature = "client")]
pub use client::{Receiver, Sender};
pub use deadline::Deadline;
pub use metadata::{InvalidMetadata, Metadata};
pub use method::{InvalidMethod, Method};
pub use notnets_core::code::Code;
pub use payload::Payload;
pub use request::{Reply, Request};
#[cfg(feature = "server")]
pub(crate) use server::{AnyHandler, IncomingCall, RequestHalf, ResponseHalf, Serving, Turn, erase, run};
#[cfg(feature = "server")]
pub use server::{Handler, Requests, Responses, ServerCall, Unary, unary};
pub use status::Status;
