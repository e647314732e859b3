//! Watching the links of one process for its parked sides, which no peer can ring.
//!
//! One piece of code, for the thread of the agent that watches the links of all processes of its host, and
//! for that of a process whose agent doesn't. A [`Watch`] looks at one [activity line](activity) for each
//! remote process, and then only at links on which something was noted. A link stays *hot*, and is looked at
//! each time, while something is there that its side has not taken, or that side waits for room. Links with
//! peers that have no such line, being of an earlier version, are always hot.
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
        let (links, lines) = (HashMap::new(), HashMap::new());
        Self { region, host, process, links, lines, hot: BTreeSet::new(), counts: WatchCounts::default() }
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
        let Self { links, lines, hot, counts, .. } = self;
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

    /// Ends links whose memory is lost.
    pub fn end_lost(&self) {
        let is_lost = |host, process| is_lost(&self.region, host, process);
        let own = is_lost(self.host, self.process);
        for watched in self.links.values() {
            let ProcessId { host, process, .. } = watched.place.peer;
            if own || is_lost(host, process) {
                shut_down(&watched.socket);
            }
        }
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

/// Returns `true` if memory that a process was granted was lost, or the records of its host.
pub(crate) fn is_lost(region: &Region, host: u16, process: u16) -> bool {
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
