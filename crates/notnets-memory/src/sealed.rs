//! Bytes that nobody can change any more, and that any process may read in place.
//!
//! [`Sealed`] memory is a memfd that was filled and then sealed against all writing and resizing
//! (`F_SEAL_WRITE`, `F_SEAL_SHRINK`, `F_SEAL_GROW`, `F_SEAL_SEAL`). The kernel grants the first of these
//! seals only when nobody has a writable mapping, and no mapping or write after it. So whoever has checked
//! the seals can refer to the bytes as `&[u8]`, without trust in the process that wrote them.
//!
//! A receiver also checks that the file has no holes: to read one would take memory of its own.
//!
//! A process maps each file once, however often it receives its descriptor. It knows where: [`Sealed::find`]
//! tells whether bytes lie in such memory, so that they can be passed on by reference.
//!
//! In a region of a pod no kernel keeps anybody from writing. There [`Sealed::vouched`] takes the word of
//! whoever has made a [`TrustPeerMemory`], and all else is as for a file.

pub mod quota;
mod ranges;

use std::any::Any;
use std::mem;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::ptr::NonNull;
use std::slice;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use rustix::fs::{SealFlags, SeekFrom, fcntl_add_seals, fstat, seek};
use rustix::io::{Errno, pwrite};
use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap, munmap};

use crate::mapping::{Lent, os};
use crate::segment::{check_pages, check_seals, sealable};
use crate::{PAGE, PeerMemory, Returns, SegmentError, TrustPeerMemory, headroom};

use quota::Reservation;
pub use ranges::{endings, has_room};

/// Whole pages of more bytes would be more than a slice can have.
const MAX_LEN: usize = isize::MAX as usize - PAGE;

/// Why bytes can't be sealed, or what a peer has sealed is not accepted.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SealedError {
    /// There is no memory or descriptor, or a file is not as it must be.
    #[error(transparent)]
    Segment(#[from] SegmentError),
    /// The file has holes, which would take memory of their reader's.
    #[error("the sealed file has a hole at byte {0}: a reader would pay for it")]
    Hole(u64),
    /// This process reads as much of its peers' as it may.
    #[error("{0} more bytes of peers' payloads are more than this process takes at a time")]
    OverQuota(u64),
}

impl SealedError {
    /// Returns `true` if this process lacks something, and the file is as it must be.
    pub fn is_of_this_process(&self) -> bool {
        use SegmentError::{NoDescriptors, NoHeadroom, Os};
        matches!(self, Self::Segment(Os { .. } | NoDescriptors { .. } | NoHeadroom(_)) | Self::OverQuota(_))
    }
}

/// Bytes that nobody can change any more. Clones refer to the same ones.
///
/// ```
/// use notnets_memory::Sealed;
///
/// let catalogue = Sealed::copy_of(b"apples, pears")?;
/// let descriptor = catalogue.descriptor().unwrap().try_clone_to_owned()?; // as another process gets it
/// let received = Sealed::from_descriptor(descriptor)?;
/// assert_eq!(received.as_slice(), b"apples, pears");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Sealed(Arc<Mapped>);

/// Refers to sealed memory without keeping it.
#[derive(Clone, Debug)]
pub struct WeakSealed(Weak<Mapped>);

impl Sealed {
    /// Seals a copy of these bytes.
    ///
    /// # Errors
    /// When there are none, or no memory or descriptor for them.
    pub fn copy_of(bytes: &[u8]) -> Result<Self, SealedError> {
        let file = create(bytes.len())?;
        let mut written = 0;
        while written < bytes.len() {
            match pwrite(&file, &bytes[written..], written as u64) {
                Ok(0) => return Err(os("fill", bytes.len())(Errno::IO).into()),
                Ok(n) => written += n,
                Err(Errno::INTR) => {}
                Err(errno) => return Err(os("fill", bytes.len())(errno).into()),
            }
        }
        Self::seal(file, bytes.len())
    }

    /// Seals `len` bytes that `fill` writes. It gets zeroes.
    ///
    /// # Errors
    /// When there are none, or no memory or descriptor for them.
    pub fn filled_by(len: usize, fill: impl FnOnce(&mut [u8])) -> Result<Self, SealedError> {
        let file = create(len)?;
        Writable::map(&file, len)?.fill(fill);
        Self::seal(file, len)
    }

    fn seal(file: OwnedFd, len: usize) -> Result<Self, SealedError> {
        fcntl_add_seals(&file, required_seals()).map_err(os("seal", len))?;
        Self::from_descriptor(file)
    }

