//! The lines in which this process notes what it does on its links: one for each remote process, and one for
//! those who watch its links, on which it notes that it waits for room.

use std::collections::HashMap;
use std::sync::{Arc, Weak};

use notnets_memory::activity::ActivityLine;
use notnets_memory::region::RegionOffset;
use notnets_memory::region::pool::{OwnBlock, Pool};
use notnets_memory::{LINE, PAGE};

use crate::table::ProcessId;

/// A line that this process writes, and where it lies.
pub(super) type Placed = (Arc<ActivityLine>, RegionOffset);

/// The lines of a process. Each is there while a link uses it; a peer that reads it later finds anything, and
/// looks once in vain.
#[derive(Debug, Default)]
pub(super) struct ActivityLines {
    /// A page, and how many lines of it are in use or were.
    page: Option<(OwnBlock, usize)>,
    lines: HashMap<ProcessId, (Weak<ActivityLine>, RegionOffset)>,
}

impl ActivityLines {
    /// The line for a process, which for the watcher of this one is itself. `None` when there is no memory.
    pub(super) fn line(&mut self, pool: &Pool, of: ProcessId) -> Option<Placed> {
        if let Some((line, at)) = self.lines.get(&of)
            && let Some(line) = line.upgrade()
        {
            return Some((line, *at));
        }
        self.page.take_if(|(_, lines)| *lines == PAGE / LINE);
        if self.page.is_none() {
            let mut page = pool.allocate(PAGE)?;
            page.zero(PAGE);
            self.page = Some((page, 0));
        }
        let (page, lines) = self.page.as_mut()?;
        let at = page.range().start().checked_add(*lines * LINE)?;
        let line = Arc::new(ActivityLine::new(page.carve(LINE)));
        *lines += 1;
        self.lines.insert(of, (Arc::downgrade(&line), at));
        Some((line, at))
    }

    /// Lets go of memory that no link uses.
    pub(super) fn tidy(&mut self) {
        self.lines.retain(|_, (line, _)| line.strong_count() > 0);
        self.page.take_if(|_| self.lines.is_empty());
    }
}
