//! The tasks that wait for something of one stream.

use std::task::Waker;

use super::Wakes;

/// At most one task for each thing there is to wait for.
#[derive(Debug, Default)]
pub(crate) struct Waiters {
    received: Option<Waker>,
    writable: Option<Waker>,
    gone: Option<Waker>,
}

impl Waiters {
    /// Wake this when something was received. Returns what was to be woken before: the application's
    /// wakers may own whole tasks, so they are not dropped while the link is locked.
    #[inline]
    #[must_use]
    pub(super) fn wait_received(&mut self, waker: &Waker) -> Option<Waker> {
        match &self.received {
            Some(present) if present.will_wake(waker) => None,
            _ => self.received.replace(waker.clone()),
        }
    }

    /// Wake this when something that did not fit may be sent.
    pub(crate) fn wait_writable(&mut self, waker: &Waker) {
        store(&mut self.writable, waker);
    }

    /// Wake this when the call is over before its handler is.
    pub(crate) fn wait_gone(&mut self, waker: &Waker) {
        store(&mut self.gone, waker);
    }

    pub(super) fn received(&mut self) -> Option<Waker> {
        self.received.take()
    }

    pub(super) fn writable(&mut self) -> Option<Waker> {
        self.writable.take()
    }

    pub(super) fn wake_all(self, wakes: &mut Wakes) {
        wakes.extend([self.received, self.writable, self.gone].into_iter().flatten());
    }
}

fn store(slot: &mut Option<Waker>, waker: &Waker) {
    match slot {
        Some(present) => present.clone_from(waker),
        None => *slot = Some(waker.clone()),
    }
}
