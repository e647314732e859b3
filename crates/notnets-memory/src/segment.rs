//! Segments on one host: sealed memfds with one writer.
//!
//! [`OwnSegment::create`] does what the kernel needs in this order: create, map, exclude from
//! forks, seal, and only then hand out the descriptor. `F_SEAL_FUTURE_WRITE` leaves our own
//! mapping writable and refuses every other one, so that the kernel enforces the one rule.
//! [`PeerSegment::map`] believes nothing: it checks the seals and the size.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::ptr::NonNull;
use std::slice;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{
    MemfdFlags, SealFlags, fcntl_add_seals, fcntl_get_seals, fstat, fstatfs, ftruncate, memfd_create,
};
use rustix::io::Errno;
use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap, munmap};

use crate::coherence::{self, Coherence};
use crate::descriptors::DescriptorLimit;
use crate::headroom::{self, NoHeadroom};
use crate::process::ForkGuard;
use crate::region::Reservation;
use crate::sigbus::SigbusGuard;
use crate::{LINE, LINE_WORDS, PAGE, ReadMemory, WORD, WriteMemory, far_memory_model};

/// Above this many bytes a copy out of a peer's memory is one string instruction.
const STRING_COPY: usize = 96;

/// What `fstatfs` says of memory made of reserved huge pages.
const HUGETLBFS_MAGIC: u64 = 0x9584_58f6;

/// Why a segment could not be made or accepted.
#[derive(Debug, thiserror::Error)]
pub enum SegmentError {
    /// The kernel refused a step.
    #[error("could not {step} a segment of {bytes} bytes: {source}")]
    Os {
        /// What was tried.
        step: &'static str,
        /// The segment's size.
        bytes: usize,
        /// The kernel's answer.
        source: Errno,
    },
    /// There is no file descriptor left for it.
    #[error("no file descriptor is left to {step} a segment of {bytes} bytes: {limit}")]
    NoDescriptors {
        /// What was tried.
        step: &'static str,
        /// The segment's size.
        bytes: usize,
        /// Which limit was reached.
        limit: DescriptorLimit,
    },
    /// There is no memory left for it.
    #[error(transparent)]
    NoHeadroom(#[from] NoHeadroom),
    /// A size that is no multiple of a page, or nothing at all.
    #[error("a segment of {0} bytes is no positive multiple of a page")]
    Size(u64),
    /// The peer's descriptor is not a memfd that is sealed as it has to be.
    #[error("the peer's segment is not sealed against its peers' writes and its own resizing (seals {0:#x})")]
    NotSealed(u32),
    /// The peer's segment has another size than it said.
    #[error("the peer's segment has {actual} bytes, not the {said} it said")]
    WrongSize {
        /// What was announced.
        said: u64,
        /// What the kernel says.
        actual: u64,
    },
    /// The peer's segment is on hugetlbfs, where touching it can kill its reader.
    #[error("the peer's segment is made of huge pages that are not reserved")]
    HugePages,
}

impl SegmentError {
    /// What the kernel's answer to a step means.
    pub fn from_errno(step: &'static str, bytes: usize, source: Errno) -> Self {
        match DescriptorLimit::of(source) {
            Some(limit) => Self::NoDescriptors { step, bytes, limit },
            None => Self::Os { step, bytes, source },
        }
    }
}

fn os(step: &'static str, bytes: usize) -> impl Fn(Errno) -> SegmentError {
    move |source| SegmentError::from_errno(step, bytes, source)
}

/// A segment that this process writes.
///
/// ```
/// use notnets_memory::{OwnSegment, PeerSegment, ReadMemory, WriteMemory};
/// let mut own = OwnSegment::create(8192)?;
/// let part = own.carve(4096);
/// let peer = PeerSegment::map(own.descriptor(), 8192)?;
/// part.store_release(1, 42);
/// assert_eq!(peer.part(0, 4096).unwrap().load_acquire(1), 42);
/// # Ok::<(), notnets_memory::SegmentError>(())
/// ```
#[derive(Debug)]
pub struct OwnSegment {
    file: OwnedFd,
    map: Arc<Mapping>,
    carved: usize,
}

impl OwnSegment {
    /// Makes a zeroed segment of `bytes`, a multiple of the page size.
    ///
    /// # Errors
    /// When the size is wrong, the kernel has no descriptor left, or the control groups above this
    /// process have no room: a page that can't be had later would end the process.
    pub fn create(bytes: usize) -> Result<Self, SegmentError> {
        if bytes == 0 || !bytes.is_multiple_of(PAGE) {
            return Err(SegmentError::Size(bytes as u64));
        }
        headroom::check(bytes as u64)?;
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        let file = memfd_create("notnets", flags | MemfdFlags::NOEXEC_SEAL)
            // Kernels before 6.3 don't know that flag.
            .or_else(|_| memfd_create("notnets", flags))
            .map_err(os("create", bytes))?;
        ftruncate(&file, bytes as u64).map_err(os("size", bytes))?;
        let map = Mapping::new(file.as_fd(), bytes, ProtFlags::READ | ProtFlags::WRITE)?;
        fcntl_add_seals(&file, required_seals()).map_err(os("seal", bytes))?;
        Ok(Self { file, map: Arc::new(map), carved: 0 })
    }

