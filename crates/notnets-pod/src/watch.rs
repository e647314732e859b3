//! Watching the links of one process for its parked sides, which no peer can ring.
//!
//! One piece of code, for the thread of the agent that watches the links of all processes of its host, and
//! for that of a process whose agent doesn't. A [`Watch`] looks at one
//! [activity line](notnets_memory::activity) for each remote process, and then only at links on which
//! something was noted. A link stays *hot*, and is looked at each time, while something is there that its
//! side has not taken, or that side waits for room. Links with peers that have no such line, being of an
//! earlier version, are always hot.
//!
//! It only reads memory. All that it finds there is for deciding whether to ring.

use std::collections::{BTreeSet, HashMap};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use notnets_core::link::packet::DOORBELL;
use notnets_memory::activity::{Activity, ActivityWatch};
use notnets_memory::region::{Region, RegionOffset, RegionRange};
use notnets_memory::remote_lanes::{LaneMonitor, LanePlace};
use notnets_memory::{LINE, PeerMemory};
use rustix::net::{SendFlags, Shutdown, send, shutdown};

use crate::table::{Control, ExtentState, ProcessId};

/// How often each link is looked at though nothing is noted: between hosts nothing promises that what was
/// pushed comes to memory before the note that tells of it.
const UNNOTED: Duration = Duration::from_millis(200);

/// A message that does not get whole within this time never will: its link ends.
const STUCK: Duration = Duration::from_secs(1);

/// Where a link lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinkPlace {
    /// Its lanes.
    pub lanes: LanePlace,
    /// The peer.
    pub peer: ProcessId,
    /// The line in which the peer notes what it pushes, with this side's number of the link.
    pub activity: Option<RegionOffset>,
    /// The line in which this side notes that it waits for room, with the same number.
    pub waits: Option<RegionOffset>,
}

impl LinkPlace {
    /// Returns `true` if all of it lies where it may, for a process of this host: both are input.
    pub fn is_valid(&self, region: &Region, host: u16) -> bool {
        let layout = region.layout();
        let lies = |host: u16, start: RegionOffset, bytes: usize| {
            let range = RegionRange::new(start, bytes);
            let known = usize::from(host) < layout.hosts() && start.is_aligned(bytes.min(LINE));
            known && range.is_some_and(|range| layout.is_in_extents(host.into(), range))
        };
        let line = |host: u16, line: Option<RegionOffset>| line.is_none_or(|line| lies(host, line, LINE));
        let LanePlace { own, peer, .. } = self.lanes;
        let slots = self.lanes.peer_slots.saturating_add(64) as usize * LINE;
        lies(host, own, notnets_memory::PAGE)
            && lies(self.peer.host, peer, slots)
            && line(self.peer.host, self.activity)
            && line(host, self.waits)
    }
}

/// How much a watch has looked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WatchCounts {
    /// Rounds.
    pub looks: u64,
    /// Activity lines and links that were looked at.
    pub lines: u64,
    /// Parked sides that were rung.
    pub rings: u64,
}

impl std::ops::Add for WatchCounts {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        let Self { looks, lines, rings } = self;
        Self { looks: looks + other.looks, lines: lines + other.lines, rings: rings + other.rings }
    }
}

impl std::ops::AddAssign for WatchCounts {
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

/// The links of one process that are watched, by their numbers.
#[derive(Debug)]
pub struct Watch {
    region: Region,
    host: u16,
    process: u16,
    links: HashMap<u32, Watched>,
    lines: HashMap<RegionOffset, Line>,
    /// Links to be looked at though nothing is noted.
    hot: BTreeSet<u32>,
    /// When all links were last looked at.
    all_looked: Instant,
    counts: WatchCounts,
}

#[derive(Debug)]
struct Watched {
    monitor: LaneMonitor,
    socket: Arc<OwnedFd>,
    place: LinkPlace,
}

#[derive(Debug)]
struct Line {
    watch: ActivityWatch,
    /// The links that are noted there.
    links: BTreeSet<u32>,
}

impl Watch {
    /// Of this process of this host.
    pub fn new(region: Region, host: u16, process: u16) -> Self {
        Self {
            region,
            host,
            process,
            links: HashMap::new(),
            lines: HashMap::new(),
            hot: BTreeSet::new(),
            all_looked: Instant::now(),
            counts: WatchCounts::default(),
        }
    }

    /// Watches nothing any more, and from now on links of this process in this region.
    pub fn begin_anew(&mut self, region: Region, host: u16, process: u16) {
        *self = Self { counts: self.counts, ..Self::new(region, host, process) };
    }

