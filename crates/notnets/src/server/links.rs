//! The links of a server, for when there is no more time for their calls.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use crate::link::Link;

/// The links that are open, by the address of each in memory.
#[derive(Debug, Default)]
pub(super) struct OpenLinks(Mutex<HashMap<usize, Weak<Link>>>);

impl OpenLinks {
    pub(super) fn add(&self, link: &Arc<Link>) {
        self.lock().insert(Arc::as_ptr(link).addr(), Arc::downgrade(link));
    }

    pub(super) fn remove(&self, link: &Arc<Link>) {
        self.lock().remove(&Arc::as_ptr(link).addr());
    }

    pub(super) fn all(&self) -> Vec<Arc<Link>> {
        self.lock().values().filter_map(Weak::upgrade).collect()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<usize, Weak<Link>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
