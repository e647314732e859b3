//! The kernel's knowledge of processes: a peer's credentials and pidfd, and whether this is a forked child.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};

use once_cell::race::OnceRef;
use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap_anonymous};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use crate::PAGE;

/// The process at the other end of a Unix socket when the connection was made: for a client the one that
/// called `listen`, for a server the one that called `connect`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PeerCredentials {
    /// Its process id as seen from here, or `None` when it lives in a pid namespace that can't be
    /// seen from here.
    pub pid: Option<u32>,
    /// Its effective user id, as seen from here.
    pub uid: u32,
    /// Its effective group id, as seen from here.
    pub gid: u32,
}

impl PeerCredentials {
    /// Those of somebody whom the kernel does not vouch for. Its user exists nowhere.
    pub const NOBODY: Self = Self { pid: None, uid: u32::MAX, gid: u32::MAX };
}

/// The credentials of the peer of a connected Unix socket (`SO_PEERCRED`).
///
/// # Errors
/// When `socket` is not a connected Unix socket.
pub fn peer_credentials(socket: impl AsFd) -> io::Result<PeerCredentials> {
    // Not rustix's form: it puts the pid into a type that cannot be 0, but from another pid
    // namespace 0 is what comes.
    let [pid, uid, gid]: [u32; 3] = socket_option(socket.as_fd(), libc::SO_PEERCRED)?;
    if uid == u32::MAX {
        return Err(io::Error::from(io::ErrorKind::NotConnected));
    }
    Ok(PeerCredentials { pid: (pid != 0).then_some(pid), uid, gid })
}

/// A descriptor that gets readable when the process at the other end of a connected Unix socket
/// ends, however it ends and whoever has inherited its sockets.
///
/// # Errors
/// When the kernel does not support it: before Linux 6.5 for a peer in a PID namespace that this one does
/// not see.
pub fn peer_pidfd(socket: impl AsFd) -> io::Result<OwnedFd> {
    let error = match socket_option::<1>(socket.as_fd(), libc::SO_PEERPIDFD) {
        // SAFETY: the kernel made this descriptor for us just now; nobody else owns it.
        Ok([fd]) => return Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) }),
        Err(error) => error,
    };
    let pid = peer_credentials(socket)?.pid.and_then(|pid| Pid::from_raw(pid as i32));
    match pid {
        Some(pid) => Ok(pidfd_open(pid, PidfdFlags::NONBLOCK)?),
        None => Err(error),
    }
}

/// The supplementary groups of the peer of a connected Unix socket, when the connection was made
/// (`SO_PEERGROUPS`).
///
/// # Errors
/// When `socket` is not a connected Unix socket.
pub fn peer_groups(socket: impl AsFd) -> io::Result<Vec<u32>> {
    let bytes = socket_option_bytes(socket.as_fd(), libc::SO_PEERGROUPS)?;
    let (groups, _) = bytes.as_chunks();
    Ok(groups.iter().map(|group| u32::from_ne_bytes(*group)).collect())
}

/// The label that a security module gives the peer of a connected Unix socket (`SO_PEERSEC`).
///
/// # Errors
/// When no module does.
pub fn peer_label(socket: impl AsFd) -> io::Result<String> {
    let mut label = socket_option_bytes(socket.as_fd(), libc::SO_PEERSEC)?;
    label.truncate(label.iter().position(|byte| *byte == 0).unwrap_or(label.len()));
    String::from_utf8(label).map_err(|_| io::Error::from(io::ErrorKind::InvalidData))
}

/// An option of any length.
fn socket_option_bytes(socket: BorrowedFd<'_>, name: i32) -> io::Result<Vec<u8>> {
    // Longer ones are asked for again; a process has no more than 65,536 groups.
    const FIRST: usize = 256;
    const MOST: usize = 1 << 18;
    let mut value = vec![0u8; FIRST];
    loop {
        let mut len = value.len() as libc::socklen_t;
        let start = value.as_mut_ptr().cast();
        // SAFETY: the kernel writes at most `len` bytes to `value`, which is that long.
        let result =
            unsafe { libc::getsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, name, start, &raw mut len) };
        if result == 0 {
            value.truncate(len as usize);
            return Ok(value);
        }
        let error = io::Error::last_os_error();
        let wanted = len as usize;
        if error.raw_os_error() != Some(libc::ERANGE) || wanted <= value.len() || wanted > MOST {
            return Err(error);
        }
        value.resize(wanted, 0);
    }
}

