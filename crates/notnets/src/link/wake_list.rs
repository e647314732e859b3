//! Tasks to wake once the link is unlocked.

use std::task::Waker;

/// A list of wakers. Mostly there is one or none: that needs no allocation.
#[derive(Debug, Default)]
pub(super) struct WakeList {
    first: Option<Waker>,
    rest: Vec<Waker>,
}

impl WakeList {
    pub(super) fn push(&mut self, waker: Waker) {
        match self.first {
            None => self.first = Some(waker),
            Some(_) => self.rest.push(waker),
        }
    }

    pub(super) fn extend(&mut self, wakers: impl IntoIterator<Item = Waker>) {
        wakers.into_iter().for_each(|waker| self.push(waker));
    }

    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.first.is_none()
    }

    /// Wakes them all. Returns `true` if there were any.
    #[inline]
    pub(super) fn wake(self) -> bool {
        let Some(waker) = self.first else { return false };
        waker.wake();
        self.rest.into_iter().for_each(Waker::wake);
        true
    }
}
