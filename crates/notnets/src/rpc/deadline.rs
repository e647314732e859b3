//! When a call has to be over.

use std::time::Duration;

use notnets_core::clock::{self, Timestamp};

/// The time by which a call has to be over. It holds for the whole call, on both sides; pass a request's
/// deadline on to the calls that its handler makes.
///
/// ```
/// use std::time::Duration;
/// use notnets::rpc::Deadline;
///
/// let deadline = Deadline::after(Duration::from_secs(2));
/// assert!(deadline.time_left() <= Duration::from_secs(2));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Deadline(Timestamp);

impl Deadline {
    /// This long from now.
    pub fn after(duration: Duration) -> Self {
        Self(clock::after(duration))
    }

    /// How long it is until then; zero once it has passed.
    pub fn time_left(self) -> Duration {
        clock::until(self.0)
    }

    pub(crate) fn at(time: Timestamp) -> Self {
        Self(time)
    }

    pub(crate) fn time(self) -> Timestamp {
        self.0
    }
}
