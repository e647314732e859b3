//! More segments on demand: the first of a link is small, and a busy link asks for more.
//!
//! The owner makes a segment, offers it, and uses it once the peer has accepted it with a table of
//! releases. The peer accepts up to the bytes that it announced. Once the owner has not used it for a while,
//! and no block of it is lent, it retires it: the peer unmaps it, and says so. Where the memory lies, and how
//! the two sides exchange it, is up to a [`SegmentSource`].

mod ledger;
mod memfd;
mod retirement;
mod source;

use std::collections::{HashMap, VecDeque};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use notnets_memory::lane::{Blocks, Lanes};
use notnets_memory::{OwnMemory, PAGE, PeerMemory, ReadMemory, Releases, SegmentError, WORD, WriteMemory};

use super::packet::Packet;
use ledger::Ledger;

use retirement::Retirement;

pub use ledger::MAX_OFFERED;
pub use memfd::Memfds;
pub use source::{NoMemory, Outbox, PeerLocation, SegmentEvent, SegmentSource};

/// Offers are made one at a time, so a peer that reads its answers leaves hardly any unread.
const MAX_UNREAD: usize = 8;

/// A breach of the protocol with segments.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SegmentViolation {
    /// It answered what was not offered.
    #[error("the peer answered segment {0}, which was not offered")]
    NotOffered(u32),
    /// It retires what it has not offered, or has retired before.
    #[error("the peer retired segment {0}, which was not accepted")]
    NotAccepted(u32),
    /// It retires what it has lent and not got back.
    #[error("the peer retired segment {0}, of which blocks are still lent")]
    Lent(u32),
    /// It has unmapped what was not retired.
    #[error("the peer unmapped segment {0}, which was not retired")]
    NotRetired(u32),
    /// It offered an id twice, or one that is part of the first segment.
    #[error("the peer offered segment {0} once more")]
    Again(u32),
    /// Blocks that can't be.
    #[error("the peer offered impossible blocks: {0:?}")]
    Blocks(Blocks),
    /// It goes on offering and reads none of the answers.
    #[error("the peer offers segments and leaves {0} answers unread")]
    Unread(usize),
    /// Memory that can't be its own.
    #[error("the peer offered memory that is not its host's")]
    Location,
    /// Its segment is not as it must be.
    #[error(transparent)]
    Segment(SegmentError),
    /// A packet that has no place on an established link.
    #[error("the peer sent a packet that has no place on an established link")]
    Unexpected,
}

/// The segments of a link beyond the first, on both sides.
#[derive(Debug)]
pub struct Segments<W = OwnMemory, R = PeerMemory> {
    ledger: Ledger,
    source: Box<dyn SegmentSource<W, R>>,
    /// Our segments that the peer has not answered.
    offered: HashMap<u32, (Blocks, W)>,
    /// Our segments that the peer has accepted.
    retirement: Retirement<W, R>,
    /// Blocks to be offered once there is memory for them.
    wanted: Option<Blocks>,
    /// The peer's segments, to be accepted once there is memory for their tables of releases.
    waiting: VecDeque<PeerSegment<R>>,
    outbox: Outbox,
}

/// Bytes of further segments of a link.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SegmentBytes {
    /// Of this side's segments, those that the peer may have mapped.
    pub offered: usize,
    /// Of the peer's, those that this side has mapped.
    pub mapped: usize,
}

/// A segment that the peer has offered.
#[derive(Debug)]
struct PeerSegment<R> {
    segment: u32,
    blocks: Blocks,
    memory: R,
}

impl<W: WriteMemory, R: ReadMemory> Segments<W, R> {
    /// None yet. The budgets are what each side announced.
    pub fn new(source: Box<dyn SegmentSource<W, R>>, own_budget: u32, peer_budget: u32) -> Self {
        Self {
            ledger: Ledger::new(own_budget, peer_budget),
            source,
            offered: HashMap::new(),
            retirement: Retirement::new(),
            wanted: None,
            waiting: VecDeque::new(),
            outbox: Outbox::new(),
        }
    }

