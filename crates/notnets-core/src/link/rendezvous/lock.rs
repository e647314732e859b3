//! The lock on a rendezvous directory.

use std::os::fd::{AsFd, BorrowedFd};
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use super::directory::Directory;
use super::error::RendezvousError;

/// How long to wait for the lock. Servers hold it for some system calls only. One that is held this long
/// belongs to a process that was stopped within them, or to a stranger: whoever can read the directory can
/// lock it.
const PATIENCE: Duration = Duration::from_millis(200);

/// The exclusive lock on an open directory, for as long as it lives. It orders the servers that take a name
/// at the same time, and nothing else: nobody can keep others out with it.
pub(super) struct Lock<'fd>(Option<BorrowedFd<'fd>>);

impl<'fd> Lock<'fd> {
    /// Takes the lock, or goes on without it. `opened` has to be an open file description of its own, of
    /// `directory`.
    pub(super) fn take(opened: &'fd impl AsFd, directory: &Directory) -> Result<Self, RendezvousError> {
        Self::take_within(PATIENCE, opened, directory)
    }

    fn take_within(
        patience: Duration,
        opened: &'fd impl AsFd,
        directory: &Directory,
    ) -> Result<Self, RendezvousError> {
        let opened = opened.as_fd();
        let begin = Instant::now();
        let mut pause = Duration::from_micros(100);
        loop {
            match flock(opened, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => return Ok(Lock(Some(opened))),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) if begin.elapsed() < patience => {
                    // The kernel can block until the lock is free, but not with a time limit.
                    thread::sleep(pause);
                    pause = (pause * 2).min(Duration::from_millis(10));
                }
                Err(Errno::AGAIN) => return Ok(Lock(None)),
                Err(errno) => return Err(directory.failed("lock", directory.path(), errno)),
            }
        }
    }
}

impl Drop for Lock<'_> {
    fn drop(&mut self) {
        // Closing would not do: a child forked in the meantime shares the lock with us.
        let _ = self.0.map(|opened| flock(opened, FlockOperation::Unlock));
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use super::*;

    #[test]
    fn one_at_a_time_and_not_for_ever() {
        let temporary = tempfile::tempdir().expect("a temporary directory");
        let directory = Directory::at(temporary.path());
        let [first, second] = [(); 2].map(|()| File::open(directory.path()).expect("opens"));
        let held = Lock::take(&first, &directory).expect("is free");
        assert!(held.0.is_some());
        let without = Lock::take_within(Duration::from_millis(20), &second, &directory).expect("goes on");
        assert!(without.0.is_none(), "there are two holders");
        drop(without);
        // A copy of the descriptor, as a forked child has one, doesn't keep the lock.
        let _copy = first.try_clone().expect("duplicates");
        drop(held);
        let taken = Lock::take_within(Duration::ZERO, &second, &directory).expect("is free");
        assert!(taken.0.is_some());
    }
}
