//! The sockets in the directory: what a path leads to, found out by connecting.

use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};

use notnets_memory::process::{PeerCredentials, peer_credentials};

use super::numbers::above_watches;
use super::peer::has_ended;

/// The kind of file at a path.
pub(super) enum Found {
    /// Nothing.
    Nothing,
    /// A socket, or another file, that no process listens on.
    Dead,
    /// A socket whose server has ended, while a process that inherited it holds it open.
    Orphaned,
    /// A server, to which we are now connected.
    Server(OwnedFd, PeerCredentials),
    /// A server whose backlog is full.
    Busy,
    /// A socket of another type.
    OtherType,
}

/// A socket as links use it: message boundaries, and the end of the peer is seen as end of file.
pub(super) fn seqpacket() -> Result<OwnedFd, Errno> {
    new_socket(SocketType::SEQPACKET)
}

/// Connects to what is at `path`, without waiting.
pub(super) fn dial(path: &Path) -> Result<Found, Errno> {
    let socket = seqpacket()?;
    match connect(&socket, &SocketAddrUnix::new(path)?) {
        Ok(()) => {
            let Ok(credentials) = peer_credentials(&socket) else { return Ok(Found::Dead) };
            let orphaned = credentials.pid.is_some_and(has_ended);
            Ok(if orphaned { Found::Orphaned } else { Found::Server(above_watches(socket), credentials) })
        }
        Err(Errno::NOENT) => Ok(Found::Nothing),
        Err(Errno::CONNREFUSED) => Ok(Found::Dead),
        Err(Errno::AGAIN) => Ok(Found::Busy),
        Err(Errno::PROTOTYPE) => Ok(Found::OtherType),
        Err(errno) => Err(errno),
    }
}

/// Looks whether sockets are open without being seen by their owners.
///
/// It connects with a socket of the wrong type: the kernel looks for an open socket first (`ECONNREFUSED`
/// when there is none) and compares the types then (`EPROTOTYPE`), before the owner notices.
pub(super) struct Peephole(OwnedFd);

impl Peephole {
    pub(super) fn new() -> Result<Self, Errno> {
        new_socket(SocketType::DGRAM).map(Peephole)
    }

    pub(super) fn is_open(&self, path: &Path) -> bool {
        SocketAddrUnix::new(path).and_then(|address| connect(&self.0, &address)) == Err(Errno::PROTOTYPE)
    }
}

fn new_socket(kind: SocketType) -> Result<OwnedFd, Errno> {
    socket_with(AddressFamily::UNIX, kind, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK, None)
}
