//! What servers and clients log, with targets that stay as they are, so that they can be filtered by:
//! `docs/operating.md` has an example of each line.

#[cfg(any(feature = "blocking", feature = "server"))]
mod server;

#[cfg(any(feature = "blocking", feature = "server"))]
pub(crate) use server::*;

/// Links: made, ended and why, violations of the protocol.
pub(crate) const LINK: &str = "notnets::link";
