//! Regions: memory that several processes, and several hosts, map (`docs/pod.md`).
//!
//! | module | what it is for |
//! | --- | --- |
//! | [`mod@file`] | what a region can be made of |
//! | [`superblock`] | its description |
//! | [`layout`] | where what lies in it |
//! | `offset` | offsets and ranges of bytes in a region |
//! | [`mod@format`] | how it is made |
//! | [`pool`] | blocks of what a process was granted |
//!
//! A process maps a region to read, and those parts of it to write that are its own.

pub mod file;
pub mod format;
pub mod layout;
mod offset;
pub mod pool;
pub mod superblock;

use std::any::Any;
use std::collections::BTreeMap;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::mm::ProtFlags;

use crate::mapping::{Mapping, View};
use crate::sigbus::{self, ANY, CONTROL, FIRST_EXTENT, Guarded, Lost, Parts};
use crate::{Coherence, OwnMemory, PeerMemory, ReadMemory, SegmentError, WORD};
use file::{FileError, RegionFile};
use layout::Layout;
pub use offset::{RegionOffset, RegionRange};
use superblock::{BadSuperblock, SUPERBLOCK_BYTES, Superblock};

/// A formatted region, mapped to read.
#[derive(Clone, Debug)]
pub struct Region {
    shared: Arc<Shared>,
    map: Arc<Mapping>,
}

#[derive(Debug)]
struct Shared {
    file: RegionFile,
    superblock: Superblock,
    layout: Layout,
    /// For the superblock, and then each partition, its control area and its extents.
    lost: Lost,
    /// The ranges that are mapped to write, by where they begin.
    own: Mutex<BTreeMap<RegionOffset, RegionOffset>>,
}

/// Why a region can't be used: its file, its superblock, or mapping it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RegionError {
    /// The file or device can't hold one.
    #[error(transparent)]
    File(#[from] FileError),
    /// Its superblock is missing or can't be used.
    #[error(transparent)]
    Superblock(#[from] BadSuperblock),
    /// It can't be mapped.
    #[error("can't be mapped: {0}")]
    Map(SegmentError),
    /// Its file is smaller than it was, or has another unit.
    #[error(
        "has {bytes} bytes in units of {unit}, but was formatted with {said} bytes in units of {said_unit}"
    )]
    Changed {
        /// Bytes that there are.
        bytes: u64,
        /// Its unit.
        unit: u64,
        /// The bytes that its superblock states.
        said: u64,
        /// The unit that its superblock states.
        said_unit: u64,
    },
}

/// Why a part of a region can't be mapped to write.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OwnError {
    /// The range is not made of whole units of one partition.
    #[error("the bytes {0} are not whole units within one partition of the region")]
    NotUnits(RegionRange),
    /// This process writes some of it already.
    #[error("the bytes {0} of the region are written by this process already")]
    Taken(RegionRange),
    /// It can't be mapped.
    #[error("can't be mapped: {0}")]
    Map(SegmentError),
}

impl From<SegmentError> for RegionError {
    fn from(error: SegmentError) -> Self {
        Self::Map(error)
    }
}

impl From<SegmentError> for OwnError {
    fn from(error: SegmentError) -> Self {
        Self::Map(error)
    }
}

impl Region {
    /// Opens the region at a path.
    ///
    /// # Errors
    /// When it holds no region that this code can use.
    pub fn open(path: &Path) -> Result<Self, RegionError> {
        Self::of(RegionFile::open(path)?)
    }

    /// The region in this memory.
    ///
    /// # Errors
    /// When it holds no region that this code can use.
    pub fn of(file: RegionFile) -> Result<Self, RegionError> {
        let superblock = read_superblock(&file)?;
        let said = superblock.region_bytes();
        let said_unit = superblock.unit;
        // A larger unit than now is fine: its multiples are multiples of ours.
        if said > file.bytes || !said_unit.is_multiple_of(file.unit) {
            return Err(RegionError::Changed { bytes: file.bytes, unit: file.unit, said, said_unit });
        }
        let layout = superblock.layout().map_err(BadSuperblock::from)?;
        let flags = 1 + layout.hosts() * parts(&layout).flags_of_partition();
        let lost: Vec<AtomicBool> = (0..flags).map(|_| AtomicBool::new(false)).collect();
        let lost: Lost = lost.leak();
        let all = RegionRange::within(0, said as usize);
        let map = map(&file, &layout, lost, all, ProtFlags::READ, None)?;
        let shared = Shared { file, superblock, layout, lost, own: Mutex::default() };
        Ok(Self { shared: Arc::new(shared), map: Arc::new(map) })
    }

    /// Returns its superblock.
    pub fn superblock(&self) -> &Superblock {
        &self.shared.superblock
    }

    /// Where what lies in it.
    pub fn layout(&self) -> &Layout {
        &self.shared.layout
    }

    /// Returns its file.
    pub fn file(&self) -> &RegionFile {
        &self.shared.file
    }

    /// Claims this host's partition against all other processes of this kernel, until the descriptor is
    /// closed. `None` when another one has claimed it.
    ///
    /// # Errors
    /// When the kernel can't.
    pub fn claim(&self, host: usize) -> io::Result<Option<OwnedFd>> {
        self.shared.file.lock(self.shared.layout.control(host))
    }

