//! Giving back what a burst took: the owner's further segments that are used no more.
//!
//! Nothing is counted where blocks are lent. A look now and then compares how often those of a segment were
//! lent with what it was the last time. If nothing has changed and the reader has released all of them, the
//! segment is taken out of the arena, and the peer is told. Its memory counts, and stays, until the peer
//! has unmapped it.

use std::collections::HashMap;

use notnets_memory::lane::{Blocks, Lanes};
use notnets_memory::{ReadMemory, WriteMemory};

/// Segments are retired so many at a time: a peer takes a limited number of messages before it reads any.
const MAX_RETIRING: usize = 16;

/// This side's further segments, from their acceptance to their end.
#[derive(Debug)]
pub(super) struct Retirement<W, R> {
    /// Both sides know how.
    is_on: bool,
    used: Vec<Used>,
    /// Those that the peer may still have mapped.
    retiring: HashMap<u32, Retiring<W, R>>,
}

#[derive(Debug)]
struct Used {
    segment: u32,
    blocks: Blocks,
    /// How often its blocks had been lent at the last look, once there was one.
    uses: Option<u64>,
    /// That was no more often than at the look before.
    is_idle: bool,
}

/// A segment that is used no more. Its memory is kept for as long as the peer may look at it.
#[derive(Debug)]
struct Retiring<W, R> {
    blocks: Blocks,
    #[expect(dead_code, reason = "it is held, and that is all")]
    memory: W,
    #[expect(dead_code, reason = "it is held, and that is all")]
    releases: Option<R>,
}

impl<W: WriteMemory, R: ReadMemory> Retirement<W, R> {
    pub(super) fn new() -> Self {
        Self { is_on: false, used: Vec::new(), retiring: HashMap::new() }
    }

    /// Both sides know how.
    pub(super) fn begin(&mut self) {
        self.is_on = true;
    }

    pub(super) fn is_on(&self) -> bool {
        self.is_on
    }

    /// The peer has accepted a segment, and it is used from now on.
    pub(super) fn add(&mut self, segment: u32, blocks: Blocks) {
        self.used.push(Used { segment, blocks, uses: None, is_idle: false });
    }

    /// The peer has accepted a segment that can't be used. Returns whether it is to be told.
    pub(super) fn retire_unused(&mut self, segment: u32, blocks: Blocks, memory: W) -> bool {
        if self.is_on {
            self.retiring.insert(segment, Retiring { blocks, memory, releases: None });
        }
        self.is_on
    }

    /// Returns `true` if there are segments that may turn out not to be used.
    pub(super) fn wants_look(&self) -> bool {
        self.is_on && !self.used.is_empty()
    }

    /// Takes out the segments that were not used since the last look, and of which the peer has no block.
    pub(super) fn look(&mut self, lanes: &mut Lanes<W, R>, retire: impl FnMut(u32)) {
        if !self.is_on {
            return;
        }
        for Used { segment, uses, is_idle, .. } in &mut self.used {
            let now = Some(lanes.arena().uses(*segment));
            *is_idle = std::mem::replace(uses, now) == now;
        }
        self.go_on(lanes, retire);
    }

    /// Takes out segments that were found idle and have not been used since, as many as may be retired at a
    /// time.
    pub(super) fn go_on(&mut self, lanes: &mut Lanes<W, R>, mut retire: impl FnMut(u32)) {
        let Self { used, retiring, .. } = self;
        used.retain(|Used { segment, blocks, uses, is_idle }| {
            let is_used = !*is_idle || Some(lanes.arena().uses(*segment)) != *uses;
            if is_used || retiring.len() >= MAX_RETIRING {
                return true;
            }
            let Some((memory, releases)) = lanes.arena().remove(*segment) else { return true };
            retiring.insert(*segment, Retiring { blocks: *blocks, memory, releases: Some(releases) });
            retire(*segment);
            crate::failpoint!("segment retired");
            false
        });
    }

    /// The peer has unmapped a segment. Returns its blocks, if it was retired.
    pub(super) fn on_retired(&mut self, segment: u32) -> Option<Blocks> {
        self.retiring.remove(&segment).map(|retiring| retiring.blocks)
    }
}
