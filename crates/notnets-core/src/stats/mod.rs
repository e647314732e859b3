//! A process's counters, readable by tools: a segment for each server, and one for all links on which the
//! process is the client. The process alone writes it.
//!
//! A tool gets a server's segment read-only through the rendezvous socket (`docs/protocol.md`, "Stats"), or
//! by `/proc` those of any process that it may look into ([`find`]). It disturbs nobody, sees no payload,
//! and needs nothing that runs in the process.
//!
//! Each link has an [area](LinkCounters) of its own, which is written where the link is driven: a counter is
//! a word that is loaded and stored again, and needs no atomic operation. What a link has counted is added to
//! that of all ended ones when it ends.

mod counts;
pub mod find;
mod histogram;
mod layout;
mod link;
pub mod mapped;
mod of_clients;
mod outside;
mod snapshot;
mod text;

use std::os::fd::BorrowedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use notnets_memory::process::ForkGuard;
use notnets_memory::{
    OwnMemory, OwnSegment, PAGE, ReadMemory, SegmentError, Ticks, WORD, WriteMemory, headroom,
};

use crate::code::Code;
use crate::link::admission::Rejection;
use layout::{
    AREA, ENDED, HEAD, LINKS, MAGIC, add_method, blocks, link as link_word, method, process, use_others,
};
use text::{read_text, write_text};

pub use counts::{Count, Counts};
pub use histogram::Histogram;
pub(crate) use link::{Counted, Want};
pub use link::{LinkAbout, LinkCounters, WaitsFor};
pub use of_clients::of_clients;
pub use outside::{OutsideCall, OutsideCalls};
pub use snapshot::{LinkSnapshot, MethodSnapshot, OpenCall, Refusals, Snapshot, Transport};

/// What an area of a link takes when it is first written to, about.
const TOUCHED: u64 = 4 * PAGE as u64;

/// The counters of a server, or of all links on which the process is the client.
#[derive(Debug)]
pub struct Stats {
    clock: Ticks,
    segment: OwnSegment,
    shared: Mutex<Shared>,
}

/// What all links write to, one at a time.
#[derive(Debug)]
struct Shared {
    head: OwnMemory,
    /// The counters of links that have ended.
    ended: OwnMemory,
    /// Areas that were a link's.
    free: Vec<OwnMemory>,
    /// Those that were never used.
    unused: OwnMemory,
}

impl Stats {
    /// The counters of a server that begins now, all zero.
    ///
    /// # Errors
    /// When there is no memory for the segment.
    pub fn of_server() -> Result<Self, SegmentError> {
        Self::new(true)
    }

    fn new(serves: bool) -> Result<Self, SegmentError> {
        let clock = Ticks::of_host();
        headroom::check(TOUCHED).map_err(SegmentError::from)?;
        let mut segment = create()?;
        let head = segment.carve(PAGE);
        let ended = segment.carve(ENDED);
        let unused = segment.carve(segment.bytes() - HEAD);
        head.store(process::SINCE, seconds_now());
        head.store(process::PID, std::process::id().into());
        head.store(process::SERVES, serves.into());
        head.store(process::FINE_BITS, clock.fine_bits().into());
        // Pairs with the load of the magic in `Snapshot::read`: what was stored before is there.
        head.store_release(process::MAGIC, MAGIC);
        let shared = Mutex::new(Shared { head, ended, free: Vec::new(), unused });
        Ok(Self { clock, segment, shared })
    }

    /// What is served, for tools that find the segment by its process.
    pub fn serves(&self, names: &str) {
        write_text(&self.lock().head, process::NAMES, process::NAMES_WORDS, names);
    }

