//! Channels: a name, and the link to whoever serves it now.

mod channel;
mod dial;
mod endpoint;
#[cfg(feature = "pod")]
mod pods;
#[cfg(not(feature = "pod"))]
#[path = "no_pods.rs"]
mod pods;
mod tonic_names;

pub use channel::Channel;
pub(crate) use channel::{ClientLink, Shared};
pub use endpoint::Endpoint;
