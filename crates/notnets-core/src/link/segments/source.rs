//! Where the further segments of a link lie, and how the two sides exchange them.

use std::collections::VecDeque;
use std::fmt;
use std::os::fd::OwnedFd;

use notnets_memory::lane::Blocks;
use notnets_memory::region::RegionOffset;
use notnets_memory::{OwnMemory, PeerMemory, SegmentError};

use super::SegmentViolation;
use crate::link::packet::Packet;

/// Packets for the link's socket, each perhaps with a descriptor.
pub type Outbox = VecDeque<(Packet, Option<OwnedFd>)>;

/// A source of memory for further segments, with the way to offer them to the peer.
///
/// [`Segments`](super::Segments) decides what is offered and what is accepted. Its source decides where: in
/// memfds whose descriptors go over the link's socket ([`Memfds`](super::Memfds)), or in a region that both
/// hosts map. `W` is this side's memory and `R` the peer's. No method waits. Memory that is not there yet is
/// [`Pending`](NoMemory::Pending), and an event follows when to try again.
pub trait SegmentSource<W = OwnMemory, R = PeerMemory>: fmt::Debug + Send {
    /// Makes a segment of these blocks, or of as many of them as fit into one, and offers it to the peer.
    ///
    /// # Errors
    /// When there is no memory, now or at all.
    fn offer(&mut self, segment: u32, blocks: Blocks, outbox: &mut Outbox) -> Result<(Blocks, W), NoMemory>;

    /// Takes back a segment that the peer has declined, or has unmapped, and of which it reads nothing.
    fn withdraw(&mut self, segment: u32);

    /// Tells the peer that a segment of this side's is used no more.
    fn retire(&mut self, segment: u32, outbox: &mut Outbox);

    /// Takes back the table of releases of a segment of the peer's that was unmapped, and tells the peer.
    fn release(&mut self, segment: u32, outbox: &mut Outbox);

    /// Maps `bytes` that the peer offered. `None` when they did not arrive, which is no violation.
    ///
    /// # Errors
    /// When they can't be the peer's, or are not as they must be.
    fn map(&self, location: PeerLocation, bytes: usize) -> Result<Option<R>, SegmentViolation>;

    /// Accepts a segment of the peer's, with a table of releases of `bytes` zeros.
    ///
    /// # Errors
    /// When there is no memory for the table, now or at all.
    fn accept(&mut self, segment: u32, bytes: usize, outbox: &mut Outbox) -> Result<W, NoMemory>;

    /// Declines a segment of the peer's.
    fn decline(&mut self, segment: u32, outbox: &mut Outbox);

    /// Takes a packet about segments from the link's socket.
    ///
    /// # Errors
    /// When it has no place there.
    fn read(&mut self, packet: Packet, descriptor: Option<OwnedFd>)
    -> Result<SegmentEvent, SegmentViolation>;

    /// Returns what has happened elsewhere than on the link's socket. Ask whenever the link was rung.
    fn poll(&mut self) -> Option<SegmentEvent>;
}

/// An event about the segments of a link. Nothing in it is checked yet.
#[derive(Debug)]
pub enum SegmentEvent {
    /// The peer offers blocks.
    Offered {
        /// The segment's id.
        segment: u32,
        /// Its blocks.
        blocks: Blocks,
        /// Where it lies.
        location: PeerLocation,
    },
    /// The peer accepts a segment of ours.
    Accepted {
        /// The segment's id.
        segment: u32,
        /// Where its table of releases lies.
        location: PeerLocation,
    },
    /// The peer declines a segment of ours.
    Declined {
        /// The segment's id.
        segment: u32,
    },
    /// The peer retires a segment of its own.
    Retiring {
        /// The segment's id.
        segment: u32,
    },
    /// The peer has unmapped a segment of ours that was retired.
    Retired {
        /// The segment's id.
        segment: u32,
    },
    /// There may be memory that was not there before.
    Granted,
    /// There is no memory, and that is final.
    Exhausted,
}

/// Where the peer's memory lies, by its own claim.
#[derive(Debug)]
pub enum PeerLocation {
    /// In a file. The descriptor is lost where either side has none left.
    Descriptor(Option<OwnedFd>),
    /// At this offset of the region.
    Offset(RegionOffset),
}

/// Why there is no memory for a segment.
#[derive(Debug)]
pub enum NoMemory {
    /// It was asked for: [`Granted`](SegmentEvent::Granted) or [`Exhausted`](SegmentEvent::Exhausted)
    /// follows.
    Pending,
    /// There is no memory.
    Failed(SegmentError),
}

impl From<SegmentError> for NoMemory {
    fn from(error: SegmentError) -> Self {
        Self::Failed(error)
    }
}
