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

#[cfg(test)]
mod tests {
    use std::path::Path;

    /// No line of code here, or in the folders here, names HTTP or a gRPC library.
    fn check(folder: &Path) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                check(&path);
                continue;
            }
            let text = std::fs::read_to_string(&path).unwrap();
            // This test itself is at the end of its file.
            let (code, _tests) = text.split_once("#[cfg(test)]").unwrap_or((&text, ""));
            for line in code.lines().filter(|line| !line.trim_start().starts_with("//")) {
                let named = ["tonic", "tower", "http::"].into_iter().find(|name| line.contains(name));
                assert_eq!(named, None, "{}: {line}", path.display());
            }
        }
    }

    #[test]
    fn it_knows_neither_http_nor_a_grpc_library() {
        check(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src/rpc"));
    }
}
