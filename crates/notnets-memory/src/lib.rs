//! Memory that processes share, and the lanes in it.
//!
//! The one rule of NotNets: **every word of shared memory has exactly one writer.** A process
//! writes its own segments and reads everybody else's. This crate contains its consequences, and
//! all of the project's `unsafe`:
//!
//! | module | what it is for |
//! | --- | --- |
//! | [`memory`] | the traits [`ReadMemory`] and [`WriteMemory`], over which everything above is generic |
//! | `mapping` | mapped bytes, the accesses to them, and fences: [`OwnMemory`] and [`PeerMemory`] |
//! | [`segment`] | sealed memfds: [`OwnSegment`] is written here, [`PeerSegment`] can only be read |
//! | [`sealed`] | bytes that nobody can change any more, read in place by any process |
//! | `lent` | what a trusted peer has lent, read in place: [`TrustPeerMemory`], [`Returns`] |
//! | `gather` | encoded messages as pieces: [`Gather`] |
//! | [`region`] | memory that hosts share: device DAX, files, PCI bars; partitions, own and others' |
//! | [`registers`] | registers of a PCI device, read only |
//! | `sigbus` | contains bus errors in regions whose memory is lost |
//! | [`coherence`] | write-back and invalidation for memory that the hardware doesn't keep coherent |
//! | [`headroom`] | the memory that the control groups above this process still allow |
//! | [`seal`] | checksums that distinguish messages from torn, stale and old lines |
//! | [`record`] | a few words that are published together |
//! | [`ring`] | descriptors of 64 bytes, each valid by its own sequence number |
//! | [`arena`] | blocks for payloads: loaned, committed, released by state |
//! | [`doorbell`] | which side is parked, and whether its doorbell has to be rung |
//! | [`lane`] | both lanes of a link, and the layout that puts their parts together |
//! | [`remote_lanes`] | lanes between hosts: how they are made in a region, and polled |
//! | [`activity`] | one line that shows on which of many links something was pushed |
//! | `ticks` | the clock of counters: [`Ticks`] |
//! | [`descriptors`] | running out of file descriptors, and its remedy |
//! | [`passed`] | sockets that were opened for this process before it was started |
//! | [`process`] | a peer's identity and end, from the kernel; use in a forked child |
//!
//! The feature `testing` adds what only tests and measurements need:
//!
//! | module | what it is for |
//! | --- | --- |
//! | `litmus` | tests of the behaviour of memory between hosts |
//! | `line_costs` | what instructions cost that move lines |
//! | `heap` | memory on the heap of one process, also for loom and miri |
//! | `incoherent` | memory of simulated hosts without coherence |
//! | `far_memory_model` | a model of the costs of far memory |
//!
//! Everything that a peer wrote is input: it is read once into private memory with atomic loads, and checked
//! before it is used. Nothing in here panics on it.

#[cfg(not(target_os = "linux"))]
compile_error!("NotNets runs on Linux only: it is built on memfd seals, pidfds and SCM_RIGHTS");
#[cfg(not(all(target_endian = "little", target_pointer_width = "64")))]
compile_error!("the layouts in shared memory are little-endian and need 64-bit words");

pub mod activity;
pub mod arena;
pub mod coherence;
pub mod descriptors;
pub mod doorbell;
mod far_memory;
#[cfg(any(test, loom, feature = "testing"))]
pub mod far_memory_model;
mod gather;
pub mod headroom;
#[cfg(any(test, loom, feature = "testing"))]
pub mod heap;
#[cfg(any(test, loom, feature = "testing"))]
pub mod incoherent;
pub mod lane;
mod lent;
#[cfg(all(not(loom), any(test, feature = "testing")))]
pub mod line_costs;
#[cfg(any(test, loom, feature = "testing"))]
pub mod litmus;
mod loaned;
mod mapping;
pub mod memory;
pub mod passed;
pub mod process;
pub mod record;
pub mod region;
pub mod registers;
pub mod remote_lanes;
pub mod ring;
pub mod seal;
pub mod sealed;
pub mod segment;
mod sigbus;
mod ticks;

pub use arena::{Arena, Loan, Reference, Releases, Run};
pub use coherence::Coherence;
pub use gather::Gather;
pub use lent::{Returned, Returns, TrustPeerMemory};
pub use loaned::LoanedBytes;
pub use mapping::{Lent, OwnBytes, OwnMemory, OwnWords, PeerMemory, SegmentError};
pub use memory::{Part, ReadMemory, WriteMemory};
pub use sealed::{Sealed, SealedError, WeakSealed};
pub use segment::{OwnSegment, PeerSegment};
pub use ticks::Ticks;

/// Bytes of a cache line: what moves between cores at once.
pub const LINE: usize = 64;
/// Bytes of a word, the largest store that is never seen in part.
pub const WORD: usize = 8;
/// Words in a line.
pub const LINE_WORDS: usize = LINE / WORD;
/// Bytes of a page; parts of a segment begin at multiples of it.
pub const PAGE: usize = 4096;
