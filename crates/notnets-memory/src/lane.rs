//! Both lanes of a link, seen from one end: the one that is written here, and the peer's.
//!
//! Each side offers one first segment with all that a link needs to begin:
//!
//! | byte | bytes | content |
//! | --- | --- | --- |
//! | 0 | 64 | magic, layout version; between hosts where the [activity line](crate::activity) lies, or 0 |
//! | 64 | 64 | armed words: 0 frames (wants descriptors), 1 space (wants room in the ring or blocks) |
//! | 128 | 64 | taken: how many of the peer's descriptors this side has popped |
//! | 192 | 64 | reserved, zero |
//! | 256 | 3840 | releases: a word for each block of the peer's first segment, small ones first |
//! | 4096 | slots × 64, whole pages | the ring |
//! | then | whole pages | small blocks: segment 0 of the arena |
//! | then | whole pages | large blocks: segment 1 of the arena |
//!
//! More blocks come as segments of their own ([`Lanes::add_own`], [`Lanes::add_peer`]).

use std::ops::Range;
use std::os::fd::BorrowedFd;
use std::sync::Arc;

use bytes::Bytes;

use crate::activity::{ActivityLine, Parked, WatcherBell};
use crate::arena::{Arena, BadReference, Loan, PeerArena, Reference, Releases};
use crate::doorbell::{ArmedFlag, Doorbell};
use crate::ring::{BadTaken, Descriptor, RingReader, RingWriter};
use crate::seal::Seal;
use crate::segment::{OwnSegment, PeerSegment};
use crate::{
    LINE, LINE_WORDS, OwnMemory, PAGE, PeerMemory, ReadMemory, Returns, SegmentError, TrustPeerMemory, WORD,
    WriteMemory,
};

/// The first eight bytes of a first segment: `NOTNETS1`.
pub const MAGIC: u64 = u64::from_le_bytes(*b"NOTNETS1");
/// The version of the layout above. Another layout has another version.
pub const LAYOUT_VERSION: u64 = 1;

const RELEASES_BYTES: usize = PAGE - 4 * LINE;
pub(crate) const MAX_SLOTS: u32 = 1 << 16;
/// Bytes of a first segment at most: it is mapped before anything is known of the peer.
const MAX_SEGMENT_BYTES: usize = 1 << 26;
const FRAMES: usize = 0;
const SPACE: usize = 1;

const _: () = assert!(RELEASES_BYTES.is_multiple_of(WORD) && 4 * LINE + RELEASES_BYTES == PAGE);

/// The sizes in a first segment. They are part of the protocol, so another field would be another layout
/// version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Geometry {
    /// Slots of the ring, a power of two.
    pub slots: u32,
    /// Blocks for what is a little larger than a descriptor.
    pub small: Blocks,
    /// Blocks for the rest, until there are more segments.
    pub large: Blocks,
}

/// Blocks of one size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Blocks {
    /// Bytes of each, a multiple of a cache line.
    pub bytes: u32,
    /// How many.
    pub count: u32,
}

/// A peer announced a first segment with sizes that can't be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the peer's first segment can't have this layout: {0:?}")]
pub struct BadGeometry(pub Geometry);

impl Default for Geometry {
    /// A ring of 128 slots and 32 KiB of blocks: what connecting costs at most.
    fn default() -> Self {
        let small = Blocks { bytes: 1024, count: 16 };
        Self { slots: 128, small, large: Blocks { bytes: 16 * 1024, count: 1 } }
    }
}

impl Blocks {
    fn is_valid(self) -> bool {
        let line = self.bytes.is_multiple_of(LINE as u32);
        self.bytes > 0 && line && self.count > 0
    }

    /// Bytes that all of them take.
    pub fn total(self) -> usize {
        self.bytes as usize * self.count as usize
    }

    /// Bytes of whole pages that hold all of them.
    pub fn segment_bytes(self) -> usize {
        self.total().next_multiple_of(PAGE)
    }
}

