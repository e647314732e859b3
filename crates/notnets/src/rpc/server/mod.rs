//! Calls that a server is sent.
//!
//! | file | what |
//! | --- | --- |
//! | `running.rs` | runs what serves a call, in place or as a task |
//! | `incoming.rs` | a call below its messages: bytes as they are, which the HTTP layer stands on as well |
//! | `throttle.rs` | how fast the request of a user is read whose bytes are limited |
//! | `call.rs` | a call in messages, for handlers |
//! | `handler.rs` | what handlers are |

mod call;
mod handler;
mod incoming;
mod running;
mod throttle;

pub use call::{Requests, Responses, ServerCall};
pub(crate) use handler::{AnyHandler, erase};
pub use handler::{Handler, Unary, unary};
pub(crate) use incoming::{IncomingCall, RequestHalf, ResponseHalf, Serving, Turn};
pub(crate) use running::{run_as_task, run_in_place};
pub(crate) use throttle::Throttle;
