//! Descriptors that the runtime watches.

use std::io;
use std::ops::Deref;
use std::os::fd::{AsFd, AsRawFd};

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Something that keeps its descriptor open for as long as it lives, which is all that
/// [`AsyncFd`] asks of it.
#[derive(Debug)]
pub(crate) struct Pollable<T>(T);

impl<T: AsFd> AsRawFd for Pollable<T> {
    fn as_raw_fd(&self) -> i32 {
        self.0.as_fd().as_raw_fd()
    }
}

impl<T> Deref for Pollable<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

/// Registers a descriptor with the present runtime.
///
/// # Errors
/// When it can't.
pub(crate) fn register<T: AsFd>(it: T, interest: Interest) -> io::Result<AsyncFd<Pollable<T>>> {
    // Deprecated because `AsRawFd` alone promises nothing about the descriptor's life; `Pollable` is
    // made of `AsFd`, which does. Its successor is an unsafe function.
    #[expect(deprecated)]
    AsyncFd::with_interest(Pollable(it), interest)
}
