//! More segments on demand: the first of a link is small, and a busy link asks for more.
//!
//! The owner makes a segment, offers it, and uses it once the peer has accepted it with a table of
//! releases. The peer accepts up to the bytes that it announced. Between hosts this goes another way (`pod.rs`).

mod pod;

use std::collections::{HashMap, VecDeque};
use std::io;
use std::os::fd::{AsFd, OwnedFd};

use notnets_memory::lane::{Blocks, Lanes};
use notnets_memory::{OwnSegment, PAGE, PeerSegment, Releases, SegmentError, WORD};
use rustix::io::Errno;

use super::packet::Packet;
use super::socket::Socket;
use crate::pod::member::LinkMemory;
use pod::PodSegments;

/// Segment ids below this are parts of the first segment.
const FIRST_ID: u32 = 2;
/// A process offers at most so many bytes on one link, whatever its peer would accept.
pub const MAX_OFFERED: usize = 32 << 20;
/// Blocks of offered segments are at most this large: what is larger goes in several frames.
const MAX_BLOCK: u32 = 1 << 20;

/// A process accepts at most so many segments on one link, each of which takes two mappings. Those
/// that it offers itself are large: 64 MiB of them are fewer.
const MAX_ACCEPTED: u32 = 256;
/// Offers are made one at a time, so a peer that reads its answers leaves hardly any unread.
const MAX_UNREAD: usize = 8;

/// What a peer must not do with segments.
#[derive(Debug, thiserror::Error)]
pub enum SegmentViolation {
    /// It answered what was not offered.
    #[error("the peer answered segment {0}, which was not offered")]
    NotOffered(u32),
    /// It offered an id twice, or one that is part of the first segment.
    #[error("the peer offered segment {0} once more")]
    Again(u32),
    /// Blocks that can't be.
    #[error("the peer offered impossible blocks: {0:?}")]
    Blocks(Blocks),
    /// It goes on offering and reads none of the answers.
    #[error("the peer offers segments and leaves {0} answers unread")]
    Unread(usize),
    /// Memory of a pod that can't be its own.
    #[error("the peer offered memory that is not its host's")]
    Place,
    /// Its segment is not as it must be.
    #[error(transparent)]
    Segment(SegmentError),
    /// A packet that has no place on an established link.
    #[error("the peer said what has no place on an established link")]
    Unexpected,
}

/// The segments of a link beyond the first, on both sides.
#[derive(Debug)]
pub struct Segments {
    ledger: Ledger,
    offered: HashMap<u32, (OwnSegment, Blocks)>,
    outbox: VecDeque<(Packet, Option<OwnedFd>)>,
    /// Between hosts, instead of both.
    pod: Option<PodSegments>,
}

/// How much either side has offered, and may.
#[derive(Debug)]
struct Ledger {
    next: u32,
    offered_bytes: usize,
    /// How much the peer accepts.
    peer_budget: usize,
    /// How much we accept.
    own_budget: usize,
    last_offered: u32,
    accepted: u32,
}

impl Ledger {
    /// A number for a segment of ours.
    fn number(&mut self, blocks: Blocks) -> u32 {
        self.next += 1;
        self.offered_bytes += blocks.segment_bytes();
        self.next - 1
    }

    /// What the peer declined once it will decline again; so it is with memory that is not there.
    fn offer_no_more(&mut self) {
        self.peer_budget = 0;
    }

    /// Can the peer offer this?
    fn check(&mut self, segment: u32, blocks: Blocks) -> Result<(), SegmentViolation> {
        if segment <= self.last_offered {
            return Err(SegmentViolation::Again(segment));
        }
        self.last_offered = segment;
        let aligned = blocks.bytes > 0 && blocks.bytes.is_multiple_of(64) && blocks.bytes <= MAX_BLOCK;
        match aligned && blocks.count > 0 {
            true => Ok(()),
            false => Err(SegmentViolation::Blocks(blocks)),
        }
    }

    /// Is there room for it within what we announced?
    fn has_room(&self, blocks: Blocks) -> bool {
        blocks.segment_bytes() <= self.own_budget && self.accepted < MAX_ACCEPTED
    }

