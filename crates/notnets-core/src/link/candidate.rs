//! A process that is to be judged: a client that wants a link, or a server that has a name.

use std::ops::Deref;
use std::os::fd::BorrowedFd;

use notnets_memory::process::{PeerCredentials, peer_groups, peer_label};

/// A process that is to be judged, as the kernel knows it. Its credentials are its fields.
///
/// ```
/// use notnets_core::link::admission::Admission;
///
/// let of_the_shop = Admission::by(|client| client.uid == 1001 || client.groups().contains(&500));
/// let labelled = Admission::by(|client| client.label().as_deref() == Some("system_u:system_r:shop_t:s0"));
/// # drop((of_the_shop, labelled));
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Candidate<'a> {
    credentials: PeerCredentials,
    socket: Option<BorrowedFd<'a>>,
}

impl<'a> Candidate<'a> {
    /// The process at the other end of this socket.
    pub fn at(socket: BorrowedFd<'a>, credentials: PeerCredentials) -> Self {
        Self { credentials, socket: Some(socket) }
    }

    /// A process of which nothing but these is known, as one of another host.
    pub fn known_by(credentials: PeerCredentials) -> Self {
        Self { credentials, socket: None }
    }

    /// Its supplementary groups when it connected, or began to listen. Empty where the kernel does not know
    /// them, as between hosts of a pod.
    pub fn groups(&self) -> Vec<u32> {
        self.socket.and_then(|socket| peer_groups(socket).ok()).unwrap_or_default()
    }

    /// Returns `true` if one of these is its effective group, or a supplementary one.
    pub fn is_in_any(&self, gids: &[u32]) -> bool {
        let is_listed = |gid: &u32| gids.contains(gid);
        !gids.is_empty() && (is_listed(&self.gid) || self.groups().iter().any(is_listed))
    }

    /// Its label when it connected, where a security module of the kernel gives one (SELinux, Smack,
    /// AppArmor).
    pub fn label(&self) -> Option<String> {
        peer_label(self.socket?).ok()
    }
}

impl Deref for Candidate<'_> {
    type Target = PeerCredentials;

    fn deref(&self) -> &PeerCredentials {
        &self.credentials
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;
    use std::os::unix::net::UnixStream;

    use notnets_memory::process::peer_credentials;

    use super::*;

    #[test]
    fn effective_and_supplementary_groups_count() {
        let (socket, _peer) = UnixStream::pair().unwrap();
        let candidate = Candidate::at(socket.as_fd(), peer_credentials(&socket).unwrap());
        for group in candidate.groups().into_iter().chain([candidate.gid]) {
            assert!(candidate.is_in_any(&[u32::MAX, group]));
        }
        assert!(!candidate.is_in_any(&[]) && !candidate.is_in_any(&[u32::MAX]));
        let known = Candidate::known_by(PeerCredentials { pid: None, uid: 1, gid: 2 });
        assert!(known.is_in_any(&[2]) && known.groups().is_empty() && known.label().is_none());
    }
}