    /// Returns the descriptor that is sent to a tool.
    pub fn descriptor(&self) -> BorrowedFd<'_> {
        self.segment.descriptor()
    }

    /// A connection got no link.
    pub fn refused(&self, rejection: &Rejection) {
        self.lock().head.add(process::REFUSED + rejection.number(), 1);
    }

    /// Links that are open now.
    pub fn links_open(&self) -> usize {
        self.lock().head.load(process::LINKS_OPEN) as usize
    }

    pub(crate) fn clock(&self) -> Ticks {
        self.clock
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        // A panic while the lock was held leaves counters that are wrong at most.
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An area for a link that opens, and the link's number; no area where there is no memory for one.
    fn open(&self) -> (u64, Option<OwnMemory>) {
        let mut shared = self.lock();
        shared.head.add(process::LINKS_TOTAL, 1);
        shared.head.add(process::LINKS_OPEN, 1);
        let number = shared.head.load(process::LINKS_TOTAL);
        let area = shared.take_area();
        if area.is_none() {
            shared.head.add(process::UNLISTED, 1);
        }
        (number, area)
    }

    fn closed(&self, broken: bool) {
        let head = &self.lock().head;
        head.add(process::LINKS_OPEN, u64::MAX);
        head.add(process::BROKEN, broken.into());
    }

    /// A link's counters are added to those of all that have ended, and its area is free.
    fn give_back(&self, area: OwnMemory) {
        let mut shared = self.lock();
        shared.head.add(process::MOVES, 1);
        // Pairs with the fence in `Snapshot::try_read`: who sees anything of what follows sees the odd
        // number.
        shared.head.fence();
        area.store(link_word::NUMBER, 0);
        add_all(&shared.ended, &area);
        // Pairs with the load of the number in `Snapshot::read`: who sees it even again sees the sums.
        let moves = shared.head.load(process::MOVES) + 1;
        shared.head.store_release(process::MOVES, moves);
        shared.free.push(area);
    }
}

impl Shared {
    fn take_area(&mut self) -> Option<OwnMemory> {
        if let Some(area) = self.free.pop() {
            return Some(area);
        }
        if self.unused.words() == 0 || headroom::check(TOUCHED).is_err() {
            return None;
        }
        self.head.add(process::AREAS, 1);
        Some(self.unused.split_to(AREA))
    }
}

/// A link that is open, as the process's counters have it.
#[derive(Debug)]
pub struct OpenLink {
    stats: Arc<Stats>,
    broken: bool,
    /// In a forked child the counters are not mapped.
    fork: Option<ForkGuard>,
}

impl OpenLink {
    /// Counts a link that opens. Also returns its own counters, if there is memory for them.
    pub fn new(stats: &Arc<Stats>, about: LinkAbout<'_>) -> (Self, Option<LinkCounters>) {
        let (number, area) = stats.open();
        let counters = area.map(|area| LinkCounters::new(area, Arc::clone(stats), number, about));
        (Self { stats: Arc::clone(stats), broken: false, fork: ForkGuard::new().ok() }, counters)
    }

    /// It ends; `broken` when its peer broke the protocol.
    pub fn close(mut self, broken: bool) {
        self.broken = broken;
    }
}

impl Drop for OpenLink {
    fn drop(&mut self) {
        if self.fork.is_some_and(|fork| !fork.is_forked_child()) {
            self.stats.closed(self.broken);
        }
    }
}

/// A segment with areas for as many links as a file here may be large for.
fn create() -> Result<OwnSegment, SegmentError> {
    let sizes = [LINKS, LINKS / 16, 0].map(|links| HEAD + links * AREA);
    let mut created = OwnSegment::create_sparse(find::SEGMENT_NAME, sizes[0]);
    for size in &sizes[1..] {
        if !matches!(created, Err(SegmentError::NoHeadroom(_))) {
            break;
        }
        created = OwnSegment::create_sparse(find::SEGMENT_NAME, *size);
    }
    created
}

/// Adds the counters of a link to those of all that have ended, and makes its area zero again.
fn add_all(ended: &OwnMemory, area: &OwnMemory) {
    let counters = link_word::COUNTERS..link_word::COUNTERS_END;
    counters.for_each(|word| ended.add(word, area.load(word)));
    for from in blocks(area, AREA) {
        let to = block_for(ended, area, from);
        let counters = method::STARTED..method::WORDS;
        counters.for_each(|word| ended.add(to + word, area.load(from + word)));
        area.copy_in(from * WORD, &[0; method::WORDS * WORD]);
    }
    area.copy_in(0, &[0; method::FIRST * WORD]);
}

/// The block of a method among those of ended links, which is made if there is room and the server has it: a
/// client may have called what does not exist.
fn block_for(ended: &OwnMemory, area: &OwnMemory, from: usize) -> usize {
    let path = read_text(area, from, method::PATH_WORDS);
    let calls = area.load(from + method::STARTED);
    let unknown = area.load(from + method::STATUS + Code::UNIMPLEMENTED.0 as usize);
    if path.is_empty() {
        return use_others(ended);
    }
    let known = blocks(ended, ENDED).find(|at| read_text(ended, *at, method::PATH_WORDS) == path);
    let new = || (calls != unknown).then(|| add_method(ended, ENDED, &path)).flatten();
    known.or_else(new).unwrap_or_else(|| use_others(ended))
}

fn seconds_now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests;
