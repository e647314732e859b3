//! What kind of error it is. This is the one table for that.

#[cfg(feature = "http2")]
use std::io;

use notnets_core::code::Code;
use notnets_core::link::LinkError;
use notnets_core::link::packet::Refusal;
use notnets_core::link::rendezvous::RendezvousError;
use notnets_memory::{SealedError, SegmentError};
#[cfg(feature = "pod")]
use notnets_pod::member::PodError;

use super::Cause;

/// The kind of an [`Error`](crate::Error), for programs that act on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// A URI is not one of NotNets: `notnets:///NAME`, or `notnets://POD/NAME`.
    InvalidUri,
    /// A setting, or the file system where names are served, can't be worked with.
    InvalidConfiguration,
    /// Nobody serves the name.
    NotFound,
    /// Another server has the name.
    NameInUse,
    /// The file system, or the server's [`Admission`](crate::Admission), denies access; or the server is not
    /// the one that is expected.
    PermissionDenied,
    /// The server, or the agent of a pod, gives no link.
    Refused,
    /// There was no answer in time.
    TimedOut,
    /// The server or the agent of a pod is busy, shuts down, or has just ended.
    Unavailable,
    /// Memory, file descriptors, or a server's links are used up.
    ResourceExhausted,
    /// The other side broke the protocol.
    Protocol,
    /// The operating system refused something else.
    Io,
}

impl ErrorKind {
    /// Returns `true` if the same attempt may succeed a moment later, although nobody does anything about it.
    pub(super) fn is_retryable(self) -> bool {
        matches!(self, Self::TimedOut | Self::Unavailable | Self::ResourceExhausted)
    }

    pub(super) fn of(cause: &Cause) -> Self {
        match cause {
            Cause::Uri(_) | Cause::UnusualUri(_) => Self::InvalidUri,
            Cause::UserAgent(_)
            | Cause::NoNames
            | Cause::NoCalls(_)
            | Cause::Limits(_)
            | Cause::TakeOverInPod(_) => Self::InvalidConfiguration,
            #[cfg(feature = "server")]
            Cause::ServiceName(_) | Cause::ServiceTwice(_) | Cause::ForkedMember => {
                Self::InvalidConfiguration
            }
            #[cfg(any(feature = "blocking", feature = "server"))]
            Cause::Passed(_) => Self::InvalidConfiguration,
            #[cfg(not(feature = "pod"))]
            Cause::WithoutPods => Self::InvalidConfiguration,
            Cause::Rendezvous(error) => of_rendezvous(error),
            Cause::Link { error, .. } => of_link(error),
            Cause::UnexpectedServer { .. } => Self::PermissionDenied,
            #[cfg(feature = "pod")]
            Cause::Pod { error, .. } => of_pod(error),
            #[cfg(all(feature = "pod", any(feature = "server", feature = "blocking")))]
            Cause::ServePod { error, .. } => of_pod(error),
            Cause::ConnectTimeout { .. } => Self::TimedOut,
            #[cfg(feature = "client")]
            Cause::DialLost | Cause::Unhealthy(_) => Self::Unavailable,
            #[cfg(feature = "http2")]
            Cause::Http2(_) | Cause::LinkOver => Self::Unavailable,
            #[cfg(feature = "http2")]
            Cause::WithoutCertificate(_) => Self::InvalidConfiguration,
            #[cfg(feature = "tls")]
            Cause::Tls(_) => Self::InvalidConfiguration,
            #[cfg(feature = "http2")]
            Cause::Within(error) => of_link(error),
            #[cfg(feature = "http2")]
            Cause::Listen { error, .. } => match error.kind() {
                io::ErrorKind::AddrInUse => Self::NameInUse,
                io::ErrorKind::PermissionDenied => Self::PermissionDenied,
                _ => Self::Io,
            },
            #[cfg(any(feature = "client", feature = "server"))]
            Cause::Location(_) => Self::InvalidUri,
            #[cfg(all(any(feature = "client", feature = "server"), not(feature = "http2")))]
            Cause::WithoutHttp2(_) => Self::InvalidConfiguration,
            #[cfg(feature = "client")]
            Cause::Names(_) => Self::InvalidConfiguration,
            #[cfg(feature = "client")]
            Cause::NoServer { .. } => Self::NotFound,
            #[cfg(feature = "client")]
            Cause::NoneReached { first, .. } => first.kind(),
            Cause::Io { .. } => Self::Io,
            Cause::Memory(error) | Cause::Sealed(SealedError::Segment(error)) => of_segment(error),
            // A file that is not as it must be.
            Cause::Sealed(_) => Self::InvalidConfiguration,
        }
    }
}