    /// Takes it into account. Returns whether there is room.
    fn take(&mut self, blocks: Blocks) -> bool {
        let room = self.has_room(blocks);
        if room {
            self.own_budget -= blocks.segment_bytes();
            self.accepted += 1;
        }
        room
    }
}

impl Segments {
    /// None yet. The budgets are what each side announced.
    pub fn new(own_budget: u32, peer_budget: u32) -> Self {
        let ledger = Ledger {
            next: FIRST_ID,
            offered_bytes: 0,
            peer_budget: (peer_budget as usize).min(MAX_OFFERED),
            own_budget: own_budget as usize,
            last_offered: FIRST_ID - 1,
            accepted: 0,
        };
        Self { ledger, offered: HashMap::new(), outbox: VecDeque::new(), pod: None }
    }

    /// The same for a link between hosts, if it is one.
    pub fn in_pod(self, memory: Option<LinkMemory>) -> Self {
        Self { pod: memory.map(PodSegments::new), ..self }
    }

    /// Can a segment of such blocks be offered within the budget?
    pub fn may_offer(&self, blocks: Blocks) -> bool {
        self.ledger.offered_bytes + blocks.segment_bytes() <= self.ledger.peer_budget
    }

    /// Makes a segment and offers it.
    ///
    /// # Errors
    /// When there is no memory for it: the link goes on with what it has.
    pub fn offer(&mut self, blocks: Blocks) -> Result<(), SegmentError> {
        if let Some(pod) = &mut self.pod {
            pod.offer(&mut self.ledger, blocks);
            return Ok(());
        }
        let made = OwnSegment::create(blocks.segment_bytes())?;
        let os = |error: io::Error| {
            let errno = Errno::from_io_error(&error).unwrap_or(Errno::IO);
            SegmentError::from_errno("share", blocks.segment_bytes(), errno)
        };
        let descriptor = made.descriptor().try_clone_to_owned().map_err(os)?;
        let segment = self.ledger.number(blocks);
        self.offered.insert(segment, (made, blocks));
        self.outbox.push_back((Packet::Offer { segment, blocks }, Some(descriptor)));
        Ok(())
    }

    /// Takes a packet of the peer's about segments. Returns whether one of ours was settled.
    ///
    /// # Errors
    /// When the peer does what it must not.
    pub fn receive(
        &mut self,
        packet: Packet,
        descriptor: Option<OwnedFd>,
        lanes: &mut Lanes,
    ) -> Result<bool, SegmentViolation> {
        match packet {
            Packet::Doorbell => match &mut self.pod {
                Some(pod) => pod.receive(&mut self.ledger, lanes),
                None => Ok(false),
            },
            _ if self.pod.is_some() => Err(SegmentViolation::Unexpected),
            Packet::Offer { segment, blocks } => {
                self.on_offer(segment, blocks, descriptor, lanes).map(|()| false)
            }
            Packet::Accept { segment } => {
                let settled = self.offered.remove(&segment);
                let (mut own, blocks) = settled.ok_or(SegmentViolation::NotOffered(segment))?;
                let Some(descriptor) = descriptor else {
                    // Either side may be out of descriptors; the link goes on with what it has.
                    self.ledger.offer_no_more();
                    return Ok(true);
                };
                let table = PeerSegment::map(descriptor.as_fd(), table_bytes(blocks) as u64);
                let table = table.map_err(SegmentViolation::Segment)?;
                let table = table.part(0, table_bytes(blocks)).ok_or(SegmentViolation::Blocks(blocks))?;
                lanes.add_own(segment, blocks.bytes as usize, own.carve(blocks.total()), table);
                Ok(true)
            }
            Packet::Decline { segment } => {
                self.offered.remove(&segment).ok_or(SegmentViolation::NotOffered(segment))?;
                self.ledger.offer_no_more();
                Ok(true)
            }
            _ => Err(SegmentViolation::Unexpected),
        }
    }

