//! tower services over HTTP requests, on both sides: tonic's stubs, connectrpc's, anything that speaks in HTTP bodies.

mod client;
pub(crate) mod head;
mod response_body;
mod send_body;
pub(crate) mod status;

pub use client::ResponseFuture;