    /// Maps the memory behind a descriptor, from whoever it comes. If this process has mapped it already,
    /// that is what is returned.
    ///
    /// # Errors
    /// When it is not a memfd, is not sealed against all writing and resizing, is empty or has holes, or when
    /// the kernel refuses to map it.
    pub fn from_descriptor(file: OwnedFd) -> Result<Self, SealedError> {
        Self::of(file, |_| Ok(None))
    }

    /// Maps memory that a peer has sealed, unless it is mapped already. It counts against the [quota] of this
    /// process.
    ///
    /// # Errors
    /// As for [`from_descriptor`](Self::from_descriptor), and when that would be exceeded.
    pub fn from_peer(file: OwnedFd) -> Result<Self, SealedError> {
        Self::of(file, |bytes| Reservation::new(bytes).map(Some).ok_or(SealedError::OverQuota(bytes)))
    }

    fn of(
        file: OwnedFd,
        count: impl FnOnce(u64) -> Result<Option<Reservation>, SealedError>,
    ) -> Result<Self, SealedError> {
        check_seals(file.as_fd(), required_seals())?;
        let stat = fstat(&file).map_err(os("look at", 0))?;
        let bytes = u64::try_from(stat.st_size).unwrap_or_default();
        let len = usize::try_from(bytes).unwrap_or(usize::MAX);
        if len == 0 || len > MAX_LEN {
            return Err(SegmentError::Size(bytes).into());
        }
        check_pages(file.as_fd(), len)?;
        let id = Identity::File { device: stat.st_dev, inode: stat.st_ino };
        if let Some(mapped) = ranges::known(id) {
            return Ok(Self(mapped));
        }
        match seek(&file, SeekFrom::Hole(0)) {
            Ok(hole) if hole < bytes => return Err(SealedError::Hole(hole)),
            Ok(_) => {}
            Err(errno) => return Err(os("look at", len)(errno).into()),
        }
        let counted = count(bytes)?;
        Ok(Self(ranges::register(Mapped::new(file, len, id, counted)?)))
    }

    /// The first `len` bytes of memory in a region, which trusted peers change no more. What this side has
    /// cached of them is up to date. `held` is kept for as long as anything refers to them. If they are known
    /// already, they are those that are known. `None` when the [quota] of this process would be exceeded.
    ///
    /// # Panics
    /// When there are not that many.
    pub fn vouched(
        trust: TrustPeerMemory,
        memory: &PeerMemory,
        len: usize,
        held: Arc<dyn Any + Send + Sync>,
    ) -> Option<Self> {
        let _counted = Some(Reservation::new(len as u64)?);
        let lent = memory.lend_lasting(trust, len);
        let start = NonNull::from(lent.as_slice()).cast();
        let id = Identity::Region { address: start.as_ptr() as usize, len };
        let serial = ranges::next_serial();
        let backing = Backing::Region { _lent: lent, held };
        let told = Mutex::default();
        Some(Self(ranges::register(Mapped { backing, id, start, len, serial, told, _counted })))
    }

    /// The bytes.
    #[inline]
    pub fn as_slice(&self) -> &[u8] {
        self.0.as_slice()
    }

    /// The descriptor that another process can map, unless they lie in a region.
    pub fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        match &self.0.backing {
            Backing::File(file) => Some(file.as_fd()),
            Backing::Region { .. } => None,
        }
    }

    /// What is held for bytes of a region.
    pub fn held(&self) -> Option<&Arc<dyn Any + Send + Sync>> {
        match &self.0.backing {
            Backing::File(_) => None,
            Backing::Region { held, .. } => Some(held),
        }
    }

    /// The sealed memory that all of these bytes lie in, and where in it they begin, if they do in any.
    pub fn find(bytes: &[u8]) -> Option<(Self, usize)> {
        let (mapped, offset) = ranges::find(bytes)?;
        Some((Self(mapped), offset))
    }

    /// A number that no other sealed memory of this process has or had.
    pub fn serial(&self) -> u64 {
        self.0.serial
    }

    /// Has a link's driver woken when nothing in this process refers to the memory any more.
    pub fn tell(&self, returns: &Arc<Returns>) {
        let mut told = self.0.told.lock().unwrap_or_else(PoisonError::into_inner);
        // Those of links that have ended make room.
        told.retain(|other| other.strong_count() > 0);
        if !told.iter().any(|other| std::ptr::eq(other.as_ptr(), Arc::as_ptr(returns))) {
            told.push(Arc::downgrade(returns));
        }
    }

    /// Refers to it without keeping it.
    pub fn downgrade(&self) -> WeakSealed {
        WeakSealed(Arc::downgrade(&self.0))
    }
}

impl WeakSealed {
    /// How many refer to it in this process, by values of [`Sealed`].
    pub fn holders(&self) -> usize {
        self.0.strong_count()
    }

