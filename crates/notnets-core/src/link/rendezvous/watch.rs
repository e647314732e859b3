//! Noticing what happens in a directory: that a name is gone though its server runs, that servers come and
//! go.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::inotify::{CreateFlags, WatchFlags, add_watch, init};

use super::numbers::{below_links, close};

/// Gets readable when something in a directory, or the directory itself, was removed or moved away; one for
/// comings and goings also when a server has come, and one of files when one was written.
#[derive(Debug)]
pub struct DirectoryWatch {
    /// There until this is dropped.
    events: Option<OwnedFd>,
}

impl DirectoryWatch {
    /// Notices what goes.
    pub(super) fn of_goings(directory: &Path) -> io::Result<Self> {
        Self::new(directory, WatchFlags::DELETE | WatchFlags::MOVED_FROM)
    }

    /// Notices what comes and goes.
    pub(super) fn of_comings_and_goings(directory: &Path) -> io::Result<Self> {
        // A server that listens touches its socket's file, or moves it to its place.
        let come = WatchFlags::ATTRIB | WatchFlags::MOVED_TO;
        Self::new(directory, come | WatchFlags::DELETE | WatchFlags::MOVED_FROM)
    }

    /// Notices files that are written, put there or removed, such as one that configures this process.
    ///
    /// # Errors
    /// When there is no such directory, and when the kernel has no more watches for this user.
    pub fn of_files(directory: &Path) -> io::Result<Self> {
        let come = WatchFlags::CLOSE_WRITE | WatchFlags::MOVED_TO;
        Self::new(directory, come | WatchFlags::DELETE | WatchFlags::MOVED_FROM)
    }

    /// Notices that something is made or moved into a directory: a directory that is waited for.
    pub(super) fn of_new(directory: &Path) -> io::Result<Self> {
        Self::new(directory, WatchFlags::CREATE | WatchFlags::MOVED_TO)
    }

    fn new(directory: &Path, inside: WatchFlags) -> io::Result<Self> {
        let events = init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
        let all_gone = WatchFlags::DELETE_SELF | WatchFlags::MOVE_SELF;
        add_watch(&events, directory, inside | all_gone | WatchFlags::ONLYDIR)?;
        Ok(Self { events: Some(below_links(events)) })
    }

    /// Forgets what has happened: look at what is watched afterwards.
    pub fn clear(&self) {
        while let Ok(1..) = rustix::io::read(self, &mut [0; 4096]) {}
    }
}

impl AsFd for DirectoryWatch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match &self.events {
            Some(events) => events.as_fd(),
            None => unreachable!("it is there until it is dropped"),
        }
    }
}

impl Drop for DirectoryWatch {
    /// The kernel closes such a descriptor only once work of its own is done, which takes seconds where
    /// others keep the cores busy. A thread that serves others must not wait for that.
    fn drop(&mut self) {
        let events = self.events.take();
        let thread = std::thread::Builder::new().name("notnets-close".to_owned());
        // Without a thread it is closed here.
        let _closing = thread.spawn(move || events.map(close));
    }
}
