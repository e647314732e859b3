//! What the examples have in common: the generated code, a greeter, and how a program becomes a
//! server and a client.
//!
//! Each example is a file in `src/bin`, and each is run by a test that reads what it prints.
//!
//! | example | shows |
//! | --- | --- |
//! | `quickstart` | the README's example: a service and a call of it, in one file that can be copied |
//! | `greeter` | a server and a client, two processes |
//! | `tutorial_server`, `tutorial_client` | the tutorial's programs (docs/tutorial.md) |
//! | `streaming` | the other three kinds of call |
//! | `interceptor_deadline` | interceptors on both sides, who the caller is, a deadline |
//! | `authorisation` | who may call which method, by the caller's user and group |
//! | `health_reflection` | tonic-health and tonic-reflection, as they are |
//! | `graceful_restart` | a new server takes the name while the old one finishes its calls |
//! | `from_tonic` | what changes in a program that used tonic's transport |
//! | `blocking` | calls without a runtime, on threads that wait themselves |
//! | `rpc` | calls in gRPC's own terms, of messages as bytes: without generated code, HTTP or tonic |
//! | `typed_in_place` | messages of a mebibyte that are read where they lie: three fields of one (rkyv) |
//! | `kv_cache` | a store of KV-cache blocks for the hosts of a pod, and the same over TCP |
//! | `any_tower_service` | plain HTTP between two processes: a service that is no gRPC at all |
#![forbid(unsafe_code)]

mod my_greeter;
mod processes;

pub use my_greeter::MyGreeter;
pub use processes::{in_own_directory, two_processes};

/// What tonic-prost-build made of `proto/greeter.proto`.
#[allow(missing_docs)]
pub mod greeter {
    tonic::include_proto!("greeter");
}

/// What tonic-prost-build made of `proto/kv_cache.proto`.
#[allow(missing_docs)]
pub mod kv_cache {
    tonic::include_proto!("kv_cache");
}

/// The greeter's file for reflection.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));

/// What the examples end with.
pub type Result<T = (), E = Box<dyn std::error::Error + Send + Sync>> = std::result::Result<T, E>;
