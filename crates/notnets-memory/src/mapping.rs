//! Mapped memory: what maps bytes, how they are accessed, and how accesses are ordered.
//!
//! A [`Mapping`] is unmapped when the last [`View`] of it is dropped. A view is a word-aligned range of a
//! mapping; [`OwnMemory`] and [`PeerMemory`] are views that this process may write, or only read. All
//! accesses are atomic, or copies that take whatever is there.

use std::any::Any;
use std::os::fd::BorrowedFd;
use std::ptr::NonNull;
use std::slice;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::io::Errno;
use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap, munmap};

use crate::coherence::{self, Coherence};
use crate::descriptors::DescriptorLimit;
use crate::far_memory;
use crate::headroom::NoHeadroom;
use crate::process::ForkGuard;
use crate::sigbus::SigbusGuard;
use crate::{ReadMemory, TrustPeerMemory, WORD, WriteMemory};

/// Above this many bytes a copy out of a peer's memory is one string instruction.
const STRING_COPY: usize = 96;

/// Why a segment could not be made or accepted.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SegmentError {
    /// The kernel refused a step.
    #[error("could not {step} a segment of {bytes} bytes: {errno}")]
    Os {
        /// The step that failed.
        step: &'static str,
        /// The segment's size.
        bytes: usize,
        /// The kernel's answer.
        errno: Errno,
    },
    /// There is no file descriptor left for it.
    #[error("no file descriptor is left to {step} a segment of {bytes} bytes: {limit}")]
    NoDescriptors {
        /// The step that failed.
        step: &'static str,
        /// The segment's size.
        bytes: usize,
        /// Which limit was reached.
        limit: DescriptorLimit,
    },
    /// There is no memory left for it.
    #[error(transparent)]
    NoHeadroom(#[from] NoHeadroom),
    /// The size is 0 or not a multiple of the page size.
    #[error("segment size must be a non-zero multiple of the page size, got {0} bytes")]
    Size(u64),
    /// The peer's descriptor is not a memfd with all seals that it must have.
    #[error("the peer's segment is not sealed against writing and resizing (seals {0:#x})")]
    NotSealed(u32),
    /// The peer's segment is not of the size that the peer announced.
    #[error("the peer announced a segment of {announced} bytes, but it has {actual}")]
    WrongSize {
        /// Bytes that were announced.
        announced: u64,
        /// Bytes that the kernel reports.
        actual: u64,
    },
    /// The peer's segment is on hugetlbfs, where touching a page that is not reserved kills its reader.
    #[error(
        "the peer's segment is on hugetlbfs: reading a page that is not reserved would kill this process"
    )]
    HugePages,
}

impl SegmentError {
    /// The error for a step that the kernel refused.
    pub fn from_errno(step: &'static str, bytes: usize, errno: Errno) -> Self {
        match DescriptorLimit::of(errno) {
            Some(limit) => Self::NoDescriptors { step, bytes, limit },
            None => Self::Os { step, bytes, errno },
        }
    }
}

pub(crate) fn os(step: &'static str, bytes: usize) -> impl Fn(Errno) -> SegmentError {
    move |errno| SegmentError::from_errno(step, bytes, errno)
}

/// Part of a segment or region that this process writes.
#[derive(Debug)]
pub struct OwnMemory(pub(crate) View);

/// Part of a segment or region that a peer writes.
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
    /// Dropped once the bytes are unmapped.
    _reservation: Option<Box<dyn Any + Send + Sync>>,
    /// The model of far memory applies to it.
    is_far: bool,
}

impl Mapping {
    /// Maps all of a file that has `len` bytes.
    pub(crate) fn new(file: BorrowedFd<'_>, len: usize, protection: ProtFlags) -> Result<Self, SegmentError> {
        Self::part(file, 0, len, protection)
    }

