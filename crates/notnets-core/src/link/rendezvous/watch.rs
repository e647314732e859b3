//! Noticing that a name is gone from its directory, though its server runs.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::inotify::{CreateFlags, WatchFlags, add_watch, init};

/// Gets readable when something in a directory, or the directory itself, was removed or moved away.
#[derive(Debug)]
pub struct DirectoryWatch(OwnedFd);

impl DirectoryWatch {
    pub(super) fn new(directory: &Path) -> io::Result<Self> {
        let events = init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
        let gone = WatchFlags::DELETE | WatchFlags::MOVED_FROM;
        let all_gone = WatchFlags::DELETE_SELF | WatchFlags::MOVE_SELF;
        add_watch(&events, directory, gone | all_gone | WatchFlags::ONLYDIR)?;
        Ok(Self(events))
    }

    /// Forgets what has happened: look at the names afterwards.
    pub fn clear(&self) {
        while let Ok(1..) = rustix::io::read(&self.0, &mut [0; 4096]) {}
    }
}

impl AsFd for DirectoryWatch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
