//! How many bytes of its peers' payloads a process reads in place at a time, over all of its links.
//!
//! | atomic | pairs with |
//! | --- | --- |
//! | `HELD`: `fetch_update`, `fetch_sub` | each other: only the sum counts |
//! | `LIMIT`: `store`, `load` | none: a new limit is for what comes later |

use std::sync::atomic::{AtomicU64, Ordering};

/// The limit unless one is set: as much as sixteen links take by default.
pub const DEFAULT_LIMIT: u64 = 16 << 30;

static LIMIT: AtomicU64 = AtomicU64::new(DEFAULT_LIMIT);
static HELD: AtomicU64 = AtomicU64::new(0);

/// Sets the limit for what comes from now on.
pub fn set_limit(bytes: u64) {
    LIMIT.store(bytes, Ordering::Relaxed);
}

/// Bytes that count against the limit at the moment.
pub fn held() -> u64 {
    HELD.load(Ordering::Relaxed)
}

/// Bytes that count against the limit for as long as it lives.
#[derive(Debug)]
pub(super) struct Reservation(u64);

impl Reservation {
    /// `None` when that is too much.
    pub(super) fn new(bytes: u64) -> Option<Self> {
        let limit = LIMIT.load(Ordering::Relaxed);
        let more = |held: u64| held.checked_add(bytes).filter(|sum| *sum <= limit);
        HELD.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).ok().map(|_| Self(bytes))
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        HELD.fetch_sub(self.0, Ordering::Relaxed);
    }
}
