//! Calls that a client makes.

mod exchange;
mod open_call;
mod opening;

pub(crate) use exchange::{Answered, Exchange, Outbound};
pub(crate) use open_call::{Call, SendHalf};
pub(crate) use opening::{Opened, Opening};