    /// Returns `true` if nothing is watched.
    pub fn is_empty(&self) -> bool {
        self.links.is_empty()
    }

    /// How many links are watched.
    pub fn len(&self) -> usize {
        self.links.len()
    }

    /// How much it has looked.
    pub fn counts(&self) -> WatchCounts {
        self.counts
    }

    /// Watches a link, whose user is rung at the other end of `socket`. Returns `false` if it lies where it
    /// may not.
    pub fn add(&mut self, link: u32, place: LinkPlace, socket: Arc<OwnedFd>) -> bool {
        if !place.is_valid(&self.region, self.host) {
            return false;
        }
        let Ok(monitor) = LaneMonitor::new(&self.region, place.lanes) else { return false };
        self.remove(link);
        for start in place.lines() {
            let watch = if Some(start) == place.waits { ActivityWatch::near } else { ActivityWatch::new };
            if let Some(line) = self.line(start, watch) {
                line.links.insert(link);
            }
        }
        self.links.insert(link, Watched { monitor, socket, place });
        // What was noted before nobody has seen.
        self.hot.insert(link);
        true
    }

    fn line(
        &mut self,
        start: RegionOffset,
        watch: impl Fn(PeerMemory) -> ActivityWatch,
    ) -> Option<&mut Line> {
        if !self.lines.contains_key(&start) {
            let memory = self.region.peer(RegionRange::new(start, LINE)?)?;
            let line = Line { watch: watch(memory), links: BTreeSet::new() };
            self.lines.insert(start, line);
        }
        self.lines.get_mut(&start)
    }

    /// Watches a link no more.
    pub fn remove(&mut self, link: u32) {
        let Some(watched) = self.links.remove(&link) else { return };
        self.hot.remove(&link);
        for start in watched.place.lines() {
            if let Some(line) = self.lines.get_mut(&start) {
                line.links.remove(&link);
            }
        }
        self.lines.retain(|_, line| !line.links.is_empty());
    }

    /// Rings parked sides for which something is there. Returns how many.
    pub fn look(&mut self, now: Instant) -> u64 {
        let Self { links, lines, hot, all_looked, counts, .. } = self;
        if links.is_empty() {
            return 0;
        }
        counts.looks += 1;
        counts.lines += lines.len() as u64;
        for line in lines.values_mut() {
            match line.watch.look() {
                Activity::None => {}
                Activity::On(names) => hot.extend(names.iter().filter(|name| line.links.contains(name))),
                Activity::Any => hot.extend(&line.links),
            }
        }
        if now.saturating_duration_since(*all_looked) >= UNNOTED {
            *all_looked = now;
            hot.extend(links.keys());
        }
        counts.lines += hot.len() as u64;
        let before = counts.rings;
        hot.retain(|link| {
            let Some(watched) = links.get_mut(link) else { return false };
            let look = watched.monitor.look(now);
            if watched.monitor.is_stuck(STUCK) {
                shut_down(&watched.socket);
            } else if look.rings {
                counts.rings += 1;
                ring(&watched.socket);
            }
            look.again || !watched.place.is_noted()
        });
        counts.rings - before
    }

    /// Returns `true` if something may come for a parked side, which has to be looked for.
    pub fn has_to_look(&self) -> bool {
        self.lines.values().any(|line| line.watch.is_any_parked())
            || self.links.values().any(|watched| !watched.place.is_noted())
    }

    /// Ends links whose memory is lost.
    pub fn end_lost(&self) {
        let links = self.links.values().map(|watched| (watched.place.peer, &*watched.socket));
        end_lost(&self.region, (self.host, self.process), links);
    }
}

impl LinkPlace {
    /// Returns `true` if lines show when there is something to look for.
    fn is_noted(&self) -> bool {
        self.activity.is_some() && self.waits.is_some()
    }