    /// Maps a part of a file that others may take away. `guard` contains bus errors from the address that
    /// it is given on; `reservation` is dropped after the part is unmapped.
    pub(crate) fn guarded(
        file: BorrowedFd<'_>,
        offset: u64,
        len: usize,
        protection: ProtFlags,
        reservation: Option<Box<dyn Any + Send + Sync>>,
        guard: impl FnOnce(usize) -> SigbusGuard,
    ) -> Result<Self, SegmentError> {
        let mut map = Self::part(file, offset, len, protection)?;
        map.sigbus = Some(guard(map.start.as_ptr() as usize));
        map._reservation = reservation;
        map.is_far = far_memory::is_modelled();
        Ok(map)
    }

    /// Maps registers of a device, which are no memory.
    pub(crate) fn registers(file: BorrowedFd<'_>, offset: u64, len: usize) -> Result<Self, SegmentError> {
        Self::part(file, offset, len, ProtFlags::READ)
    }

    /// Poisons the page that begins there.
    #[cfg(any(test, feature = "testing"))]
    pub(crate) fn poison(&self, byte: usize) -> Result<(), Errno> {
        assert!(byte < self.len);
        // SAFETY: the byte is mapped, and who reads it later than this has to contain that it is lost.
        unsafe {
            let page = self.start.as_ptr().add(byte);
            // What is not there can't be poisoned.
            std::ptr::read_volatile(page);
            madvise(page.cast(), crate::PAGE, Advice::LinuxHwPoison)
        }
    }

    /// Its length in bytes.
    pub(crate) fn len(&self) -> usize {
        self.len
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
        let first = NonNull::new(start.cast()).expect("the kernel maps nothing at null");
        let map = Self { start: first, len, fork, sigbus: None, _reservation: None, is_far: false };
        // SAFETY: the range was mapped just now.
        unsafe { madvise(start, len, Advice::LinuxDontFork) }.map_err(os("keep from forks", len))?;
        // What processes say to each other is not for those who look at a crash.
        // SAFETY: as before.
        unsafe { madvise(start, len, Advice::LinuxDontDump) }.map_err(os("keep from core dumps", len))?;
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
    /// The model of far memory applies to it.
    is_far: bool,
    /// Nothing has to be done to observe.
    plain: bool,
    /// Its bytes may be replaced when they are lost.
    guarded: bool,
    /// Keeps the bytes mapped, and from being handed out again.
    _held: Arc<dyn Held>,
}

/// A value that a view holds for as long as it lives.
pub(crate) trait Held: Send + Sync + std::fmt::Debug {}

impl Held for Mapping {}

// SAFETY: `start` points into the mapping that is held, to atomics.
unsafe impl Send for View {}
// SAFETY: as above.
unsafe impl Sync for View {}

impl View {
    /// A range of a mapping, made of whole words.
    ///
    /// # Panics
    /// When it is not within the mapping.
    pub(crate) fn new(map: &Arc<Mapping>, byte: usize, bytes: usize, coherence: Coherence) -> Self {
        assert!(byte.is_multiple_of(WORD) && bytes.is_multiple_of(WORD) && byte + bytes <= map.len);
        // SAFETY: within the mapping, and aligned since a mapping begins at a page.
        let start = unsafe { map.start.add(byte) }.cast();
        let is_far = map.is_far;
        let plain = coherence == Coherence::Hardware && !is_far;
        let held = Arc::clone(map) as Arc<dyn Held>;
        let guarded = map.sigbus.is_some();
        Self { start, words: bytes / WORD, coherence, is_far, plain, guarded, _held: held }
    }

    /// Makes the view hold something else than its mapping: that must hold the mapping.
    pub(crate) fn holding(self, held: Arc<dyn Held>) -> Self {
        Self { _held: held, ..self }
    }

    fn with_coherence(self, coherence: Coherence) -> Self {
        let plain = coherence == Coherence::Hardware && !self.is_far;
        Self { coherence, plain, ..self }
    }

    #[inline]
    fn at(&self, word: usize) -> &AtomicU64 {
        &self.all()[word]
    }

    /// Words one behind the other, whose place is checked once.
    #[inline]
    fn array<const N: usize>(&self, word: usize) -> &[AtomicU64; N] {
        self.all()[word..].first_chunk().expect("it is within the view")
    }

    #[inline]
    fn all(&self) -> &[AtomicU64] {
        // SAFETY: within the mapping (`new`) and aligned; all concurrent accesses are atomic.
        unsafe { slice::from_raw_parts(self.start.as_ptr(), self.words) }
    }

