//! What the code stands on that `notnets-build` generates. It is for that code only, and changes with it.
//!
//! Generated clients and servers have the names and signatures of tonic's. A client's calls go directly to
//! [`rpc`](crate::rpc)'s lower floor if it was given a [`Channel`](crate::Channel): messages are encoded and
//! decoded by prost, with no HTTP request, body or buffer between. Over anything else they go by tonic's own
//! client. A server is a tower service as ever, and says of itself that it can be called directly.
//!
//! | file | what |
//! | --- | --- |
//! | `method.rs` | methods, as generated clients name them |
//! | `client.rs` | a generated client's inside: which way its calls go |
//! | `calls.rs`, `outbound.rs` | the four kinds of calls, made directly |
//! | `service.rs` | what generated servers are, and the calls that they are asked to serve directly |
//! | `serving.rs` | the four kinds of calls, served directly |
//! | `encoded.rs`, `decoded.rs`, `batch.rs` | messages and their bytes, with tonic's limits and statuses |
//! | `streaming.rs` | tonic's `Streaming`, fed with messages instead of bytes |

#[cfg(any(feature = "client", feature = "server"))]
mod batch;
#[cfg(feature = "client")]
mod calls;
#[cfg(feature = "client")]
mod client;
#[cfg(any(feature = "client", feature = "server"))]
mod decoded;
#[cfg(any(feature = "client", feature = "server"))]
mod encoded;
mod method;
#[cfg(feature = "client")]
mod outbound;
#[cfg(feature = "server")]
mod service;
#[cfg(feature = "server")]
mod serving;
#[cfg(any(feature = "client", feature = "server"))]
mod streaming;

#[cfg(feature = "server")]
pub use crate::http::Responding;
#[cfg(feature = "client")]
pub use client::Client;
pub use method::Method;
#[cfg(feature = "server")]
pub use service::{Call, Service, Serving, Settings, answer};
