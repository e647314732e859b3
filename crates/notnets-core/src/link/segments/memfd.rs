//! Segments in memfds, whose descriptors go over the link's socket.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use notnets_memory::lane::Blocks;
use notnets_memory::{OwnMemory, OwnSegment, PAGE, PeerMemory, PeerSegment, SegmentError};
use rustix::io::Errno;

use super::SegmentViolation;
use super::source::{NoMemory, Outbox, PeerLocation, SegmentEvent, SegmentSource};
use crate::link::packet::Packet;

/// The source of segments between processes of one host.
#[derive(Debug, Default)]
pub struct Memfds;

impl SegmentSource for Memfds {
    fn offer(
        &mut self,
        segment: u32,
        blocks: Blocks,
        outbox: &mut Outbox,
    ) -> Result<(Blocks, OwnMemory), NoMemory> {
        let (mut own, descriptor) = create(blocks.segment_bytes())?;
        outbox.push_back((Packet::Offer { segment, blocks }, Some(descriptor)));
        Ok((blocks, own.carve(blocks.total())))
    }

    fn withdraw(&mut self, _segment: u32) {}

    fn retire(&mut self, segment: u32, outbox: &mut Outbox) {
        outbox.push_back((Packet::Retire { segment }, None));
    }

    fn release(&mut self, segment: u32, outbox: &mut Outbox) {
        outbox.push_back((Packet::Retired { segment }, None));
    }

    fn map(&self, location: PeerLocation, bytes: usize) -> Result<Option<PeerMemory>, SegmentViolation> {
        let descriptor = match location {
            PeerLocation::Descriptor(Some(descriptor)) => descriptor,
            PeerLocation::Descriptor(None) => return Ok(None),
            PeerLocation::Offset(_) => return Err(SegmentViolation::Location),
        };
        let whole = bytes.next_multiple_of(PAGE) as u64;
        let mapped = PeerSegment::map(descriptor.as_fd(), whole).map_err(SegmentViolation::Segment)?;
        mapped.part(0, bytes).map(Some).ok_or(SegmentViolation::Location)
    }

    fn accept(&mut self, segment: u32, bytes: usize, outbox: &mut Outbox) -> Result<OwnMemory, NoMemory> {
        let (mut table, descriptor) = create(bytes)?;
        outbox.push_back((Packet::Accept { segment }, Some(descriptor)));
        Ok(table.carve(bytes))
    }

    fn decline(&mut self, segment: u32, outbox: &mut Outbox) {
        outbox.push_back((Packet::Decline { segment }, None));
    }

    fn read(
        &mut self,
        packet: Packet,
        descriptor: Option<OwnedFd>,
    ) -> Result<SegmentEvent, SegmentViolation> {
        let location = PeerLocation::Descriptor(descriptor);
        match packet {
            Packet::Offer { segment, blocks } => Ok(SegmentEvent::Offered { segment, blocks, location }),
            Packet::Accept { segment } => Ok(SegmentEvent::Accepted { segment, location }),
            Packet::Decline { segment } => Ok(SegmentEvent::Declined { segment }),
            Packet::Retire { segment } => Ok(SegmentEvent::Retiring { segment }),
            Packet::Retired { segment } => Ok(SegmentEvent::Retired { segment }),
            _ => Err(SegmentViolation::Unexpected),
        }
    }

    fn poll(&mut self) -> Option<SegmentEvent> {
        None
    }
}

/// A new segment, and its descriptor for the peer.
fn create(bytes: usize) -> Result<(OwnSegment, OwnedFd), SegmentError> {
    let segment = OwnSegment::create(bytes)?;
    let descriptor = segment.descriptor().try_clone_to_owned().map_err(|error: io::Error| {
        let errno = Errno::from_io_error(&error).unwrap_or(Errno::IO);
        SegmentError::from_errno("share", bytes, errno)
    })?;
    Ok((segment, descriptor))
}