    /// The descriptor that peers get. They can map it, to read.
    pub fn descriptor(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }

    /// Its size in bytes.
    pub fn bytes(&self) -> usize {
        self.map.len
    }

    /// The next `bytes` (a multiple of 8) of the segment that nobody has been given, so that no two
    /// parts ever overlap.
    ///
    /// # Panics
    /// When the segment has fewer bytes left.
    pub fn carve(&mut self, bytes: usize) -> OwnMemory {
        assert!(bytes.is_multiple_of(WORD) && bytes <= self.map.len - self.carved);
        let part = OwnMemory(View::new(&self.map, self.carved, bytes));
        self.carved += bytes;
        part
    }
}

/// A segment that a peer writes and this process can only read.
#[derive(Clone, Debug)]
pub struct PeerSegment {
    map: Arc<Mapping>,
}

impl PeerSegment {
    /// Maps the segment behind a descriptor that came from a peer, who said that it has `bytes`.
    ///
    /// # Errors
    /// When it is not sealed as [`OwnSegment::create`] does it, or has another size.
    pub fn map(file: BorrowedFd<'_>, bytes: u64) -> Result<Self, SegmentError> {
        if bytes == 0 || !bytes.is_multiple_of(PAGE as u64) || bytes > isize::MAX as u64 {
            return Err(SegmentError::Size(bytes));
        }
        let len = bytes as usize;
        let seals = fcntl_get_seals(file).map_err(|_| SegmentError::NotSealed(0))?;
        if !seals.contains(required_seals()) {
            return Err(SegmentError::NotSealed(seals.bits()));
        }
        let stat = fstat(file).map_err(os("look at", len))?;
        if stat.st_size as u64 != bytes {
            return Err(SegmentError::WrongSize { said: bytes, actual: stat.st_size as u64 });
        }
        // Not by its block size: where shared memory is made of transparent huge pages, that is a huge
        // page's for any memfd.
        if fstatfs(file).map_err(os("look at", len))?.f_type as u64 == HUGETLBFS_MAGIC {
            return Err(SegmentError::HugePages);
        }
        Ok(Self { map: Arc::new(Mapping::new(file, len, ProtFlags::READ)?) })
    }

