//! tower services over HTTP requests, on both sides: tonic's stubs, connectrpc's, anything with
//! HTTP bodies.
//!
//! It stands on the part of [`rpc`](crate::rpc) that is below the messages, and carries bodies as they are:
//! they need not be gRPC's.
//!
//! | file | what |
//! | --- | --- |
//! | `head.rs` | HTTP heads and the metadata of calls |
//! | `client.rs`, `send_body.rs`, `response_body.rs` | a channel as a service: request, its body, response |
//! | `serve.rs`, `request_body.rs`, `respond.rs` | a call as a request, and the response as its answer |
//! | `service.rs`, `routes.rs` | the services that can be served |
//! | `arrival.rs`, `direct.rs` | how generated clients and servers get to know that they need no HTTP |
//! | `trace.rs`, `connect_info.rs` | spans of requests, and tonic's connection info |
//! | `status.rs`, `retry_safe.rs` | statuses as tonic has them |

#[cfg(all(feature = "client", feature = "stubs"))]
mod arrival;
#[cfg(feature = "client")]
mod client;
#[cfg(all(feature = "server", not(feature = "tonic-connect-info")))]
#[path = "no_connect_info.rs"]
mod connect_info;
#[cfg(feature = "tonic-connect-info")]
mod connect_info;
#[cfg(all(feature = "server", feature = "stubs"))]
mod direct;
mod head;
#[cfg(feature = "server")]
mod request_body;
#[cfg(feature = "server")]
mod respond;
#[cfg(feature = "client")]
mod response_body;
mod retry_safe;
#[cfg(feature = "server")]
mod routes;
#[cfg(feature = "client")]
mod send_body;
#[cfg(feature = "server")]
mod serve;
#[cfg(feature = "server")]
mod service;
mod status;
#[cfg(feature = "server")]
mod trace;

#[cfg(all(feature = "client", feature = "stubs"))]
pub(crate) use arrival::{Arrival, Asked};
#[cfg(feature = "client")]
pub use client::ResponseFuture;
#[cfg(feature = "server")]
pub(crate) use connect_info::ConnectInfo;
#[cfg(all(feature = "server", feature = "stubs"))]
pub use direct::Responding;
#[cfg(all(feature = "server", feature = "stubs"))]
pub(crate) use direct::{DirectCall, DirectService, Halves, answer, takes};
#[cfg(feature = "http2")]
pub(crate) use head::grpc_status;
#[cfg(any(feature = "http2", all(feature = "client", feature = "stubs")))]
pub(crate) use head::timeout;
#[cfg(all(feature = "server", feature = "stubs"))]
pub(crate) use head::trailer_entries;
#[cfg(feature = "stubs")]
pub(crate) use head::{application_entries, boxed};
#[cfg(all(feature = "client", feature = "stubs"))]
pub(crate) use head::{response_head, trailers};
#[cfg(all(feature = "server", feature = "stubs"))]
pub(crate) use request_body::RequestBody;
#[cfg(feature = "http2")]
pub(crate) use respond::respond;
#[cfg(all(feature = "client", feature = "stubs"))]
pub(crate) use response_body::ResponseBody;
pub use retry_safe::RetrySafe;
#[cfg(all(feature = "server", feature = "stubs"))]
pub(crate) use routes::DirectServices;
#[cfg(feature = "server")]
pub use routes::{Routes, RoutesBuilder};
#[cfg(feature = "server")]
pub(crate) use serve::HttpLink;
#[cfg(feature = "http2")]
pub(crate) use service::BoxResponse;
#[cfg(feature = "server")]
pub(crate) use service::{AnyService, erase, erase_made};
#[cfg(feature = "server")]
pub use service::{HttpResponse, HttpService};
#[cfg(all(feature = "client", feature = "stubs"))]
pub(crate) use status::from_tonic;
#[cfg(any(feature = "client", feature = "stubs"))]
pub(crate) use status::to_tonic;
#[cfg(feature = "server")]
pub(crate) use trace::TraceFn;

pub(crate) type BoxError = Box<dyn std::error::Error + Send + Sync>;
