//! More segments on demand: the first of a link is small, and a busy link asks for more.
//!
//! The owner makes a segment, offers it, and uses it once the peer has accepted it with a table of
//! releases. The peer accepts up to the bytes that it announced.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::os::fd::{AsFd, OwnedFd};

use notnets_memory::lane::{Blocks, Lanes};
use notnets_memory::{OwnSegment, PAGE, PeerSegment, Releases, SegmentError, WORD};

use super::packet::Packet;
use super::socket::Socket;

/// Segment ids below this are parts of the first segment.
const FIRST_ID: u32 = 2;
/// A process offers at most so many bytes on one link, whatever its peer would accept.
pub const MAX_OFFERED: usize = 32 << 20;
/// Blocks of offered segments are at most this large: more is copied out at once on arrival.
const MAX_BLOCK: u32 = 1 << 20;
/// A peer's segments on one link, of any size: each is two mappings, of which a process has 65,530.
const MAX_ACCEPTED: u32 = 256;
/// Packets that wait for room in the socket. A peer offers one segment at a time and reads the answer.
const MAX_UNSENT: usize = 8;

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
    /// The packet brought no descriptor.
    #[error("the peer's segment {0} came without its descriptor")]
    NoDescriptor(u32),
    /// Its segment is not as it must be.
    #[error(transparent)]
    Segment(SegmentError),
    /// It goes on offering, and does not read the answers.
    #[error("the peer offers segments and does not read the answers")]
    Unread,
    /// A packet that has no place on an established link.
    #[error("the peer said what has no place on an established link")]
    Unexpected,
}

/// The segments of a link beyond the first, on both sides.
#[derive(Debug)]
pub struct Segments {
    next: u32,
    offered: HashMap<u32, (OwnSegment, Blocks)>,
    offered_bytes: usize,
    /// How much the peer accepts.
    peer_budget: usize,
    /// How much we accept.
    own_budget: usize,
    last_accepted: u32,
    accepted: u32,
    outbox: VecDeque<(Packet, Option<OwnedFd>)>,
}

impl Segments {
    /// None yet. The budgets are what each side announced.
    pub fn new(own_budget: u32, peer_budget: u32) -> Self {
        Self {
            next: FIRST_ID,
            offered: HashMap::new(),
            offered_bytes: 0,
            peer_budget: (peer_budget as usize).min(MAX_OFFERED),
            own_budget: own_budget as usize,
            last_accepted: FIRST_ID - 1,
            accepted: 0,
            outbox: VecDeque::new(),
        }
    }

    /// Can a segment of such blocks be offered within the budget?
    pub fn may_offer(&self, blocks: Blocks) -> bool {
        self.offered_bytes + blocks.segment_bytes() <= self.peer_budget
    }

    /// Makes a segment and offers it.
    ///
    /// # Errors
    /// When there is no memory for it: the link goes on with what it has.
    pub fn offer(&mut self, blocks: Blocks) -> Result<(), SegmentError> {
        let made = OwnSegment::create(blocks.segment_bytes())?;
        let os = |source: io::Error| SegmentError::Os {
            step: "share",
            bytes: blocks.segment_bytes(),
            source: rustix::io::Errno::from_io_error(&source).unwrap_or(rustix::io::Errno::IO),
        };
        let descriptor = made.descriptor().try_clone_to_owned().map_err(os)?;
        let segment = self.next;
        self.next += 1;
        self.offered_bytes += blocks.segment_bytes();
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
            Packet::Doorbell => Ok(false),
            Packet::Offer { segment, blocks } => {
                self.on_offer(segment, blocks, descriptor, lanes).map(|()| false)
            }
            Packet::Accept { segment } => {
                let settled = self.offered.remove(&segment);
                let (mut own, blocks) = settled.ok_or(SegmentViolation::NotOffered(segment))?;
                let descriptor = descriptor.ok_or(SegmentViolation::NoDescriptor(segment))?;
                let table = PeerSegment::map(descriptor.as_fd(), table_bytes(blocks) as u64);
                let table = table.map_err(SegmentViolation::Segment)?;
                let table = table.part(0, table_bytes(blocks)).ok_or(SegmentViolation::Blocks(blocks))?;
                lanes.add_own(segment, blocks.bytes as usize, own.carve(blocks.total()), table);
                Ok(true)
            }
            Packet::Decline { segment } => {
                self.offered.remove(&segment).ok_or(SegmentViolation::NotOffered(segment))?;
                // What it declined once it will decline again.
                self.peer_budget = 0;
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
        if self.outbox.len() >= MAX_UNSENT {
            return Err(SegmentViolation::Unread);
        }
        if segment <= self.last_accepted {
            return Err(SegmentViolation::Again(segment));
        }
        self.last_accepted = segment;
        let aligned = blocks.bytes > 0 && blocks.bytes.is_multiple_of(64) && blocks.bytes <= MAX_BLOCK;
        if !aligned || blocks.count == 0 {
            return Err(SegmentViolation::Blocks(blocks));
        }
        if blocks.segment_bytes() > self.own_budget || self.accepted == MAX_ACCEPTED {
            self.outbox.push_back((Packet::Decline { segment }, None));
            return Ok(());
        }
        let descriptor = descriptor.ok_or(SegmentViolation::NoDescriptor(segment))?;
        let offered = PeerSegment::map(descriptor.as_fd(), blocks.segment_bytes() as u64);
        let offered = offered.map_err(SegmentViolation::Segment)?;
        let memory = offered.part(0, blocks.total()).ok_or(SegmentViolation::Blocks(blocks))?;
        let table = OwnSegment::create(table_bytes(blocks))
            .map(|table| (table.descriptor().try_clone_to_owned().ok(), table));
        let Ok((Some(descriptor), mut table)) = table else {
            self.outbox.push_back((Packet::Decline { segment }, None));
            return Ok(());
        };
        self.own_budget -= blocks.segment_bytes();
        self.accepted += 1;
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
