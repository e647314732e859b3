//! Errors, and what they become as a gRPC status. This is the one table for that.

use std::sync::Arc;

use notnets_core::code::Code;
use notnets_core::link::LinkError;
use notnets_core::link::packet::Refusal;
use notnets_core::link::rendezvous::RendezvousError;
use notnets_core::name::UriError;
#[cfg(feature = "pod")]
use notnets_pod::member::PodError;

/// Why serving or connecting failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Not a `notnets:` URI, or not one of this host.
    #[error("{0}")]
    Uri(String),
    /// In the rendezvous directory: no such name, a name in use, no permission, …
    #[error(transparent)]
    Rendezvous(#[from] RendezvousError),
    /// While shaking hands with the server.
    #[error("no link to notnets:///{name}: {source}")]
    Link {
        /// The name that was dialled.
        name: String,
        /// What went wrong.
        source: LinkError,
    },
    #[cfg(feature = "pod")]
    /// In a pod: no agent, no such name on any host, no memory, …
    #[error("no link to {uri}: {source}")]
    Pod {
        /// What was dialled or served.
        uri: String,
        /// What went wrong.
        source: PodError,
    },
    /// The server did not answer in time.
    #[error(
        "no link to notnets:///{name}: no answer within {after:?} (Endpoint::connect_timeout); does the server hang, or has it run out of descriptors?"
    )]
    ConnectTimeout {
        /// The name that was dialled.
        name: String,
        /// How long was waited.
        after: std::time::Duration,
    },
    /// The operating system refused something.
    #[error("could not {step}: {source}")]
    Io {
        /// What was tried.
        step: &'static str,
        /// The answer.
        source: std::io::Error,
    },
    /// There is no memory for the counters.
    #[error(transparent)]
    Memory(#[from] notnets_memory::SegmentError),
    /// A limit that a link can't work with.
    #[error(transparent)]
    Limits(#[from] notnets_core::limits::BadLimits),
}

impl From<UriError> for Error {
    fn from(error: UriError) -> Self {
        Self::Uri(error.to_string())
    }
}

impl Error {
    /// Why nothing in a pod is reached.
    #[cfg(not(feature = "pod"))]
    pub(crate) fn no_pods() -> Self {
        let source = std::io::Error::new(
            std::io::ErrorKind::Unsupported,
            "this program was built without the feature `pod` of notnets",
        );
        Self::Io { step: "reach a pod", source }
    }

    /// The status code of a call that found no link.
    pub(crate) fn code(&self) -> Code {
        let refused = match self {
            Self::Link { source, .. } => source.refused(),
            #[cfg(feature = "pod")]
            Self::Pod { source, .. } => source.refused(),
            _ => None,
        };
        match self {
            _ if refused == Some(Refusal::Identity) => Code::PERMISSION_DENIED,
            Self::Uri(_) | Self::Limits(_) => Code::INVALID_ARGUMENT,
            _ => Code::UNAVAILABLE,
        }
    }
}

/// In the source of a [`tonic::Status`]: the server's application never saw the request, so that it is safe
/// to send it again, whatever it does.
///
/// ```
/// fn may_retry(status: &tonic::Status) -> bool {
///     std::error::Error::source(status).is_some_and(|source| source.is::<notnets::RetrySafe>())
/// }
/// ```
#[derive(Debug)]
pub struct RetrySafe(Option<Arc<Error>>);

impl RetrySafe {
    pub(crate) fn because_of(error: Option<Arc<Error>>) -> Self {
        Self(error)
    }
}

impl std::fmt::Display for RetrySafe {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the server's application never saw the request")
    }
}

impl std::error::Error for RetrySafe {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.as_deref().map(|error| error as _)
    }
}
