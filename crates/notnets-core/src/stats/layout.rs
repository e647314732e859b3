//! Where what is in a stats segment (`docs/protocol.md`, "Stats"). Offsets are in words of 8 bytes.
//!
//! A segment begins with what is known of the process, and the counters of links that have ended, put
//! together. Then comes an area for each link. Both have the same counters in the same places, and then
//! blocks, each for a method. What a link with one method writes lies on one page.

use notnets_memory::{OwnMemory, PAGE, ReadMemory, WORD, WriteMemory};

use super::counts::Count;
use super::text::write_text;
use crate::call::PayloadKind;

/// `NNSTATS7`.
pub(super) const MAGIC: u64 = u64::from_le_bytes(*b"NNSTATS7");

/// Bytes before the areas of the links: a page, and an area for those that have ended.
pub(super) const HEAD: usize = 64 * 1024;
/// Bytes of the area of all links that have ended.
pub(super) const ENDED: usize = HEAD - PAGE;
/// Bytes of a link's area.
pub(super) const AREA: usize = 32 * 1024;
/// Links that have an area. What happens on others is not seen.
pub(super) const LINKS: usize = 1024;
/// The most bytes of a segment.
pub(super) const SEGMENT: usize = HEAD + LINKS * AREA;

/// Of the process.
pub(super) mod process {
    pub const MAGIC: usize = 0;
    /// When it began to count, in seconds since 1970.
    pub const SINCE: usize = 1;
    pub const LINKS_OPEN: usize = 2;
    pub const LINKS_TOTAL: usize = 3;
    /// Links that were closed because the peer broke the protocol.
    pub const BROKEN: usize = 4;
    /// The process, as it numbers itself.
    pub const PID: usize = 5;
    /// 1 for a server, 0 for the links on which a process is the client.
    pub const SERVES: usize = 6;
    /// As many bits of a time in ticks are left out to find its place in a histogram.
    pub const FINE_BITS: usize = 7;
    /// Odd while the counters of a link that has ended go to those of all such.
    pub const MOVES: usize = 8;
    /// Links that got no area.
    pub const UNLISTED: usize = 9;
    /// Areas that are a link's or were one's: those behind them were never written.
    pub const AREAS: usize = 10;
    /// Connections that got no link, by reason.
    pub const REFUSED: usize = 48;
    /// What is served: a text.
    pub const NAMES: usize = 64;
    pub const NAMES_WORDS: usize = 128;
}

/// An area, up to the blocks of methods.
pub(super) mod link {
    use super::{Count, PayloadKind};

    /// The link's number in the process, from 1 on; 0 while the area is no link's.
    pub const NUMBER: usize = 0;
    /// When it was opened, in seconds since 1970.
    pub const SINCE: usize = 1;
    /// The peer's process and user, as far as they are known here; all ones if not.
    pub const PEER_PID: usize = 2;
    pub const PEER_UID: usize = 3;
    /// What carries it: 0 is the memory of this host, 1 is a connection of HTTP/2, from 16 on it is a pod,
    /// with the host's number added.
    pub const TRANSPORT: usize = 4;
    /// Since when it sleeps until a doorbell wakes it, in ticks; 0 while it is driven.
    pub const PARKED_SINCE: usize = 5;
    /// Blocks of this side that the peer has, when it slept last.
    pub const BLOCKS_OUT: usize = 6;
    /// Bytes of this side's further segments that the peer may have mapped.
    pub const SEGMENTS_OFFERED: usize = 7;
    /// Bytes of the peer's further segments that are mapped here.
    pub const SEGMENTS_MAPPED: usize = 8;
    /// How many methods have a block of their own.
    pub const METHODS: usize = 9;
    /// 1 once calls were counted of methods that have none.
    pub const OTHERS: usize = 10;
    /// Bytes of those [blocks](BLOCKS_OUT).
    pub const BYTES_OUT: usize = 11;
    /// What is at the other end: a text.
    pub const TARGET: usize = 16;
    pub const TARGET_WORDS: usize = 16;
    /// The last failure of a call: a text.
    pub const FAILURE: usize = 32;
    pub const FAILURE_WORDS: usize = 16;

