//! Admission and rejection of clients: one table for all ways to a server.

use std::fmt;
use std::sync::Arc;

use super::candidate::Candidate;
use super::packet::Refusal;

/// Who may connect to a server, by the client's identity as the kernel vouches for it (between hosts of a
/// pod, the peer's agent).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Admission {
    /// Processes of the server's own uid.
    #[default]
    SameUser,
    /// Processes of these uids, or with a group among these gids, and of the server's own uid.
    Listed {
        /// User ids.
        uids: Vec<u32>,
        /// Group ids, effective or supplementary.
        gids: Vec<u32>,
    },
    /// Everyone who can reach the rendezvous directory.
    Anyone,
    /// Those that a function admits: see [`Admission::by`].
    Custom(Check),
}

/// A function that judges a process by its identity.
#[derive(Clone)]
pub struct Check(Arc<dyn Fn(&Candidate<'_>) -> bool + Send + Sync>);

impl Check {
    pub(super) fn new(check: impl Fn(&Candidate<'_>) -> bool + Send + Sync + 'static) -> Self {
        Self(Arc::new(check))
    }

    pub(super) fn holds(&self, peer: &Candidate<'_>) -> bool {
        (self.0)(peer)
    }
}

impl fmt::Debug for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Check")
    }
}

/// Equal if both are the same function object, whatever the functions do.
impl PartialEq for Check {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for Check {}

impl Admission {
    /// Admits the processes for which `check` returns `true`. It is called on the server's threads for each
    /// connection: it should not block.
    pub fn by(check: impl Fn(&Candidate<'_>) -> bool + Send + Sync + 'static) -> Self {
        Self::Custom(Check::new(check))
    }

    /// Returns `true` if a process with these credentials may connect.
    pub fn admits(&self, peer: &Candidate<'_>) -> bool {
        let same = peer.uid == own_uid();
        match self {
            Self::SameUser => same,
            Self::Listed { uids, gids } => same || uids.contains(&peer.uid) || peer.is_in_any(gids),
            Self::Anyone => true,
            Self::Custom(check) => check.holds(peer),
        }
    }

    /// Admits the peer or returns why not.
    ///
    /// # Errors
    /// When it is not admitted.
    pub fn check(&self, peer: &Candidate<'_>) -> Result<(), Rejection> {
        if self.admits(peer) {
            Ok(())
        } else {
            Err(Rejection::NotAdmitted { uid: peer.uid, admits: self.clone() })
        }
    }
}

/// Why a server gives a client no link.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Rejection {
    /// It is being stopped.
    #[error("the server shuts down")]
    ShuttingDown,
    /// It has as many links as it may have.
    #[error("the server has as many links as it may have (Server::max_connections)")]
    TooManyLinks,
    /// The client's user has as many as it may have.
    #[error(
        "uid {uid} has {limit} links to the server, and may have no more (Server::max_connections_per_user)"
    )]
    TooManyOfUser {
        /// The client's.
        uid: u32,
        /// So many may be open.
        limit: usize,
    },
    /// More clients wait for an answer than it serves at a time.
    #[error("too many clients connect at once")]
    TooManyAtOnce,
    /// The client's uid is not admitted.
    #[error("uid {uid} is not admitted: the server, of uid {}, admits {} (see Server::admission)", own_uid(), admitted(.admits))]
    NotAdmitted {
        /// The client's.
        uid: u32,
        /// The server's rule.
        admits: Admission,
    },
    /// The client's identity is unknown to the kernel.
    #[error("the server could not learn who the client is")]
    Unknown,
    /// The first packet was neither a hello nor a question for counters.
    #[error("a link begins with a hello")]
    NoHello,
}

impl Rejection {
    /// The reasons, by names for programs.
    pub const REASONS: [&str; 7] = [
        "shutting_down",
        "too_many_links",
        "too_many_at_once",
        "not_admitted",
        "unknown_client",
        "no_hello",
        "too_many_links_of_user",
    ];

    /// The place of its reason among [`REASONS`](Self::REASONS).
    pub(crate) fn number(&self) -> usize {
        match self {
            Self::ShuttingDown => 0,
            Self::TooManyLinks => 1,
            Self::TooManyAtOnce => 2,
            Self::NotAdmitted { .. } => 3,
            Self::Unknown => 4,
            Self::NoHello => 5,
            Self::TooManyOfUser { .. } => 6,
        }
    }

    /// Returns the reason that the client is sent beside the text.
    pub fn refusal(&self) -> Refusal {
        match self {
            Self::ShuttingDown => Refusal::ShuttingDown,
            Self::TooManyLinks | Self::TooManyOfUser { .. } | Self::TooManyAtOnce | Self::Unknown => {
                Refusal::Resources
            }
            Self::NotAdmitted { .. } => Refusal::Identity,
            Self::NoHello => Refusal::Protocol,
        }
    }
}

pub(super) fn own_uid() -> u32 {
    rustix::process::geteuid().as_raw()
}

fn admitted(admission: &Admission) -> &'static str {
    match admission {
        Admission::Listed { .. } => "the uids and gids that it lists",
        Admission::Custom(_) => "processes of its choice",
        Admission::SameUser | Admission::Anyone => "its own uid only",
    }
}

#[cfg(test)]
mod tests {
    use notnets_memory::process::PeerCredentials;

    use super::*;

    fn peer(uid: u32, gid: u32) -> Candidate<'static> {
        Candidate::known_by(PeerCredentials { pid: None, uid, gid })
    }

    #[test]
    fn the_own_uid_is_always_admitted() {
        let own = peer(own_uid(), 1);
        let nobody = Admission::Listed { uids: vec![], gids: vec![] };
        for admission in [Admission::SameUser, nobody, Admission::Anyone] {
            assert_eq!(admission.check(&own), Ok(()));
        }
    }

    #[test]
    fn another_uid_is_admitted_by_the_list_or_told_why_not() {
        let listed = Admission::Listed { uids: vec![70_001], gids: vec![80_000] };
        assert!(listed.admits(&peer(70_001, 1)) && listed.admits(&peer(70_002, 80_000)));
        let refused = listed.check(&peer(70_002, 1)).unwrap_err();
        assert_eq!(refused.refusal(), Refusal::Identity);
        assert!(refused.to_string().starts_with("uid 70002 is not admitted"), "{refused}");
        assert!(Admission::SameUser.check(&peer(70_001, 1)).is_err());
        assert!(Admission::Anyone.admits(&peer(70_001, 1)));
        assert!(!Admission::by(|_| false).admits(&peer(own_uid(), 1)), "a function decides alone");
    }
}
