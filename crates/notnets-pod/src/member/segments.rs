//! Further segments of a link between hosts: parts of the region, which are offered by their offset in it.
//!
//! A segment is a block of an extent that the owner's agent granted. The user of a link must not wait, so
//! nothing here does. Memory that the process has is given at once; else the agent is asked, and the link is
//! rung when there is an answer. The peer's messages about segments lie in the link's [`Inbox`] until its
//! user reads it, when it is rung.

use std::collections::{HashMap, VecDeque};
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use notnets_memory::lane::Blocks;
use notnets_memory::region::RegionRange;
use notnets_memory::region::pool::{Lease, OwnBlock, Pool};
use notnets_memory::{OwnMemory, PAGE, PeerMemory};

use super::payloads::Hold;
use super::peer_message::PeerMessage;
use super::{Member, lock};
use crate::packet::FromProcess;
use crate::table::ProcessId;
use notnets_core::link::packet::Packet;
use notnets_core::link::segments::{
    NoMemory, Outbox, PeerLocation, SegmentEvent, SegmentSource, SegmentViolation,
};

/// A peer that sends more than this, while none of it is read, floods us.
const MAX_EVENTS: usize = 64;

/// Events that wait for a link's user.
#[derive(Debug)]
pub(super) struct Inbox<E> {
    events: Mutex<VecDeque<E>>,
    any: AtomicBool,
}

impl<E> Default for Inbox<E> {
    fn default() -> Self {
        Self { events: Mutex::default(), any: AtomicBool::new(false) }
    }
}

impl<E> Inbox<E> {
    /// Puts one there. Returns `false` when there are too many.
    pub(super) fn push(&self, event: E) -> bool {
        let mut all = lock(&self.events);
        all.push_back(event);
        // Pairs with the swap in `take`.
        self.any.store(true, Ordering::Release);
        all.len() <= MAX_EVENTS
    }

    pub(super) fn take(&self) -> VecDeque<E> {
        // Whatever rings us has put its events there before.
        // Pairs with the store in `push`.
        if self.any.swap(false, Ordering::Acquire) {
            std::mem::take(&mut *lock(&self.events))
        } else {
            VecDeque::new()
        }
    }
}

/// The source of segments of one link between hosts.
#[derive(Debug)]
pub(super) struct PodSegments {
    member: Member,
    link: u32,
    peer: (ProcessId, u32),
    inbox: Arc<Inbox<SegmentEvent>>,
    /// Taken from the inbox, and not yet from here.
    events: VecDeque<SegmentEvent>,
    /// Of the segments that were offered, until the peer reads them no more.
    offered: HashMap<u32, Arc<Lease>>,
    /// Of the tables of releases for the peer's segments, until it has retired these.
    tables: HashMap<u32, Arc<Lease>>,
}

impl PodSegments {
    pub(super) fn new(
        member: Member,
        link: u32,
        peer: (ProcessId, u32),
        inbox: Arc<Inbox<SegmentEvent>>,
    ) -> Self {
        let (offered, tables) = (HashMap::new(), HashMap::new());
        Self { member, link, peer, inbox, events: VecDeque::new(), offered, tables }
    }

    /// As many of these blocks as an extent has room for.
    fn fit(&self, blocks: Blocks) -> Blocks {
        let most = self.member.region().layout().extent_bytes() / blocks.bytes as usize;
        Blocks { count: blocks.count.min(u32::try_from(most).unwrap_or(u32::MAX)), ..blocks }
    }

    /// Memory of this process that the peer may read until the link ends. If nothing is free, the agent is
    /// asked.
    fn allocate(&self, bytes: usize) -> Result<OwnBlock, NoMemory> {
        let mut state = self.member.state();
        let block = Pool::allocate(&state.pool, bytes);
        let Some(link) = state.links.get_mut(&self.link) else { return Err(NoMemory::Pending) };
        if let Some(block) = block {
            link.keep(block.lease());
            return Ok(block);
        }
        link.wants_memory = true;
        drop(state);
        self.member.send(FromProcess::Grant { more: true });
        Err(NoMemory::Pending)
    }

    /// The peer does not read this memory any more.
    fn give_back(&self, lease: Option<Arc<Lease>>) {
        let Some(lease) = lease else { return };
        if let Some(link) = self.member.state().links.get_mut(&self.link) {
            let lease: Hold = lease;
            link.release(&lease);
        }
    }

    fn write(&self, message: PeerMessage) {
        self.member.send(FromProcess::Send { to: self.peer.0, body: message.encode() });
    }
}

impl SegmentSource for PodSegments {
    fn offer(
        &mut self,
        segment: u32,
        blocks: Blocks,
        _outbox: &mut Outbox,
    ) -> Result<(Blocks, OwnMemory), NoMemory> {
        let blocks = self.fit(blocks);
        let mut own = self.allocate(blocks.segment_bytes())?;
        let offset = own.range().start();
        self.write(PeerMessage::Offer { to: self.peer.1, segment, offset, blocks });
        self.offered.insert(segment, own.lease());
        Ok((blocks, own.carve(blocks.total())))
    }

    fn withdraw(&mut self, segment: u32) {
        let lease = self.offered.remove(&segment);
        self.give_back(lease);
    }

    fn retire(&mut self, segment: u32, _outbox: &mut Outbox) {
        self.write(PeerMessage::Retire { to: self.peer.1, segment });
    }

    fn release(&mut self, segment: u32, _outbox: &mut Outbox) {
        // The peer has looked into the table for the last time before it retired the segment.
        let lease = self.tables.remove(&segment);
        self.give_back(lease);
        self.write(PeerMessage::Retired { to: self.peer.1, segment });
    }

    fn map(&self, location: PeerLocation, bytes: usize) -> Result<Option<PeerMemory>, SegmentViolation> {
        let PeerLocation::Offset(offset) = location else { return Err(SegmentViolation::Location) };
        let range = RegionRange::new(offset, bytes).filter(|_| offset.is_aligned(PAGE));
        let region = self.member.region();
        let host = self.peer.0.host.into();
        let range = range.filter(|range| region.layout().is_in_extents(host, *range));
        range.and_then(|range| region.peer(range)).map(Some).ok_or(SegmentViolation::Location)
    }

    fn accept(&mut self, segment: u32, bytes: usize, _outbox: &mut Outbox) -> Result<OwnMemory, NoMemory> {
        let mut table = self.allocate(bytes)?;
        table.zero(bytes);
        let offset = table.range().start();
        self.tables.insert(segment, table.lease());
        self.write(PeerMessage::Accept { to: self.peer.1, segment, offset });
        Ok(table.carve(bytes))
    }

    fn decline(&mut self, segment: u32, _outbox: &mut Outbox) {
        self.write(PeerMessage::Decline { to: self.peer.1, segment });
    }

    fn read(
        &mut self,
        _packet: Packet,
        _descriptor: Option<OwnedFd>,
    ) -> Result<SegmentEvent, SegmentViolation> {
        // Nothing but doorbells comes there, from the watcher.
        Err(SegmentViolation::Unexpected)
    }

    fn poll(&mut self) -> Option<SegmentEvent> {
        if self.events.is_empty() {
            self.events = self.inbox.take();
        }
        self.events.pop_front()
    }
}