    /// A part of the segment, or `None` if that is not within it or not made of whole words.
    pub fn part(&self, byte: usize, bytes: usize) -> Option<PeerMemory> {
        let whole = byte.is_multiple_of(WORD) && bytes.is_multiple_of(WORD);
        let within = byte.checked_add(bytes)? <= self.map.len;
        (whole && within).then(|| PeerMemory(View::new(&self.map, byte, bytes)))
    }
}

fn required_seals() -> SealFlags {
    SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL | SealFlags::FUTURE_WRITE
}

/// Part of a segment that this process writes.
#[derive(Debug)]
pub struct OwnMemory(pub(crate) View);

/// Part of a segment that a peer writes.
#[derive(Clone, Debug)]
pub struct PeerMemory(pub(crate) View);

/// Mapped bytes; unmapped when the last part of them is dropped.
#[derive(Debug)]
pub(crate) struct Mapping {
    start: NonNull<u8>,
    len: usize,
    fork: ForkGuard,
    /// Contains bus errors in it.
    sigbus: Option<SigbusGuard>,
    /// Is let go of once the bytes are unmapped.
    reservation: Option<Reservation>,
    /// It is a region's, and the model of far memory is on.
    is_far: bool,
}

impl Mapping {
    fn new(file: BorrowedFd<'_>, len: usize, protection: ProtFlags) -> Result<Self, SegmentError> {
        Self::part(file, 0, len, protection)
    }

    /// Maps a part of a file that others may take away: bus errors in it go to `guard`.
    pub(crate) fn guarded(
        file: BorrowedFd<'_>,
        offset: u64,
        len: usize,
        protection: ProtFlags,
        reservation: Option<Reservation>,
        guard: impl FnOnce(usize) -> SigbusGuard,
    ) -> Result<Self, SegmentError> {
        let mut map = Self::part(file, offset, len, protection)?;
        map.sigbus = Some(guard(map.start.as_ptr() as usize));
        map.reservation = reservation;
        map.is_far = far_memory_model::is_on();
        Ok(map)
    }

    fn part(
        file: BorrowedFd<'_>,
        offset: u64,
        len: usize,
        protection: ProtFlags,
    ) -> Result<Self, SegmentError> {
        let fork = ForkGuard::new().map_err(|error| {
            let errno = Errno::from_io_error(&error).unwrap_or(Errno::NOMEM);
            os("guard against forks", len)(errno)
        })?;
        // SAFETY: a new mapping where the kernel finds room touches no other memory.
        let start = unsafe { mmap(std::ptr::null_mut(), len, protection, MapFlags::SHARED, file, offset) }
            .map_err(os("map", len))?;
        let place = NonNull::new(start.cast()).expect("the kernel maps nothing at null");
        let map = Self { start: place, len, fork, sigbus: None, reservation: None, is_far: false };
        // SAFETY: the range was mapped just now.
        unsafe { madvise(start, len, Advice::LinuxDontFork) }.map_err(os("keep from forks", len))?;
        Ok(map)
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        if self.fork.is_forked_child() {
            // It was not inherited, and something else may lie there by now.
            return;
        }
        // Before anything else can be mapped there.
        self.sigbus = None;
        // SAFETY: mapped in `part` by this very process, and every view of it holds an `Arc` of this,
        // so none is left.
        let _ = unsafe { munmap(self.start.as_ptr().cast(), self.len) };
    }
}

// SAFETY: the bytes are only read and written through the atomic accesses of `View`, or copied by
// the one owner of an `OwnMemory`; the kernel doesn't care which thread unmaps.
unsafe impl Send for Mapping {}
// SAFETY: as above.
unsafe impl Sync for Mapping {}

/// A word-aligned range of a mapping. Whether it can be written is its wrapper's business.
#[derive(Clone, Debug)]
pub(crate) struct View {
    start: NonNull<AtomicU64>,
    words: usize,
    coherence: Coherence,
    /// Nothing has to be done to publish or observe.
    plain: bool,
    /// Keeps the bytes mapped, and nobody else from being given them.
    _held: Arc<dyn Held>,
}

/// What a view holds for as long as it lives.
pub(crate) trait Held: Send + Sync + std::fmt::Debug {}

impl Held for Mapping {}

// SAFETY: `start` points into the mapping that is held, to atomics.
unsafe impl Send for View {}
// SAFETY: as above.
unsafe impl Sync for View {}

impl View {
    /// The range must be within the mapping and made of whole words.
    fn new(map: &Arc<Mapping>, byte: usize, bytes: usize) -> Self {
        Self::with(map, byte, bytes, Coherence::Hardware)
    }

