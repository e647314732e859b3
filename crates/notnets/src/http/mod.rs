//! tower services over HTTP requests, on both sides: tonic's stubs, connectrpc's, anything with
//! HTTP bodies.
//!
//! It stands on the lower floor of [`rpc`](crate::rpc), and carries bodies as they are: they need not be
//! gRPC's.
//!
//! | file | what |
//! | --- | --- |
//! | `head.rs` | HTTP heads and the metadata of calls |
//! | `client.rs`, `send_body.rs`, `response_body.rs` | a channel as a service: request, its body, response |
//! | `serve.rs`, `request_body.rs`, `respond.rs` | a call as a request, and the response as its answer |
//! | `service.rs`, `routes.rs` | the services that can be served |
//! | `status.rs`, `retry_safe.rs` | statuses as tonic has them |

mod client;
mod head;
mod request_body;
mod respond;
mod response_body;
mod retry_safe;
mod routes;
mod send_body;
mod serve;
mod service;
mod status;

pub use client::ResponseFuture;
pub use retry_safe::RetrySafe;
pub use routes::Routes;
pub(crate) use serve::HttpLink;
pub(crate) use service::{AnyService, erase};
pub use service::{HttpResponse, HttpService};
pub(crate) use status::to_tonic;
