//! Errors of linking to a process of a pod.

use std::io;

use notnets_memory::lane::LaneError;

use notnets_core::limits::BadLimits;
use notnets_core::link::LinkError;
use notnets_core::link::expected::UnexpectedServer;
use notnets_core::link::packet::{BadPacket, Refusal};
use notnets_core::name::Name;

/// The failure to link to a process of a pod.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PodError {
    /// No agent of this pod on this host.
    #[error(
        "no agent of the pod {pod} answers at {path}: start one with `notnets agent --region … --host-id …` ({cause})"
    )]
    NoAgent {
        /// The pod.
        pod: Name,
        /// Where its agent would listen.
        path: String,
        /// The cause.
        cause: io::Error,
    },
    /// The agent refuses this process, or refuses it for now.
    #[error("the agent of the pod refuses: {0}")]
    Refused(String),
    /// It was there, and is gone for longer than the lease.
    #[error("the agent of the pod is gone: start it again with `notnets agent`")]
    AgentGone,
    /// No host serves the name.
    #[error(
        "no host of the pod {pod} serves {name}: start its server, or see with `notnets ls` what is served"
    )]
    NoService {
        /// The pod.
        pod: String,
        /// The name.
        name: Name,
    },
    /// This host has no memory left for links.
    #[error("this host's part of the pod's region is full: `notnets region show` says of what")]
    Full,
    /// A link's first segment is larger than what an agent grants at once.
    #[error(
        "a link takes {bytes} bytes, and the extents of the pod's region have {extent}: allow less metadata, or format the region with a larger --extent"
    )]
    Extent {
        /// Bytes of the segment.
        bytes: usize,
        /// Bytes of an extent.
        extent: usize,
    },
    /// Nothing came in time.
    #[error("the agent, or the process that serves the name, did not answer in time")]
    TimedOut,
    /// The peer ended, or its host.
    #[error("the process on host {0} is gone: try again")]
    Gone(u16),
    /// The server refused.
    #[error("the server refused the link: {text}")]
    LinkRefused {
        /// Why.
        reason: Refusal,
        /// In a sentence.
        text: String,
    },
    /// The process that serves the name is not one that this client expects. It was sent nothing.
    #[error(transparent)]
    UnexpectedServer(#[from] UnexpectedServer),
    /// There is no link to a process of this host.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// The peer sent what has no place in a handshake.
    #[error("unexpected message from the process on the other host during the handshake")]
    Unexpected,
    /// It does not parse.
    #[error("the process on the other host sent {0}")]
    Packet(BadPacket),
    /// Its limits are impossible.
    #[error(transparent)]
    Limits(#[from] BadLimits),
    /// Its segment is not where it may be, or not as announced.
    #[error("the segment of the process on the other host can't be used: {0}")]
    Lane(LaneError),
    /// Its segment is outside of its host's extents.
    #[error("the process on host {0} offers memory that is not its host's")]
    Place(u16),
    /// The kernel refused something.
    #[error("could not {step}: {cause}")]
    Io {
        /// The step that failed.
        step: &'static str,
        /// The kernel's answer.
        cause: io::Error,
    },
}

impl PodError {
    /// Why the server refused, if it did.
    pub fn refused(&self) -> Option<Refusal> {
        match self {
            Self::LinkRefused { reason, .. } => Some(*reason),
            Self::Link(error) => error.refused(),
            _ => None,
        }
    }
}
