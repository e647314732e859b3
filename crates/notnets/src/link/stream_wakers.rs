//! The wakers of the tasks that wait for one stream.

use std::task::Waker;

use super::wake_list::WakeList;

/// At most one task for each thing there is to wait for.
#[derive(Debug, Default)]
pub(super) struct StreamWakers {
    readable: Option<Waker>,
    writable: Option<Waker>,
    cancelled: Option<Waker>,
}

impl StreamWakers {
    /// Wake this when something was received. Returns what was to be woken before: the application's
    /// wakers may own whole tasks, so they are not dropped while the link is locked.
    #[inline]
    #[must_use]
    pub(super) fn wait_readable(&mut self, waker: &Waker) -> Option<Waker> {
        match &self.readable {
            Some(present) if present.will_wake(waker) => None,
            _ => self.readable.replace(waker.clone()),
        }
    }

    /// Wake this when something that did not fit may be sent.
    pub(super) fn wait_writable(&mut self, waker: &Waker) {
        store(&mut self.writable, waker);
    }

    /// Wake this when the call is over before its handler is.
    pub(super) fn wait_cancelled(&mut self, waker: &Waker) {
        store(&mut self.cancelled, waker);
    }

    pub(super) fn take_readable(&mut self) -> Option<Waker> {
        self.readable.take()
    }

    pub(super) fn take_writable(&mut self) -> Option<Waker> {
        self.writable.take()
    }

    #[inline]
    pub(super) fn wake_all(&mut self, wakes: &mut WakeList) {
        for waker in [&mut self.readable, &mut self.writable, &mut self.cancelled] {
            wakes.extend(waker.take());
        }
    }
}

fn store(slot: &mut Option<Waker>, waker: &Waker) {
    match slot {
        Some(present) => present.clone_from(waker),
        None => *slot = Some(waker.clone()),
    }
}
