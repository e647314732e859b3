//! Calls in gRPC's own terms: methods, metadata, deadlines, messages, statuses. No HTTP, no types of a gRPC
//! library.
//!
//! ```no_run
//! use std::time::Duration;
//! use notnets::rpc::{self, Method, Payload, Reply, Request};
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! // the server
//! let shout = rpc::unary(|_request: Request, message: Payload| async move {
//!     Ok(Reply::new(message.into_bytes().to_ascii_uppercase()))
//! });
//! notnets::Server::builder().add_rpc_service("shout.Shout", shout).serve("notnets:///shout").await?;
//!
//! // the client
//! const LOUDER: Method = Method::from_static("/shout.Shout/Louder");
//! let channel = notnets::Channel::connect("notnets:///shout").await?;
//! let request = Request::new(LOUDER).timeout(Duration::from_secs(1));
//! let reply = channel.unary_call(request, "hello").await?;
//! assert_eq!(reply.message.into_bytes(), "HELLO");
//! # Ok(()) }
//! ```
//!
//! A client makes calls on a [`Channel`](crate::Channel): [`unary_call`](crate::Channel::unary_call),
//! [`server_streaming_call`](crate::Channel::server_streaming_call), and
//! [`streaming_call`](crate::Channel::streaming_call) for the other two kinds. A server runs a [`Handler`]
//! for the calls of a service ([`add_rpc_service`](crate::Server::add_rpc_service)). Messages are
//! [`Payload`]s: their encoded bytes. The other end may be a tonic client or server, or any other.
//!
//! | on a client | on a server | |
//! | --- | --- | --- |
//! | [`Request`] | [`ServerCall`] | a call's beginning: method, metadata, deadline; no message is in it |
//! | [`Sender`] | [`Requests`] | the client's messages, of calls that have several |
//! | [`Receiver`] | [`Responses`] | the server's messages, head and trailers |
//! | [`Reply`] | [`Reply`] | all that a unary call that ended well is answered with |
//! | [`Status`] | [`Status`] | the end of a call |
//!
//! A call's deadline holds for all of it, on both sides. A client cancels a call by dropping its future or
//! its [`Receiver`]; a server drops the future of the [`Handler`] then.

// Below the messages, calls carry bytes as they are, in order. The HTTP layer stands on that: its bodies need
// not be gRPC's.
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
mod view;

pub use crate::peer::PeerInfo;
#[cfg(feature = "client")]
pub(crate) use client::{
    Answered, Call, Exchange, Opening, Outbound, RequestHead, Rest, SendHalf, WholeRequest,
};
#[cfg(feature = "client")]
pub use client::{Receiver, Sender};
pub use deadline::Deadline;
pub(crate) use framing::{Assembler, BadMessage, FramedMessage, Pieces};
pub(crate) use metadata::is_base64;
pub use metadata::{InvalidMetadata, Metadata};
pub use method::{InvalidMethod, Method};
pub use notnets_core::code::Code;
pub use payload::Payload;
pub use request::{Reply, Request};
#[cfg(feature = "server")]
pub(crate) use server::{
    AnyHandler, IncomingCall, RequestHalf, ResponseHalf, Serving, Throttle, Turn, erase, run_as_task,
    run_in_place,
};
#[cfg(feature = "server")]
pub use server::{Handler, Requests, Responses, ServerCall, Unary, unary};
pub use status::Status;
pub(crate) use view::View;
