//! Channels: a name, and the link to whoever serves it now.

mod channel;
mod client_link;
mod dial;
mod endpoint;
mod home;
#[cfg(feature = "http2")]
mod only_link;
mod peers;
#[cfg(feature = "pod")]
mod pods;
#[cfg(not(feature = "pod"))]
#[path = "no_pods.rs"]
mod pods;
#[cfg(feature = "http2")]
mod reach;
mod shared;
mod tonic_names;

pub use channel::Channel;
pub(crate) use client_link::ClientLink;
pub use endpoint::Endpoint;
pub(crate) use home::{Home, for_timers};
#[cfg(feature = "http2")]
pub(crate) use only_link::OnlyLink;
pub(crate) use peers::Peers;
#[cfg(feature = "http2")]
pub(crate) use reach::{Dial, Established, Reach};
pub(crate) use shared::{Outcome, Shared, Standing};
