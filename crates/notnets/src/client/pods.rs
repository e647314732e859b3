//! Links to names in pods.

use std::time::Instant;

use notnets_core::link::Established;
use notnets_core::name::{Name, Uri};
use notnets_pod::member::{Dial, PodError};

use super::endpoint::Endpoint;
use crate::Error;
use crate::error::Cause;

impl Endpoint {
    /// A link to the nearest process of the pod that serves the name. What waits for agents has a thread of
    /// its own.
    pub(super) async fn connect_in_pod(&self, pod: &Name, name: &Name) -> Result<Established, Error> {
        let dial = Dial {
            directory: self.link.directory.clone(),
            pod: pod.clone(),
            name: name.clone(),
            limits: self.link.limits,
            geometry: self.link.config().geometry,
            geometry_between_hosts: self.link.config_between_hosts().geometry,
            user_agent: self.user_agent.clone(),
            wake_latency: self.link.wake_latency,
            deadline: Instant::now() + self.connect_timeout,
        };
        let dialled = tokio::task::spawn_blocking(move || dial.block()).await;
        dialled.unwrap_or(Err(PodError::TimedOut)).map_err(|error| {
            Cause::Pod { uri: Uri::in_pod(pod.clone(), name.clone()).to_string(), error }.into()
        })
    }
}