impl Geometry {
    /// Checks a geometry that a peer announced.
    ///
    /// # Errors
    /// When there can't be such a segment.
    pub fn check(self) -> Result<Self, BadGeometry> {
        let slots = self.slots.is_power_of_two() && self.slots <= MAX_SLOTS;
        let blocks = self.small.is_valid() && self.large.is_valid();
        let count = u64::from(self.small.count) + u64::from(self.large.count);
        let releases = count <= (RELEASES_BYTES / WORD) as u64;
        let valid = slots && blocks && releases && self.segment_bytes() <= MAX_SEGMENT_BYTES;
        if valid { Ok(self) } else { Err(BadGeometry(self)) }
    }

    /// Bytes of the whole segment.
    pub fn segment_bytes(self) -> usize {
        self.header_bytes() + self.small.segment_bytes() + self.large.segment_bytes()
    }

    /// Bytes before its blocks.
    pub(crate) fn header_bytes(self) -> usize {
        PAGE + self.ring_bytes()
    }

    fn ring_bytes(self) -> usize {
        (self.slots as usize * LINE).next_multiple_of(PAGE)
    }
}

/// A first segment cut into its parts. `M` is the memory of a part, as one side has it.
#[derive(Debug)]
pub struct Parts<M> {
    header: M,
    armed: M,
    taken: M,
    small_releases: M,
    large_releases: M,
    slots: M,
    small: M,
    large: M,
}

impl Parts<Range<usize>> {
    /// The bytes of a first segment that each part takes. The releases are for `peer`'s blocks.
    fn ranges(own: Geometry, peer: Geometry) -> Self {
        let releases = PAGE - RELEASES_BYTES;
        let large_releases = releases + peer.small.count as usize * WORD;
        let small = PAGE + own.ring_bytes();
        let large = small + own.small.segment_bytes();
        Self {
            header: 0..LINE,
            armed: LINE..2 * LINE,
            taken: 2 * LINE..3 * LINE,
            small_releases: releases..large_releases,
            large_releases: large_releases..PAGE,
            slots: PAGE..PAGE + own.slots as usize * LINE,
            small: small..small + own.small.total(),
            large: large..large + own.large.total(),
        }
    }
}

impl<M> Parts<M> {
    /// Cuts a segment into its parts. `part(offset, bytes)` makes one of them; parts don't overlap, and are
    /// asked for in the order of their offsets. The releases are for `peer`'s blocks.
    ///
    /// # Errors
    /// When `part` fails.
    pub fn cut<E>(
        own: Geometry,
        peer: Geometry,
        mut part: impl FnMut(usize, usize) -> Result<M, E>,
    ) -> Result<Self, E> {
        let ranges = Parts::ranges(own, peer);
        let mut cut = |range: Range<usize>| part(range.start, range.len());
        Ok(Self {
            header: cut(ranges.header)?,
            armed: cut(ranges.armed)?,
            taken: cut(ranges.taken)?,
            small_releases: cut(ranges.small_releases)?,
            large_releases: cut(ranges.large_releases)?,
            slots: cut(ranges.slots)?,
            small: cut(ranges.small)?,
            large: cut(ranges.large)?,
        })
    }
}

/// Memory of which the next bytes can be carved off, so that no two parts overlap.
pub(crate) trait Carve {
    /// Carves the next `bytes` off.
    fn carve(&mut self, bytes: usize) -> OwnMemory;
}

impl Carve for OwnSegment {
    fn carve(&mut self, bytes: usize) -> OwnMemory {
        OwnSegment::carve(self, bytes)
    }
}

impl Parts<OwnMemory> {
    /// Cuts our own first segment into its parts, of which the header was carved when it was stamped.
    pub(crate) fn carve(own: Geometry, peer: Geometry, header: OwnMemory, rest: &mut impl Carve) -> Self {
        let ranges = Parts::ranges(own, peer);
        let mut carved = ranges.header.end;
        let mut carve = |range: Range<usize>| {
            // The bytes between two parts belong to neither.
            rest.carve(range.start - carved);
            carved = range.end;
            rest.carve(range.len())
        };
        Self {
            header,
            armed: carve(ranges.armed),
            taken: carve(ranges.taken),
            small_releases: carve(ranges.small_releases),
            large_releases: carve(ranges.large_releases),
            slots: carve(ranges.slots),
            small: carve(ranges.small),
            large: carve(ranges.large),
        }
    }
}

