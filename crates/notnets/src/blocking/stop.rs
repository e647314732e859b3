//! Telling a server on another thread to stop.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::event::{EventfdFlags, eventfd};

/// Tells a [`Server`](super::Server) to stop, from any thread.
#[derive(Clone, Debug)]
pub struct Stopper(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    stop: AtomicBool,
    /// Readable once it is set, for a server that sleeps.
    event: OwnedFd,
}

impl Stopper {
    pub(super) fn new() -> std::io::Result<Self> {
        let event = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(Self(Arc::new(Shared { stop: AtomicBool::new(false), event })))
    }

    /// Tells the server to stop: it gives its name up, finishes the calls that it has, and returns.
    pub fn stop(&self) {
        // Pairs with the load in `is_stopped`.
        self.0.stop.store(true, Ordering::Release);
        // It fails only if it was told many times already.
        let _ = rustix::io::write(&self.0.event, &1u64.to_ne_bytes());
    }

    #[inline]
    pub(super) fn is_stopped(&self) -> bool {
        // Pairs with the store in `stop`.
        self.0.stop.load(Ordering::Acquire)
    }

    pub(super) fn event(&self) -> &OwnedFd {
        &self.0.event
    }
}
