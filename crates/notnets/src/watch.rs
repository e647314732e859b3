//! Descriptors that the runtime watches.

use std::io;
use std::ops::Deref;
use std::os::fd::{AsFd, AsRawFd};

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Something that keeps its descriptor open for as long as it lives, which is all that
/// [`AsyncFd`] asks of it.
#[derive(Debug)]
pub(crate) struct Watched<T>(T);

impl<T: AsFd> AsRawFd for Watched<T> {
    fn as_raw_fd(&self) -> i32 {
        self.0.as_fd().as_raw_fd()
    }
}

impl<T> Deref for Watched<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

/// Has the present runtime watch a descriptor.
///
/// # Errors
/// When it can't.
pub(crate) fn watch<T: AsFd>(it: T, interest: Interest) -> io::Result<AsyncFd<Watched<T>>> {
    // Deprecated because `AsRawFd` alone promises nothing about the descriptor's life; `Watched` is
    // made of `AsFd`, which does. Its successor is an unsafe function.
    #[expect(deprecated)]
    AsyncFd::with_interest(Watched(it), interest)
}
