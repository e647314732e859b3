//! A server's counters, readable by tools: one segment for each server, written by it alone.
//!
//! A tool gets the segment read-only through the rendezvous socket (`docs/protocol.md`, "Stats"), or by
//! `/proc` that of any process that it may look into ([`find`]). It disturbs nobody, sees no payload, and
//! needs nothing that runs in the process.

pub mod find;
mod text;

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use notnets_memory::process::ForkGuard;
use notnets_memory::{OwnMemory, OwnSegment, PAGE, PeerSegment, ReadMemory, SegmentError, WriteMemory};

use crate::call::{CountPayloads, PayloadKind, Payloads, Tally};
use crate::link::admission::Rejection;
use crate::link::segments::SegmentBytes;
use text::{read_text, write_text};

/// `NNSTATS2`.
const MAGIC: u64 = u64::from_le_bytes(*b"NNSTATS2");

/// Words of the segment.
mod word {
    pub const MAGIC: usize = 0;
    pub const SINCE: usize = 1;
    pub const LINKS_OPEN: usize = 2;
    pub const LINKS_TOTAL: usize = 3;
    pub const CALLS: usize = 4;
    pub const CALLS_FAILED: usize = 5;
    pub const BROKEN: usize = 6;
    pub const SEGMENTS_OFFERED: usize = 7;
    pub const SEGMENTS_MAPPED: usize = 8;
    /// Two for each kind of payload: frames and bytes.
    pub const PAYLOADS: usize = 9;
    /// The process, as it numbers itself.
    pub const PID: usize = 40;
    /// Connections that got no link, by reason.
    pub const REFUSED: usize = 48;
    /// What is served: a text.
    pub const NAMES: usize = 64;
    pub const NAMES_WORDS: usize = 128;
}

/// A server's counters.
#[derive(Debug)]
pub struct Stats {
    segment: OwnSegment,
    words: OwnMemory,
    links_open: AtomicU64,
    links_total: AtomicU64,
    calls: AtomicU64,
    calls_failed: AtomicU64,
    broken: AtomicU64,
    segments_offered: AtomicU64,
    segments_mapped: AtomicU64,
    payloads: [[AtomicU64; 2]; PayloadKind::ALL.len()],
    refused: [AtomicU64; Rejection::REASONS.len()],
}

/// A look at them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// When it began to serve, in seconds since 1970.
    pub since: u64,
    /// Links that are open.
    pub links_open: u64,
    /// Links there have been.
    pub links_total: u64,
    /// Calls that were accepted.
    pub calls: u64,
    /// Of those, calls that ended without the handler's answer.
    pub calls_failed: u64,
    /// Links that were closed because the peer broke the protocol.
    pub broken: u64,
    /// Bytes of further segments that clients may have mapped.
    pub segments_offered: u64,
    /// Bytes of clients' further segments that the server has mapped.
    pub segments_mapped: u64,
    /// Large payloads, over all links.
    pub payloads: Payloads,
    /// Connections that got no link.
    pub refused: Refusals,
    /// The process, as it numbers itself: in a namespace of its own perhaps.
    pub pid: u32,
    /// What is served, as far as there was room for it.
    pub names: String,
}

/// Connections that got no link, by reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Refusals([u64; Rejection::REASONS.len()]);

impl Refusals {
    /// The reasons of which there were any, by names for programs.
    pub fn present(&self) -> impl Iterator<Item = (&'static str, u64)> {
        Rejection::REASONS.into_iter().zip(self.0).filter(|(_, times)| *times > 0)
    }
}

impl Stats {
    /// All zero.
    ///
    /// # Errors
    /// When there is no memory for the segment.
    pub fn new(since: u64) -> Result<Self, SegmentError> {
        let mut segment = OwnSegment::create_named(find::SEGMENT_NAME, PAGE)?;
        let words = segment.carve(PAGE);
        words.store(word::SINCE, since);
        words.store(word::PID, std::process::id().into());
        // Pairs with the load of the magic in `Snapshot::read`: what was stored before is there.
        words.store_release(word::MAGIC, MAGIC);
        let zero = || AtomicU64::new(0);
        Ok(Self {
            segment,
            words,
            links_open: zero(),
            links_total: zero(),
            calls: zero(),
            calls_failed: zero(),
            broken: zero(),
            segments_offered: zero(),
            segments_mapped: zero(),
            payloads: std::array::from_fn(|_| [zero(), zero()]),
            refused: std::array::from_fn(|_| zero()),
        })
    }

    /// What is served, for tools that find the segment by its process.
    pub fn serves(&self, names: &str) {
        write_text(&self.words, word::NAMES, word::NAMES_WORDS, names);
    }

    /// Returns the descriptor that is sent to a tool.
    pub fn descriptor(&self) -> BorrowedFd<'_> {
        self.segment.descriptor()
    }

    /// A link was opened.
    pub fn link_opened(&self) {
        self.add(&self.links_total, word::LINKS_TOTAL, 1);
        self.add(&self.links_open, word::LINKS_OPEN, 1);
    }

    /// A link was closed; `broken` when its peer broke the protocol.
    pub fn link_closed(&self, broken: bool) {
        self.add(&self.links_open, word::LINKS_OPEN, u64::MAX);
        if broken {
            self.add(&self.broken, word::BROKEN, 1);
        }
    }

    /// Calls were accepted.
    pub fn calls(&self, n: u64) {
        self.add(&self.calls, word::CALLS, n);
    }

    /// A call ended without its handler's answer.
    pub fn call_failed(&self) {
        self.add(&self.calls_failed, word::CALLS_FAILED, 1);
    }

    /// The further segments of a link have other bytes now than before.
    fn segments_changed(&self, before: SegmentBytes, now: SegmentBytes) {
        let more = |before: usize, now: usize| (now as u64).wrapping_sub(before as u64);
        self.add(&self.segments_offered, word::SEGMENTS_OFFERED, more(before.offered, now.offered));
        self.add(&self.segments_mapped, word::SEGMENTS_MAPPED, more(before.mapped, now.mapped));
    }

    /// A connection got no link.
    pub fn refused(&self, rejection: &Rejection) {
        let reason = rejection.number();
        self.add(&self.refused[reason], word::REFUSED + reason, 1);
    }

    /// Links that are open now.
    pub fn links_open(&self) -> u64 {
        self.links_open.load(Ordering::Relaxed)
    }

    fn add(&self, counter: &AtomicU64, word: usize, n: u64) {
        // Threads that store at once may leave the lower count for a moment; the next store mends it.
        let value = counter.fetch_add(n, Ordering::Relaxed).wrapping_add(n);
        self.words.store(word, value);
    }
}

