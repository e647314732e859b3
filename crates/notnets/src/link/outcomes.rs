//! How the calls end that are made on the links to a server.

use std::sync::atomic::{AtomicU32, Ordering};

use notnets_core::call::{End, Failure};
use notnets_core::code::Code;

/// Counts of calls by how they ended, since they were last [taken](Self::take).
#[derive(Debug, Default)]
pub(crate) struct Outcomes {
    succeeded: AtomicU32,
    failed: AtomicU32,
}

impl Outcomes {
    /// Takes out how many calls succeeded, and how many failed.
    pub(crate) fn take(&self) -> (u32, u32) {
        // They order nothing.
        (self.succeeded.swap(0, Ordering::Relaxed), self.failed.swap(0, Ordering::Relaxed))
    }

    pub(super) fn count_end(&self, end: &End) {
        match end {
            End::Trailers(code, _) => self.count(*code),
            End::Failed(failure) => self.count_failure(failure),
            End::Requests => {}
        }
    }

    /// A call that the server never saw says nothing of it.
    pub(super) fn count_failure(&self, failure: &Failure) {
        if !failure.retry_safe {
            self.count(failure.code);
        }
    }

    /// The server's answer was this status.
    pub(crate) fn count(&self, code: Code) {
        let counter = if code == Code::OK { &self.succeeded } else { &self.failed };
        counter.fetch_add(1, Ordering::Relaxed);
    }
}
