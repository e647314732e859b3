//! The kernel's word on who is at the other end of a Unix socket.

use std::io;
use std::os::fd::AsFd;

use nix::sys::socket::{getsockopt, sockopt};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, pidfd_open};

/// Who was at the other end when the connection was made: for a client the process that called `listen`,
/// for a server the one that called `connect`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PeerCredentials {
    /// Its process id as seen from here, or `None` when it lives in a pid namespace that can't be seen from here.
    pub pid: Option<u32>,
    /// Its effective user id, as seen from here.
    pub uid: u32,
    /// Its effective group id, as seen from here.
    pub gid: u32,
}

/// The credentials of the peer of a connected Unix socket (`SO_PEERCRED`).
///
/// # Errors
/// When `socket` is not a connected Unix socket.
pub fn peer_credentials(socket: impl AsFd) -> io::Result<PeerCredentials> {
    // Not rustix's `socket_peercred`: it puts the pid into a type that cannot be 0, but from another pid
    // namespace 0 is what comes.
    let credentials = getsockopt(&socket, sockopt::PeerCredentials)?;
    let pid = u32::try_from(credentials.pid()).ok().filter(|&pid| pid != 0);
    Ok(PeerCredentials { pid, uid: credentials.uid(), gid: credentials.gid() })
}

/// Has this process ended for certain? A zombie has; where the kernel doesn't tell, no.
pub(super) fn has_ended(pid: u32) -> bool {
    let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) else { return false };
    match pidfd_open(pid, PidfdFlags::empty()) {
        Ok(process) => {
            let mut ended = [PollFd::new(&process, PollFlags::IN)];
            matches!(poll(&mut ended, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })), Ok(1))
        }
        Err(errno) => errno == Errno::SRCH,
    }
}
