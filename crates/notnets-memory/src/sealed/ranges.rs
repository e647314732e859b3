//! Where this process has mapped sealed memory.
//!
//! | atomic | pairs with |
//! | --- | --- |
//! | `ENDINGS`: `fetch_add` once nothing refers to some memory | `endings`: only that it has changed counts |
//! | `SERIALS`: `fetch_add` | none: each number is taken once |

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard, Weak};

use once_cell::race::OnceBox;
use rustix::process::{Resource, getrlimit};

use super::{Identity, Mapped};
use crate::process::ForkGuard;

/// Sealed memory that a process maps at most if it is its peers'.
const MAX_MAPPED: u64 = 8192;
/// And not more than this part of its descriptors.
const SHARE: u64 = 4;

static ENDINGS: AtomicU64 = AtomicU64::new(0);
static SERIALS: AtomicU64 = AtomicU64::new(0);

struct Ranges {
    fork: ForkGuard,
    tables: RwLock<Tables>,
}

/// `None` in a forked child: a thread of the parent may have held the lock.
fn ranges() -> Option<&'static Ranges> {
    static RANGES: OnceBox<Option<Ranges>> = OnceBox::new();
    let make = || ForkGuard::new().ok().map(|fork| Ranges { fork, tables: RwLock::default() });
    RANGES.get_or_init(|| make().into()).as_ref().filter(|ranges| !ranges.fork.is_forked_child())
}

#[derive(Default)]
struct Tables {
    by_start: BTreeMap<usize, Weak<Mapped>>,
    by_id: HashMap<Identity, Weak<Mapped>>,
}

/// How often this process has let go of sealed memory: whoever keeps a table of such memory looks through it
/// when that changes.
#[inline]
pub fn endings() -> u64 {
    ENDINGS.load(Ordering::Relaxed)
}

/// Returns `true` if this process can well map more sealed memory of its peers: each takes one of its
/// descriptors and one of its some 65,000 mappings, of which others must find some, too.
pub fn has_room() -> bool {
    let descriptors = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    let most = (descriptors / SHARE).min(MAX_MAPPED);
    read().is_some_and(|tables| (tables.by_start.len() as u64) < most)
}

/// A number that was not given before.
pub(super) fn next_serial() -> u64 {
    SERIALS.fetch_add(1, Ordering::Relaxed)
}

/// Makes it known. If the same is known already, as another thread has mapped the file meanwhile, that is
/// returned.
pub(super) fn register(mapped: Mapped) -> Arc<Mapped> {
    let mapped = Arc::new(mapped);
    let Some(mut tables) = write() else { return mapped };
    let Tables { by_start, by_id } = &mut *tables;
    if let Some(other) = by_id.get(&mapped.id).and_then(Weak::upgrade) {
        // The lock is free again before `mapped`, which is nobody else's, is dropped.
        drop(tables);
        return other;
    }
    by_id.insert(mapped.id, Arc::downgrade(&mapped));
    by_start.insert(mapped.start.as_ptr() as usize, Arc::downgrade(&mapped));
    drop(tables);
    mapped
}

/// Forgets it, before it is unmapped.
pub(super) fn unregister(mapped: &Mapped) {
    if let Some(mut tables) = write() {
        let Tables { by_start, by_id } = &mut *tables;
        let is_gone = |weak: &Weak<Mapped>| weak.strong_count() == 0;
        // One that was never registered must not take out another's entry.
        let start = mapped.start.as_ptr() as usize;
        if by_start.get(&start).is_some_and(is_gone) {
            by_start.remove(&start);
        }
        if by_id.get(&mapped.id).is_some_and(is_gone) {
            by_id.remove(&mapped.id);
        }
    }
    ENDINGS.fetch_add(1, Ordering::Relaxed);
}

/// What is mapped of these.
pub(super) fn known(id: Identity) -> Option<Arc<Mapped>> {
    read()?.by_id.get(&id)?.upgrade()
}

/// What all of these bytes lie in, and where.
pub(super) fn find(bytes: &[u8]) -> Option<(Arc<Mapped>, usize)> {
    let first = bytes.as_ptr() as usize;
    if bytes.is_empty() {
        return None;
    }
    let tables = read()?;
    let (start, mapped) = tables.by_start.range(..=first).next_back()?;
    let offset = first - start;
    let mapped = mapped.upgrade()?;
    drop(tables);
    (offset + bytes.len() <= mapped.len).then_some((mapped, offset))
}

fn read() -> Option<RwLockReadGuard<'static, Tables>> {
    Some(ranges()?.tables.read().unwrap_or_else(PoisonError::into_inner))
}

fn write() -> Option<RwLockWriteGuard<'static, Tables>> {
    Some(ranges()?.tables.write().unwrap_or_else(PoisonError::into_inner))
}