fn of_rendezvous(error: &RendezvousError) -> ErrorKind {
    match error {
        RendezvousError::NoSuchName { .. } => ErrorKind::NotFound,
        RendezvousError::NameInUse { .. } => ErrorKind::NameInUse,
        RendezvousError::Busy { .. } => ErrorKind::Unavailable,
        RendezvousError::NotOurs { .. }
        | RendezvousError::Passed { .. }
        | RendezvousError::PathTooLong { .. }
        | RendezvousError::NotADirectory { .. }
        | RendezvousError::ReadOnlyFileSystem { .. } => ErrorKind::InvalidConfiguration,
        RendezvousError::PermissionDenied { .. } => ErrorKind::PermissionDenied,
        RendezvousError::NoDescriptors { .. } => ErrorKind::ResourceExhausted,
        _ => ErrorKind::Io,
    }
}

fn of_link(error: &LinkError) -> ErrorKind {
    match error {
        LinkError::Refused { reason, .. } => of_refusal(*reason),
        LinkError::Closed => ErrorKind::Unavailable,
        LinkError::NoDescriptors { .. } => ErrorKind::ResourceExhausted,
        LinkError::Segment(error) => of_segment(error),
        LinkError::Io { .. } => ErrorKind::Io,
        _ => ErrorKind::Protocol,
    }
}

fn of_refusal(reason: Refusal) -> ErrorKind {
    match reason {
        Refusal::Identity => ErrorKind::PermissionDenied,
        Refusal::Resources => ErrorKind::ResourceExhausted,
        Refusal::ShuttingDown => ErrorKind::Unavailable,
        Refusal::Version | Refusal::Protocol => ErrorKind::Refused,
    }
}

fn of_segment(error: &SegmentError) -> ErrorKind {
    match error {
        SegmentError::NoDescriptors { .. } | SegmentError::NoHeadroom(_) => ErrorKind::ResourceExhausted,
        SegmentError::Os { .. } => ErrorKind::Io,
        _ => ErrorKind::Protocol,
    }
}

#[cfg(feature = "pod")]
fn of_pod(error: &PodError) -> ErrorKind {
    match error {
        PodError::NoService { .. } => ErrorKind::NotFound,
        PodError::UnexpectedServer(_) => ErrorKind::PermissionDenied,
        PodError::NoAgent { .. } | PodError::AgentGone | PodError::Gone(_) => ErrorKind::Unavailable,
        PodError::Refused(_) => ErrorKind::Refused,
        PodError::LinkRefused { reason, .. } => of_refusal(*reason),
        PodError::Full => ErrorKind::ResourceExhausted,
        PodError::Extent { .. } => ErrorKind::InvalidConfiguration,
        PodError::TimedOut => ErrorKind::TimedOut,
        PodError::Link(error) => of_link(error),
        PodError::Io { .. } => ErrorKind::Io,
        _ => ErrorKind::Protocol,
    }
}

/// The status code of a call that found no link.
pub(super) fn code(cause: &Cause) -> Code {
    let refused = match cause {
        Cause::Link { error, .. } => error.refused(),
        #[cfg(feature = "pod")]
        Cause::Pod { error, .. } => error.refused(),
        _ => None,
    };
    match cause {
        _ if refused == Some(Refusal::Identity) => Code::PERMISSION_DENIED,
        Cause::UnexpectedServer { .. } => Code::PERMISSION_DENIED,
        #[cfg(feature = "pod")]
        Cause::Pod { error: PodError::UnexpectedServer(_), .. } => Code::PERMISSION_DENIED,
        Cause::Uri(_) | Cause::UnusualUri(_) => Code::INVALID_ARGUMENT,
        Cause::UserAgent(_) | Cause::NoNames | Cause::NoCalls(_) | Cause::Limits(_) => Code::INVALID_ARGUMENT,
        Cause::TakeOverInPod(_) => Code::INVALID_ARGUMENT,
        #[cfg(feature = "client")]
        Cause::NoneReached { first, .. } => first.code(),
        _ => Code::UNAVAILABLE,
    }
}