/// Why a peer's first segment was not accepted.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LaneError {
    /// It does not begin as it must.
    #[error(
        "the peer's first segment has magic {magic:#x} and layout version {version}, not {LAYOUT_VERSION}"
    )]
    Header {
        /// The first word.
        magic: u64,
        /// The second.
        version: u64,
    },
    /// It is too short for its layout.
    #[error("the peer's first segment is shorter than its layout")]
    Short,
}

/// Both lanes of a link, from this end.
#[derive(Debug)]
pub struct Lanes<W = OwnMemory, R = PeerMemory> {
    own_armed: W,
    peer_armed: R,
    outgoing: RingWriter<W, R>,
    incoming: RingReader<W, R>,
    arena: Arena<W, R>,
    peer_arena: PeerArena<W, R>,
    frames: ArmedFlag,
    space: ArmedFlag,
    peer_frames: Doorbell,
    peer_space: Doorbell,
    /// Something was pushed since the last look at the peer's armed words.
    pushed: bool,
    /// The peer was awake when the last descriptors were pushed, so that nothing was rung for them.
    unrung: bool,
    /// Something was taken or released since.
    freed: bool,
    /// Neither side can ring the other: it has to be polled.
    silent: bool,
    /// How those who poll learn that they should.
    notes: Option<Notes<W>>,
    /// While this side is parked, for descriptors and for space.
    parked: [Option<Parked>; 2],
}

/// The lines in which a side between hosts notes what it does, and the number of its link in each.
#[derive(Debug)]
pub struct Notes<W = OwnMemory> {
    /// Says to the peer's host that something was pushed, with the peer's number.
    pub pushed: (Arc<ActivityLine<W>>, u32),
    /// Says to this side's host that it waits for room, with its own.
    pub waits: (Arc<ActivityLine<W>>, u32),
    /// Where it says that it is parked, and what wakes the watcher of its host then.
    pub parks: (Arc<ActivityLine>, Arc<WatcherBell>),
}

impl Lanes {
    /// The lanes between this side's first segment and the peer's.
    ///
    /// # Errors
    /// When the peer's segment does not match its geometry.
    pub fn open(own: FirstSegment, peer: &PeerSegment, peer_geometry: Geometry) -> Result<Self, LaneError> {
        let FirstSegment { mut segment, header, geometry: own_geometry } = own;
        let own = Parts::carve(own_geometry, peer_geometry, header, &mut segment);
        let part = |at, bytes| peer.part(at, bytes).ok_or(LaneError::Short);
        let peer = Parts::cut(peer_geometry, own_geometry, part)?;
        Self::join(own, own_geometry, peer, peer_geometry)
    }
}

/// This side's first segment, made and stamped: it can be offered before the peer's is known.
#[derive(Debug)]
pub struct FirstSegment {
    segment: OwnSegment,
    header: OwnMemory,
    geometry: Geometry,
}

impl FirstSegment {
    /// Makes and stamps a first segment.
    ///
    /// # Errors
    /// When there is no memory or descriptor for it.
    pub fn create(geometry: Geometry) -> Result<Self, SegmentError> {
        let mut segment = OwnSegment::create(geometry.segment_bytes())?;
        let header = segment.carve(LINE);
        stamp(&header);
        Ok(Self { segment, header, geometry })
    }

    /// The descriptor to offer.
    pub fn descriptor(&self) -> BorrowedFd<'_> {
        self.segment.descriptor()
    }

    /// Its sizes.
    pub fn geometry(&self) -> Geometry {
        self.geometry
    }
}

/// Marks a first segment as one, in its first line.
pub fn stamp(header: &impl WriteMemory) {
    header.store(1, LAYOUT_VERSION);
    // Pairs with the load of the magic in `Lanes::join`: the version is there.
    header.store_release(0, MAGIC);
    header.publish(0, 2);
}

