//! The client's side: channels, and the calls on them.

mod body;
mod call;
mod channel;
mod endpoint;
mod sending;

pub use call::ResponseFuture;
pub use channel::Channel;
pub use endpoint::Endpoint;
pub(crate) use endpoint::{geometry, pod_geometry};
