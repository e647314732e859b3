//! How much either side has offered, and may.

use std::collections::HashMap;

use notnets_memory::lane::Blocks;

use super::SegmentViolation;

/// Segment ids below this are parts of the first segment.
const FIRST_ID: u32 = 2;
/// The most bytes that a process offers on one link, whatever its peer would accept.
pub const MAX_OFFERED: usize = 32 << 20;
/// Blocks of offered segments are at most this large: what is larger goes in several frames.
const MAX_BLOCK: u32 = 1 << 20;
/// The most segments that a process accepts on one link. Each of them takes two mappings. Those that it
/// offers itself are large: 64 MiB of them are fewer.
const MAX_ACCEPTED: usize = 256;

/// The ids and bytes of the further segments of a link.
#[derive(Debug)]
pub(super) struct Ledger {
    next: u32,
    /// Bytes that the peer may have mapped: until it says that it has not.
    offered_bytes: usize,
    /// How much the peer accepts.
    peer_budget: usize,
    /// Nothing is offered for the time being.
    is_stopped: bool,
    /// How much this side accepts.
    own_budget: usize,
    last_offered: u32,
    /// The peer's segments that this side has mapped.
    accepted: HashMap<u32, Blocks>,
    accepted_bytes: usize,
}

impl Ledger {
    /// An empty one. The budgets are what each side announced.
    pub(super) fn new(own_budget: u32, peer_budget: u32) -> Self {
        Self {
            next: FIRST_ID,
            offered_bytes: 0,
            peer_budget: (peer_budget as usize).min(MAX_OFFERED),
            is_stopped: false,
            own_budget: own_budget as usize,
            last_offered: FIRST_ID - 1,
            accepted: HashMap::new(),
            accepted_bytes: 0,
        }
    }

    /// Returns `true` if blocks can be offered within the peer's budget.
    pub(super) fn may_offer(&self, blocks: Blocks) -> bool {
        !self.is_stopped && self.offered_bytes + blocks.segment_bytes() <= self.peer_budget
    }

    /// The id of the next segment that is offered.
    pub(super) fn next(&self) -> u32 {
        self.next
    }

    /// Counts the next segment, which is offered with these blocks.
    pub(super) fn count_offered(&mut self, blocks: Blocks) {
        self.next += 1;
        self.offered_bytes += blocks.segment_bytes();
    }

    /// The peer has not mapped a segment with these blocks, or has unmapped it.
    pub(super) fn uncount_offered(&mut self, blocks: Blocks) {
        self.offered_bytes -= blocks.segment_bytes();
    }

    /// Offers nothing for a while: what the peer declined just now it will decline again, and memory that is
    /// not there stays away.
    pub(super) fn stop_offering(&mut self) {
        self.is_stopped = true;
    }

    /// Offers again. Returns whether it had stopped.
    pub(super) fn resume_offering(&mut self) -> bool {
        std::mem::take(&mut self.is_stopped)
    }

    /// Returns `true` if nothing is offered for the time being.
    pub(super) fn is_stopped(&self) -> bool {
        self.is_stopped
    }

    /// Bytes of this side's segments that the peer may have mapped.
    pub(super) fn offered_bytes(&self) -> usize {
        self.offered_bytes
    }

    /// Bytes of the peer's segments that this side has mapped.
    pub(super) fn accepted_bytes(&self) -> usize {
        self.accepted_bytes
    }

    /// Checks whether the peer can offer a segment of these blocks.
    pub(super) fn check(&mut self, segment: u32, blocks: Blocks) -> Result<(), SegmentViolation> {
        if segment <= self.last_offered {
            return Err(SegmentViolation::Again(segment));
        }
        self.last_offered = segment;
        let aligned = blocks.bytes > 0 && blocks.bytes.is_multiple_of(64) && blocks.bytes <= MAX_BLOCK;
        if aligned && blocks.count > 0 { Ok(()) } else { Err(SegmentViolation::Blocks(blocks)) }
    }

    /// Returns `true` if the peer's blocks fit into what this side announced.
    pub(super) fn has_room(&self, blocks: Blocks) -> bool {
        self.accepted_bytes + blocks.segment_bytes() <= self.own_budget && self.accepted.len() < MAX_ACCEPTED
    }

    /// Counts a segment of the peer's, for which there is room.
    pub(super) fn count_accepted(&mut self, segment: u32, blocks: Blocks) {
        self.accepted.insert(segment, blocks);
        self.accepted_bytes += blocks.segment_bytes();
    }

    /// Gives back the room of a segment that is declined after all, or retired. Returns whether it was
    /// counted.
    pub(super) fn uncount_accepted(&mut self, segment: u32) -> bool {
        let blocks = self.accepted.remove(&segment);
        self.accepted_bytes -= blocks.map_or(0, Blocks::segment_bytes);
        blocks.is_some()
    }
}
