//! The lock on a rendezvous directory.

use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use super::error::RendezvousError;

/// How long to wait for the lock. It is held for some system calls only, so one that is held this long
/// belongs to a process that was stopped within them: an error is more helpful than a server that doesn't
/// start.
const PATIENCE: Duration = Duration::from_secs(5);

/// The exclusive lock on an open directory, for as long as it lives.
pub(super) struct Lock<'fd>(BorrowedFd<'fd>);

impl<'fd> Lock<'fd> {
    /// Takes the lock. `directory` has to be an open file description of its own; `path` is for errors.
    pub(super) fn take(directory: &'fd impl AsFd, path: &Path) -> Result<Self, RendezvousError> {
        Self::take_within(PATIENCE, directory, path)
    }

    fn take_within(
        patience: Duration,
        directory: &'fd impl AsFd,
        path: &Path,
    ) -> Result<Self, RendezvousError> {
        let directory = directory.as_fd();
        let begin = Instant::now();
        let mut pause = Duration::from_micros(100);
        loop {
            match flock(directory, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => return Ok(Lock(directory)),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) if begin.elapsed() < patience => {
                    // The kernel can block until the lock is free, but not with a time limit.
                    thread::sleep(pause);
                    pause = (pause * 2).min(Duration::from_millis(10));
                }
                Err(Errno::AGAIN) => {
                    return Err(RendezvousError::Locked { path: path.into(), waited: begin.elapsed() });
                }
                Err(errno) => return Err(RendezvousError::from_errno("lock", path, errno)),
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
        let directory = tempfile::tempdir().expect("a temporary directory");
        let [first, second] = [(); 2].map(|()| File::open(directory.path()).expect("opens"));
        let held = Lock::take(&first, directory.path()).expect("is free");
        let Err(error) = Lock::take_within(Duration::from_millis(20), &second, directory.path()) else {
            panic!("there are two holders");
        };
        assert!(error.is_retryable(), "{error}");
        // A copy of the descriptor, as a forked child has one, doesn't keep the lock.
        let _copy = first.try_clone().expect("duplicates");
        drop(held);
        assert!(Lock::take_within(Duration::ZERO, &second, directory.path()).is_ok());
    }
}
