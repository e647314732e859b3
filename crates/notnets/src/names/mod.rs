//! Channels that find their servers.
//!
//! [`Channel::named`](crate::Channel::named) makes a channel that has only a name: where its servers are is
//! found out, and followed while they come and go.
//!
//! ```no_run
//! # async fn example() -> Result<(), notnets::Error> {
//! use notnets::{Channel, names::Pick};
//!
//! let channel = Channel::named("inventory")
//!     .local("notnets:///inventory")
//!     .or("notnets://pod0/inventory")
//!     .pick(Pick::LeastOutstanding)
//!     .connect()
//!     .await?;
//! # Ok(()) }
//! ```
//!
//! A [`Target`] is one or several places, nearest first. A [`Resolve`] says which servers there are at one of
//! them, each an [`Address`]; a name of this host is looked for in the rendezvous directory, and followed
//! there by the kernel's notifications. Each call goes to a server of the first place that has one with a
//! link and room, and among those to the one that [`Pick`] says. Once a nearer server is there, new calls go
//! to it; calls that are open end where they began.
//!
//! | file | what |
//! | --- | --- |
//! | `target.rs` | the places that a target lists |
//! | `resolve.rs` | the servers that are there: the trait, a fixed list |
//! | `relay.rs` | one resolver for several channels |
//! | `rendezvous.rs` | those of a name of this host |
//! | `dns.rs` | those of a name in DNS |
//! | `table.rs`, `routes.rs` | a file that says where the servers of names are |
//! | `place.rs` | one place, with its servers |
//! | `servers.rs`, `server.rs` | all of a channel's servers, and one of them with its link |
//! | `health.rs` | whether a server is healthy |
//! | `outliers.rs` | whether too many of its calls fail |
//! | `backoff.rs` | how long to wait between attempts that fail |
//! | `pick.rs` | the server of a call |
//! | `follower.rs` | the task that follows the resolvers |
//! | `builder.rs` | how such a channel is made |

mod backoff;
mod builder;
#[cfg(feature = "http2")]
mod dns;
mod follower;
mod health;
mod outliers;
mod pick;
mod place;
mod relay;
mod rendezvous;
mod resolve;
mod routes;
mod server;
mod servers;
mod table;
mod target;

pub use builder::{Builder, Channels};
pub use pick::Pick;
pub use resolve::{Address, BoxError, Fixed, Resolve};
pub use target::Target;