    #[inline]
    fn bytes(&self, byte: usize, len: usize) -> *mut u8 {
        assert!(byte <= self.words * WORD && len <= self.words * WORD - byte);
        // SAFETY: within the view.
        unsafe { self.start.as_ptr().cast::<u8>().add(byte) }
    }

    /// Bytes to be read in place, where they stay as they are once they are seen.
    fn lend(&self, _trust: TrustPeerMemory, byte: usize, len: usize) -> Option<Lent> {
        if !self.plain || self.guarded {
            return None;
        }
        let start = NonNull::new(self.bytes(byte, len))?;
        Some(Lent { start, len, _view: self.clone() })
    }

    /// Bytes to be read in place that stay as they are from now on, and are up to date in this side's caches.
    fn lend_lasting(&self, _trust: TrustPeerMemory, byte: usize, len: usize) -> Lent {
        let start = NonNull::new(self.bytes(byte, len)).expect("the kernel maps nothing at null");
        Lent { start, len, _view: self.clone() }
    }

    /// Bytes to be written in place, which only this process can write.
    ///
    /// # Safety
    /// As for [`WriteMemory::loan`].
    unsafe fn loan(&self, byte: usize, len: usize) -> Option<OwnBytes> {
        if !self.plain || self.guarded {
            return None;
        }
        let start = NonNull::new(self.bytes(byte, len))?;
        Some(OwnBytes { start, len, fork: ForkGuard::new().ok()?, _view: self.clone() })
    }

    #[inline]
    fn observe(&self, word: usize, words: usize, written: bool) {
        if !self.plain {
            self.fetch(word, words, written);
        }
    }

    fn fetch(&self, word: usize, words: usize, written: bool) {
        let start = self.bytes(word * WORD, words * WORD);
        if self.coherence == Coherence::Software {
            // SAFETY: within the view; what this process writes it publishes at once.
            unsafe { coherence::invalidate(start, words * WORD) }
        }
        if self.is_far {
            let load = |word| if word < self.words { self.at(word).load(Ordering::Relaxed) } else { 0 };
            let address = self.start.as_ptr() as usize;
            far_memory::fetch(self.coherence, written, address, word..word + words, load);
        }
    }

    #[inline]
    fn publish(&self, word: usize, words: usize) {
        if !self.plain {
            self.write_back(word, words);
        }
    }

    fn write_back(&self, word: usize, words: usize) {
        let start = self.bytes(word * WORD, words * WORD);
        if self.coherence == Coherence::Software {
            // SAFETY: within the view.
            unsafe { coherence::write_back(start, words * WORD) }
        }
        if self.is_far {
            far_memory::write_back(self.coherence, words * WORD);
        }
    }

    /// Waits until what was observed last has arrived, where a model of far memory says when.
    #[inline]
    fn arrive(&self) {
        if self.is_far {
            far_memory::arrive();
        }
    }

    /// A word that several processes write: a model's, and never one of memory that peers share.
    #[cfg(any(test, loom, feature = "testing"))]
    pub(crate) fn word(&self, word: usize) -> &AtomicU64 {
        self.at(word)
    }

    #[inline]
    fn copy_out(&self, byte: usize, into: &mut [u8]) {
        // SAFETY: it is private memory of that length.
        unsafe { self.copy_to(byte, into.as_mut_ptr(), into.len()) }
    }

    #[inline]
    fn append_to(&self, byte: usize, len: usize, bytes: &mut Vec<u8>) {
        bytes.reserve(len);
        let into = bytes.spare_capacity_mut().as_mut_ptr().cast();
        // SAFETY: there is room for that many bytes now.
        unsafe { self.copy_to(byte, into, len) };
        // SAFETY: they are initialised.
        unsafe { bytes.set_len(bytes.len() + len) };
    }

