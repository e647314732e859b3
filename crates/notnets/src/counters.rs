//! The counters of a server.

use std::time::{SystemTime, UNIX_EPOCH};

use notnets_core::stats::Stats;
use notnets_memory::SegmentError;

/// Counters of a server that begins now.
///
/// # Errors
/// When there is no memory for them.
pub(crate) fn new_stats() -> Result<Stats, SegmentError> {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    Stats::new(since)
}