impl<W: WriteMemory, R: ReadMemory> Lanes<W, R> {
    /// Joins the parts of two first segments, in any memory. The peer's were cut for our geometry.
    ///
    /// # Errors
    /// When the peer's segment doesn't begin as it must.
    pub fn join(
        own: Parts<W>,
        own_geometry: Geometry,
        peer: Parts<R>,
        peer_geometry: Geometry,
    ) -> Result<Self, LaneError> {
        peer.header.observe(0, 2);
        // Pairs with the store of the magic in `stamp`.
        let magic = peer.header.load_acquire(0);
        let version = peer.header.load(1);
        if magic != MAGIC || version != LAYOUT_VERSION {
            return Err(LaneError::Header { magic, version });
        }
        let mut arena = Arena::new();
        arena.add(0, own_geometry.small.bytes as usize, own.small, peer.small_releases);
        arena.add(1, own_geometry.large.bytes as usize, own.large, peer.large_releases);
        let mut peer_arena = PeerArena::new();
        peer_arena.add(0, peer_geometry.small.bytes as usize, peer.small, Releases::new(own.small_releases));
        peer_arena.add(1, peer_geometry.large.bytes as usize, peer.large, Releases::new(own.large_releases));
        Ok(Self {
            own_armed: own.armed,
            peer_armed: peer.armed,
            outgoing: RingWriter::new(own.slots, peer.taken),
            incoming: RingReader::new(peer.slots, own.taken),
            arena,
            peer_arena,
            frames: ArmedFlag::new(FRAMES),
            space: ArmedFlag::new(SPACE),
            peer_frames: Doorbell::new(FRAMES),
            peer_space: Doorbell::new(SPACE),
            pushed: false,
            unrung: false,
            freed: false,
            silent: false,
            notes: None,
            parked: [None, None],
        })
    }

    /// Makes them lanes between hosts: each side seals what it pushes, and there are no doorbells.
    pub fn across_hosts(self, own: Seal, peer: Seal) -> Self {
        let outgoing = self.outgoing.sealed(own);
        let incoming = self.incoming.sealed(peer);
        Self { outgoing, incoming, silent: true, ..self }
    }

    /// From now on notes are taken of what is pushed and waited for.
    pub fn with_notes(self, notes: Notes<W>) -> Self {
        Self { notes: Some(notes), ..self }
    }

    /// Returns `true` if these lanes have no doorbells.
    pub fn is_silent(&self) -> bool {
        self.silent
    }

    /// Returns `true` if the peer's next descriptor seems to be there but fails its checksum. That must not
    /// last.
    pub fn is_torn(&self) -> bool {
        self.incoming.is_torn()
    }

    /// Adds a segment of our blocks, which the peer has accepted with its table of releases.
    pub fn add_own(&mut self, segment: u32, block_bytes: usize, memory: W, releases: R) {
        self.arena.add(segment, block_bytes, memory, releases);
    }

    /// Adds a segment of the peer's blocks.
    pub fn add_peer(&mut self, segment: u32, block_bytes: usize, memory: R, releases: Releases<W>) {
        self.peer_arena.add(segment, block_bytes, memory, releases);
    }

    /// Forgets a segment of the peer's blocks, and this side's table of releases for it. Returns `false`, and
    /// keeps them, if blocks of it are read where they are.
    pub fn remove_peer(&mut self, segment: u32) -> bool {
        self.peer_arena.remove(segment)
    }

    /// This side's arena.
    pub fn arena(&mut self) -> &mut Arena<W, R> {
        &mut self.arena
    }

    /// How many descriptors can be pushed for certain.
    ///
    /// # Errors
    /// When the peer's word can't be true.
    #[inline]
    pub fn room(&mut self) -> Result<usize, BadTaken> {
        self.outgoing.room()
    }

    /// Publishes a descriptor. Ask for [`room`](Self::room) first.
    #[inline]
    pub fn push(&mut self, descriptor: Descriptor) {
        self.outgoing.push(descriptor);
        self.pushed = true;
    }

    /// How many descriptors were pushed in all.
    pub fn pushed(&self) -> u64 {
        self.outgoing.pushed()
    }

