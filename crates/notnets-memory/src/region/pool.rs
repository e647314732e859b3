//! Blocks of what a process was granted: each link takes one for its first segment.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use super::OwnPart;
use super::offset::{RegionOffset, RegionRange};
use crate::mapping::{Held, Mapping, View};
use crate::{Coherence, OwnMemory, PAGE, WORD, WriteMemory};

/// Parts of a region that this process writes, in blocks of whole pages.
#[derive(Clone, Debug, Default)]
pub struct Pool(Arc<Mutex<Vec<Granted>>>);

#[derive(Debug)]
struct Granted {
    part: OwnPart,
    /// The free ranges, by where they begin in the region.
    free: BTreeMap<RegionOffset, RegionOffset>,
    /// When the part was added, or a block of it last came back.
    since: Instant,
}

/// A block that this process writes, handed out once.
#[derive(Debug)]
pub struct OwnBlock {
    held: Arc<Lease>,
    carved: usize,
}

/// Keeps a block from being allocated again, also when its memory is not used any more, for as long as a peer
/// may still read it.
#[derive(Debug)]
pub struct Lease {
    part: Arc<Mapping>,
    coherence: Coherence,
    /// Where the part begins in the region, and where the block lies.
    start: RegionOffset,
    range: RegionRange,
    pool: Weak<Mutex<Vec<Granted>>>,
}

impl Held for Lease {}

impl Pool {
    /// Adds a part to take blocks from.
    pub fn add(&self, part: OwnPart) {
        let range = part.range();
        let free = BTreeMap::from([(range.start(), range.end())]);
        self.lock().push(Granted { part, free, since: Instant::now() });
    }

    /// Allocates a block of at least `bytes`, if there is one.
    pub fn allocate(&self, bytes: usize) -> Option<OwnBlock> {
        let bytes = bytes.next_multiple_of(PAGE);
        let mut granted = self.lock();
        let found = granted.iter_mut().find_map(|granted| {
            let large_enough =
                |(start, end): &(&RegionOffset, &RegionOffset)| end.0 - start.0 >= bytes as u64;
            let (start, end) = granted.free.iter().find(large_enough)?;
            let range = RegionRange::new(*start, bytes)?;
            let end = *end;
            Some((granted, range, end))
        });
        let (granted, range, end) = found?;
        granted.free.remove(&range.start());
        if range.end() < end {
            granted.free.insert(range.end(), end);
        }
        let (map, coherence) = granted.part.map();
        let held = Lease {
            part: Arc::clone(map),
            coherence,
            start: granted.part.range().start(),
            range,
            pool: Arc::downgrade(&self.0),
        };
        Some(OwnBlock { held: Arc::new(held), carved: 0 })
    }

    /// Returns `true` if no block is in use.
    pub fn is_unused(&self) -> bool {
        self.lock().iter().all(Granted::is_unused)
    }

    /// Returns `true` if there is no part to take blocks from.
    pub fn is_empty(&self) -> bool {
        self.lock().is_empty()
    }

    /// Returns `true` if one of the parts begins there.
    pub fn has_part_at(&self, start: RegionOffset) -> bool {
        self.lock().iter().any(|granted| granted.part.range().start() == start)
    }

    /// Takes out the parts of which nothing has been in use for `time`.
    pub fn take_unused(&self, time: Duration) -> Vec<OwnPart> {
        let mut granted = self.lock();
        let unused = granted.extract_if(.., |granted| granted.is_unused() && granted.since.elapsed() >= time);
        unused.map(|granted| granted.part).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Granted>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Granted {
    fn is_unused(&self) -> bool {
        let all = self.part.range();
        self.free.get(&all.start()) == Some(&all.end())
    }
}

impl OwnBlock {
    /// Where it lies in the region.
    pub fn range(&self) -> RegionRange {
        self.held.range
    }

    /// Zeroes the first `bytes` of it, in whole pages, and writes that back.
    ///
    /// # Panics
    /// When something of it has been given away, or it is shorter.
    pub fn zero(&mut self, bytes: usize) {
        assert_eq!(self.carved, 0);
        let bytes = bytes.next_multiple_of(PAGE);
        let all = self.view(0, bytes);
        let zeros = vec![0; PAGE];
        for at in (0..bytes).step_by(PAGE) {
            all.copy_in(at, &zeros);
            all.publish(at / WORD, PAGE / WORD);
        }
    }

    /// Takes the next `bytes` (a multiple of 8) that are not handed out yet.
    ///
    /// # Panics
    /// When there are fewer left.
    pub fn carve(&mut self, bytes: usize) -> OwnMemory {
        assert!(bytes.is_multiple_of(WORD) && bytes <= self.held.range.len() - self.carved);
        self.carved += bytes;
        self.view(self.carved - bytes, bytes)
    }

    fn view(&self, at: usize, bytes: usize) -> OwnMemory {
        let Lease { part, coherence, start, range, .. } = &*self.held;
        let begin = (range.start().0 - start.0) as usize;
        let view = View::new(part, begin + at, bytes, *coherence);
        OwnMemory(view.holding(Arc::clone(&self.held) as Arc<dyn Held>))
    }

    /// A lease that keeps the block from others.
    pub fn lease(&self) -> Arc<Lease> {
        Arc::clone(&self.held)
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let Some(pool) = self.pool.upgrade() else { return };
        let mut granted = pool.lock().unwrap_or_else(PoisonError::into_inner);
        let own = granted.iter_mut().find(|granted| granted.part.range().start() == self.start);
        let Some(Granted { free, since, .. }) = own else { return };
        *since = Instant::now();
        let mut start = self.range.start();
        let mut end = self.range.end();
        if let Some((&before, _)) = free.range(..start).next_back().filter(|(_, end)| **end == start) {
            free.remove(&before);
            start = before;
        }
        if let Some(after) = free.remove(&end) {
            end = after;
        }
        free.insert(start, end);
    }
}