    /// The descriptor to give to processes of this host.
    pub fn descriptor(&self) -> BorrowedFd<'_> {
        self.shared.file.descriptor()
    }

    /// A part of the region to read, or `None` if that is not within it or not made of whole words.
    pub fn peer(&self, range: RegionRange) -> Option<PeerMemory> {
        let within = range.end().0 <= self.superblock().region_bytes();
        let coherence = self.superblock().coherence;
        let view = || View::new(&self.map, range.start().0 as usize, range.len(), coherence);
        (within && range.is_words()).then(|| PeerMemory(view()))
    }

    /// Maps a part of the region to write: whole units of one partition. The caller sees to it that no other
    /// process writes there.
    ///
    /// # Errors
    /// When it is not such a part, or this process writes it already.
    pub fn own(&self, range: RegionRange) -> Result<OwnPart, OwnError> {
        let shared = &self.shared;
        let whole = range.is_aligned(shared.superblock.unit as usize);
        let host = shared.layout.host_of(range.start());
        let within = host.is_some_and(|host| shared.layout.partition(host).contains(range));
        if !whole || !within || range.is_empty() {
            return Err(OwnError::NotUnits(range));
        }
        let reservation = Reservation::new(shared, range).ok_or(OwnError::Taken(range))?;
        let protection = ProtFlags::READ | ProtFlags::WRITE;
        let map =
            map(&shared.file, &shared.layout, shared.lost, range, protection, Some(Box::new(reservation)))?;
        Ok(OwnPart { map: Arc::new(map), range, carved: 0, coherence: shared.superblock.coherence })
    }

    /// Returns `true` if a part of this host's partition was lost: a page is poisoned, or the device is gone.
    pub fn is_lost(&self, host: usize) -> bool {
        self.flag(host, ANY)
    }

    /// Returns `true` if a part of this host's control area was lost.
    pub fn is_control_lost(&self, host: usize) -> bool {
        self.flag(host, CONTROL)
    }

    /// Returns `true` if a part of this extent was lost.
    pub fn is_extent_lost(&self, host: usize, extent: usize) -> bool {
        self.flag(host, FIRST_EXTENT + extent)
    }

    fn flag(&self, host: usize, flag: usize) -> bool {
        let Shared { lost, layout, .. } = &*self.shared;
        let flag = 1 + host * parts(layout).flags_of_partition() + flag;
        // Pairs with the stores in `sigbus::replace`: the page has been replaced.
        lost.get(flag).is_some_and(|lost| lost.load(Ordering::Acquire))
    }
}

/// Keeps others in this process from mapping the same bytes to write.
#[derive(Debug)]
struct Reservation {
    shared: Arc<Shared>,
    start: RegionOffset,
}

impl Reservation {
    fn new(shared: &Arc<Shared>, range: RegionRange) -> Option<Self> {
        let mut own = shared.own.lock().unwrap_or_else(PoisonError::into_inner);
        let before = own.range(..range.end()).next_back();
        if before.is_some_and(|(_, end)| *end > range.start()) {
            return None;
        }
        own.insert(range.start(), range.end());
        Some(Self { shared: Arc::clone(shared), start: range.start() })
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.shared.own.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.start);
    }
}

/// A part of a region that this process writes.
#[derive(Debug)]
pub struct OwnPart {
    map: Arc<Mapping>,
    range: RegionRange,
    carved: usize,
    coherence: Coherence,
}

impl OwnPart {
    /// Its mapping, and what keeps it coherent, for pools.
    pub(crate) fn map(&self) -> (&Arc<Mapping>, Coherence) {
        (&self.map, self.coherence)
    }

    /// Where it lies in the region.
    pub fn range(&self) -> RegionRange {
        self.range
    }

    /// Where the next part that is carved will lie in the region.
    pub fn next_offset(&self) -> RegionOffset {
        RegionOffset(self.range.start().0 + self.carved as u64)
    }

    /// Returns how many bytes are not handed out yet.
    pub fn left(&self) -> usize {
        self.range.len() - self.carved
    }

    /// Takes the next `bytes` (a multiple of 8) that are not handed out yet, so that no two parts overlap.
    ///
    /// # Panics
    /// When there are fewer left.
    pub fn carve(&mut self, bytes: usize) -> OwnMemory {
        assert!(bytes.is_multiple_of(WORD) && bytes <= self.left());
        let part = OwnMemory(View::new(&self.map, self.carved, bytes, self.coherence));
        self.carved += bytes;
        part
    }
}

fn parts(layout: &Layout) -> Parts {
    let partition = layout.partition(0);
    let (control, extent) = (layout.control(0).len(), layout.extent_bytes());
    Parts { first: partition.start().0 as usize, partition: partition.len(), control, extent }
}

fn map(
    file: &RegionFile,
    layout: &Layout,
    lost: Lost,
    range: RegionRange,
    protection: ProtFlags,
    reservation: Option<Box<dyn Any + Send + Sync>>,
) -> Result<Mapping, SegmentError> {
    let guarded = Guarded {
        len: range.len(),
        unit: file.unit as usize,
        writable: protection.contains(ProtFlags::WRITE),
        offset: range.start().0 as usize,
        parts: parts(layout),
        lost,
    };
    let guard = |start| sigbus::guard(start, guarded);
    Mapping::guarded(file.descriptor(), range.start().0, range.len(), protection, reservation, guard)
}

/// Reads the superblock, before anything else is known of the region.
fn read_superblock(file: &RegionFile) -> Result<Superblock, RegionError> {
    let map = Arc::new(file.map_first_unit(ProtFlags::READ)?);
    // Another host may have formatted it, and not be coherent with this one.
    let view = PeerMemory(View::new(&map, 0, SUPERBLOCK_BYTES, Coherence::Software));
    let mut bytes = [0; SUPERBLOCK_BYTES];
    view.observe(0, SUPERBLOCK_BYTES / WORD);
    view.copy_out(0, &mut bytes);
    Ok(Superblock::decode(&bytes)?)
}

#[cfg(all(test, not(loom)))]
mod tests;
