//! Lanes between hosts: a first segment in a region, and how it is polled for its owner.
//!
//! The layout is that of [`crate::lane`]. There are no doorbells: a thread of each host watches the lanes of
//! its processes and wakes sides that are parked. These set their own armed words, which the peer never
//! reads. Which lanes are worth a look [`crate::activity`] shows.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::lane::{Carve, Geometry, LaneError, Lanes, MAX_SLOTS, Parts, stamp};
use crate::region::pool::{Lease, OwnBlock};
use crate::region::{Region, RegionOffset, RegionRange};
use crate::seal::Seal;
use crate::{LINE, LINE_WORDS, OwnMemory, PAGE, PeerMemory, ReadMemory, WriteMemory};

/// The word of a first segment that says where its owner's activity line for the peer lies, or 0.
const ACTIVITY: usize = 2;
/// The words of a first segment that its owner's watcher looks at.
const ARMED_FRAMES: usize = LINE_WORDS;
const ARMED_SPACE: usize = LINE_WORDS + 1;
const TAKEN: usize = 2 * LINE_WORDS;
/// A side that parks for room is woken at least once in this many looks, since releases leave no sign.
const SPACE_LOOKS: u32 = 16;

/// A side that is awake and does not come to what is there for this long is rung, and again each time after
/// twice as long.
const PATIENCE: Duration = Duration::from_micros(500);

/// After this many looks in vain, the descriptor there will hardly ever become valid.
const MANY_LOOKS: u32 = 100;

/// A first segment in a region, ready and stamped: it can be offered before the peer's is known.
#[derive(Debug)]
pub struct PodSegment {
    block: OwnBlock,
    header: OwnMemory,
    geometry: Geometry,
}

impl PodSegment {
    /// Zeroes all of a block but the payloads to be, and stamps it. Pages that hold nothing but payloads are
    /// not touched. What is pushed on the link will be noted in the `activity` line.
    ///
    /// # Panics
    /// When the block is too short for the geometry.
    pub fn new(mut block: OwnBlock, geometry: Geometry, activity: Option<RegionOffset>) -> Self {
        assert!(geometry.segment_bytes() <= block.range().len());
        block.zero(geometry.header_bytes());
        let header = block.carve(LINE);
        header.store(ACTIVITY, activity.map_or(0, |line| line.0));
        header.publish(ACTIVITY, 1);
        stamp(&header);
        Self { block, header, geometry }
    }

    /// Where it lies in the region.
    pub fn range(&self) -> RegionRange {
        self.block.range().part(0, self.geometry.segment_bytes()).expect("made no longer than its block")
    }

    /// A lease that keeps its block from others, for as long as the peer may read it.
    pub fn lease(&self) -> Arc<Lease> {
        self.block.lease()
    }

    /// Returns the lanes between this segment and the peer's, which begins at `peer` in the region and was
    /// found to lie where it may.
    ///
    /// # Errors
    /// When the peer's segment does not match its geometry.
    pub fn open(
        self,
        region: &Region,
        peer: RegionOffset,
        peer_geometry: Geometry,
        seals: (Seal, Seal),
    ) -> Result<Lanes, LaneError> {
        let part = |at: usize, bytes: usize| part(region, peer, at, bytes);
        let Self { mut block, header, geometry } = self;
        let own = Parts::carve(geometry, peer_geometry, header, &mut block);
        let peer = Parts::cut(peer_geometry, geometry, part)?;
        Ok(Lanes::join(own, geometry, peer, peer_geometry)?.across_hosts(seals.0, seals.1))
    }
}

/// Where the owner of the first segment at `segment` notes what it pushes, if it does. That is input.
pub fn announced_activity(region: &Region, segment: RegionOffset) -> Option<RegionOffset> {
    let header = part(region, segment, 0, LINE).ok()?;
    header.observe(ACTIVITY, 1);
    Some(RegionOffset(header.load(ACTIVITY))).filter(|line| line.0 != 0)
}

/// Some bytes of the segment at `start` in the region.
fn part(region: &Region, start: RegionOffset, at: usize, bytes: usize) -> Result<PeerMemory, LaneError> {
    let range = start.checked_add(at).and_then(|start| RegionRange::new(start, bytes));
    range.and_then(|range| region.peer(range)).ok_or(LaneError::Short)
}

impl Carve for OwnBlock {
    fn carve(&mut self, bytes: usize) -> OwnMemory {
        OwnBlock::carve(self, bytes)
    }
}

/// Where the lanes of a link lie, for those who watch them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LanePlace {
    /// The first segment of the side that is woken.
    pub own: RegionOffset,
    /// Its peer's.
    pub peer: RegionOffset,
    /// The slots of the peer's ring.
    pub peer_slots: u32,
}