    /// From here on there are counters, which are added to those of all ended links.
    pub const COUNTERS: usize = 48;
    /// Where the first is of those of [`Count`], in its order.
    pub const COUNTS: usize = COUNTERS;
    /// How long it has slept, in ticks.
    pub const PARKED_TICKS: usize = COUNTS + Count::ALL.len();
    /// Two for each kind of large payload: frames and bytes.
    pub const PAYLOADS: usize = 70;
    pub const COUNTERS_END: usize = PAYLOADS + 2 * PayloadKind::ALL.len();

    /// Calls that are open.
    pub const CALLS: usize = 96;
    /// As many are listed.
    pub const CALLS_LISTED: usize = 64;
}

/// A call that is open.
pub(super) mod call {
    pub const WORDS: usize = 4;
    /// Its stream; 0 for none.
    pub const STREAM: usize = 0;
    /// When it began, in ticks.
    pub const SINCE: usize = 1;
    /// Its deadline, in nanoseconds of `CLOCK_MONOTONIC`; 0 for none.
    pub const DEADLINE: usize = 2;
    /// The first word of the block of its method in bits 0 to 15, and what it waits for in those from 16 on.
    pub const METHOD: usize = 3;
}

/// The block of a method.
pub(super) mod method {
    pub const WORDS: usize = 160;
    /// Where they begin in an area.
    pub const FIRST: usize = super::link::CALLS + super::link::CALLS_LISTED * super::call::WORDS;
    /// Its path: a text. Without one, there is no method.
    pub const PATH: usize = 0;
    pub const PATH_WORDS: usize = 16;
    /// From here on there are counters.
    pub const STARTED: usize = 16;
    /// How long ended calls took together, in ticks.
    pub const TICKS: usize = 17;
    /// Ended calls by status; the last is that of codes that gRPC does not have.
    pub const STATUS: usize = 18;
    pub const STATUSES: usize = 18;
    /// Ended calls by how long they took.
    pub const TIMES: usize = 36;
    pub const BUCKETS: usize = WORDS - TIMES;

    /// How many methods have one in an area of these bytes.
    pub const fn count(bytes: usize) -> usize {
        (bytes / super::WORD - FIRST) / WORDS - 1
    }
}

/// The block of all methods that have none. It comes after that of the first method: most links have no more
/// than one.
const OTHERS: usize = method::FIRST + method::WORDS;

/// The first word of the block of a method, by its number.
fn block(number: usize) -> usize {
    let place = if number == 0 { 0 } else { number + 1 };
    method::FIRST + place * method::WORDS
}

/// The blocks in an area of these bytes that are in use. To look at others would make memory of them.
pub(super) fn blocks(area: &impl ReadMemory, bytes: usize) -> impl Iterator<Item = usize> {
    let others = (area.load(link::OTHERS) != 0).then_some(OTHERS);
    // Pairs with the store in `add_method`: their paths are there.
    let methods = area.load_acquire(link::METHODS).min(method::count(bytes) as u64);
    others.into_iter().chain((0..methods as usize).map(block))
}

/// Gives a method a block of its own, if the area of these bytes has room for one more.
pub(super) fn add_method(area: &OwnMemory, bytes: usize, path: &str) -> Option<usize> {
    let methods = area.load(link::METHODS) as usize;
    let block = (methods < method::count(bytes)).then(|| block(methods))?;
    write_text(area, block + method::PATH, method::PATH_WORDS, path);
    // Pairs with the load in `blocks`.
    area.store_release(link::METHODS, methods as u64 + 1);
    Some(block)
}

/// Says that calls are counted of methods that have no block of their own. Returns theirs.
pub(super) fn use_others(area: &OwnMemory) -> usize {
    area.store(link::OTHERS, 1);
    OTHERS
}

const _: () = assert!(link::PARKED_TICKS < link::PAYLOADS && link::COUNTERS_END <= link::CALLS);
const _: () = assert!(OTHERS * WORD <= PAGE);
const _: () = assert!((process::NAMES + process::NAMES_WORDS) * WORD <= PAGE);
const _: () = assert!(method::count(AREA) == 22 && method::count(ENDED) == 44);
