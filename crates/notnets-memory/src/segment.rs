//! Segments on one host: sealed memfds with one writer.
//!
//! [`OwnSegment::create`] does what the kernel needs in this order: create, map, exclude from
//! forks, seal, and only then hand out the descriptor. `F_SEAL_FUTURE_WRITE` leaves our own
//! mapping writable and refuses every other one, so that the kernel enforces the one rule.
//! [`PeerSegment::map`] trusts nothing: it checks the seals and the size.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use rustix::fs::{
    MemfdFlags, SealFlags, fcntl_add_seals, fcntl_get_seals, fstat, fstatfs, ftruncate, memfd_create,
};
use rustix::mm::ProtFlags;

use crate::mapping::{Mapping, OwnMemory, PeerMemory, SegmentError, View, os};
use crate::{Coherence, PAGE, WORD, headroom};

/// The type that `fstatfs` reports for memory made of reserved huge pages.
const HUGETLBFS_MAGIC: u64 = 0x9584_58f6;

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
        Self::create_named("notnets", bytes)
    }

    /// Makes a segment as [`create`](Self::create) does, with a name that `/proc` shows for its descriptors.
    ///
    /// # Errors
    /// As for [`create`](Self::create).
    pub fn create_named(name: &str, bytes: usize) -> Result<Self, SegmentError> {
        headroom::check(bytes as u64)?;
        Self::create_sparse(name, bytes)
    }

    /// Makes a segment as [`create_named`](Self::create_named) does, most of which will never be written, and
    /// so is no memory. Whoever writes to more of it looks for [`headroom`] first.
    ///
    /// # Errors
    /// When the size is wrong, files may not be as large, or the kernel has no descriptor left.
    pub fn create_sparse(name: &str, bytes: usize) -> Result<Self, SegmentError> {
        if bytes == 0 || !bytes.is_multiple_of(PAGE) {
            return Err(SegmentError::Size(bytes as u64));
        }
        let file = sealable(name, bytes)?;
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
        self.map.len()
    }

    /// Takes the next `bytes` (a multiple of 8) of the segment that are not handed out yet, so that no two
    /// parts ever overlap.
    ///
    /// # Panics
    /// When the segment has fewer bytes left.
    pub fn carve(&mut self, bytes: usize) -> OwnMemory {
        assert!(bytes.is_multiple_of(WORD) && bytes <= self.map.len() - self.carved);
        let part = OwnMemory(View::new(&self.map, self.carved, bytes, Coherence::Hardware));
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
    /// Maps the segment behind a descriptor that came from a peer, which announced it with `bytes`.
    ///
    /// # Errors
    /// When it is not sealed as [`OwnSegment::create`] does it, or has another size.
    pub fn map(file: BorrowedFd<'_>, bytes: u64) -> Result<Self, SegmentError> {
        if bytes == 0 || !bytes.is_multiple_of(PAGE as u64) || bytes > isize::MAX as u64 {
            return Err(SegmentError::Size(bytes));
        }
        let len = bytes as usize;
        check_seals(file, required_seals())?;
        let stat = fstat(file).map_err(os("look at", len))?;
        if stat.st_size as u64 != bytes {
            return Err(SegmentError::WrongSize { announced: bytes, actual: stat.st_size as u64 });
        }
        check_pages(file, len)?;
        Ok(Self { map: Arc::new(Mapping::new(file, len, ProtFlags::READ)?) })
    }

    /// Maps a segment as [`map`](Self::map) does, of the size that it has, at most `most` bytes.
    ///
    /// # Errors
    /// When it is not sealed as [`OwnSegment::create`] does it, or is larger.
    pub fn map_whole(file: BorrowedFd<'_>, most: u64) -> Result<Self, SegmentError> {
        let bytes = fstat(file).map_err(os("look at", 0))?.st_size as u64;
        if bytes > most { Err(SegmentError::Size(bytes)) } else { Self::map(file, bytes) }
    }

    /// Its size in bytes.
    pub fn bytes(&self) -> usize {
        self.map.len()
    }

    /// A part of the segment, or `None` if that is not within it or not made of whole words.
    pub fn part(&self, byte: usize, bytes: usize) -> Option<PeerMemory> {
        let whole = byte.is_multiple_of(WORD) && bytes.is_multiple_of(WORD);
        let within = byte.checked_add(bytes)? <= self.map.len();
        (whole && within).then(|| PeerMemory(View::new(&self.map, byte, bytes, Coherence::Hardware)))
    }
}

/// A new file of `bytes` in memory, which can be sealed. Whether there is memory for them is not looked at.
pub(crate) fn sealable(name: &str, bytes: usize) -> Result<OwnedFd, SegmentError> {
    headroom::check_file(bytes as u64)?;
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let file = memfd_create(name, flags | MemfdFlags::NOEXEC_SEAL)
        // Kernels before 6.3 don't know that flag.
        .or_else(|_| memfd_create(name, flags))
        .map_err(os("create", bytes))?;
    ftruncate(&file, bytes as u64).map_err(os("size", bytes))?;
    Ok(file)
}

/// Checks that a file has all these seals.
pub(crate) fn check_seals(file: BorrowedFd<'_>, required: SealFlags) -> Result<(), SegmentError> {
    let seals = fcntl_get_seals(file).map_err(|_| SegmentError::NotSealed(0))?;
    if seals.contains(required) { Ok(()) } else { Err(SegmentError::NotSealed(seals.bits())) }
}

/// Checks that a file is not made of huge pages, which may not be there when they are read. Not by its block
/// size: where shared memory is made of transparent huge pages, that is a huge page's for any memfd.
pub(crate) fn check_pages(file: BorrowedFd<'_>, bytes: usize) -> Result<(), SegmentError> {
    let kind = fstatfs(file).map_err(os("look at", bytes))?.f_type as u64;
    if kind == HUGETLBFS_MAGIC { Err(SegmentError::HugePages) } else { Ok(()) }
}

fn required_seals() -> SealFlags {
    SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL | SealFlags::FUTURE_WRITE
}

#[cfg(test)]
mod tests {
    use rustix::io::Errno;

    use super::*;
    use crate::{ReadMemory, WriteMemory};

    #[test]
    fn a_peer_cannot_write() {
        let own = OwnSegment::create(PAGE).unwrap();
        let writable = Mapping::new(own.descriptor(), PAGE, ProtFlags::READ | ProtFlags::WRITE);
        assert!(matches!(writable, Err(SegmentError::Os { errno: Errno::PERM, .. })));
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
        // This kernel may not support it; then nobody can send such memory.
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