    /// Returns `true` if nothing in this process refers to the memory any more.
    pub fn is_gone(&self) -> bool {
        self.0.strong_count() == 0
    }
}

impl AsRef<[u8]> for Sealed {
    fn as_ref(&self) -> &[u8] {
        self.as_slice()
    }
}

/// Which bytes they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Identity {
    File { device: u64, inode: u64 },
    Region { address: usize, len: usize },
}

/// Where they come from.
#[derive(Debug)]
enum Backing {
    File(OwnedFd),
    Region {
        /// Keeps them mapped.
        _lent: Lent,
        held: Arc<dyn Any + Send + Sync>,
    },
}

/// Bytes that are mapped until the last reference to them is dropped.
#[derive(Debug)]
struct Mapped {
    backing: Backing,
    id: Identity,
    start: NonNull<u8>,
    len: usize,
    serial: u64,
    /// Links to be told when nothing refers to it any more.
    told: Mutex<Vec<Weak<Returns>>>,
    /// It is a peer's.
    _counted: Option<Reservation>,
}

// SAFETY: the bytes are never written, and the kernel doesn't care which thread unmaps. What is held is
// `Send` and `Sync`.
unsafe impl Send for Mapped {}
// SAFETY: as above.
unsafe impl Sync for Mapped {}

impl Mapped {
    /// Maps a file that is sealed and has this length. It stays mapped in forked children: what can't change
    /// can be read there, too.
    fn new(
        file: OwnedFd,
        len: usize,
        id: Identity,
        counted: Option<Reservation>,
    ) -> Result<Self, SegmentError> {
        // Private, for kernels before 6.7 refuse any shared mapping of what is sealed against writing.
        // Without the right to write it shows the file's own pages. SAFETY: a new mapping where the kernel
        // finds room touches no other memory.
        let start = unsafe { mmap(std::ptr::null_mut(), len, ProtFlags::READ, MapFlags::PRIVATE, &file, 0) }
            .map_err(os("map", len))?;
        let start = NonNull::new(start.cast()).expect("the kernel maps nothing at null");
        let serial = ranges::next_serial();
        let (backing, told) = (Backing::File(file), Mutex::default());
        let mapped = Self { backing, id, start, len, serial, told, _counted: counted };
        // What processes say to each other is not for those who look at a crash.
        // SAFETY: the range was mapped just now.
        unsafe { madvise(start.as_ptr().cast(), len, Advice::LinuxDontDump) }
            .map_err(os("keep from core dumps", len))?;
        Ok(mapped)
    }

    #[inline]
    fn as_slice(&self) -> &[u8] {
        // SAFETY: mapped for reading until `self` is dropped. The seals, which were checked, keep all of a
        // file there and unchanged, and its mapping can't be written. Those of a region are `Lent`.
        unsafe { slice::from_raw_parts(self.start.as_ptr(), self.len) }
    }
}

impl Drop for Mapped {
    fn drop(&mut self) {
        ranges::unregister(self);
        let told = mem::take(self.told.get_mut().unwrap_or_else(PoisonError::into_inner));
        for returns in told.iter().filter_map(Weak::upgrade) {
            returns.notify();
        }
        if matches!(self.backing, Backing::File(_)) {
            // SAFETY: mapped in `new`, and nothing refers to it any more.
            let _ = unsafe { munmap(self.start.as_ptr().cast(), self.len) };
        }
    }
}

/// A new file's bytes, which nobody else can know of yet.
struct Writable {
    start: NonNull<u8>,
    len: usize,
}

impl Writable {
    fn map(file: &OwnedFd, len: usize) -> Result<Self, SegmentError> {
        let protection = ProtFlags::READ | ProtFlags::WRITE;
        // With its pages, so that none is left a hole.
        let flags = MapFlags::SHARED | MapFlags::POPULATE;
        // SAFETY: a new mapping where the kernel finds room touches no other memory.
        let start =
            unsafe { mmap(std::ptr::null_mut(), len, protection, flags, file, 0) }.map_err(os("map", len))?;
        Ok(Self { start: NonNull::new(start.cast()).expect("the kernel maps nothing at null"), len })
    }

    fn fill(self, fill: impl FnOnce(&mut [u8])) {
        // SAFETY: mapped for reading and writing until `self` is dropped, and its file's descriptor has not
        // left `filled_by`: nothing else refers to these bytes.
        fill(unsafe { slice::from_raw_parts_mut(self.start.as_ptr(), self.len) });
    }
}

impl Drop for Writable {
    fn drop(&mut self) {
        // SAFETY: mapped in `map`, and nothing refers to it any more.
        let _ = unsafe { munmap(self.start.as_ptr().cast(), self.len) };
    }
}

