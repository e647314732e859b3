//! Names in pods, without the feature `pod`: there are none.

use std::convert::Infallible;
use std::future::pending;
use std::sync::Arc;

use notnets_core::link::rendezvous::Listener;
use notnets_core::name::Uri;

use super::context::ServerContext;
use crate::Error;
use crate::error::Cause;
use crate::options::LinkOptions;

/// No names in pods.
pub(super) struct PodNames {
    /// No listeners.
    pub(super) here: Vec<Listener>,
}

impl PodNames {
    /// Serves no names.
    ///
    /// # Errors
    /// When there are some.
    pub(super) fn serve(uris: Vec<Uri>, _link: &LinkOptions) -> Result<Self, Error> {
        if uris.is_empty() { Ok(Self { here: Vec::new() }) } else { Err(Cause::WithoutPods.into()) }
    }

    /// Always `true`.
    #[expect(clippy::unused_self, reason = "with the feature `pod` there may be some")]
    pub(super) fn is_empty(&self) -> bool {
        true
    }

    /// Never returns.
    pub(super) async fn next(&mut self) -> Option<(Infallible, Infallible)> {
        pending().await
    }

    /// Does nothing.
    pub(super) fn give_up(&mut self) {}
}

/// Is never called.
pub(super) async fn serve_arrival(_shared: Arc<ServerContext>, member: Infallible, _arrival: Infallible) {
    match member {}
}
