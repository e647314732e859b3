//! One of a channel's servers.

use std::sync::Arc;

use super::health::Health;
use super::outliers::Record;
use crate::client::{ClientLink, Endpoint, Home, Outcome, Shared, Standing};
use crate::error::Cause;
use crate::service_config::OutlierDetection;

/// Links that may end one after the other while a call waits for word of their server's health.
const MAX_LOST: usize = 4;

/// A server: its link, or how to get one, and what is known of its health.
#[derive(Debug)]
pub(super) struct Server {
    shared: Arc<Shared>,
    health: Option<Health>,
    /// How its calls end, if that counts.
    record: Option<Record>,
    /// What it is called in errors.
    text: String,
}

/// What the servers of a channel have in common.
#[derive(Debug)]
pub(super) struct Settings {
    /// The settings of the channel, for each server's link.
    pub(super) endpoint: Endpoint,
    /// Where servers are connected.
    pub(super) home: Option<Home>,
    /// The service whose health is asked for, if one is.
    pub(super) health: Option<Arc<str>>,
    /// When a server gets no calls because too many have failed.
    pub(super) outliers: Option<OutlierDetection>,
}

impl Server {
    /// A server that is reached by this endpoint, and is called so in errors.
    pub(super) fn new(endpoint: Endpoint, settings: &Settings, text: String) -> Self {
        let health = settings.health.as_ref().map(|service| Health::new(service, &text));
        let record = settings.outliers.as_ref().map(|_| Record::default());
        let endpoint = match &record {
            Some(record) => endpoint.counted(&record.outcomes),
            None => endpoint,
        };
        Self { shared: Arc::new(Shared::of_peer(endpoint, settings.home.clone())), health, record, text }
    }

    /// How its calls end, if that counts.
    pub(super) fn record(&self) -> Option<&Record> {
        self.record.as_ref()
    }

    /// What it is called in errors.
    pub(super) fn text(&self) -> &str {
        &self.text
    }

    fn is_ejected(&self) -> bool {
        self.record.as_ref().is_some_and(Record::is_ejected)
    }

    /// Returns the last link if it can have calls, as far as is known without a look at it.
    pub(super) fn present(&self) -> Option<Arc<ClientLink>> {
        let link = self.shared.present()?;
        if self.is_ejected() {
            return None;
        }
        self.health.as_ref().is_none_or(|health| health.is_good(&link)).then_some(link)
    }

    /// Returns what can be expected of the server.
    pub(super) fn standing(&self) -> Standing {
        if self.is_ejected() {
            return Standing::Failed;
        }
        match (self.shared.standing(), &self.health) {
            (Standing::Ready(link), Some(health)) if !health.is_good(&link) => Standing::Failed,
            (standing, _) => standing,
        }
    }

    /// Begins to connect if there is no link, and does not wait for it.
    pub(super) fn begin(&self) {
        self.shared.begin();
    }

    /// The link to the server, made now if there is none, once the server is known to be healthy.
    ///
    /// # Errors
    /// When it can't be reached, or is not healthy.
    pub(super) async fn link(&self) -> Outcome {
        if self.is_ejected() {
            let sentence = format!(
                "the server at {} gets no calls for now: too many have failed (outlier detection)",
                self.text
            );
            return Err(Arc::new(Cause::Unhealthy(sentence).into()));
        }
        for _ in 0..MAX_LOST {
            let link = self.shared.link().await?;
            let Some(health) = &self.health else { return Ok(link) };
            if let Some(verdict) = health.verdict(&link).await {
                return verdict.map(|()| link);
            }
        }
        Err(Arc::new(Cause::DialLost.into()))
    }
}
