//! Links to names in pods.

use std::time::Instant;

use notnets_core::limits::Limits;
use notnets_core::link::Established;
use notnets_core::name::Name;
use notnets_memory::lane::Geometry;
use notnets_pod::member::{Dial, PodError, between_hosts};

use super::endpoint::{Endpoint, geometry};
use crate::Error;

/// A first segment whose large block holds the largest head that may be sent between hosts.
pub(crate) fn pod_geometry(limits: Limits) -> Geometry {
    between_hosts(geometry(limits))
}

impl Endpoint {
    /// A link to the nearest process of the pod that serves the name. What waits for agents has a thread of its own.
    pub(super) async fn connect_in_pod(&self, pod: Name) -> Result<Established, Error> {
        let dial = Dial {
            directory: self.directory.clone(),
            pod,
            name: self.uri.name().clone(),
            limits: self.limits,
            geometry: self.config().geometry,
            geometry_between_hosts: pod_geometry(self.limits),
            user_agent: self.user_agent.clone(),
            wake_latency: self.wake_latency,
            deadline: Instant::now() + self.connect_timeout,
        };
        let dialled = tokio::task::spawn_blocking(move || dial.block()).await;
        dialled
            .unwrap_or(Err(PodError::TimedOut))
            .map_err(|source| Error::Pod { uri: self.uri.to_string(), source })
    }
}
