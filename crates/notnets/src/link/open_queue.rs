//! The tasks that wait to open a stream.

use std::collections::{BTreeMap, HashSet};
use std::task::Waker;

use super::wake_list::WakeList;

/// So many more are woken than there are streams for: a task that was woken may never come back.
const MORE: usize = 4;

/// In the order in which they came.
#[derive(Debug, Default)]
pub(super) struct OpenQueue {
    next: u64,
    waiting: BTreeMap<u64, Waker>,
    /// Those that were woken and have not come back yet.
    woken: HashSet<u64>,
}

impl OpenQueue {
    /// Wake this when a stream may be opened. The ticket keeps its place. Returns what was to be woken
    /// before, as [`StreamWakers`](super::StreamWakers) do.
    #[must_use]
    pub(super) fn wait(&mut self, ticket: &mut Option<u64>, waker: &Waker) -> Option<Waker> {
        let ticket = *ticket.get_or_insert_with(|| {
            self.next += 1;
            self.next
        });
        self.woken.remove(&ticket);
        match self.waiting.get(&ticket) {
            Some(present) if present.will_wake(waker) => None,
            _ => self.waiting.insert(ticket, waker.clone()),
        }
    }

    /// Waits no more.
    pub(super) fn leave(&mut self, ticket: u64) {
        self.woken.remove(&ticket);
        self.waiting.remove(&ticket);
    }

    /// So many streams may be opened. Returns whether others wait on.
    pub(super) fn wake(&mut self, free: usize, wakes: &mut WakeList) -> bool {
        for _ in 0..free.saturating_sub(self.woken.len()) + MORE {
            let Some((ticket, waker)) = self.waiting.pop_first() else { return false };
            self.woken.insert(ticket);
            wakes.push(waker);
        }
        !self.waiting.is_empty()
    }

    /// No stream will be opened any more.
    pub(super) fn wake_all(&mut self, wakes: &mut WakeList) {
        wakes.extend(std::mem::take(&mut self.waiting).into_values());
    }
}
