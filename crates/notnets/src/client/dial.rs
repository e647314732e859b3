//! From an endpoint to a link: the core's state machine for connecting, driven by the runtime.

use std::sync::Arc;

use notnets_core::Role;
use notnets_core::clock;
use notnets_core::link::Established;
use notnets_core::link::connect::Progress;
use notnets_core::name::Name;
use notnets_core::stats;
use tokio::io::Interest;

use super::client_link::ClientLink;
use super::endpoint::Endpoint;
use super::home::Home;
#[cfg(feature = "http2")]
use super::reach::Dial;
use crate::Error;
use crate::async_fd::register;
use crate::error::Cause;
use crate::link::Link;
use crate::link::driver::{Driver, NoRequests};
use crate::log::LINK;

impl Endpoint {
    /// A link to the server. Its driver runs where this is polled, which is this home.
    ///
    /// # Errors
    /// When there is none within the connect timeout.
    pub(super) async fn dial(self, home: Home) -> Result<ClientLink, Error> {
        let target = self.target()?;
        self.link.limits.check().map_err(Cause::from)?;
        let established = match target.pod() {
            #[cfg(feature = "http2")]
            _ if self.reach.is_some() => self.connect_by_reach().await?,
            None => self.connect_on_host(target.name()).await?,
            Some(pod) => self.connect_in_pod(pod, target.name()).await?,
        };
        let link = self.start(established).map_err(Error::io("watch a link's socket"))?;
        if let Some(stats) = stats::of_clients() {
            let (address, is_http2) = self.address_for_tools();
            link.count_in(&stats, &address, is_http2);
        }
        Ok(ClientLink::new(link, home))
    }

    async fn connect_on_host(&self, name: &Name) -> Result<Established, Error> {
        let mut connecting = self.link.connecting(name, &self.user_agent, self.connect_timeout);
        if let Some(address) = &self.address {
            connecting = connecting.at(address.clone());
        }
        loop {
            let until = match connecting.advance(clock::now()) {
                Progress::Wait { until } => until,
                Progress::Done(Ok(established)) => return Ok(*established),
                Progress::Done(Err(error)) => return Err(Error::connect(error, name, self.connect_timeout)),
            };
            let failed = Error::io("wait for the server's answer");
            match connecting.socket() {
                None => tokio::time::sleep(clock::until(until)).await,
                Some(socket) => {
                    let readable = register(socket, Interest::READABLE).map_err(failed)?;
                    // Too late or not: what has come of it is looked at next.
                    let _ = tokio::time::timeout(clock::until(until), readable.readable()).await;
                }
            }
        }
    }

    #[cfg(feature = "http2")]
    async fn connect_by_reach(&self) -> Result<Established, Error> {
        let Some(reach) = &self.reach else { return Err(Cause::DialLost.into()) };
        let dial = Dial {
            link: self.link.clone(),
            user_agent: self.user_agent.clone(),
            timeout: self.connect_timeout,
            keepalive: self.keepalive(),
        };
        reach.establish(dial).await
    }

    /// What was dialled, and whether that is by HTTP/2.
    fn address_for_tools(&self) -> (String, bool) {
        #[cfg(feature = "http2")]
        if let Some(reach) = &self.reach {
            return (reach.address(), true);
        }
        (self.target().map_or_else(|_| String::new(), ToString::to_string), false)
    }

    pub(super) fn start(&self, established: Established) -> std::io::Result<Arc<Link>> {
        let (link, pidfd) = Link::new(Role::Client, &self.link, established)?;
        if let Some(outcomes) = &self.outcomes {
            link.count_outcomes(outcomes);
        }
        let driver = Driver::new(Arc::clone(&link), pidfd, NoRequests, None, self.keepalive())?;
        tokio::spawn(async move {
            let failure = driver.await;
            tracing::debug!(target: LINK, reason = %failure.message, "a link to a server has ended");
        });
        Ok(link)
    }
}
