//! Why links end: one table of reasons, and the statuses of their calls.

use std::io;

use crate::call::Failure;
use crate::code::Code;

/// Why a link ends.
#[derive(Debug)]
#[non_exhaustive]
pub enum Ending {
    /// The peer's process has ended, or it has closed the link.
    PeerGone,
    /// The peer did what it must not do: what that was.
    Violation(String),
    /// The socket failed.
    Socket(io::Error),
    /// The peer has not answered a ping in time.
    Unanswered,
    /// This side needs the link no more, or has wound it up.
    Closed,
    /// The link is older than its server lets one get.
    TooOld,
    /// This side's runtime or server has ended.
    RuntimeGone,
    /// This process was forked from the one that made the link.
    Forked,
}

impl From<Ending> for Failure {
    fn from(ending: Ending) -> Self {
        let unavailable = |text: &str| Failure::new(Code::UNAVAILABLE, text);
        match ending {
            Ending::PeerGone => unavailable(
                "the other end of the link is gone: its process has ended, or has let go of the link",
            ),
            Ending::Violation(what) => Failure::new(Code::INTERNAL, format!("the link was closed: {what}")),
            Ending::Socket(error) => unavailable(&format!("the link's socket broke: {error}")),
            Ending::Unanswered => {
                unavailable("the peer does not answer (keepalive): it hangs or was stopped")
            }
            Ending::Closed => unavailable("the link was closed by this side"),
            Ending::TooOld => unavailable("the link is too old"),
            Ending::RuntimeGone => unavailable(
                "the runtime that this side of the link ran on has ended, or its server was dropped",
            ),
            Ending::Forked => {
                unavailable("this process was forked from the one that connected: connect after the fork")
            }
        }
    }
}