    /// Copies bytes out, each read once.
    ///
    /// # Safety
    /// `to` must be writable for `len` bytes of private memory.
    #[inline]
    unsafe fn copy_to(&self, byte: usize, to: *mut u8, len: usize) {
        let from = self.bytes(byte, len);
        if len > STRING_COPY && cfg!(all(target_arch = "x86_64", not(miri))) {
            // SAFETY: both ranges are valid for their whole length, and distinct since `to` is private
            // memory.
            return unsafe { string_copy(from, to, len) };
        }
        let load = |word: &AtomicU64| word.load(Ordering::Relaxed).to_le_bytes();
        let (mut words, skip) = (&self.all()[byte / WORD..], byte % WORD);
        let mut done = 0;
        if skip > 0 && len > 0 {
            done = len.min(WORD - skip);
            // SAFETY: there is room for `len` bytes.
            unsafe { to.copy_from_nonoverlapping(load(&words[0])[skip..].as_ptr(), done) };
            words = &words[1..];
        }
        let (whole, rest) = words.split_at((len - done) / WORD);
        for word in whole {
            // SAFETY: as above.
            unsafe { to.add(done).cast::<[u8; WORD]>().write(load(word)) };
            done += WORD;
        }
        if done < len {
            // SAFETY: as above.
            unsafe { to.add(done).copy_from_nonoverlapping(load(&rest[0]).as_ptr(), len - done) };
        }
    }

    #[inline]
    fn copy_in(&self, byte: usize, from: &[u8]) {
        let to = self.bytes(byte, from.len());
        // SAFETY: both ranges are valid. They don't overlap: references to a view's bytes are given out for
        // loans only, of which nothing else is written (`View::loan`). This process is the only writer. Peers
        // read these bytes only after a descriptor that is stored later with release order.
        unsafe { std::ptr::copy_nonoverlapping(from.as_ptr(), to, from.len()) }
    }
}

/// Bytes of a peer that this process reads in place, since the peer is trusted not to change them.
#[derive(Debug)]
pub struct Lent {
    start: NonNull<u8>,
    len: usize,
    /// Keeps them mapped.
    _view: View,
}

// SAFETY: the bytes are only read, and stay mapped for as long as this lives, on whatever thread.
unsafe impl Send for Lent {}
// SAFETY: as above.
unsafe impl Sync for Lent {}

impl Lent {
    /// The bytes.
    #[inline]
    pub fn as_slice(&self) -> &[u8] {
        // SAFETY: within a view (`View::lend`), which is held and so stays mapped. Its bytes have been
        // written: they are referred to by what was read with acquire order. That nobody changes them for as
        // long as they are lent has been promised where the `TrustPeerMemory` was made that `View::lend`
        // took.
        unsafe { slice::from_raw_parts(self.start.as_ptr(), self.len) }
    }
}

/// Bytes of this process's own that are written in place. Nothing else here refers to them, and peers can
/// only read them.
#[derive(Debug)]
pub struct OwnBytes {
    start: NonNull<u8>,
    len: usize,
    fork: ForkGuard,
    /// Keeps them mapped.
    _view: View,
}

// SAFETY: this is the only way to the bytes (`WriteMemory::loan`), and they stay mapped for as long as it
// lives, on whatever thread.
unsafe impl Send for OwnBytes {}
// SAFETY: as above; with a shared reference they are only read.
unsafe impl Sync for OwnBytes {}

impl OwnBytes {
    /// The first of them.
    #[inline]
    pub(crate) fn start(&self) -> NonNull<u8> {
        self.start
    }