fn socket_option<const N: usize>(socket: BorrowedFd<'_>, name: i32) -> io::Result<[u32; N]> {
    let mut value = [0u32; N];
    let mut len = size_of_val(&value) as libc::socklen_t;
    let start = value.as_mut_ptr().cast();
    // SAFETY: the kernel writes at most `len` bytes to `value`, which is that long.
    let result = unsafe { libc::getsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, name, start, &raw mut len) };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    if len as usize == size_of_val(&value) {
        Ok(value)
    } else {
        Err(io::Error::from(io::ErrorKind::InvalidData))
    }
}

/// Returns `true` if the process behind this pidfd has ended. Does not wait.
pub fn is_gone(pidfd: impl AsFd) -> bool {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    let mut fds = [PollFd::new(&pidfd, PollFlags::IN)];
    matches!(poll(&mut fds, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })), Ok(n) if n > 0)
}

/// Tells the process that made it from the children forked from it.
///
/// Segments are not inherited by forked children, so a child that went on using a link would
/// crash. One load from a page that the kernel wipes on fork turns that into an error.
#[derive(Clone, Copy, Debug)]
pub struct ForkGuard {
    page: &'static AtomicU64,
    mark: u64,
}

impl ForkGuard {
    /// The guard of this process.
    ///
    /// # Errors
    /// When the kernel has no page for it.
    pub fn new() -> io::Result<Self> {
        static PAGE_OF_PROCESS: OnceRef<AtomicU64> = OnceRef::new();
        // Inherited by forked children, so that they count on and never take a parent's mark.
        static MARKS: AtomicU64 = AtomicU64::new(1);
        let page = PAGE_OF_PROCESS.get_or_try_init(wiped_on_fork)?;
        let fresh = MARKS.fetch_add(1, Ordering::Relaxed);
        let mark = match page.compare_exchange(0, fresh, Ordering::Relaxed, Ordering::Relaxed) {
            Ok(_) => fresh,
            Err(present) => present,
        };
        Ok(Self { page, mark })
    }

    /// Returns `true` in a child that was forked after the guard was made.
    #[inline]
    pub fn is_forked_child(&self) -> bool {
        self.page.load(Ordering::Relaxed) != self.mark
    }
}

fn wiped_on_fork() -> io::Result<&'static AtomicU64> {
    let protection = ProtFlags::READ | ProtFlags::WRITE;
    // SAFETY: a new private mapping touches no other memory.
    let start = unsafe { mmap_anonymous(std::ptr::null_mut(), PAGE, protection, MapFlags::PRIVATE) }?;
    // SAFETY: the range was mapped just now.
    unsafe { madvise(start, PAGE, Advice::LinuxWipeOnFork) }?;
    // SAFETY: zeroed, aligned, never unmapped, and only accessed as this atomic.
    Ok(unsafe { &*start.cast::<AtomicU64>() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pidfd_for_a_peer() {
        let (a, _b) = std::os::unix::net::UnixStream::pair().unwrap();
        let pidfd = peer_pidfd(&a).unwrap();
        assert_eq!(peer_credentials(&a).unwrap().pid, Some(std::process::id()));
        assert!(!is_gone(&pidfd), "we are alive");
    }

    #[test]
    fn the_groups_of_a_peer() {
        let (a, _b) = std::os::unix::net::UnixStream::pair().unwrap();
        let mut groups = peer_groups(&a).unwrap();
        let mut own: Vec<_> = rustix::process::getgroups().unwrap().iter().map(|gid| gid.as_raw()).collect();
        groups.sort_unstable();
        own.sort_unstable();
        assert_eq!(groups, own);
        // Whatever the kernel of this machine has.
        let _ = peer_label(&a);
        let file = std::fs::File::open("/dev/null").unwrap();
        assert!(peer_groups(&file).is_err() && peer_label(&file).is_err());
    }

    #[test]
    fn we_are_no_forked_child() {
        assert!(!ForkGuard::new().unwrap().is_forked_child());
    }
}