    /// The same in memory of whatever coherence.
    pub(crate) fn with(map: &Arc<Mapping>, byte: usize, bytes: usize, coherence: Coherence) -> Self {
        assert!(byte.is_multiple_of(WORD) && bytes.is_multiple_of(WORD) && byte + bytes <= map.len);
        // SAFETY: within the mapping, and aligned since a mapping begins at a page.
        let start = unsafe { map.start.add(byte) }.cast();
        let plain = coherence == Coherence::Hardware && !map.is_far;
        Self { start, words: bytes / WORD, coherence, plain, _held: Arc::clone(map) as Arc<dyn Held> }
    }

    /// The same, which holds something else: that must hold the mapping.
    pub(crate) fn holding(self, held: Arc<dyn Held>) -> Self {
        Self { _held: held, ..self }
    }

    fn with_coherence(self, coherence: Coherence) -> Self {
        let plain = coherence == Coherence::Hardware && !far_memory_model::is_on();
        Self { coherence, plain, ..self }
    }

    #[inline]
    fn at(&self, word: usize) -> &AtomicU64 {
        // SAFETY: within the mapping (`new`) and aligned; all concurrent accesses are atomic.
        let words = unsafe { slice::from_raw_parts(self.start.as_ptr(), self.words) };
        &words[word]
    }

    #[inline]
    fn bytes(&self, byte: usize, len: usize) -> *mut u8 {
        assert!(byte <= self.words * WORD && len <= self.words * WORD - byte);
        // SAFETY: within the view.
        unsafe { self.start.as_ptr().cast::<u8>().add(byte) }
    }

    #[inline]
    fn observe(&self, word: usize, words: usize, written: bool) {
        if !self.plain {
            self.observe_far(word, words, written);
        }
    }

    fn observe_far(&self, word: usize, words: usize, written: bool) {
        let start = self.bytes(word * WORD, words * WORD);
        if self.coherence == Coherence::Software {
            // SAFETY: within the view; what this process writes it publishes at once.
            unsafe { coherence::invalidate(start, words * WORD) }
        }
        if far_memory_model::is_on() {
            let first = word / LINE_WORDS;
            let lines = first..(word + words).div_ceil(LINE_WORDS);
            let read = |line: usize| {
                let word = |nth: usize| {
                    let at = line * LINE_WORDS + nth;
                    if at < self.words { self.at(at).load(Ordering::Relaxed) } else { 0 }
                };
                (self.start.as_ptr() as usize + line * LINE, std::array::from_fn(word))
            };
            far_memory_model::fetch(self.coherence, written, lines.map(read));
        }
    }

    #[inline]
    fn publish(&self, word: usize, words: usize) {
        if self.coherence == Coherence::Software {
            let start = self.bytes(word * WORD, words * WORD);
            // SAFETY: within the view.
            unsafe { coherence::write_back(start, words * WORD) }
        }
    }

    #[inline]
    fn copy_out(&self, byte: usize, into: &mut [u8]) {
        let from = self.bytes(byte, into.len());
        if into.len() > STRING_COPY && cfg!(all(target_arch = "x86_64", not(miri))) {
            // SAFETY: both ranges are valid for their whole length, and distinct since `into` is
            // private memory.
            unsafe { string_copy(from, into.as_mut_ptr(), into.len()) };
            return;
        }
        let word = |at: usize| self.at(at).load(Ordering::Relaxed).to_le_bytes();
        let (mut at, skip) = (byte / WORD, byte % WORD);
        let mut into = into;
        if skip > 0 {
            let (first, rest) = into.split_at_mut(into.len().min(WORD - skip));
            first.copy_from_slice(&word(at)[skip..skip + first.len()]);
            (at, into) = (at + 1, rest);
        }
        let mut words = into.chunks_exact_mut(WORD);
        for whole in &mut words {
            whole.copy_from_slice(&word(at));
            at += 1;
        }
        let last = words.into_remainder();
        if !last.is_empty() {
            last.copy_from_slice(&word(at)[..last.len()]);
        }
    }

