//! The kernel's word on lives: a peer's pidfd, and whether we are a forked child.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap_anonymous};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use crate::PAGE;

/// A descriptor that gets readable when the process at the other end of a connected Unix socket
/// ends, however it ends and whoever has inherited its sockets.
///
/// # Errors
/// When the kernel can't tell: before Linux 6.5 for a peer in a PID namespace that this one does
/// not see.
pub fn peer_pidfd(socket: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    const SO_PEERPIDFD: i32 = 77;
    const SOL_SOCKET: i32 = 1;
    let mut fd: i32 = -1;
    let mut len = size_of::<i32>() as u32;
    // SAFETY: the kernel writes at most `len` bytes to `fd`, which is that long.
    let result = unsafe {
        getsockopt(socket.as_raw_fd(), SOL_SOCKET, SO_PEERPIDFD, (&raw mut fd).cast(), &raw mut len)
    };
    if result == 0 && fd >= 0 {
        // SAFETY: the kernel made this descriptor for us just now; nobody else owns it.
        return Ok(unsafe { OwnedFd::from_raw_fd(fd) });
    }
    let error = io::Error::last_os_error();
    let pid = rustix::net::sockopt::socket_peercred(socket)?.pid;
    match Pid::from_raw(pid.as_raw_nonzero().get()) {
        Some(pid) => Ok(pidfd_open(pid, PidfdFlags::NONBLOCK)?),
        None => Err(error),
    }
}

unsafe extern "C" {
    // Declared by POSIX; rustix has no safe form of this option yet.
    fn getsockopt(fd: i32, level: i32, name: i32, value: *mut core::ffi::c_void, len: *mut u32) -> i32;
}

/// Is the process behind this pidfd gone? Does not wait.
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
        static PAGE_OF_PROCESS: OnceLock<&'static AtomicU64> = OnceLock::new();
        // Inherited by forked children, so that they count on and never take a parent's mark.
        static MARKS: AtomicU64 = AtomicU64::new(1);
        let page = match PAGE_OF_PROCESS.get() {
            Some(page) => page,
            None => {
                let made = wiped_on_fork()?;
                PAGE_OF_PROCESS.get_or_init(|| made)
            }
        };
        let fresh = MARKS.fetch_add(1, Ordering::Relaxed);
        let mark = match page.compare_exchange(0, fresh, Ordering::Relaxed, Ordering::Relaxed) {
            Ok(_) => fresh,
            Err(present) => present,
        };
        Ok(Self { page, mark })
    }

    /// Are we in a child that was forked after the guard was made?
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
        let pidfd = peer_pidfd(a.as_fd()).unwrap();
        assert!(!is_gone(&pidfd), "we are alive");
    }

    #[test]
    fn we_are_no_forked_child() {
        assert!(!ForkGuard::new().unwrap().is_forked_child());
    }
}
