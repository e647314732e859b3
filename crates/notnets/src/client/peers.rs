//! What a channel that finds its servers asks for their links.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use super::client_link::ClientLink;
use super::shared::Outcome;

/// The servers of a channel, from which each call gets one.
pub(crate) trait Peers: fmt::Debug + Send + Sync {
    /// Returns the link for the next call, if one is there now. It may have ended a moment ago.
    fn present(&self) -> Option<Arc<ClientLink>>;

    /// Finds a link for the next call, and connects if need be.
    fn link(self: Arc<Self>) -> Pin<Box<dyn Future<Output = Outcome> + Send>>;
}
