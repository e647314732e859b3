//! Calls that a client makes.
//!
//! | file | what |
//! | --- | --- |
//! | `calling.rs` | calls of the four kinds, in messages |
//! | `exchange.rs` | from what a call begins with to its response's head |
//! | `opening.rs` | a call's turn, a link, and room on it |
//! | `open_call.rs` | an open call below its messages: bytes as they are, which the HTTP adapter stands on as well |

mod calling;
mod exchange;
mod open_call;
mod opening;

pub use calling::{Receiver, Sender};
pub(crate) use exchange::{Answered, Exchange, Outbound};
pub(crate) use open_call::{Call, SendHalf};
pub(crate) use opening::{Opened, Opening};
