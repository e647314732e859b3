//! Further segments of a link between hosts: parts of the region, that are offered by their place.
//!
//! The packets of one host become letters between two processes, and a segment is a block of an extent that
//! the owner's agent granted. As on one host a side that gets no memory declines, or does not offer, and the
//! link goes on with what it has.

use std::collections::VecDeque;

use notnets_memory::Releases;
use notnets_memory::lane::{Blocks, Lanes};
use notnets_memory::region::pool::OwnBlock;

use super::{Ledger, MAX_UNREAD, SegmentViolation, table_bytes};
use crate::pod::member::memory::{LinkMemory, News};

/// The segments of a link between hosts beyond the first, on both sides.
#[derive(Debug)]
pub(super) struct PodSegments {
    memory: LinkMemory,
    /// To be offered once there is memory.
    wanted: Option<Blocks>,
    offered: Option<(u32, Blocks, OwnBlock)>,
    /// The peer's, to be accepted once there is memory for their tables of releases.
    waiting: VecDeque<(u32, Blocks, notnets_memory::PeerMemory)>,
}

impl PodSegments {
    pub(super) fn new(memory: LinkMemory) -> Self {
        Self { memory, wanted: None, offered: None, waiting: VecDeque::new() }
    }

    /// Offers a segment, now or when there is memory.
    pub(super) fn offer(&mut self, ledger: &mut Ledger, blocks: Blocks) {
        self.wanted = Some(self.memory.cut(blocks));
        self.try_offer(ledger);
    }

    /// Reads what has come. Returns whether one of ours was settled.
    pub(super) fn receive(
        &mut self,
        ledger: &mut Ledger,
        lanes: &mut Lanes,
    ) -> Result<bool, SegmentViolation> {
        let mut settled = false;
        for news in self.memory.news() {
            match news {
                News::Offer { segment, place, blocks } => {
                    ledger.check(segment, blocks)?;
                    if self.waiting.len() >= MAX_UNREAD {
                        return Err(SegmentViolation::Unread(self.waiting.len()));
                    }
                    let memory = self.memory.of_peer(place, blocks.total()).ok_or(SegmentViolation::Place)?;
                    match ledger.take(blocks) {
                        true => self.waiting.push_back((segment, blocks, memory)),
                        false => self.memory.decline(segment),
                    }
                    self.try_accept(lanes);
                }
                News::Accept { segment, place } => {
                    let (blocks, mut own) = self.answered(segment)?;
                    let table = self.memory.of_peer(place, table_bytes(blocks));
                    let table = table.ok_or(SegmentViolation::Place)?;
                    lanes.add_own(segment, blocks.bytes as usize, own.carve(blocks.total()), table);
                    settled = true;
                }
                News::Decline { segment } => {
                    let (_, own) = self.answered(segment)?;
                    self.memory.take_back(own);
                    ledger.offer_no_more();
                    settled = true;
                }
                News::Granted => {
                    self.try_offer(ledger);
                    self.try_accept(lanes);
                }
                News::Full => {
                    if self.wanted.take().is_some() {
                        ledger.offer_no_more();
                        settled = true;
                    }
                    for (segment, ..) in self.waiting.drain(..) {
                        self.memory.decline(segment);
                    }
                }
            }
        }
        Ok(settled)
    }

    fn answered(&mut self, segment: u32) -> Result<(Blocks, OwnBlock), SegmentViolation> {
        let ours = self.offered.take_if(|(offered, ..)| *offered == segment);
        let (_, blocks, own) = ours.ok_or(SegmentViolation::NotOffered(segment))?;
        Ok((blocks, own))
    }

    fn try_offer(&mut self, ledger: &mut Ledger) {
        let Some(blocks) = self.wanted else { return };
        let Some(own) = self.memory.allocate(blocks.segment_bytes()) else { return self.memory.ask() };
        let segment = ledger.number(blocks);
        self.memory.offer(segment, own.range().start().0, blocks);
        (self.wanted, self.offered) = (None, Some((segment, blocks, own)));
    }

    fn try_accept(&mut self, lanes: &mut Lanes) {
        while let Some((_, blocks, _)) = self.waiting.front() {
            let bytes = table_bytes(*blocks);
            let Some(mut table) = self.memory.allocate(bytes) else { return self.memory.ask() };
            table.zero();
            let place = table.range().start().0;
            let Some((segment, blocks, memory)) = self.waiting.pop_front() else { return };
            lanes.add_peer(segment, blocks.bytes as usize, memory, Releases::new(table.carve(bytes)));
            self.memory.accept(segment, place);
        }
    }
}