    /// Both sides can retire segments.
    pub fn begin_retiring(&mut self) {
        self.retirement.begin();
    }

    /// Bytes of further segments: those of this side that the peer may have mapped, and those of the peer
    /// that this side has.
    pub fn bytes(&self) -> SegmentBytes {
        SegmentBytes { offered: self.ledger.offered_bytes(), mapped: self.ledger.accepted_bytes() }
    }

    /// Returns `true` if [`look`](Self::look) will have something to do after a while.
    pub fn wants_look(&self) -> bool {
        self.retirement.wants_look() || self.ledger.is_stopped()
    }

    /// Retires what has not been used since the last look, and offers again if that had stopped. Returns
    /// whether more may be offered than before.
    pub fn look(&mut self, lanes: &mut Lanes<W, R>) -> bool {
        let Self { retirement, source, outbox, .. } = self;
        retirement.look(lanes, |segment| source.retire(segment, outbox));
        self.ledger.resume_offering() && self.has_no_offer()
    }

    /// Returns `true` if no offer waits for memory or an answer: offers are made one at a time.
    fn has_no_offer(&self) -> bool {
        self.offered.is_empty() && self.wanted.is_none()
    }

    /// Returns `true` if a segment of such blocks can be offered within the budget.
    pub fn may_offer(&self, blocks: Blocks) -> bool {
        self.ledger.may_offer(blocks)
    }

    /// Offers a segment of such blocks, now or as soon as there is memory for it.
    ///
    /// # Errors
    /// When there is no memory for it: the link goes on with the memory it has.
    pub fn offer(&mut self, blocks: Blocks) -> Result<(), SegmentError> {
        let segment = self.ledger.next();
        match self.source.offer(segment, blocks, &mut self.outbox) {
            Ok((blocks, memory)) => {
                self.ledger.count_offered(blocks);
                self.offered.insert(segment, (blocks, memory));
                crate::failpoint!("segment offered");
                Ok(())
            }
            Err(NoMemory::Pending) => {
                self.wanted = Some(blocks);
                Ok(())
            }
            Err(NoMemory::Failed(error)) => Err(error),
        }
    }

    /// Takes a packet about segments from the link's socket. Returns whether a segment may be offered that
    /// could not be before: an offer was answered, or there is room again.
    ///
    /// # Errors
    /// When the peer does what it must not.
    pub fn receive(
        &mut self,
        packet: Packet,
        descriptor: Option<OwnedFd>,
        lanes: &mut Lanes<W, R>,
    ) -> Result<bool, SegmentViolation> {
        let event = self.source.read(packet, descriptor)?;
        self.on_event(event, lanes)
    }

    /// Takes what has come elsewhere than on the link's socket: call it whenever the link was rung. Returns
    /// what [`receive`](Self::receive) does.
    ///
    /// # Errors
    /// When the peer does what it must not.
    pub fn poll(&mut self, lanes: &mut Lanes<W, R>) -> Result<bool, SegmentViolation> {
        let mut answered = false;
        while let Some(event) = self.source.poll() {
            answered |= self.on_event(event, lanes)?;
        }
        Ok(answered)
    }

    /// Returns what [`receive`](Self::receive) does.
    fn on_event(&mut self, event: SegmentEvent, lanes: &mut Lanes<W, R>) -> Result<bool, SegmentViolation> {
        match event {
            SegmentEvent::Offered { segment, blocks, location } => {
                self.on_offered(segment, blocks, location)?;
                self.accept_waiting(lanes);
                Ok(false)
            }
            SegmentEvent::Accepted { segment, location } => {
                self.on_accepted(segment, location, lanes)?;
                Ok(true)
            }
            SegmentEvent::Declined { segment } => {
                let offered = self.offered.remove(&segment);
                let (blocks, _) = offered.ok_or(SegmentViolation::NotOffered(segment))?;
                self.source.withdraw(segment);
                self.ledger.uncount_offered(blocks);
                self.ledger.stop_offering();
                Ok(true)
            }
            SegmentEvent::Retiring { segment } => {
                self.on_retiring(segment, lanes)?;
                Ok(false)
            }
            SegmentEvent::Retired { segment } => {
                let blocks = self.retirement.on_retired(segment);
                self.ledger.uncount_offered(blocks.ok_or(SegmentViolation::NotRetired(segment))?);
                self.source.withdraw(segment);
                let Self { retirement, source, outbox, .. } = self;
                retirement.go_on(lanes, |segment| source.retire(segment, outbox));
                Ok(self.has_no_offer())
            }
            SegmentEvent::Granted => {
                let failed = self.wanted.take().is_some_and(|blocks| self.offer(blocks).is_err());
                self.accept_waiting(lanes);
                Ok(failed)
            }
            SegmentEvent::Exhausted => {
                let gives_up = self.wanted.take().is_some();
                if gives_up {
                    self.ledger.stop_offering();
                }
                while let Some(offer) = self.waiting.pop_front() {
                    self.decline(&offer);
                }
                Ok(gives_up)
            }
        }
    }