    fn on_offer(
        &mut self,
        segment: u32,
        blocks: Blocks,
        descriptor: Option<OwnedFd>,
        lanes: &mut Lanes,
    ) -> Result<(), SegmentViolation> {
        self.ledger.check(segment, blocks)?;
        if self.outbox.len() >= MAX_UNREAD {
            return Err(SegmentViolation::Unread(self.outbox.len()));
        }
        // Without its descriptor it can't be mapped: either side may have none left.
        let Some(descriptor) = descriptor.filter(|_| self.ledger.has_room(blocks)) else {
            self.outbox.push_back((Packet::Decline { segment }, None));
            return Ok(());
        };
        let offered = PeerSegment::map(descriptor.as_fd(), blocks.segment_bytes() as u64);
        let offered = offered.map_err(SegmentViolation::Segment)?;
        let memory = offered.part(0, blocks.total()).ok_or(SegmentViolation::Blocks(blocks))?;
        let table = OwnSegment::create(table_bytes(blocks))
            .map(|table| (table.descriptor().try_clone_to_owned().ok(), table));
        let Ok((Some(descriptor), mut table)) = table else {
            self.outbox.push_back((Packet::Decline { segment }, None));
            return Ok(());
        };
        self.ledger.take(blocks);
        let releases = Releases::new(table.carve(table_bytes(blocks)));
        lanes.add_peer(segment, blocks.bytes as usize, memory, releases);
        self.outbox.push_back((Packet::Accept { segment }, Some(descriptor)));
        Ok(())
    }

    /// Sends what waits to be sent. Returns whether all of it went; if not, call again when the
    /// socket takes more.
    pub fn flush(&mut self, socket: &Socket) -> bool {
        while let Some((packet, descriptor)) = self.outbox.front() {
            match socket.send(packet, descriptor.as_ref().map(AsFd::as_fd)) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return false,
                // Sent, or the peer is gone, which its end of the socket tells.
                _ => self.outbox.pop_front(),
            };
        }
        true
    }
}

fn table_bytes(blocks: Blocks) -> usize {
    (blocks.count as usize * WORD).next_multiple_of(PAGE)
}

#[cfg(test)]
mod tests {
    use notnets_memory::lane::{FirstSegment, Geometry};

    use super::*;

    const BLOCKS: Blocks = Blocks { bytes: 64, count: 64 };

    fn lanes() -> Lanes {
        let geometry = Geometry::default();
        let (own, peer) = (FirstSegment::create(geometry).unwrap(), FirstSegment::create(geometry).unwrap());
        let seen = PeerSegment::map(peer.descriptor(), geometry.segment_bytes() as u64).unwrap();
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
            let (mut segments, mut lanes) = (Segments::new(budget, 0), lanes());
            let refused = (2..1000).find(|id| offer(&mut segments, &mut lanes, *id).is_err());
            assert!(refused.is_some(), "{} answers, most with a descriptor", segments.outbox.len());
        }
    }

    #[test]
    fn the_segments_of_a_link_are_counted_too() {
        let (mut segments, mut lanes) = (Segments::new(u32::MAX, 0), lanes());
        let declined = (2..2000).find(|id| {
            offer(&mut segments, &mut lanes, *id).unwrap();
            matches!(segments.outbox.pop_front(), Some((Packet::Decline { .. }, _)))
        });
        assert!(declined.is_some(), "each takes two mappings, of which a process has some 65,000");
    }

    #[test]
    fn a_descriptor_that_did_not_arrive_costs_the_segment_and_not_the_link() {
        // What a process sees that has no descriptor left.
        let (mut segments, mut lanes) = (Segments::new(u32::MAX, u32::MAX), lanes());
        let settled = segments.receive(Packet::Offer { segment: 2, blocks: BLOCKS }, None, &mut lanes);
        assert!(!settled.unwrap());
        assert!(matches!(segments.outbox.pop_front(), Some((Packet::Decline { segment: 2 }, None))));
        segments.offer(BLOCKS).unwrap();
        assert!(segments.receive(Packet::Accept { segment: 2 }, None, &mut lanes).unwrap());
        assert!(!segments.may_offer(BLOCKS));
    }
}