    /// How many there are.
    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Returns `true` where they are not mapped.
    #[inline]
    pub(crate) fn is_forked_child(&self) -> bool {
        self.fork.is_forked_child()
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

/// See the x86-64 form; here the caller never gets to it.
///
/// # Safety
/// None is needed.
#[cfg(not(target_arch = "x86_64"))]
unsafe fn string_copy(_from: *const u8, _to: *mut u8, _len: usize) {
    unreachable!("the word by word copy serves other architectures")
}

/// A sequentially consistent fence.
///
/// The standard fence compiles to `mfence` on x86-64, which takes twice the time of this one, with which
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
            fn load_each<const N: usize>(&self, word: usize) -> [u64; N] {
                let words = self.0.array::<N>(word);
                std::array::from_fn(|i| words[i].load(Ordering::Relaxed))
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
            fn is_plain(&self) -> bool {
                self.0.plain
            }
            #[inline]
            fn arrive(&self) {
                self.0.arrive();
            }
            #[inline]
            fn copy_out(&self, byte: usize, into: &mut [u8]) {
                self.0.copy_out(byte, into);
            }
            #[inline]
            fn append_to(&self, byte: usize, len: usize, bytes: &mut Vec<u8>) {
                self.0.append_to(byte, len, bytes);
            }
            fn lend(&self, trust: TrustPeerMemory, byte: usize, len: usize) -> Option<Lent> {
                self.0.lend(trust, byte, len)
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
    /// This memory, kept coherent in this way, whatever the coherence of its region.
    #[must_use]
    pub fn with_coherence(self, coherence: Coherence) -> Self {
        Self(self.0.with_coherence(coherence))
    }

    /// Takes the first `bytes` (a multiple of 8) off, as a memory of its own.
    ///
    /// # Panics
    /// When there are not that many.
    #[must_use]
    pub fn split_to(&mut self, bytes: usize) -> Self {
        let words = bytes / WORD;
        assert!(bytes.is_multiple_of(WORD) && words <= self.0.words);
        let front = Self(View { words, ..self.0.clone() });
        // SAFETY: within the mapping, or at the end of the view.
        self.0.start = unsafe { self.0.start.add(words) };
        self.0.words -= words;
        front
    }

    /// Adds to a word, relaxed and modulo 2^64, as one thread does it at a time.
    #[inline]
    pub fn add(&self, word: usize, n: u64) {
        add(self.0.at(word), n);
    }
}

/// A number of words that this process writes. That the compiler knows the number makes a place that it knows
/// too one that needs no check.
#[derive(Debug)]
pub struct OwnWords<const N: usize>(OwnMemory);

impl<const N: usize> OwnWords<N> {
    /// All words of a memory.
    ///
    /// # Panics
    /// When it has another number of them.
    pub fn new(memory: OwnMemory) -> Self {
        assert_eq!(memory.0.words, N);
        Self(memory)
    }

    /// The memory that they are.
    pub fn memory(&mut self) -> &mut OwnMemory {
        &mut self.0
    }

    /// Adds to a word, relaxed and modulo 2^64, as one thread does it at a time.
    #[inline]
    pub fn add(&self, word: usize, n: u64) {
        add(&self.all()[word], n);
    }

    /// Writes a word, relaxed.
    #[inline]
    pub fn store(&self, word: usize, value: u64) {
        self.all()[word].store(value, Ordering::Relaxed);
    }

    /// Writes words one behind the other, each relaxed.
    #[inline]
    pub fn store_each<const M: usize>(&self, word: usize, values: [u64; M]) {
        let words = self.all()[word..].first_chunk::<M>().expect("they are within the memory");
        for (word, value) in words.iter().zip(values) {
            word.store(value, Ordering::Relaxed);
        }
    }

    #[inline]
    fn all(&self) -> &[AtomicU64; N] {
        // SAFETY: as many are within the mapping (`new`), and aligned; all concurrent accesses are atomic.
        unsafe { self.0.0.start.cast().as_ref() }
    }
}

#[inline]
fn add(word: &AtomicU64, n: u64) {
    word.store(word.load(Ordering::Relaxed).wrapping_add(n), Ordering::Relaxed);
}

impl PeerMemory {
    /// The first `len` bytes, to be read in place: trusted peers change them no more, and what this side has
    /// cached of them is up to date.
    ///
    /// # Panics
    /// When there are not that many.
    pub(crate) fn lend_lasting(&self, trust: TrustPeerMemory, len: usize) -> Lent {
        self.0.lend_lasting(trust, 0, len)
    }

    /// This memory, kept coherent in this way, whatever the coherence of its region.
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
    fn store_each<const N: usize>(&self, word: usize, values: [u64; N]) {
        for (word, value) in self.0.array::<N>(word).iter().zip(values) {
            word.store(value, Ordering::Relaxed);
        }
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
    unsafe fn loan(&self, byte: usize, len: usize) -> Option<OwnBytes> {
        // SAFETY: by the same contract.
        unsafe { self.0.loan(byte, len) }
    }
}
