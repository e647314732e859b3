//! How much memory is left before the kernel kills a process.
//!
//! Shared memory is charged to the control group of the process that first touches a page, long after it was
//! created and mapped, and a full group doesn't answer with an error: the kernel kills a process in it. So
//! before a segment is created, [`check`] compares its size with what the groups above this process, and the
//! host, have left, and its error names the limit that has no room, with the numbers.
//!
//! ```
//! use notnets_memory::headroom;
//!
//! headroom::check(64 * 1024)?;
//! if let Some(limit) = headroom::headroom().tightest {
//!     println!("{} bytes left by {}", limit.available(), limit.source);
//! }
//! # Ok::<(), headroom::NoHeadroom>(())
//! ```
//!
//! Memory in use that the kernel takes back when it needs it counts as free, as far as it is page cache that
//! hasn't been used lately (`inactive_file`). Swap does not: a ring in swap helps nobody.
//!
//! It is a look at the present and reserves nothing. Others may take the same memory a moment later, and what
//! can't be read (no `/proc`, groups above a container) limits nothing. It is cheap enough for each segment:
//! where control groups are mounted is found out once, and a look is then a few small reads of kernel files.

mod cgroup;
mod kernel_file;
mod limit;

use std::fmt;
use std::path::{Path, PathBuf};

use once_cell::race::OnceBox;
use rustix::process::{Resource, getrlimit};
use thiserror::Error;

use cgroup::Mounts;
use kernel_file::{field, read};
pub use limit::{Limit, Source};

/// Returns the limit on this process's memory that leaves the least now.
pub fn headroom() -> Headroom {
    Headroom { tightest: View::of_system().tightest(u64::MAX) }
}

/// The memory that [`check`] leaves to the processes in a group: without any they could not even report that
/// their memory has run out, for the kernel kills one of them as soon as it touches another page.
pub const KEPT_FREE: u64 = 1 << 20;

/// Checks that there is room for `bytes` more, beside [`KEPT_FREE`].
///
/// # Errors
/// When a control group above this process, or the host, has less than that left, or a file may not be as
/// large: the kernel answers that with a signal.
pub fn check(bytes: u64) -> Result<(), NoHeadroom> {
    check_file(bytes)?;
    View::of_system().check(bytes, KEPT_FREE)
}

/// Checks that a file may have so many bytes.
///
/// # Errors
/// When it may not: the kernel answers that with a signal.
pub(crate) fn check_file(bytes: u64) -> Result<(), NoHeadroom> {
    check_file_size(bytes, getrlimit(Resource::Fsize).current)
}

fn check_file_size(wanted: u64, limit: Option<u64>) -> Result<(), NoHeadroom> {
    match limit {
        Some(limit) if wanted > limit => {
            let limit = Limit { source: Source::FileSize, limit, usage: 0, reclaimable: 0 };
            Err(NoHeadroom { wanted, kept: 0, limit })
        }
        _ => Ok(()),
    }
}

/// The limit that will be reached first, if there is any.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Headroom {
    /// The limit that leaves the least, or `None` when nothing limits it.
    pub tightest: Option<Limit>,
}

impl Headroom {
    /// How many bytes may still be taken, or `None` for any number.
    pub fn bytes(&self) -> Option<u64> {
        self.tightest.as_ref().map(Limit::available)
    }
}

/// There is less memory left than is wanted.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error(
    "no room for {} of shared memory: {} leaves {} of {}, with {} in use and {} of that reclaimable{}; {}",
    Bytes(*wanted), limit.source, Bytes(limit.available()), Bytes(limit.limit), Bytes(limit.usage),
    Bytes(limit.reclaimable), Kept(*kept), limit.source.remedy()
)]
#[non_exhaustive]
pub struct NoHeadroom {
    /// How many bytes were wanted.
    pub wanted: u64,
    /// How many more have to stay free.
    pub kept: u64,
    /// The limit that leaves less.
    pub limit: Limit,
}

/// The memory that has to stay free.
struct Kept(u64);

impl fmt::Display for Kept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            0 => Ok(()),
            kept => write!(f, ", while {} stay free for what else is done there", Bytes(kept)),
        }
    }
}

/// A number of bytes, exact and readable.
struct Bytes(u64);

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const KIB: f64 = 1024.0;
        const MIB: f64 = KIB * KIB;
        match self.0 {
            small @ ..1024 => write!(f, "{small} bytes"),
            bytes @ ..0x10_0000 => write!(f, "{bytes} bytes ({:.1} KiB)", bytes as f64 / KIB),
            bytes => write!(f, "{bytes} bytes ({:.1} MiB)", bytes as f64 / MIB),
        }
    }
}

/// The system as seen from a root directory: `/`, or a made-up one in tests.
struct View {
    root: PathBuf,
    mounts: Mounts,
}

impl View {
    fn of_system() -> &'static View {
        static VIEW: OnceBox<View> = OnceBox::new();
        VIEW.get_or_init(|| View::from(Path::new("/")).into())
    }

    fn from(root: &Path) -> View {
        View { root: root.into(), mounts: Mounts::read(root) }
    }

    fn check(&self, wanted: u64, kept: u64) -> Result<(), NoHeadroom> {
        let enough = wanted.saturating_add(kept);
        match self.tightest(enough) {
            Some(limit) if limit.available() < enough => Err(NoHeadroom { wanted, kept, limit }),
            _ => Ok(()),
        }
    }

    /// The limit that leaves the least. One that leaves `enough` is not looked at more closely than needed to
    /// see that.
    fn tightest(&self, enough: u64) -> Option<Limit> {
        // Read each time, as a process can be moved between control groups.
        let groups = self.mounts.groups_of_this_process(&self.root);
        let limits = groups.iter().filter_map(|group| group.limit(enough));
        limits.chain(host(&self.root)).min_by_key(Limit::available)
    }
}

/// The host's free memory. The kernel's own estimate already counts what can be reclaimed.
fn host(root: &Path) -> Option<Limit> {
    let meminfo = read(&root.join("proc/meminfo"))?;
    let kib = |key| field(&meminfo, key).and_then(|kib| kib.checked_mul(1024));
    let total = kib("MemTotal:")?;
    let available = kib("MemAvailable:")?;
    Some(Limit { source: Source::Host, limit: total, usage: total.saturating_sub(available), reclaimable: 0 })
}

#[cfg(test)]
mod tests;
