//! What the links of a server share.

use std::sync::Arc;

use notnets_core::link::accept::{Occupancy, Policy, Refused};
use notnets_core::link::quota::Quota;
use notnets_core::stats::Stats;
use tokio::sync::{Notify, watch};

use super::Settings;
use super::links::OpenLinks;
use super::lobby::Lobby;
use super::methods::Costs;
use super::services::Services;
use crate::Error;
use crate::error::Cause;
use crate::observe::ServerCalls;
use crate::refusals::Refusals;

/// What the links of a server share.
pub(super) struct ServerContext {
    pub(super) services: Services,
    pub(super) costs: Costs,
    pub(super) settings: Settings,
    pub(super) policy: Policy,
    /// What sees the calls, if they are observed.
    pub(super) observer: Option<Arc<dyn ServerCalls>>,
    /// `None` for a server within its client's process.
    stats: Option<Arc<Stats>>,
    /// What is served, for tools.
    pub(super) names: String,
    pub(super) lobby: Lobby,
    pub(super) refusals: Refusals,
    pub(super) shutdown: watch::Receiver<bool>,
    /// Has a receiver for each link whose client was not told that no more calls are taken.
    pub(super) untold: watch::Sender<()>,
    /// Another process says that it has taken a name over.
    pub(super) taken_over: Notify,
    pub(super) links: OpenLinks,
}

impl ServerContext {
    /// # Errors
    /// When there is no memory for the counters.
    pub(super) fn new(
        names: String,
        services: Services,
        settings: Settings,
        shutdown: watch::Receiver<bool>,
    ) -> Result<Self, Error> {
        let policy = Policy {
            admission: settings.admission.clone(),
            max_links: settings.max_links,
            quota: Quota::new(settings.user_limits),
            config: settings.link.config(),
        };
        let observer = settings.observer.as_ref().map(|observer| observer.0.of_server(&names));
        Ok(Self {
            services,
            costs: Costs::default(),
            settings,
            policy,
            observer,
            stats: new_stats_of(&names)?,
            names,
            lobby: Lobby::default(),
            refusals: Refusals::default(),
            shutdown,
            untold: watch::Sender::new(()),
            taken_over: Notify::new(),
            links: OpenLinks::default(),
        })
    }

    /// Begins counters of its own, in a process that was forked.
    pub(super) fn renew_stats(&mut self) -> Result<(), Error> {
        self.stats = new_stats_of(&self.names)?;
        Ok(())
    }

    /// Counts and logs a client that gets no link.
    pub(super) fn refuse(&self, refused: &Refused) {
        self.refusals.log(refused, self.stats.as_deref());
    }

    /// The counters, for tools.
    pub(super) fn stats(&self) -> Option<&Arc<Stats>> {
        self.stats.as_ref()
    }

    pub(super) fn occupancy(&self) -> Occupancy {
        let links = self.stats.as_ref().map_or(0, |stats| stats.links_open());
        Occupancy { links, stopping: *self.shutdown.borrow() }
    }
}

fn new_stats_of(names: &str) -> Result<Option<Arc<Stats>>, Error> {
    if names.is_empty() {
        return Ok(None);
    }
    let stats = Stats::of_server().map_err(Cause::from)?;
    stats.serves(names);
    Ok(Some(Arc::new(stats)))
}