    /// How many of our descriptors the peer has taken.
    ///
    /// # Errors
    /// When the peer's word can't be true.
    pub fn taken(&mut self) -> Result<u64, BadTaken> {
        self.outgoing.look()
    }

    /// Returns `true` if there is a descriptor to pop.
    #[inline]
    pub fn is_ready(&mut self) -> bool {
        self.incoming.is_ready()
    }

    /// Takes the peer's next descriptor.
    #[inline]
    pub fn pop(&mut self) -> Option<Descriptor> {
        let descriptor = self.incoming.pop();
        self.freed |= descriptor.is_some();
        descriptor
    }

    /// Checks a reference that the peer sent.
    ///
    /// # Errors
    /// When it is not within what the peer has offered.
    #[inline]
    pub fn check(&self, reference: &Reference) -> Result<(), BadReference> {
        self.peer_arena.check(reference)
    }

    /// Appends a payload of the peer's to these bytes.
    ///
    /// # Errors
    /// When it is not within what the peer has offered, or did not arrive whole.
    #[inline]
    pub fn read(&self, reference: &Reference, bytes: &mut Vec<u8>) -> Result<(), BadReference> {
        self.peer_arena.read(reference, bytes)
    }

    /// Gives a block back to the peer.
    #[inline]
    pub fn release(&mut self, reference: &Reference) {
        self.peer_arena.release(reference);
        self.freed = true;
    }

    /// The bytes behind a payload's head, where they are; see [`PeerArena::lend`].
    pub fn lend(
        &mut self,
        trust: TrustPeerMemory,
        reference: &Reference,
        returns: &Arc<Returns>,
    ) -> Option<Bytes> {
        self.peer_arena.lend(trust, reference, returns)
    }

    /// Gives a block back to the peer whose payload was read where it was.
    pub fn take_back(&mut self, reference: &Reference) {
        self.peer_arena.take_back(reference);
        self.freed = true;
    }

    /// What the peer has offered.
    pub fn peer_arena(&self) -> &PeerArena<W, R> {
        &self.peer_arena
    }

    /// Loans a block to fill; see [`Arena::loan`].
    pub fn loan(&mut self, want: usize, least: usize) -> Option<Loan> {
        self.arena.loan(want, least)
    }

    /// Asks to be rung for descriptors. Returns whether there is one already: then don't sleep.
    pub fn arm_frames(&mut self) -> bool {
        if !self.silent {
            self.frames.arm(&self.own_armed);
            return self.is_ready();
        }
        self.frames.arm_local(&self.own_armed);
        self.is_ready()
    }

    /// Between hosts: this side is armed, and sleeps until something comes. Without this a side that expects
    /// nothing may be rung some milliseconds later.
    #[cold]
    pub fn park(&mut self) {
        self.park_for(FRAMES);
    }

    fn park_for(&mut self, what: usize) {
        let Self { notes: Some(notes), parked, .. } = self else { return };
        let (line, bell) = &notes.parks;
        parked[what].get_or_insert_with(|| Parked::new(line, bell));
    }

    #[cold]
    fn unpark(&mut self, what: usize) {
        self.parked[what] = None;
    }

    /// Asks to be rung when the peer takes descriptors or releases blocks. The caller must try again
    /// before it sleeps.
    pub fn arm_space(&mut self) {
        if self.silent {
            self.space.arm_local(&self.own_armed);
            if let Some(Notes { waits: (line, link), .. }) = &self.notes {
                line.note(*link);
            }
            self.park_for(SPACE);
        } else {
            self.space.arm(&self.own_armed);
        }
    }

    /// Says that no doorbell is needed for descriptors any more.
    #[inline]
    pub fn disarm_frames(&mut self) {
        if self.silent {
            self.frames.disarm_local(&self.own_armed);
            self.unpark(FRAMES);
        } else {
            self.frames.disarm(&self.own_armed);
        }
    }

    /// Says that no doorbell is needed for space any more.
    #[inline]
    pub fn disarm_space(&mut self) {
        if self.silent {
            self.space.disarm_local(&self.own_armed);
            self.unpark(SPACE);
        } else {
            self.space.disarm(&self.own_armed);
        }
    }

