//! Calls that a client makes.
//!
//! | file | what |
//! | --- | --- |
//! | `calling.rs` | calls of the four kinds, in messages |
//! | `outbound.rs` | what they send when they are opened |
//! | `sender.rs`, `receiver.rs` | the halves of a call, in messages |
//! | `exchange.rs` | from the beginning of a call to its response's head |
//! | `opening.rs` | a call's turn, a link, and room on it |
//! | `attempts.rs` | further attempts of a call that failed |
//! | `hedges.rs`, `hedging.rs` | attempts of a call that are made at once, and when |
//! | `deadline_timer.rs` | deadlines of callers that the link's driver may not serve |
//! | `open_call.rs` | an open call below its messages: plain bytes, as the HTTP layer needs them |

mod attempts;
mod calling;
mod deadline_timer;
mod exchange;
mod hedges;
mod hedging;
mod open_call;
mod opening;
mod outbound;
mod receiver;
mod sender;

pub(crate) use exchange::{Answered, Exchange, Outbound};
pub(crate) use open_call::{Call, SendHalf};
pub(crate) use opening::{Opened, Opening};
pub(crate) use outbound::{RequestHead, Rest, WholeRequest};
pub use receiver::Receiver;
pub use sender::Sender;
