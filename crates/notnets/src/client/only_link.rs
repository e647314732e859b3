//! A channel over a link that is there already, and is the only one.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;

use notnets_core::link::Established;

use super::channel::Channel;
use super::client_link::ClientLink;
use super::endpoint::Endpoint;
use super::home::Home;
use super::peers::Peers;
use super::shared::Outcome;
use crate::error::Cause;

/// The only link of a channel: when it has ended, no more calls can be made.
#[derive(Debug)]
pub(crate) struct OnlyLink(Arc<ClientLink>);

impl OnlyLink {
    /// Makes a channel over a link, which is driven in the present runtime.
    ///
    /// # Errors
    /// When the runtime can't watch the link's socket.
    pub(crate) fn channel(endpoint: &Endpoint, established: Established) -> io::Result<Channel> {
        let home = Home::present().ok_or_else(|| io::Error::other("there is no runtime"))?;
        let link = ClientLink::new(endpoint.start(established)?, home);
        Ok(Channel::of_peers(endpoint.clone(), Arc::new(Self(Arc::new(link)))))
    }
}

impl Peers for OnlyLink {
    fn present(&self) -> Option<Arc<ClientLink>> {
        Some(Arc::clone(&self.0))
    }

    fn link(self: Arc<Self>) -> Pin<Box<dyn Future<Output = Outcome> + Send>> {
        let is_usable = self.0.is_usable();
        let link = if is_usable { Ok(Arc::clone(&self.0)) } else { Err(Arc::new(Cause::LinkOver.into())) };
        Box::pin(async { link })
    }
}
