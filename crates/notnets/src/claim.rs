//! How a server takes its names of this host.

use notnets_core::link::rendezvous::{Directory, Listener, RendezvousError};
use notnets_core::name::{Name, Uri};

use crate::Error;
use crate::error::Cause;

/// How a server takes its names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Claim {
    /// For itself.
    #[default]
    Alone,
    /// Beside other replicas.
    Replica,
    /// From the server that has it, if there is one.
    TakeOver,
}

impl Claim {
    /// This way if it is switched `on`; if not, and this was the way, for itself.
    pub(crate) fn switched(self, way: Self, on: bool) -> Self {
        if on {
            way
        } else if self == way {
            Self::Alone
        } else {
            self
        }
    }

    /// Takes names.
    pub(crate) fn take<'n>(
        self,
        directory: &Directory,
        names: impl Iterator<Item = &'n Name>,
    ) -> Result<Vec<Listener>, RendezvousError> {
        match self {
            Self::Alone => names.map(|name| directory.listen(name)).collect(),
            Self::Replica => names.map(|name| directory.listen_as_replica(name)).collect(),
            Self::TakeOver => {
                let names: Vec<_> = names.cloned().collect();
                directory.take_over(&names)
            }
        }
    }

    /// # Errors
    /// When a name of a pod can't be taken like this.
    pub(crate) fn check_in_pod(self, uri: &Uri) -> Result<(), Error> {
        match self {
            Self::TakeOver => Err(Cause::TakeOverInPod(uri.clone()).into()),
            Self::Alone | Self::Replica => Ok(()),
        }
    }
}
