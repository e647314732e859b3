//! The lines of servers.

use notnets_core::code::Code;
use notnets_core::link::PeerIdentity;
use notnets_core::link::accept::Refused;
use notnets_core::link::handshake::IdentitySource;
use notnets_core::link::quota::OverRate;
use notnets_memory::process::PeerCredentials;

use super::LINK;

/// Their names, their beginning and end.
pub(crate) const SERVER: &str = "notnets::server";
/// Clients that are refused, a line a second at most.
pub(crate) const ADMISSION: &str = "notnets::admission";
/// Each client that is admitted or refused.
const AUDIT: &str = "notnets::audit";

/// A client has a link.
pub(crate) fn admitted(peer: &PeerIdentity) {
    let PeerCredentials { pid, uid, gid } = peer.credentials;
    tracing::debug!(target: AUDIT, pid, uid, gid, host = host(peer), "a client is admitted");
    tracing::debug!(target: LINK, pid, uid, agent = peer.user_agent, "a link is made");
}

/// A client gets no link, whether or not that is worth a warning.
pub(crate) fn refused(refused: &Refused) {
    let Refused { rejection, client } = refused;
    let pid = client.and_then(|client| client.pid);
    let (uid, gid) = (client.map(|client| client.uid), client.map(|client| client.gid));
    tracing::debug!(target: AUDIT, pid, uid, gid, %rejection, "a client is refused");
}

/// A call is refused, as its user makes too many, or has sent too much. It is logged once a second.
#[cold]
pub(crate) fn over_rate(pid: Option<u32>, over: &OverRate) {
    let uid = over.uid;
    tracing::debug!(target: AUDIT, pid, uid, %over, "a call is refused");
    match over.line {
        None => {}
        Some(0) => tracing::warn!(target: ADMISSION, pid, uid, %over, "a call was refused"),
        Some(before) => {
            tracing::warn!(target: ADMISSION, pid, uid, %over, before, "a call was refused, as others before it");
        }
    }
}

/// A client's link has ended.
pub(crate) fn link_ended(peer: &PeerIdentity, code: Code, reason: &str) {
    let (pid, uid) = (peer.credentials.pid, peer.credentials.uid);
    if code == Code::INTERNAL {
        tracing::warn!(target: LINK, pid, uid, reason, "the client broke the protocol");
    } else {
        tracing::debug!(target: LINK, pid, uid, reason, "a link has ended");
    }
}

/// A server of these names begins.
pub(crate) fn serving(names: &str) {
    tracing::info!(target: SERVER, names, "the server begins");
}

/// It takes no more calls.
pub(crate) fn stopping(names: &str, links: usize) {
    tracing::info!(target: SERVER, names, links, "the server stops: it takes no more calls");
}

/// All of its calls have ended.
pub(crate) fn stopped(names: &str) {
    tracing::info!(target: SERVER, names, "the server has stopped");
}

/// The host of a client for which an agent vouches.
fn host(peer: &PeerIdentity) -> Option<u16> {
    match peer.identity_source {
        IdentitySource::Kernel => None,
        IdentitySource::Agent { host } => Some(host),
    }
}