    fn on_offered(
        &mut self,
        segment: u32,
        blocks: Blocks,
        location: PeerLocation,
    ) -> Result<(), SegmentViolation> {
        crate::failpoint!("segment offer read");
        self.ledger.check(segment, blocks)?;
        // Of answers to retirements there are no more than segments that were accepted.
        let answers = self.outbox.iter().filter(|(packet, _)| !matches!(packet, Packet::Retired { .. }));
        let unread = answers.count() + self.waiting.len();
        if unread >= MAX_UNREAD {
            return Err(SegmentViolation::Unread(unread));
        }
        let has_room = self.ledger.has_room(blocks);
        let memory = if has_room { self.source.map(location, blocks.total())? } else { None };
        if let Some(memory) = memory {
            self.ledger.count_accepted(segment, blocks);
            self.waiting.push_back(PeerSegment { segment, blocks, memory });
        } else {
            self.source.decline(segment, &mut self.outbox);
        }
        Ok(())
    }

    /// Accepts what the peer has offered, for as long as there is memory for the tables.
    fn accept_waiting(&mut self, lanes: &mut Lanes<W, R>) {
        while let Some(offer) = self.waiting.pop_front() {
            let bytes = table_bytes(offer.blocks);
            match self.source.accept(offer.segment, bytes, &mut self.outbox) {
                Ok(table) => {
                    let block_bytes = offer.blocks.bytes as usize;
                    lanes.add_peer(offer.segment, block_bytes, offer.memory, Releases::new(table));
                    crate::failpoint!("segment accepted");
                }
                Err(NoMemory::Pending) => return self.waiting.push_front(offer),
                Err(NoMemory::Failed(_)) => self.decline(&offer),
            }
        }
    }

    fn decline(&mut self, offer: &PeerSegment<R>) {
        self.ledger.uncount_accepted(offer.segment);
        self.source.decline(offer.segment, &mut self.outbox);
    }

    /// The peer has got all of its blocks back: whatever refers to one after this is a violation.
    fn on_retiring(&mut self, segment: u32, lanes: &mut Lanes<W, R>) -> Result<(), SegmentViolation> {
        crate::failpoint!("segment retirement read");
        if !self.retirement.is_on() {
            return Err(SegmentViolation::Unexpected);
        }
        let is_waiting = self.waiting.iter().any(|offer| offer.segment == segment);
        if is_waiting || !self.ledger.uncount_accepted(segment) {
            return Err(SegmentViolation::NotAccepted(segment));
        }
        if !lanes.remove_peer(segment) {
            return Err(SegmentViolation::Lent(segment));
        }
        crate::failpoint!("segment unmapped");
        self.source.release(segment, &mut self.outbox);
        Ok(())
    }

    fn on_accepted(
        &mut self,
        segment: u32,
        location: PeerLocation,
        lanes: &mut Lanes<W, R>,
    ) -> Result<(), SegmentViolation> {
        crate::failpoint!("segment answer read");
        let offered = self.offered.remove(&segment);
        let (blocks, memory) = offered.ok_or(SegmentViolation::NotOffered(segment))?;
        if let Some(table) = self.source.map(location, table_bytes(blocks))? {
            lanes.add_own(segment, blocks.bytes as usize, memory, table);
            self.retirement.add(segment, blocks);
        } else {
            // Either side may be out of descriptors; the link goes on with the memory it has.
            self.ledger.stop_offering();
            if self.retirement.retire_unused(segment, blocks, memory) {
                self.source.retire(segment, &mut self.outbox);
            }
        }
        Ok(())
    }

