//! Servers that are not reached through memory itself.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use notnets_core::link;
use notnets_core::session::Keepalive;

use crate::Error;
use crate::options::LinkOptions;

/// A way to a server that is not reached through memory itself.
pub(crate) trait Reach: fmt::Debug + Send + Sync {
    /// Makes a link within this process, whose other end passes calls on to the server. Polled in the runtime
    /// that drives the link.
    fn establish(&self, dial: Dial) -> Established;

    /// The server's address.
    fn address(&self) -> String;
}

/// What has become of such a link.
pub(crate) type Established = Pin<Box<dyn Future<Output = Result<link::Established, Error>> + Send>>;

/// What an endpoint says of its links.
pub(crate) struct Dial {
    pub(crate) link: LinkOptions,
    pub(crate) user_agent: String,
    pub(crate) timeout: Duration,
    pub(crate) keepalive: Option<Keepalive>,
}
