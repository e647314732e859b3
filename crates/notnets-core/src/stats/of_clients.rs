//! The counters of all links on which this process is the client.

use std::sync::{Arc, OnceLock};

use super::Stats;
use crate::per_process::PerProcess;

/// The counters of this process's client links. They are made with the first of them; `None` where there is
/// no memory for them, and the links are not counted.
pub fn of_clients() -> Option<Arc<Stats>> {
    static CLIENTS: OnceLock<PerProcess<Option<Arc<Stats>>>> = OnceLock::new();
    let mut stats = CLIENTS.get_or_init(|| PerProcess::new(None)).lock(|| None);
    if stats.is_none() {
        *stats = Stats::new(false).ok().map(Arc::new);
    }
    stats.clone()
}
