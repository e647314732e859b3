//! Whom a client takes for its server: what keeps a process that has taken a free name, in a directory that
//! several users share, from being called in its place.
//!
//! A client looks at who listens before it sends anything, its memory included.

use std::path::{Path, PathBuf};

use rustix::fs::stat;

use super::admission::{Check, own_uid};
use super::candidate::Candidate;

/// Whom a client takes for its server, by who listens on the socket, as the kernel vouches for it (between
/// hosts of a pod, the server's agent).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum ExpectedServer {
    /// Processes of the client's own uid and of root; and of the owner of the rendezvous directory, if nobody
    /// else may put a name there. Between hosts of a pod, every process that the server's agent has admitted.
    #[default]
    Trusted,
    /// Processes of these uids, or of a group among these gids, and nobody else.
    Listed {
        /// User ids.
        uids: Vec<u32>,
        /// Group ids, effective or supplementary.
        gids: Vec<u32>,
    },
    /// Whoever has the name.
    Anyone,
    /// Those for which a function returns `true`: see [`ExpectedServer::by`].
    Custom(Check),
}

/// The process that has the name is not one that the client expects.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the server is a process of uid {uid} and gid {gid}{place}, which is not expected: \
     if it is the right one, say so (Endpoint::expect_server, or --expect-server)"
)]
pub struct UnexpectedServer {
    /// The server's.
    pub uid: u32,
    /// The server's.
    pub gid: u32,
    place: Place,
}

/// Where it was found, for the error's sentence.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Place {
    Directory(PathBuf),
    Elsewhere,
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Directory(path) => {
                write!(f, " in {}, where others than its owner may serve", path.display())
            }
            Self::Elsewhere => Ok(()),
        }
    }
}

impl ExpectedServer {
    /// Expects the processes for which `check` returns `true`. It is called for each link, and should not
    /// block.
    pub fn by(check: impl Fn(&Candidate<'_>) -> bool + Send + Sync + 'static) -> Self {
        Self::Custom(Check::new(check))
    }

    /// Finds out whether a process that listens in this directory is expected.
    ///
    /// # Errors
    /// When it is not.
    pub fn check(&self, server: &Candidate<'_>, directory: &Path) -> Result<(), UnexpectedServer> {
        let expected = match self {
            Self::Trusted => is_trusted(server.uid) || sole_writer(directory) == Some(server.uid),
            _ => self.is_wanted(server),
        };
        let place =
            if *self == Self::Trusted { Place::Directory(directory.to_owned()) } else { Place::Elsewhere };
        unexpected(expected, server, place)
    }

    /// Finds out whether a process of another host, for which its agent vouches, is expected.
    ///
    /// # Errors
    /// When it is not.
    pub fn check_in_pod(&self, server: &Candidate<'_>) -> Result<(), UnexpectedServer> {
        let expected = *self == Self::Trusted || self.is_wanted(server);
        unexpected(expected, server, Place::Elsewhere)
    }

    fn is_wanted(&self, server: &Candidate<'_>) -> bool {
        match self {
            Self::Trusted => is_trusted(server.uid),
            Self::Listed { uids, gids } => uids.contains(&server.uid) || server.is_in_any(gids),
            Self::Anyone => true,
            Self::Custom(check) => check.holds(server),
        }
    }
}

fn unexpected(expected: bool, server: &Candidate<'_>, place: Place) -> Result<(), UnexpectedServer> {
    if expected { Ok(()) } else { Err(UnexpectedServer { uid: server.uid, gid: server.gid, place }) }
}

fn is_trusted(uid: u32) -> bool {
    uid == 0 || uid == own_uid()
}

/// The owner of a directory, if nobody else may put something there.
fn sole_writer(directory: &Path) -> Option<u32> {
    const OTHERS_WRITE: u32 = 0o022;
    let stat = stat(directory).ok()?;
    (stat.st_mode & OTHERS_WRITE == 0).then_some(stat.st_uid)
}

#[cfg(test)]
mod tests {
    use std::fs::{Permissions, set_permissions};
    use std::os::unix::fs::PermissionsExt;

    use notnets_memory::process::PeerCredentials;

    use super::*;

    fn server(uid: u32, gid: u32) -> Candidate<'static> {
        Candidate::known_by(PeerCredentials { pid: None, uid, gid })
    }

    #[test]
    fn own_processes_and_those_of_root_are_expected_and_in_a_shared_directory_no_others() {
        let directory = tempfile::tempdir().unwrap();
        let own = rustix::process::geteuid().as_raw();
        set_permissions(directory.path(), Permissions::from_mode(0o3770)).unwrap();
        let trusted = ExpectedServer::Trusted;
        for uid in [0, own] {
            assert_eq!(trusted.check(&server(uid, 5), directory.path()), Ok(()));
        }
        let refused = trusted.check(&server(own + 1, 5), directory.path()).unwrap_err();
        let said = refused.to_string();
        assert!(
            said.contains(&format!("uid {} and gid 5 in /", own + 1)) && said.contains("expect_server"),
            "{said}"
        );
        assert_eq!(trusted.check_in_pod(&server(own + 1, 5)), Ok(()));
    }

    #[test]
    fn the_owner_of_a_directory_that_is_its_own_is_expected() {
        let directory = tempfile::tempdir().unwrap();
        let owner = stat(directory.path()).unwrap().st_uid;
        for (mode, writer) in [(0o700, Some(owner)), (0o755, Some(owner)), (0o775, None), (0o1777, None)] {
            set_permissions(directory.path(), Permissions::from_mode(mode)).unwrap();
            assert_eq!(sole_writer(directory.path()), writer, "{mode:o}");
        }
        assert_eq!(sole_writer(Path::new("/nowhere")), None);
    }

    #[test]
    fn a_list_is_all_that_is_expected() {
        let listed = ExpectedServer::Listed { uids: vec![7], gids: vec![8] };
        let root = Path::new("/");
        assert!(listed.check(&server(7, 1), root).is_ok() && listed.check(&server(1, 8), root).is_ok());
        assert!(listed.check(&server(0, 0), root).is_err() && listed.check_in_pod(&server(0, 0)).is_err());
        assert!(ExpectedServer::Anyone.check(&server(1, 1), root).is_ok());
        assert!(ExpectedServer::by(|server| server.uid == 3).check(&server(3, 1), root).is_ok());
    }
}
