//! What an agent has decided or found out, for a log: it writes none itself.

use crate::table::HostIncarnation;

/// Events that nobody has taken, at most; later ones are dropped.
pub(super) const MAX_EVENTS: usize = 1024;

/// What an agent has decided or found out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum AgentEvent {
    /// This host counts from now on.
    Running {
        /// Its life.
        incarnation: HostIncarnation,
        /// An agent before this one had begun that life, and its links go on.
        resumed: bool,
    },
    /// Another host counts from now on.
    HostUp {
        /// Its number.
        host: u16,
        /// Its life.
        incarnation: HostIncarnation,
    },
    /// Another host counts no more: nothing of that life is believed again.
    HostDown {
        /// Its number.
        host: u16,
        /// Its life.
        incarnation: HostIncarnation,
        /// What this agent has decided it by.
        why: HostEnd,
    },
    /// A process of this host has come.
    ProcessJoined {
        /// As its kernel counts it.
        pid: u32,
        /// Its user.
        uid: u32,
        /// It was here before, under another agent or connection.
        returned: bool,
    },
    /// A process of this host counts no more.
    ProcessEnded {
        /// As its kernel counts it.
        pid: u32,
        /// Its user.
        uid: u32,
        /// The process goes on, outside of the pod.
        runs: bool,
    },
}

/// What shows that a life of another host is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum HostEnd {
    /// Its heartbeat has not been seen to change for so many nanoseconds, by the clock of this host.
    Silent(u64),
    /// The same, but its processes have been seen to go on meanwhile: its agent does not run, or its host's
    /// processors are too busy for it.
    Starved(u64),
    /// It has left in order.
    Left,
    /// It has begun another life.
    Replaced,
}

/// Why a life of this host is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Lapse {
    /// Another host, of this number, has marked it dead.
    MarkedDead {
        /// The host that decided.
        by: u16,
    },
    /// Its agent has not beaten for so many nanoseconds, which is longer than the lease: this agent decided.
    Late(u64),
}

impl std::fmt::Display for Lapse {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::MarkedDead { by } => write!(f, "host {by} has marked this host dead"),
            Self::Late(nanos) => {
                let millis = nanos / 1_000_000;
                write!(f, "this host's agent did not beat for {millis} ms, which is more than the lease")
            }
        }
    }
}