    fn lines(&self) -> impl Iterator<Item = RegionOffset> + use<> {
        let noted = self.is_noted();
        self.activity.into_iter().chain(self.waits).filter(move |_| noted)
    }
}

/// Ends those of the links of a process of which the memory of either side is lost. Each comes with its peer,
/// and the socket on which its user is rung.
pub(crate) fn end_lost<'a>(
    region: &Region,
    (host, process): (u16, u16),
    links: impl Iterator<Item = (ProcessId, &'a OwnedFd)>,
) {
    let own = is_lost(region, host, process);
    links
        .filter(|(peer, _)| own || is_lost(region, peer.host, peer.process))
        .for_each(|(_, socket)| shut_down(socket));
}

/// Returns `true` if memory that a process was granted was lost, or the records of its host.
fn is_lost(region: &Region, host: u16, process: u16) -> bool {
    region.is_lost(host.into()) && is_memory_lost(region, host, process)
}

#[cold]
fn is_memory_lost(region: &Region, host: u16, process: u16) -> bool {
    let layout = *region.layout();
    let Some(control) = region.peer(layout.control(host.into())) else { return true };
    let control = Control::of_peer(control, layout, region.superblock().uuid, host);
    let is_its = |extent| {
        let entry = control.extent(extent);
        entry.is_none_or(|entry| entry.state != ExtentState::Free && entry.process == process)
    };
    region.is_control_lost(host.into())
        || (0..layout.extents()).any(|extent| region.is_extent_lost(host.into(), extent) && is_its(extent))
}

/// Rings a link's user. That its socket is full means that it was rung already.
pub(crate) fn ring(socket: &OwnedFd) {
    let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
    let _ = send(socket, &DOORBELL, flags);
}

/// Closes a link's socket: its user sees that the peer is gone.
pub(crate) fn shut_down(socket: &OwnedFd) {
    let _ = shutdown(socket, Shutdown::Both);
}

#[cfg(test)]
mod tests {
    use notnets_memory::Coherence;
    use notnets_memory::lane::Geometry;
    use notnets_memory::region::file::RegionFile;
    use notnets_memory::region::format::{Plan, format};
    use notnets_memory::region::pool::Pool;
    use notnets_memory::remote_lanes::PodSegment;
    use notnets_memory::seal::Seal;
    use rustix::fs::{FallocateFlags, MemfdFlags, fallocate, memfd_create};
    use rustix::net::{AddressFamily, RecvFlags, SocketFlags, SocketType, recv, socketpair};

    use super::*;

    fn region() -> Region {
        let fd = memfd_create("region", MemfdFlags::CLOEXEC).unwrap();
        fallocate(&fd, FallocateFlags::empty(), 0, 4 << 20).unwrap();
        let file = RegionFile::of(fd).unwrap();
        format(&file, &Plan { coherence: Coherence::Hardware, ..Plan::new("pod0", 2) }).unwrap();
        Region::of(file).unwrap()
    }

    /// A first segment of a host, and where a line of its activity lies.
    fn segment(region: &Region, host: usize) -> (PodSegment, RegionOffset) {
        let pool = Pool::default();
        pool.add(region.own(region.layout().extent(host, 0)).unwrap());
        let geometry = Geometry::default();
        let segment = PodSegment::new(pool.allocate(geometry.segment_bytes()).unwrap(), geometry, None);
        let line = pool.allocate(notnets_memory::PAGE).unwrap().range().start();
        (segment, line)
    }

    #[test]
    fn what_nothing_notes_is_found_after_a_while() {
        let region = region();
        let [(sender, activity), (receiver, waits)] = [segment(&region, 0), segment(&region, 1)];
        let [of_sender, of_receiver] = [&sender, &receiver].map(|segment| segment.range().start());
        let geometry = Geometry::default();
        let lanes = LanePlace { own: of_receiver, peer: of_sender, peer_slots: geometry.slots };
        let seals = || (Seal::new([1]), Seal::new([2]));
        let mut sender = sender.open(&region, of_receiver, geometry, seals()).unwrap();
        let (own, other) = seals();
        let mut receiver = receiver.open(&region, of_sender, geometry, (other, own)).unwrap();

        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let (watched, user) = socketpair(AddressFamily::UNIX, SocketType::STREAM, flags, None).unwrap();
        let peer = ProcessId { host: 0, process: 0, generation: 1 };
        let place = LinkPlace { lanes, peer, activity: Some(activity), waits: Some(waits) };
        let mut watch = Watch::new(region, 1, 0);
        let now = Instant::now();
        assert!(watch.add(7, place, Arc::new(watched)));
        assert!(!receiver.arm_frames());
        assert_eq!(watch.look(now), 0, "nothing is there");
        sender.push([1; 7]);
        assert_eq!(watch.look(now), 0, "nothing was noted");
        assert_eq!(watch.look(now + UNNOTED), 1);
        let mut byte = [0; 2];
        assert_eq!(recv(&user, &mut byte[..], RecvFlags::DONTWAIT).unwrap().0, 1);
    }
}
