//! The kinds of file that a region can be made of, and their properties.
//!
//! | what | size | unit of mapping |
//! | --- | --- | --- |
//! | device DAX, `/dev/daxX.Y` | sysfs, `size` | sysfs, `align`; 2 MiB where it has none |
//! | a file on hugetlbfs | its own | the huge page |
//! | any other file: tmpfs, fs-dax, famfs, a memfd | its own | a page |
//! | a PCI bar, `/sys/bus/pci/devices/…/resource2` | the bar's | a page |
//!
//! A region's file is never truncated or extended: its blocks must be there before.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::{fs, io};

use rustix::fs::{FileType, Mode, OFlags, fstat, fstatfs, major, minor, open};
use rustix::io::Errno;
use rustix::mm::ProtFlags;

use super::offset::RegionRange;
use crate::mapping::Mapping;
use crate::sigbus::{self, Guarded, Parts};
use crate::{PAGE, SegmentError};

const HUGETLBFS_MAGIC: u64 = 0x9584_58f6;
const SYSFS_MAGIC: u64 = 0x6265_6572;
/// The alignment of device DAX where the kernel is too old to report it.
const DAX_UNIT: u64 = 2 << 20;
/// `st_blocks` counts these.
const BLOCK: u64 = 512;

/// The kind of memory behind a region.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A device-DAX character device.
    DeviceDax,
    /// A file on hugetlbfs.
    HugePages,
    /// Any other file.
    File,
    /// Memory of a PCI device, as ivshmem has it.
    PciBar,
}

/// Memory that can hold a region, open for reading and writing.
#[derive(Debug)]
pub struct RegionFile {
    pub(super) fd: OwnedFd,
    /// Its kind.
    pub kind: Kind,
    /// Its size.
    pub bytes: u64,
    /// Mappings begin and end at multiples of this.
    pub unit: u64,
}

/// Why something can't hold a region.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FileError {
    /// The kernel refused a step.
    #[error("could not {step}: {errno}")]
    Os {
        /// The step that failed.
        step: &'static str,
        /// The kernel's answer.
        errno: Errno,
    },
    /// Opening it is not permitted.
    #[error(
        "cannot be opened for reading and writing: permission denied; grant it to this user, for a device with a udev rule"
    )]
    Denied,
    /// It is neither a file nor a device with memory.
    #[error("is {0}: a region is a device-DAX device, a file, or the resource file of a PCI bar")]
    NotMemory(&'static str),
    /// Its blocks are not there.
    #[error(
        "has {allocated} of its {bytes} bytes allocated, and running out of space later would end its users: \
         allocate it with `fallocate -l {bytes}`"
    )]
    Holes {
        /// Its size.
        bytes: u64,
        /// The bytes that are allocated.
        allocated: u64,
    },
    /// It has no size at all.
    #[error("is empty: allocate it first, as with `fallocate -l 64M`")]
    Empty,
    /// A PCI device that is off.
    #[error("belongs to a PCI device that is not enabled: write 1 to {0}")]
    Disabled(PathBuf),
    /// An attribute in sysfs is missing or not a valid number.
    #[error("has no readable attribute `{attribute}` in {directory}")]
    Sysfs {
        /// The attribute's name.
        attribute: &'static str,
        /// Where it should be.
        directory: PathBuf,
    },
}

fn os(step: &'static str) -> impl Fn(Errno) -> FileError {
    move |errno| FileError::Os { step, errno }
}

impl RegionFile {
    /// Opens what is at a path. Nothing is changed or created.
    ///
    /// # Errors
    /// When it can't hold a region.
    pub fn open(path: &Path) -> Result<Self, FileError> {
        let enable = path.with_file_name("enable");
        let fd = match open(path, OFlags::RDWR | OFlags::CLOEXEC, Mode::empty()) {
            Err(Errno::ACCESS | Errno::PERM) => return Err(FileError::Denied),
            Err(Errno::ISDIR) => return Err(FileError::NotMemory("a directory")),
            opened => opened.map_err(os("open it"))?,
        };
        let file = Self::of(fd)?;
        if file.kind == Kind::PciBar && fs::read_to_string(&enable).is_ok_and(|enabled| enabled.trim() == "0")
        {
            return Err(FileError::Disabled(enable));
        }
        Ok(file)
    }

