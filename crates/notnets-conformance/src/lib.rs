//! One suite of RPC cases for every transport.
//!
//! Each case in [`cases`] is an async function over any [`Rpc`] channel. It
//! makes calls to a server in another process, asserts what gRPC promises, and
//! returns an [`Observation`]: all that the application saw. The tests run a
//! case over two transports and compare the observations, so that a transport
//! is held to what tonic over HTTP/2 does, also where nobody thought of an
//! assertion. Where a difference is intended, [`differences`] says so and why.
//!
//! A run has a server process of its own, so that no case sees what another
//! left behind, and the case itself is in the test's process.
//!
//! To add a case: its function in a module of [`cases`], and its name in
//! [`for_each_case`]. To add a transport: a variant in [`transport::Transport`],
//! an arm in the server binary, an arm in [`harness`]'s `run`, and a file in
//! `tests/`.
#![forbid(unsafe_code)]

pub mod cases;
mod codec;
pub mod differences;
pub mod harness;
pub mod observation;
mod payload;
pub mod pod;
mod process;
mod rpc;
pub mod server;
pub mod transport;

pub use observation::Observation;
pub use rpc::Rpc;

/// The generated services and messages of `proto/conformance.proto`.
#[allow(missing_docs, clippy::all)]
pub mod pb {
    tonic::include_proto!("notnets.conformance");

    /// The encoded file descriptors, for reflection.
    pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
}
