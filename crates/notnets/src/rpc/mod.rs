//! Calls in gRPC's own terms: methods, metadata, deadlines, messages, statuses.

mod client;
mod deadline;
mod framing;
mod metadata;
mod method;
mod payload;
mod peer;
mod status;

#[allow(unused_imports)]
pub(crate) use client::{Answered, Call, Exchange, Opened, Opening, Outbound, SendHalf};
pub use deadline::Deadline;
pub use metadata::{InvalidMetadata, Metadata};
pub use method::{InvalidMethod, Method};
pub use notnets_core::code::Code;
pub use payload::Payload;
pub use peer::PeerInfo;
pub use status::Status;