    /// Returns `true` if this side has asked to be rung for descriptors.
    pub fn is_armed(&self) -> bool {
        self.frames.is_armed()
    }

    /// Returns `true` if anything was pushed since [`bell_is_due`](Self::bell_is_due) was asked.
    #[inline]
    pub fn has_pushed(&self) -> bool {
        self.pushed
    }

    /// Returns `true` if the peer's doorbell must be rung, after a batch of pushes, pops and releases. Costs
    /// nothing when no frame was there. Between hosts it takes a note instead.
    #[inline]
    pub fn bell_is_due(&mut self) -> bool {
        if !self.pushed && !self.freed {
            return false;
        }
        if self.silent {
            self.take_note();
            return false;
        }
        // Pairs with the fence in `ArmedFlag::arm`: the waiter sees what was stored, or we see that it
        // is armed.
        self.own_armed.fence();
        let frames = self.pushed && self.peer_frames.is_due(&self.peer_armed);
        let space = self.freed && self.peer_space.is_due(&self.peer_armed);
        if self.pushed {
            self.unrung = self.peer_frames.found_awake();
        }
        self.pushed = false;
        self.freed = false;
        frames || space
    }

    /// Between hosts: what was pushed is noted for those who poll.
    #[inline(never)]
    fn take_note(&mut self) {
        if let Some(Notes { pushed: (line, link), .. }) = self.notes.as_ref().filter(|_| self.pushed) {
            line.note(*link);
        }
        self.pushed = false;
        self.freed = false;
    }

    /// Returns `true` if the peer was awake when it was last pushed to, and nothing was rung since.
    #[inline]
    pub fn is_unrung(&self) -> bool {
        self.unrung
    }

    /// Returns `true` if the peer has neither taken all that was pushed nor been rung for it: it was awake
    /// then, and has not looked since. Between hosts, where nothing rings, it never does.
    pub fn peer_lags(&mut self) -> bool {
        self.unrung = self.unrung && self.taken().is_ok_and(|taken| taken < self.pushed());
        self.unrung
    }
}

/// Two ends over the heap, joined: for the tests of the layers above.
#[cfg(any(test, loom, feature = "testing"))]
pub fn heap_pair(
    a: Geometry,
    b: Geometry,
) -> (Lanes<crate::heap::Heap, crate::heap::Heap>, Lanes<crate::heap::Heap, crate::heap::Heap>) {
    use crate::heap::Heap;
    let a_memory = Heap::new(a.segment_bytes() / WORD);
    let b_memory = Heap::new(b.segment_bytes() / WORD);
    let cut = |own, peer, memory: &Heap| {
        let part =
            |at: usize, bytes: usize| Ok::<_, std::convert::Infallible>(memory.part(at / WORD, bytes / WORD));
        let Ok(parts) = Parts::cut(own, peer, part);
        parts
    };
    stamp(&cut(a, b, &a_memory).header);
    stamp(&cut(b, a, &b_memory).header);
    let first = Lanes::join(cut(a, b, &a_memory), a, cut(b, a, &b_memory), b);
    let second = Lanes::join(cut(b, a, &b_memory), b, cut(a, b, &a_memory), a);
    (first.expect("stamped"), second.expect("stamped"))
}

