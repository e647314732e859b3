//! The protocol of NotNets: links between processes that share memory, and calls over them.
//!
//! This crate depends on no async runtime and no gRPC library. [`call`] is a deterministic state
//! machine (descriptors and time in, descriptors and events out); [`link`] is how two processes of
//! one host meet, share their segments and wake each other.
#![forbid(unsafe_code)]

pub mod call;
pub mod cgroup;
pub mod clock;
pub mod code;
pub mod failpoint;
pub mod frame;
pub mod limits;
pub mod link;
pub mod log_pace;
pub mod messages;
pub mod metadata;
pub mod name;
#[cfg(any(test, feature = "testing"))]
pub mod pair;
pub mod per_process;
pub mod random;
pub mod seqpacket;
pub mod session;
pub mod stats;
mod stream_id;
pub mod strings;
pub mod text;
pub mod wait;

pub use call::{Connection, Event, Role};
pub use code::Code;
pub use limits::{Limits, ValidLimits};
pub use stream_id::StreamId;
pub use wait::Wait;