/// Watches the lanes of one link for the side that parks without a doorbell. It only reads.
#[derive(Debug)]
pub struct LaneMonitor {
    /// The first page of our side's segment.
    own: PeerMemory,
    /// The peer's ring, and how far the peer has taken ours.
    slots: PeerMemory,
    peer_taken: PeerMemory,
    rung_frames: u64,
    rung_space: u64,
    seen_taken: u64,
    looks: u32,
    /// How far our side had taken when it was last rung for frames; how often it was rung without getting
    /// any further, and since when.
    rung_at: u64,
    in_vain: u32,
    since: Instant,
    lag: Lag,
}

/// What a look at a link has found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Look {
    /// Our side has to be rung.
    pub rings: bool,
    /// It has to be looked at again, though nothing more is noted.
    pub again: bool,
}

/// Looks at whether our side, which is awake, comes to what is there.
#[derive(Debug)]
struct Lag {
    /// How far our side had taken when something was there at the last look.
    taken: Option<u64>,
    next_look: Instant,
    patience: Duration,
}

impl Default for Lag {
    fn default() -> Self {
        Self { taken: None, next_look: Instant::now(), patience: PATIENCE }
    }
}

impl LaneMonitor {
    /// A monitor of these lanes, which were found to lie where they may.
    ///
    /// # Errors
    /// When they are not within the region, or there can't be such a ring.
    pub fn new(region: &Region, place: LanePlace) -> Result<Self, LaneError> {
        let LanePlace { own, peer, peer_slots } = place;
        if !peer_slots.is_power_of_two() || peer_slots > MAX_SLOTS {
            return Err(LaneError::Short);
        }
        Ok(Self {
            own: part(region, own, 0, PAGE)?,
            slots: part(region, peer, PAGE, peer_slots as usize * LINE)?,
            peer_taken: part(region, peer, 2 * LINE, LINE)?,
            rung_frames: 0,
            rung_space: 0,
            seen_taken: 0,
            looks: 0,
            rung_at: u64::MAX,
            in_vain: 0,
            since: Instant::now(),
            lag: Lag::default(),
        })
    }

    /// Looks whether our side is parked and what it waits for is there: it is rung once for each parking, and
    /// for room now and then again. Also if it is awake and does not come to what is there: its thread may be
    /// stuck, and another is woken.
    pub fn look(&mut self, now: Instant) -> Look {
        // Pairs with the store in `ArmedFlag::arm_local`: what the side looked at before it parked.
        let frames = self.own.load_acquire(ARMED_FRAMES);
        // Pairs with the store in `ArmedFlag::arm_local`.
        let space = self.own.load_acquire(ARMED_SPACE);
        let mut look = if frames == 0 { self.look_for_lag(now) } else { self.look_for_frame(frames) };
        if space != 0 {
            look.again = true;
            look.rings |= self.look_for_space(space);
        }
        look
    }

    fn look_for_frame(&mut self, epoch: u64) -> Look {
        if epoch == self.rung_frames {
            // It was rung, and has not come yet. To look there once more would fetch the peer's line.
            return Look { rings: false, again: true };
        }
        let rings = self.has_frame();
        if rings {
            self.rung_frames = epoch;
            self.count_vain();
        }
        Look { rings, again: rings }
    }

    fn look_for_space(&mut self, epoch: u64) -> bool {
        self.looks += 1;
        self.peer_taken.observe(0, 1);
        // Pairs with the store of `taken` in `RingReader::pop`, on the other host.
        let taken = self.peer_taken.load_acquire(0);
        let known = epoch == self.rung_space && taken == self.seen_taken;
        self.rung_space = epoch;
        self.seen_taken = taken;
        !known || self.looks.is_multiple_of(SPACE_LOOKS)
    }

    /// Returns a number that is another one once the peer has sent something that our side has taken, or has
    /// taken something of ours.
    pub fn progress(&self) -> u64 {
        self.peer_taken.observe(0, 1);
        // Pairs with the stores of `taken` in `RingReader::pop`, on the other host and in a thread here.
        self.own.load_acquire(TAKEN).wrapping_add(self.peer_taken.load_acquire(0))
    }

    /// Returns `true` if something lies in the peer's ring that our side has looked at again and again for
    /// `limit` and whose checksum is wrong. Then it won't get whole any more.
    pub fn is_stuck(&self, limit: Duration) -> bool {
        self.in_vain >= MANY_LOOKS && self.since.elapsed() >= limit
    }

