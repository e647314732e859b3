//! Who may connect.

use notnets_core::link::rendezvous::PeerCredentials;

/// Who may connect to a server. The kernel vouches for the uid.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Admission {
    /// Processes of the server's own uid.
    #[default]
    SameUser,
    /// Processes of these uids, or of a group among these gids, and of the server's own uid.
    Listed {
        /// User ids.
        uids: Vec<u32>,
        /// Effective group ids.
        gids: Vec<u32>,
    },
    /// Everyone who can reach the rendezvous directory.
    Anyone,
}

impl Admission {
    pub(super) fn admits(&self, peer: &PeerCredentials) -> bool {
        let same = peer.uid == rustix::process::geteuid().as_raw();
        match self {
            Self::SameUser => same,
            Self::Listed { uids, gids } => same || uids.contains(&peer.uid) || gids.contains(&peer.gid),
            Self::Anyone => true,
        }
    }
}
