//! How a server takes its names of this host.

use notnets_core::link::rendezvous::{Directory, Listener, RendezvousError};
use notnets_core::name::Name;

/// How a server takes its names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Claim {
    /// For itself.
    #[default]
    Alone,
    /// Beside other replicas.
    Replica,
}

impl Claim {
    /// Takes a name.
    pub(crate) fn take(self, directory: &Directory, name: &Name) -> Result<Listener, RendezvousError> {
        match self {
            Self::Alone => directory.listen(name),
            Self::Replica => directory.listen_as_replica(name),
        }
    }
}