    /// The memory behind a descriptor, such as a memfd's.
    ///
    /// # Errors
    /// When it can't hold a region.
    pub fn of(fd: OwnedFd) -> Result<Self, FileError> {
        let stat = fstat(&fd).map_err(os("look at it"))?;
        let (kind, bytes, unit) = match FileType::from_raw_mode(stat.st_mode) {
            FileType::CharacterDevice => {
                let (bytes, unit) =
                    dax(Path::new("/sys/dev/char"), major(stat.st_rdev), minor(stat.st_rdev))?;
                (Kind::DeviceDax, bytes, unit)
            }
            FileType::RegularFile => {
                let system = fstatfs(&fd).map_err(os("look at its file system"))?;
                let bytes = stat.st_size as u64;
                match system.f_type as u64 {
                    HUGETLBFS_MAGIC => (Kind::HugePages, bytes, system.f_bsize as u64),
                    SYSFS_MAGIC => (Kind::PciBar, bytes, PAGE as u64),
                    _ => {
                        let allocated = stat.st_blocks as u64 * BLOCK;
                        if allocated < bytes {
                            return Err(FileError::Holes { bytes, allocated });
                        }
                        (Kind::File, bytes, PAGE as u64)
                    }
                }
            }
            FileType::Directory => return Err(FileError::NotMemory("a directory")),
            FileType::BlockDevice => return Err(FileError::NotMemory("a block device")),
            FileType::Fifo => return Err(FileError::NotMemory("a pipe")),
            FileType::Socket => return Err(FileError::NotMemory("a socket")),
            _ => return Err(FileError::NotMemory("something else")),
        };
        match bytes {
            0 => Err(FileError::Empty),
            _ => Ok(Self { fd, kind, bytes, unit }),
        }
    }

