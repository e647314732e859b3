//! The other side of a link.

use notnets_core::link::PeerIdentity;
use notnets_core::link::handshake::IdentitySource;
use notnets_core::link::label::Label;
use notnets_memory::process::PeerCredentials;

/// The caller of a request: a request's extension on the server, and a part of each
/// [`ServerCall`](crate::rpc::ServerCall).
///
/// ```
/// fn caller<T>(request: &tonic::Request<T>) -> Option<u32> {
///     request.extensions().get::<notnets::PeerInfo>()?.pid
/// }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct PeerInfo {
    /// The process, or `None` when it lives in a pid namespace that can't be seen from here.
    pub pid: Option<u32>,
    /// Its user. `u32::MAX`, which is nobody's, for a client over TCP.
    pub uid: u32,
    /// Its group.
    pub gid: u32,
    /// `None` for a process of this host, for which the kernel vouches. For one of another host of a pod
    /// that host's number: that host's agent vouches for all of this.
    pub host: Option<u16>,
    /// Its label when it connected, where a security module of the kernel gives one (SELinux, Smack,
    /// AppArmor). `None` for processes of other hosts, and for clients over HTTP/2.
    pub label: Option<Label>,
}

impl From<&PeerIdentity> for PeerInfo {
    fn from(peer: &PeerIdentity) -> Self {
        let host = match peer.identity_source {
            IdentitySource::Kernel => None,
            IdentitySource::Agent { host } => Some(host),
        };
        let PeerCredentials { pid, uid, gid } = peer.credentials;
        Self { pid, uid, gid, host, label: peer.label }
    }
}
