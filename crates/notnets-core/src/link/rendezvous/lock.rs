//! The lock on a rendezvous directory.

use std::os::fd::{AsFd, BorrowedFd};
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use super::directory::Directory;
use super::error::RendezvousError;

/// How long to wait for the lock. It is held for some system calls only, so one that is held this long
/// belongs to a process that was stopped within them: an error is more helpful than a server that doesn't
/// start.
const PATIENCE: Duration = Duration::from_secs(5);

/// The exclusive lock on an open directory, for as long as it lives.
pub(super) struct Lock<'fd>(BorrowedFd<'fd>);

impl<'fd> Lock<'fd> {
    /// Takes the lock. `opened` has to be an open file description of its own, of `directory`.
    pub(super) fn take(opened: &'fd impl AsFd, directory: &Directory) -> Result<Self, RendezvousError> {
        Self::take_within(PATIENCE, opened, directory)
    }

    fn take_within(
        patience: Duration,
        opened: &'fd impl AsFd,
        directory: &Directory,
    ) -> Result<Self, RendezvousError> {
        let opened = opened.as_fd();
        let path = directory.path();
        let begin = Instant::now();
        let mut pause = Duration::from_micros(100);
        loop {
            match flock(opened, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => return Ok(Lock(opened)),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) if begin.elapsed() < patience => {
                    // The kernel can block until the lock is free, but not with a time limit.
                    thread::sleep(pause);
                    pause = (pause * 2).min(Duration::from_millis(10));
                }
                Err(Errno::AGAIN) => {
                    return Err(RendezvousError::Locked { path: path.into(), waited: begin.elapsed() });
                }
                Err(errno) => return Err(directory.failed("lock", path, errno)),
            }
        }
    }
}

impl Drop for Lock<'_> {
    fn drop(&mut self) {
        // Closing would not do: a child forked in the meantime shares the lock with us.
        let _ = flock(self.0, FlockOperation::Unlock);
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
        let Err(error) = Lock::take_within(Duration::from_millis(20), &second, &directory) else {
            panic!("there are two holders");
        };
        assert!(error.is_retryable(), "{error}");
        // A copy of the descriptor, as a forked child has one, doesn't keep the lock.
        let _copy = first.try_clone().expect("duplicates");
        drop(held);
        assert!(Lock::take_within(Duration::ZERO, &second, &directory).is_ok());
    }
}
