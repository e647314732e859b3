//! Links to names in pods.

use notnets_core::link::Established;
use notnets_core::name::{Name, Uri};
use notnets_pod::member::PodError;

use super::endpoint::Endpoint;
use crate::Error;
use crate::error::Cause;

impl Endpoint {
    /// A link to the nearest process of the pod that serves the name. What waits for agents has a thread of
    /// its own.
    pub(super) async fn connect_in_pod(&self, pod: &Name, name: &Name) -> Result<Established, Error> {
        let dial = self.link.dial(pod, name, &self.user_agent, self.connect_timeout);
        let dialled = tokio::task::spawn_blocking(move || dial.block()).await;
        dialled
            .unwrap_or(Err(PodError::TimedOut))
            .map_err(|error| Cause::Pod { uri: Uri::in_pod(pod.clone(), name.clone()), error }.into())
    }
}