    #[inline]
    fn copy_in(&self, byte: usize, from: &[u8]) {
        let to = self.bytes(byte, from.len());
        // SAFETY: both ranges are valid; `from` is not within this view, for no reference to a
        // view's bytes is ever given out; and this process is the only writer. Peers read these
        // bytes only after a descriptor that is stored later with release order.
        unsafe { std::ptr::copy_nonoverlapping(from.as_ptr(), to, from.len()) }
    }
}

/// Copies bytes that another process may change at any time. To the compiler the source does not
/// exist, so there is no data race in the language's sense.
///
/// # Safety
/// `from` must be readable and `to` writable for `len` bytes, and they must not overlap.
#[cfg(target_arch = "x86_64")]
#[inline]
unsafe fn string_copy(from: *const u8, to: *mut u8, len: usize) {
    // SAFETY: by the contract above; the direction flag is clear by the ABI.
    unsafe {
        core::arch::asm!(
            "rep movsb",
            inout("rcx") len => _, inout("rsi") from => _, inout("rdi") to => _,
            options(nostack, preserves_flags)
        );
    }
}

/// A sequentially consistent fence.
///
/// What the standard one compiles to on x86-64 (`mfence`) takes twice the time of this, with which
/// operating systems make theirs: any locked instruction orders all loads and stores around it.
#[cfg(all(target_arch = "x86_64", not(miri)))]
#[inline]
fn full_fence() {
    // SAFETY: or-ing 0 to a word below the stack's end changes nothing, also where something is kept there.
    unsafe { core::arch::asm!("lock or dword ptr [rsp - 8], 0", options(nostack)) }
}

/// A sequentially consistent fence.
#[cfg(not(all(target_arch = "x86_64", not(miri))))]
#[inline]
fn full_fence() {
    std::sync::atomic::fence(Ordering::SeqCst);
}

/// See the x86-64 form; here the caller never gets to it.
///
/// # Safety
/// None is needed.
#[cfg(not(target_arch = "x86_64"))]
unsafe fn string_copy(_from: *const u8, _to: *mut u8, _len: usize) {
    unreachable!("the word by word copy serves other architectures")
}

macro_rules! read_through_view {
    ($memory:ty) => {
        impl ReadMemory for $memory {
            #[inline]
            fn words(&self) -> usize {
                self.0.words
            }
            #[inline]
            fn coherence(&self) -> Coherence {
                self.0.coherence
            }
            #[inline]
            fn load(&self, word: usize) -> u64 {
                self.0.at(word).load(Ordering::Relaxed)
            }
            #[inline]
            fn load_acquire(&self, word: usize) -> u64 {
                self.0.at(word).load(Ordering::Acquire)
            }
            #[inline]
            fn observe(&self, word: usize, words: usize) {
                self.0.observe(word, words, false);
            }
            #[inline]
            fn observe_written(&self, word: usize, words: usize) {
                self.0.observe(word, words, true);
            }
            #[inline]
            fn copy_out(&self, byte: usize, into: &mut [u8]) {
                self.0.copy_out(byte, into);
            }
            #[inline]
            fn fence(&self) {
                full_fence();
            }
        }
    };
}

read_through_view!(OwnMemory);
read_through_view!(PeerMemory);

impl OwnMemory {
    /// The same memory, kept coherent in this way, whatever its region says.
    #[must_use]
    pub fn with_coherence(self, coherence: Coherence) -> Self {
        Self(self.0.with_coherence(coherence))
    }
}

impl PeerMemory {
    /// The same memory, kept coherent in this way, whatever its region says.
    #[must_use]
    pub fn with_coherence(self, coherence: Coherence) -> Self {
        Self(self.0.with_coherence(coherence))
    }
}

impl WriteMemory for OwnMemory {
    #[inline]
    fn store(&self, word: usize, value: u64) {
        self.0.at(word).store(value, Ordering::Relaxed);
    }
    #[inline]
    fn store_release(&self, word: usize, value: u64) {
        self.0.at(word).store(value, Ordering::Release);
    }
    #[inline]
    fn publish(&self, word: usize, words: usize) {
        self.0.publish(word, words);
    }
    #[inline]
    fn copy_in(&self, byte: usize, from: &[u8]) {
        self.0.copy_in(byte, from);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_cannot_write() {
        let own = OwnSegment::create(PAGE).unwrap();
        let writable = Mapping::new(own.descriptor(), PAGE, ProtFlags::READ | ProtFlags::WRITE);
        assert!(matches!(writable, Err(SegmentError::Os { source: Errno::PERM, .. })));
        assert!(ftruncate(own.descriptor(), 0).is_err());
        assert!(rustix::io::write(own.descriptor(), b"x").is_err());
    }

    #[test]
    fn what_is_not_sealed_is_refused() {
        let plain = memfd_create("plain", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING).unwrap();
        ftruncate(&plain, PAGE as u64).unwrap();
        assert!(matches!(PeerSegment::map(plain.as_fd(), PAGE as u64), Err(SegmentError::NotSealed(_))));
        let (pipe, _) = rustix::pipe::pipe().unwrap();
        assert!(matches!(PeerSegment::map(pipe.as_fd(), PAGE as u64), Err(SegmentError::NotSealed(0))));
        let own = OwnSegment::create(PAGE).unwrap();
        let wrong = PeerSegment::map(own.descriptor(), 2 * PAGE as u64);
        assert!(matches!(wrong, Err(SegmentError::WrongSize { .. })));
    }

    #[test]
    fn huge_pages_are_refused() {
        const HUGE: usize = 2 << 20;
        let flags =
            MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING | MemfdFlags::HUGETLB | MemfdFlags::HUGE_2MB;
        // There may be none in this kernel; then nobody can send any.
        let Ok(huge) = memfd_create("huge", flags) else { return };
        ftruncate(&huge, HUGE as u64).unwrap();
        fcntl_add_seals(&huge, required_seals()).unwrap();
        assert!(matches!(PeerSegment::map(huge.as_fd(), HUGE as u64), Err(SegmentError::HugePages)));
    }

    #[test]
    fn copies_of_every_length_and_offset_arrive() {
        let mut own = OwnSegment::create(PAGE).unwrap();
        let memory = own.carve(PAGE);
        let peer = PeerSegment::map(own.descriptor(), PAGE as u64).unwrap().part(0, PAGE).unwrap();
        let bytes: Vec<u8> = (0..PAGE).map(|i| (i * 31 % 251) as u8).collect();
        memory.copy_in(0, &bytes);
        for offset in 0..17 {
            for len in (0..200).chain([1000, 4000]) {
                let mut got = vec![0; len];
                peer.copy_out(offset, &mut got);
                assert_eq!(got, bytes[offset..offset + len], "{len} bytes at {offset}");
            }
        }
    }

    #[test]
    fn parts_stay_within_the_segment() {
        let own = OwnSegment::create(PAGE).unwrap();
        let peer = PeerSegment::map(own.descriptor(), PAGE as u64).unwrap();
        assert!(peer.part(0, PAGE).is_some());
        assert!(peer.part(8, PAGE).is_none());
        assert!(peer.part(1, 8).is_none());
        assert!(peer.part(usize::MAX - 7, 16).is_none());
    }
}