const _: () = assert!(LINE_WORDS == 8);

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    fn mapped_pair() -> (Lanes, Lanes) {
        let geometry = Geometry::default();
        let bytes = geometry.segment_bytes() as u64;
        let (a, b) = (FirstSegment::create(geometry).unwrap(), FirstSegment::create(geometry).unwrap());
        let seen_a = PeerSegment::map(a.descriptor(), bytes).unwrap();
        let seen_b = PeerSegment::map(b.descriptor(), bytes).unwrap();
        let a = Lanes::open(a, &seen_b, geometry).unwrap();
        (a, Lanes::open(b, &seen_a, geometry).unwrap())
    }

    #[test]
    fn payloads_cross_mapped_memory() {
        let (mut a, mut b) = mapped_pair();
        for round in 0..1000u64 {
            let bytes: Vec<u8> = (0..round * 3).map(|i| (i + round) as u8).collect();
            let mut loan = a.loan(bytes.len(), bytes.len()).unwrap();
            a.arena().write(&mut loan, &bytes);
            let reference = a.arena().commit(loan, 0).to_words();
            assert!(a.room().unwrap() > 0);
            a.push([round, 0, 0, reference[0], reference[1], reference[2], reference[3]]);
            let got = b.pop().unwrap();
            assert_eq!(got[0], round);
            let reference = Reference::from_words([got[3], got[4], got[5], got[6]]);
            let mut read = Vec::new();
            b.read(&reference, &mut read).unwrap();
            assert_eq!(read, bytes);
            b.release(&reference);
        }
        assert_eq!(a.arena().lent(), 0);
        assert_eq!(a.taken().unwrap(), 1000);
    }

    #[test]
    fn parts_fill_their_segment_in_order() {
        let fine = Geometry::default();
        let odd = Geometry { slots: 1, small: Blocks { bytes: 64, count: 3 }, ..fine };
        for (own, peer) in [(fine, fine), (fine, odd), (odd, fine), (odd, odd)] {
            let parts = Parts::ranges(own, peer);
            assert_eq!(parts.taken.end + LINE, parts.small_releases.start, "a line is reserved");
            assert_eq!(parts.small_releases.len(), peer.small.count as usize * WORD);
            assert_eq!(parts.small_releases.end, parts.large_releases.start);
            assert_eq!((parts.large_releases.end, parts.slots.start), (PAGE, PAGE));
            assert_eq!(parts.slots.end.next_multiple_of(PAGE), parts.small.start);
            assert_eq!(parts.small.end.next_multiple_of(PAGE), parts.large.start);
            assert_eq!(parts.large.end.next_multiple_of(PAGE), own.segment_bytes());
        }
    }

    #[test]
    fn the_doorbell_is_rung_for_the_parked_only() {
        let (mut a, mut b) = heap_pair(Geometry::default(), Geometry::default());
        a.push([0; 7]);
        assert!(!a.bell_is_due(), "nobody is parked");
        assert!(b.arm_frames(), "there is one: don't sleep");
        b.pop();
        assert!(!b.arm_frames());
        a.room().unwrap();
        a.push([0; 7]);
        a.push([0; 7]);
        assert!(a.bell_is_due());
        a.push([0; 7]);
        assert!(!a.bell_is_due(), "rung already");
        a.arm_space();
        b.pop();
        assert!(b.bell_is_due());
    }

    #[test]
    fn impossible_geometries_are_refused() {
        let fine = Geometry::default();
        assert!(fine.check().is_ok());
        for wrong in [
            Geometry { slots: 3, ..fine },
            Geometry { slots: 0, ..fine },
            Geometry { slots: 1 << 31, ..fine },
            Geometry { small: Blocks { bytes: 0, count: 1 }, ..fine },
            Geometry { small: Blocks { bytes: 63, count: 1 }, ..fine },
            Geometry { large: Blocks { bytes: 1 << 31, count: 1 }, ..fine },
            Geometry { large: Blocks { bytes: 64, count: 0 }, ..fine },
            Geometry { large: Blocks { bytes: 64, count: u32::MAX }, ..fine },
            // Each part is possible, the whole would be 25 GiB.
            Geometry { small: Blocks { bytes: 1 << 26, count: 400 }, ..fine },
        ] {
            assert_eq!(wrong.check(), Err(BadGeometry(wrong)));
        }
    }

    #[test]
    fn a_segment_without_the_stamp_is_refused() {
        let geometry = Geometry::default();
        let own = FirstSegment::create(geometry).unwrap();
        let blank = OwnSegment::create(geometry.segment_bytes()).unwrap();
        let blank = PeerSegment::map(blank.descriptor(), geometry.segment_bytes() as u64).unwrap();
        let opened = Lanes::open(own, &blank, geometry);
        assert!(matches!(opened, Err(LaneError::Header { magic: 0, version: 0 })));
    }
}