    /// Rings if something has been there since the last look, and our side has not come to it. Looks rarely:
    /// the peer's line may be far.
    fn look_for_lag(&mut self, now: Instant) -> Look {
        if now < self.lag.next_look {
            return Look { rings: false, again: true };
        }
        // Pairs with the store of `taken` in `RingReader::pop`, by a thread of our side.
        let taken = self.own.load_acquire(TAKEN);
        let waiting = self.has_frame().then_some(taken);
        let lags = waiting.is_some() && self.lag.taken == waiting;
        let patience = if lags { self.lag.patience.saturating_mul(2) } else { PATIENCE };
        self.lag = Lag { taken: waiting, next_look: now + patience, patience };
        Look { rings: lags, again: waiting.is_some() }
    }

    /// Each time that our side parks anew without having taken anything, it has looked.
    fn count_vain(&mut self) {
        // Pairs with the store of `taken` in `RingReader::pop`, by a thread of our side.
        let taken = self.own.load_acquire(TAKEN);
        if taken != self.rung_at {
            self.rung_at = taken;
            self.in_vain = 0;
            self.since = Instant::now();
        } else {
            self.in_vain = self.in_vain.saturating_add(1);
        }
    }

    /// Returns `true` if the slot after the last that was taken is filled. Its reader finds out whether it is
    /// whole.
    fn has_frame(&self) -> bool {
        // Pairs with the store of `taken` in `RingReader::pop`, by a thread of our side.
        let next = self.own.load_acquire(TAKEN) + 1;
        let slots = self.slots.words() / LINE_WORDS;
        let slot = (next - 1) as usize % slots * LINE_WORDS;
        self.slots.observe(slot, 1);
        // Pairs with the store of the sequence in `RingWriter::push`, on the other host.
        self.slots.load_acquire(slot) as u32 == next as u32
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use rustix::fs::{FallocateFlags, MemfdFlags, fallocate, memfd_create};

    use super::*;
    use crate::Coherence;
    use crate::region::file::RegionFile;
    use crate::region::format::{Plan, format};
    use crate::region::pool::Pool;

    fn region(coherence: Coherence) -> Region {
        let fd = memfd_create("region", MemfdFlags::CLOEXEC).unwrap();
        fallocate(&fd, FallocateFlags::empty(), 0, 4 << 20).unwrap();
        let file = RegionFile::of(fd).unwrap();
        format(&file, &Plan { coherence, ..Plan::new("pod0", 2) }).unwrap();
        Region::of(file).unwrap()
    }

    fn segment(region: &Region, host: usize) -> PodSegment {
        let pool = Pool::default();
        pool.add(region.own(region.layout().extent(host, 0)).unwrap());
        let geometry = Geometry::default();
        PodSegment::new(pool.allocate(geometry.segment_bytes()).unwrap(), geometry, None)
    }

    fn pair(region: &Region) -> [(Lanes, LaneMonitor); 2] {
        let (a, b) = (segment(region, 0), segment(region, 1));
        let (offset_a, offset_b) = (a.range().start(), b.range().start());
        let seals = (Seal::new([1]), Seal::new([2]));
        let a = a.open(region, offset_b, Geometry::default(), seals).unwrap();
        let b = b.open(region, offset_a, Geometry::default(), (seals.1, seals.0)).unwrap();
        [(a, monitor(region, offset_a, offset_b)), (b, monitor(region, offset_b, offset_a))]
    }

    fn monitor(region: &Region, own: RegionOffset, peer: RegionOffset) -> LaneMonitor {
        LaneMonitor::new(region, LanePlace { own, peer, peer_slots: Geometry::default().slots }).unwrap()
    }

    const COLD: Look = Look { rings: false, again: false };
    const KNOWN: Look = Look { rings: false, again: true };
    const DUE: Look = Look { rings: true, again: true };

    fn look(monitor: &mut LaneMonitor) -> Look {
        monitor.look(Instant::now())
    }

    #[test]
    fn lanes_in_a_region_carry_payloads_and_wake_those_who_park() {
        for coherence in [Coherence::Hardware, Coherence::Software] {
            let region = region(coherence);
            let [(mut a, mut monitor_a), (mut b, mut monitor_b)] = pair(&region);
            assert!(a.is_silent() && look(&mut monitor_b) == COLD);
            for round in 0..300u64 {
                assert!(!b.arm_frames());
                assert_eq!(look(&mut monitor_b), COLD, "nothing is there");
                assert!(!monitor_b.is_stuck(Duration::ZERO));
                let bytes: Vec<u8> = (0..round * 5).map(|i| (i + round) as u8).collect();
                let mut loan = a.loan(bytes.len(), bytes.len()).unwrap();
                a.arena().write(&mut loan, &bytes);
                let words = a.arena().commit(loan, 0).to_words();
                assert!(a.room().unwrap() > 0);
                a.push([round, 0, 0, words[0], words[1], words[2], words[3]]);
                assert!(!a.bell_is_due(), "there is no bell");
                assert_eq!(
                    [look(&mut monitor_b), look(&mut monitor_b)],
                    [DUE, KNOWN],
                    "once for each parking"
                );
                b.disarm_frames();
                let got = b.pop().unwrap();
                let reference = crate::Reference::from_words([got[3], got[4], got[5], got[6]]);
                let mut read = Vec::new();
                b.read(&reference, &mut read).unwrap();
                assert_eq!((got[0], &read), (round, &bytes));
                b.release(&reference);
            }
            a.arm_space();
            assert_eq!(look(&mut monitor_a), DUE, "it looks at once");
            a.disarm_space();
            assert!(!look(&mut monitor_a).rings);
        }
    }

    #[test]
    fn a_side_that_is_awake_and_does_not_come_is_rung_after_a_while() {
        let region = region(Coherence::Hardware);
        let [(mut a, _), (mut b, mut monitor)] = pair(&region);
        let mut now = Instant::now() + PATIENCE;
        let mut later = |patience: u32| {
            now += PATIENCE * patience;
            now
        };
        let mut lags = |now| monitor.look(now).rings;
        assert!(!lags(later(1)), "nothing is there");
        a.push([1; 7]);
        assert!(!lags(later(1)), "it has just come");
        assert!(lags(later(1)));
        assert!(!lags(later(1)) && lags(later(1)), "then after twice as long");
        b.pop().unwrap();
        assert!(!lags(later(4)), "it has come to it");
        a.push([2; 7]);
        assert!(!lags(later(1)));
        b.pop().unwrap();
        a.push([3; 7]);
        assert!(!lags(later(1)), "it comes to each");
    }

    #[test]
    fn what_never_gets_whole_is_told() {
        let region = region(Coherence::Software);
        let (a, b) = (segment(&region, 0), segment(&region, 1));
        let (offset_a, offset_b) = (a.range().start(), b.range().start());
        let seals = |life: u64| (Seal::new([life]), Seal::new([2]));
        let mut a = a.open(&region, offset_b, Geometry::default(), seals(1)).unwrap();
        // It expects frames of another incarnation of its peer.
        let (own, other) = (seals(9).1, seals(9).0);
        let mut b = b.open(&region, offset_a, Geometry::default(), (own, other)).unwrap();
        let mut monitor = monitor(&region, offset_b, offset_a);
        a.push([1; 7]);
        assert!(b.is_torn());
        let looks = (0..1000).take_while(|_| {
            assert!(!b.arm_frames() && b.pop().is_none());
            assert_eq!(look(&mut monitor), DUE, "it seems to be there");
            b.disarm_frames();
            !monitor.is_stuck(Duration::ZERO)
        });
        assert_eq!(looks.count(), MANY_LOOKS as usize);
        assert!(!monitor.is_stuck(Duration::from_secs(60)), "not yet");
    }

    #[test]
    fn an_offset_without_a_segment_is_refused() {
        let region = region(Coherence::Software);
        let pool = Pool::default();
        pool.add(region.own(region.layout().extent(0, 0)).unwrap());
        let geometry = Geometry::default();
        let seals = (Seal::new([1]), Seal::new([2]));
        let after = region.layout().partition(1).end();
        for offset in [region.layout().extent(1, 1).start(), after, RegionOffset(u64::MAX - 7)] {
            let own = PodSegment::new(pool.allocate(geometry.segment_bytes()).unwrap(), geometry, None);
            let place = LanePlace { own: own.range().start(), peer: offset, peer_slots: geometry.slots };
            assert!(own.open(&region, offset, geometry, seals).is_err(), "{offset}");
            let within = RegionRange::new(offset, PAGE).is_some_and(|range| region.peer(range).is_some());
            assert!(within || LaneMonitor::new(&region, place).is_err(), "{offset}");
        }
    }

    #[test]
    fn a_segment_announces_its_owners_activity_line() {
        let region = region(Coherence::Software);
        let pool = Pool::default();
        pool.add(region.own(region.layout().extent(0, 0)).unwrap());
        let geometry = Geometry::default();
        for line in [None, Some(RegionOffset(640))] {
            let segment = PodSegment::new(pool.allocate(geometry.segment_bytes()).unwrap(), geometry, line);
            assert_eq!(announced_activity(&region, segment.range().start()), line);
        }
        assert_eq!(announced_activity(&region, RegionOffset(u64::MAX - 7)), None);
    }
}
