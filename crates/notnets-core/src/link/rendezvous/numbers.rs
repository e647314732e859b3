//! Which numbers descriptors have.
//!
//! When a process is killed the kernel takes its descriptors apart from the highest number down, and some
//! milliseconds for a watch; the peers see its death when the sockets of their links are done. So these have
//! numbers above those of watches: of those that there are, and of some that are kept free for later ones.

use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::sync::Mutex;
use std::sync::atomic::{AtomicI32, Ordering};

use rustix::fs::{Mode, OFlags, open};
use rustix::io::{DupFlags, dup3, fcntl_dupfd_cloexec};

/// Watches that are made after the first link, and live at the same time, for which numbers are kept.
const KEPT: usize = 4;

/// The highest number that a watch has had or that is kept for one.
static HIGHEST: AtomicI32 = AtomicI32::new(-1);

/// A process may be forked while a thread has it: nobody waits for it.
static NUMBERS: Mutex<Numbers> = Mutex::new(Numbers { kept: [-1; KEPT], free: Vec::new() });

struct Numbers {
    kept: [RawFd; KEPT],
    /// Descriptors of nothing that have those of these numbers that no watch has.
    free: Vec<OwnedFd>,
}

impl Numbers {
    fn keep(&mut self) {
        if self.kept != [-1; KEPT] {
            return;
        }
        for kept in &mut self.kept {
            let Some(nothing) = nothing() else {
                // The last ones are for links.
                return self.free.clear();
            };
            *kept = nothing.as_raw_fd();
            HIGHEST.fetch_max(*kept, Ordering::Relaxed);
            self.free.push(nothing);
        }
    }
}

fn nothing() -> Option<OwnedFd> {
    open("/", OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).ok()
}

/// Keeps numbers for watches that are made later, unless that has been done. Before the first link.
pub(super) fn keep() {
    if let Ok(mut numbers) = NUMBERS.try_lock() {
        numbers.keep();
    }
}

/// Gives the socket of a link a number above those of watches, if it can be had.
pub(super) fn above_watches(socket: OwnedFd) -> OwnedFd {
    keep();
    let highest = HIGHEST.load(Ordering::Relaxed);
    if socket.as_raw_fd() > highest {
        return socket;
    }
    fcntl_dupfd_cloexec(&socket, highest + 1).unwrap_or(socket)
}

/// Gives a watch a number below those of links, if one is left.
pub(super) fn below_links(mut watch: OwnedFd) -> OwnedFd {
    let kept = NUMBERS.try_lock().ok().and_then(|mut numbers| numbers.free.pop());
    if let Some(mut kept) = kept
        && dup3(&watch, &mut kept, DupFlags::CLOEXEC).is_ok()
    {
        watch = kept;
    }
    HIGHEST.fetch_max(watch.as_raw_fd(), Ordering::Relaxed);
    watch
}

/// Closes a watch. A number that was kept for it is kept for another.
pub(super) fn close(mut watch: OwnedFd) {
    let is_kept = || NUMBERS.try_lock().is_ok_and(|numbers| numbers.kept.contains(&watch.as_raw_fd()));
    let Some(nothing) = is_kept().then(nothing).flatten() else { return };
    if dup3(&nothing, &mut watch, DupFlags::CLOEXEC).is_ok()
        && let Ok(mut numbers) = NUMBERS.try_lock()
    {
        numbers.free.push(watch);
    }
}
