//! The counters of all links on which this process is the client.

use std::sync::Arc;

use once_cell::race::OnceBox;

use super::Stats;
use crate::per_process::PerProcess;

/// The counters of this process's client links. They are made with the first of them; `None` where there is
/// no memory for them, and the links are not counted.
pub fn of_clients() -> Option<Arc<Stats>> {
    static CLIENTS: OnceBox<PerProcess<Option<Arc<Stats>>>> = OnceBox::new();
    let mut stats = CLIENTS.get_or_init(|| PerProcess::new(None).into()).lock(|| None);
    if stats.is_none() {
        *stats = Stats::new(false).ok().map(Arc::new);
    }
    stats.clone()
}