    /// Locks some bytes against other processes that lock them. The lock ends with the descriptor, which is
    /// one of its own: this one may be shared with processes that outlive us. `None` when they are locked.
    ///
    /// # Errors
    /// When the kernel can't.
    pub(super) fn lock(&self, range: RegionRange) -> io::Result<Option<OwnedFd>> {
        let path = format!("/proc/self/fd/{}", self.fd.as_raw_fd());
        let again = open(path, OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?;
        // SAFETY: zeros are a valid `flock`.
        let mut lock: libc::flock = unsafe { std::mem::zeroed() };
        lock.l_type = libc::F_WRLCK as _;
        lock.l_whence = libc::SEEK_SET as _;
        lock.l_start = range.start().0 as _;
        lock.l_len = range.len() as _;
        // SAFETY: the kernel reads the structure, which is valid.
        match unsafe { libc::fcntl(again.as_raw_fd(), libc::F_OFD_SETLK, &raw const lock) } {
            0 => Ok(Some(again)),
            _ => match io::Error::last_os_error() {
                error if matches!(error.raw_os_error(), Some(libc::EAGAIN | libc::EACCES)) => Ok(None),
                error => Err(error),
            },
        }
    }

    /// Maps the first unit, with the superblock.
    pub(super) fn map_first_unit(&self, protection: ProtFlags) -> Result<Mapping, SegmentError> {
        if self.bytes < self.unit {
            return Err(SegmentError::Size(self.bytes));
        }
        self.map(RegionRange::within(0, self.unit as usize), protection)
    }

    /// Maps a range of it, whatever it is divided into.
    pub(super) fn map(&self, range: RegionRange, protection: ProtFlags) -> Result<Mapping, SegmentError> {
        static LOST: [AtomicBool; 1] = [AtomicBool::new(false)];
        let guarded = Guarded {
            len: range.len(),
            unit: self.unit as usize,
            writable: protection.contains(ProtFlags::WRITE),
            offset: 0,
            parts: Parts::NONE,
            lost: &LOST,
        };
        let guard = |start| sigbus::guard(start, guarded);
        Mapping::guarded(self.descriptor(), range.start().0, range.len(), protection, None, guard)
    }

    /// Poisons the page of a byte, as the kernel does when the memory below has an error that can't be
    /// corrected. The page of a file on tmpfs is gone until the machine is booted again.
    ///
    /// # Errors
    /// When the kernel has no way to (`CONFIG_MEMORY_FAILURE`), or this process is not root's.
    #[cfg(any(test, feature = "testing"))]
    pub fn poison(&self, byte: u64) -> io::Result<()> {
        let start = byte / self.unit * self.unit;
        let map = self.map(RegionRange::within(start as usize, self.unit as usize), ProtFlags::READ);
        let map = map.map_err(io::Error::other)?;
        map.poison((byte - start) as usize / PAGE * PAGE)?;
        Ok(())
    }

    pub(super) fn descriptor(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Size and alignment of a device-DAX device, from `/sys/dev/char`.
fn dax(devices: &Path, major: u32, minor: u32) -> Result<(u64, u64), FileError> {
    let directory = devices.join(format!("{major}:{minor}"));
    let subsystem = fs::canonicalize(directory.join("subsystem")).unwrap_or_default();
    if subsystem.file_name().is_none_or(|name| name != "dax") {
        return Err(FileError::NotMemory("a character device other than device DAX"));
    }
    let number = |attribute| fs::read_to_string(directory.join(attribute)).ok()?.trim().parse::<u64>().ok();
    let bytes = number("size");
    let bytes = bytes.ok_or_else(|| FileError::Sysfs { attribute: "size", directory: directory.clone() })?;
    let unit = number("align").unwrap_or(DAX_UNIT);
    if !unit.is_power_of_two() || unit < PAGE as u64 {
        return Err(FileError::Sysfs { attribute: "align", directory });
    }
    Ok((bytes, unit))
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn sysfs_tells_size_and_alignment_of_device_dax() {
        let sys = tempfile::tempdir().unwrap();
        for (number, subsystem) in [("252:1", "dax"), ("252:2", "tty"), ("252:3", "dax")] {
            fs::create_dir(sys.path().join(number)).unwrap();
            fs::create_dir_all(sys.path().join("bus").join(subsystem)).unwrap();
            symlink(sys.path().join("bus").join(subsystem), sys.path().join(number).join("subsystem"))
                .unwrap();
        }
        fs::write(sys.path().join("252:1/size"), "67108864\n").unwrap();
        assert_eq!(dax(sys.path(), 252, 1).unwrap(), (64 << 20, 2 << 20), "an old kernel");
        fs::write(sys.path().join("252:1/align"), "1073741824\n").unwrap();
        assert_eq!(dax(sys.path(), 252, 1).unwrap(), (64 << 20, 1 << 30));
        fs::write(sys.path().join("252:1/align"), "77\n").unwrap();
        assert!(matches!(dax(sys.path(), 252, 1), Err(FileError::Sysfs { attribute: "align", .. })));
        assert!(matches!(dax(sys.path(), 252, 2), Err(FileError::NotMemory(_))));
        assert!(matches!(dax(sys.path(), 252, 3), Err(FileError::Sysfs { attribute: "size", .. })));
        assert!(matches!(dax(sys.path(), 1, 1), Err(FileError::NotMemory(_))));
    }

    #[test]
    fn what_is_no_memory_is_refused() {
        assert!(matches!(RegionFile::open(Path::new("/dev/null")), Err(FileError::NotMemory(_))));
        assert!(matches!(RegionFile::open(Path::new("/tmp")), Err(FileError::NotMemory("a directory"))));
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("region");
        assert!(matches!(RegionFile::open(&file), Err(FileError::Os { errno: Errno::NOENT, .. })));
        fs::write(&file, "").unwrap();
        assert!(matches!(RegionFile::open(&file), Err(FileError::Empty)));
        fs::File::create(&file).unwrap().set_len(1 << 20).unwrap();
        assert!(matches!(RegionFile::open(&file), Err(FileError::Holes { .. })));
        fs::write(&file, vec![1; 1 << 20]).unwrap();
        let file = RegionFile::open(&file).unwrap();
        assert_eq!((file.kind, file.bytes, file.unit), (Kind::File, 1 << 20, 4096));
    }
}
