//! Channels: a name, and the link to whoever serves it now.

mod channel;
mod dial;
mod endpoint;

pub use channel::Channel;
pub(crate) use channel::{ClientLink, Shared};
pub use endpoint::Endpoint;
pub(crate) use endpoint::{geometry, pod_geometry};