    /// The next packet for the socket, perhaps with a descriptor.
    pub fn next_packet(&self) -> Option<(&Packet, Option<BorrowedFd<'_>>)> {
        let (packet, descriptor) = self.outbox.front()?;
        Some((packet, descriptor.as_ref().map(AsFd::as_fd)))
    }

    /// The socket has taken the next packet, or never will. Returns that packet.
    pub fn packet_sent(&mut self) -> Option<Packet> {
        crate::failpoint!("segment packet sent");
        self.outbox.pop_front().map(|(packet, _)| packet)
    }

    /// Sends a packet behind those that wait.
    pub fn send(&mut self, packet: Packet, descriptor: Option<OwnedFd>) {
        self.outbox.push_back((packet, descriptor));
    }
}

fn table_bytes(blocks: Blocks) -> usize {
    (blocks.count as usize * WORD).next_multiple_of(PAGE)
}

#[cfg(test)]
mod tests {
    use notnets_memory::OwnSegment;
    use notnets_memory::lane::{FirstSegment, Geometry};

    use super::*;

    const BLOCKS: Blocks = Blocks { bytes: 64, count: 64 };

    fn memfds(own_budget: u32, peer_budget: u32) -> Segments {
        Segments::new(Box::new(Memfds), own_budget, peer_budget)
    }

    fn lanes() -> Lanes {
        let geometry = Geometry::default();
        let (own, peer) = (FirstSegment::create(geometry).unwrap(), FirstSegment::create(geometry).unwrap());
        let seen =
            notnets_memory::PeerSegment::map(peer.descriptor(), geometry.segment_bytes() as u64).unwrap();
        Lanes::open(own, &seen, geometry).unwrap()
    }

    fn offer(segments: &mut Segments, lanes: &mut Lanes, segment: u32) -> Result<bool, SegmentViolation> {
        let made = OwnSegment::create(BLOCKS.segment_bytes()).unwrap();
        let descriptor = made.descriptor().try_clone_to_owned().unwrap();
        segments.receive(Packet::Offer { segment, blocks: BLOCKS }, Some(descriptor), lanes)
    }

    #[test]
    fn answers_that_nobody_reads_do_not_pile_up() {
        for budget in [0, u32::MAX] {
            let (mut segments, mut lanes) = (memfds(budget, 0), lanes());
            let refused = (2..1000).find(|id| offer(&mut segments, &mut lanes, *id).is_err());
            assert!(refused.is_some(), "{} answers, most with a descriptor", segments.outbox.len());
        }
    }

    #[test]
    fn the_segments_of_a_link_are_counted_too() {
        let (mut segments, mut lanes) = (memfds(u32::MAX, 0), lanes());
        let declined = (2..2000).find(|id| {
            offer(&mut segments, &mut lanes, *id).unwrap();
            matches!(segments.outbox.pop_front(), Some((Packet::Decline { .. }, _)))
        });
        assert!(declined.is_some(), "each takes two mappings, of which a process has some 65,000");
    }

    #[test]
    fn a_descriptor_that_did_not_arrive_costs_the_segment_and_not_the_link() {
        // As in a process that has no descriptor left.
        let (mut segments, mut lanes) = (memfds(u32::MAX, u32::MAX), lanes());
        let answered = segments.receive(Packet::Offer { segment: 2, blocks: BLOCKS }, None, &mut lanes);
        assert!(!answered.unwrap());
        assert!(matches!(segments.outbox.pop_front(), Some((Packet::Decline { segment: 2 }, None))));
        segments.offer(BLOCKS).unwrap();
        assert!(segments.receive(Packet::Accept { segment: 2 }, None, &mut lanes).unwrap());
        assert!(!segments.may_offer(BLOCKS));
    }
}
