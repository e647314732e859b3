//! Calls that a server is sent.
//!
//! | file | what |
//! | --- | --- |
//! | `running.rs` | polls what serves a call in place, and makes it a task if it is not done |
//! | `incoming.rs` | a call below its messages: bytes as they are, which the HTTP layer stands on as well |
//! | `call.rs` | a call in messages, for handlers |
//! | `handler.rs` | what handlers are |

mod call;
mod handler;
mod incoming;
mod running;

pub use call::{Requests, Responses, ServerCall};
pub(crate) use handler::{AnyHandler, erase};
pub use handler::{Handler, Unary, unary};
pub(crate) use incoming::{IncomingCall, RequestHalf, ResponseHalf, Serving, Turn};
pub(crate) use running::run;
