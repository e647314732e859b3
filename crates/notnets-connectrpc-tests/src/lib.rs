//! The code that connectrpc generates for `proto/echo.proto`. The tests run its clients and services over a
//! channel and a server of ours.
#![forbid(unsafe_code)]

/// The generated messages, clients and services.
#[allow(missing_docs, clippy::all)]
pub mod pb {
    connectrpc::include_generated!();
}