/// A new file of `len` bytes that can be sealed.
fn create(len: usize) -> Result<OwnedFd, SegmentError> {
    if len == 0 || len > MAX_LEN {
        return Err(SegmentError::Size(len as u64));
    }
    headroom::check(len as u64)?;
    sealable("notnets-sealed", len)
}

fn required_seals() -> SealFlags {
    SealFlags::WRITE | SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL
}

#[cfg(test)]
mod tests {
    use rustix::fs::{MemfdFlags, ftruncate, memfd_create};

    use super::*;

    fn memfd(bytes: &[u8], seals: SealFlags) -> OwnedFd {
        let file =
            memfd_create("test", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING).expect("a descriptor");
        pwrite(&file, bytes, 0).unwrap();
        fcntl_add_seals(&file, seals).unwrap();
        file
    }

    fn refusal(file: OwnedFd) -> SealedError {
        Sealed::from_descriptor(file).unwrap_err()
    }

    #[test]
    fn nobody_can_change_it() {
        let sealed = Sealed::copy_of(&[7; 5000]).unwrap();
        let file = sealed.descriptor().unwrap().try_clone_to_owned().unwrap();
        assert!(ftruncate(&file, 0).is_err() && pwrite(&file, b"x", 0).is_err());
        assert!(Writable::map(&file, 5000).is_err());
        assert!(fcntl_add_seals(&file, SealFlags::FUTURE_WRITE).is_err());
        assert_eq!(sealed.as_slice(), [7; 5000]);
    }

    #[test]
    fn it_can_be_filled_in_place() {
        let sealed = Sealed::filled_by(3 * PAGE + 1, |bytes| bytes[PAGE..].fill(9)).unwrap();
        assert_eq!(sealed.as_slice()[..PAGE], [0; PAGE], "pages that were not written are no holes");
        assert_eq!(sealed.as_slice()[PAGE..], [9; 2 * PAGE + 1]);
    }

    #[test]
    fn what_a_peer_could_still_change_is_refused() {
        for left in [SealFlags::WRITE, SealFlags::SHRINK, SealFlags::GROW, SealFlags::SEAL] {
            let file = memfd(b"abc", required_seals() - left);
            let error = refusal(file);
            assert!(matches!(error, SealedError::Segment(SegmentError::NotSealed(_))), "{left:?}: {error}");
        }
        let future = memfd(b"abc", (required_seals() - SealFlags::WRITE) | SealFlags::FUTURE_WRITE);
        assert!(matches!(refusal(future), SealedError::Segment(SegmentError::NotSealed(_))));
        let (pipe, _) = rustix::pipe::pipe().unwrap();
        assert!(matches!(refusal(pipe), SealedError::Segment(SegmentError::NotSealed(0))));
        let file = tempfile::tempfile().unwrap();
        assert!(matches!(refusal(file.into()), SealedError::Segment(SegmentError::NotSealed(_))));
    }

    #[test]
    fn what_would_cost_its_reader_memory_is_refused() {
        let holes = memfd_create("test", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING).unwrap();
        pwrite(&holes, &[1; PAGE], 0).unwrap();
        ftruncate(&holes, 1 << 40).unwrap();
        fcntl_add_seals(&holes, required_seals()).unwrap();
        assert!(matches!(refusal(holes), SealedError::Hole(4096)));
        let empty = memfd(b"", required_seals());
        assert!(matches!(refusal(empty), SealedError::Segment(SegmentError::Size(0))));
        assert!(matches!(Sealed::copy_of(b""), Err(SealedError::Segment(SegmentError::Size(0)))));
    }

    #[test]
    fn a_file_is_mapped_once() {
        let own = Sealed::copy_of(b"the same").unwrap();
        let back = Sealed::from_descriptor(own.descriptor().unwrap().try_clone_to_owned().unwrap()).unwrap();
        assert_eq!((back.serial(), back.as_slice().as_ptr()), (own.serial(), own.as_slice().as_ptr()));
        let weak = own.downgrade();
        drop(own);
        assert!(!weak.is_gone(), "it is held by the other");
        let before = endings();
        drop(back);
        assert!(weak.is_gone() && endings() > before);
    }

    #[test]
    fn bytes_in_it_are_found_and_others_are_not() {
        let sealed = Sealed::copy_of(&[1; 10_000]).unwrap();
        let bytes = sealed.as_slice();
        let (found, offset) = Sealed::find(&bytes[100..9000]).unwrap();
        assert_eq!((found.serial(), offset), (sealed.serial(), 100));
        assert_eq!(Sealed::find(&bytes[9999..]).unwrap().1, 9999);
        assert!(Sealed::find(&[1; 100]).is_none());
        assert!(Sealed::find(&vec![1; 10_000]).is_none());
        assert!(Sealed::find(&[]).is_none());
    }
}