impl CountPayloads for Stats {
    fn count(&self, kind: PayloadKind, bytes: usize) {
        let at = kind as usize;
        let [frames, all] = &self.payloads[at];
        self.add(frames, word::PAYLOADS + 2 * at, 1);
        self.add(all, word::PAYLOADS + 2 * at + 1, bytes as u64);
    }
}

/// The bytes of a link's further segments, as far as a server's counters have them. They go with the link.
#[derive(Debug, Default)]
pub struct SegmentGauge {
    stats: Option<Arc<Stats>>,
    bytes: SegmentBytes,
    /// In a forked child the counters are not mapped.
    fork: Option<ForkGuard>,
}

impl SegmentGauge {
    /// Counted there.
    pub fn new(stats: Arc<Stats>) -> Self {
        Self { stats: Some(stats), bytes: SegmentBytes::default(), fork: ForkGuard::new().ok() }
    }

    /// Has the link's bytes as they are now.
    pub fn set(&mut self, bytes: SegmentBytes) {
        if let Some(stats) = &self.stats
            && self.bytes != bytes
            && self.fork.is_some_and(|fork| !fork.is_forked_child())
        {
            stats.segments_changed(self.bytes, bytes);
            self.bytes = bytes;
        }
    }
}

impl Drop for SegmentGauge {
    fn drop(&mut self) {
        self.set(SegmentBytes::default());
    }
}

impl Snapshot {
    /// Reads the counters behind a descriptor that a server gave. `None` if it holds no counters.
    pub fn read(descriptor: &OwnedFd) -> Option<Self> {
        let memory = PeerSegment::map(descriptor.as_fd(), PAGE as u64).ok()?.part(0, PAGE)?;
        // Pairs with the store of the magic in `Stats::new`.
        (memory.load_acquire(word::MAGIC) == MAGIC).then(|| Self {
            since: memory.load(word::SINCE),
            links_open: memory.load(word::LINKS_OPEN),
            links_total: memory.load(word::LINKS_TOTAL),
            calls: memory.load(word::CALLS),
            calls_failed: memory.load(word::CALLS_FAILED),
            broken: memory.load(word::BROKEN),
            segments_offered: memory.load(word::SEGMENTS_OFFERED),
            segments_mapped: memory.load(word::SEGMENTS_MAPPED),
            payloads: Payloads::of_kinds(|kind| {
                let at = word::PAYLOADS + 2 * kind as usize;
                Tally { frames: memory.load(at), bytes: memory.load(at + 1) }
            }),
            refused: Refusals(std::array::from_fn(|reason| memory.load(word::REFUSED + reason))),
            pid: memory.load(word::PID) as u32,
            names: read_text(&memory, word::NAMES, word::NAMES_WORDS),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tool_sees_the_counts() {
        let stats = Arc::new(Stats::new(7).unwrap());
        stats.link_opened();
        stats.link_opened();
        stats.link_closed(true);
        stats.calls(3);
        stats.call_failed();
        stats.refused(&Rejection::NoHello);
        stats.serves("a, b");
        let seen = Snapshot::read(&stats.descriptor().try_clone_to_owned().unwrap()).unwrap();
        let expected = Snapshot {
            since: 7,
            links_open: 1,
            links_total: 2,
            calls: 3,
            calls_failed: 1,
            broken: 1,
            refused: seen.refused,
            pid: std::process::id(),
            names: "a, b".to_owned(),
            ..Snapshot::default()
        };
        assert_eq!(seen, expected);
        assert_eq!(seen.refused.present().collect::<Vec<_>>(), [("no_hello", 1)]);
    }

    #[test]
    fn payloads_and_segments_are_counted_over_all_links() {
        let stats = Arc::new(Stats::new(7).unwrap());
        let look = || Snapshot::read(&stats.descriptor().try_clone_to_owned().unwrap()).unwrap();
        for kind in PayloadKind::ALL {
            (0..=kind as usize).for_each(|bytes| stats.count(kind, bytes));
        }
        let seen = look().payloads;
        for (i, kind) in (0..).zip(PayloadKind::ALL) {
            assert_eq!(seen.of(kind), Tally { frames: i + 1, bytes: i * (i + 1) / 2 });
        }
        let bytes = |seen: Snapshot| (seen.segments_offered, seen.segments_mapped);
        let [mut first, mut second] = [0; 2].map(|_| SegmentGauge::new(Arc::clone(&stats)));
        first.set(SegmentBytes { offered: 100, mapped: 20 });
        second.set(SegmentBytes { offered: 3, mapped: 0 });
        assert_eq!(bytes(look()), (103, 20));
        first.set(SegmentBytes { offered: 10, mapped: 30 });
        assert_eq!(bytes(look()), (13, 30));
        drop(first);
        assert_eq!(bytes(look()), (3, 0));
    }
}
