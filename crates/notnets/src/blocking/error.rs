//! Why there is no client or server.

use std::io;
use std::time::Duration;

use notnets_memory::SegmentError;

use super::Status;
use notnets_core::code::Code;
use notnets_core::limits::BadLimits;
use notnets_core::link::LinkError;
use notnets_core::link::packet::Refusal;
use notnets_core::link::rendezvous::RendezvousError;
use notnets_core::name::{Name, UriError};
#[cfg(feature = "pod")]
use notnets_pod::member::PodError;

/// Why connecting or serving failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No `notnets:` URI.
    #[error(transparent)]
    Uri(#[from] UriError),
    #[cfg(feature = "pod")]
    /// In a pod: no agent, no such name on any host, no memory, …
    #[error("no link to {uri}: {source}")]
    Pod {
        /// What was dialled or served.
        uri: notnets_core::name::Uri,
        /// What went wrong.
        source: PodError,
    },
    /// In the rendezvous directory: no such name, a name in use, no permission, …
    #[error(transparent)]
    Rendezvous(#[from] RendezvousError),
    /// While shaking hands with the server.
    #[error("no link to notnets:///{name}: {source}")]
    Link {
        /// The name that was dialled.
        name: Name,
        /// What went wrong.
        source: LinkError,
    },
    /// The server did not answer in time.
    #[error("no link to notnets:///{name}: no answer within {after:?} (Endpoint::connect_timeout)")]
    Timeout {
        /// The name that was dialled.
        name: Name,
        /// How long was waited.
        after: Duration,
    },
    /// Limits that a link can't work with.
    #[error(transparent)]
    Limits(#[from] BadLimits),
    /// There is no memory for a server's counters.
    #[error(transparent)]
    Memory(#[from] SegmentError),
    /// The operating system refused something.
    #[error("could not {step}: {source}")]
    Io {
        /// What was tried.
        step: &'static str,
        /// The answer.
        source: io::Error,
    },
}

impl Error {
    /// Why nothing in a pod is reached.
    #[cfg(not(feature = "pod"))]
    pub(super) fn no_pods() -> Self {
        let why = "this program was built without the feature `pod` of notnets";
        Self::io("reach a pod")(io::Error::new(io::ErrorKind::Unsupported, why))
    }

    pub(super) fn io(step: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { step, source }
    }
}

/// Of a call that found no server.
impl From<Error> for Status {
    fn from(error: Error) -> Self {
        let refused = match &error {
            Error::Link { source, .. } => source.refused(),
            #[cfg(feature = "pod")]
            Error::Pod { source, .. } => source.refused(),
            _ => None,
        };
        let code = match &error {
            _ if refused == Some(Refusal::Identity) => Code::PERMISSION_DENIED,
            Error::Uri(_) | Error::Limits(_) => Code::INVALID_ARGUMENT,
            _ => Code::UNAVAILABLE,
        };
        Self { retry_safe: true, ..Self::new(code, error.to_string()) }
    }
}
