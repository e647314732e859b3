//! Pauses that get longer while their reason comes back soon.

use crate::clock::Timestamp;

/// How long pauses are, in nanoseconds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lengths {
    pub(super) first: u64,
    pub(super) longest: u64,
    /// A reason that comes back within this time after a pause, or within the length of that, comes soon.
    pub(super) soon: u64,
}

/// The last pause.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pause {
    until: Timestamp,
    length: u64,
}

impl Pause {
    /// There was none yet.
    pub(super) const NONE: Self = Self { until: Timestamp::ZERO, length: 0 };

    /// When it is over.
    #[inline]
    pub(super) fn until(self) -> Timestamp {
        self.until
    }

    /// Returns `true` if it is over since a short while only.
    pub(super) fn is_recent(self, now: Timestamp, lengths: Lengths) -> bool {
        now.nanos_since(self.until) < self.length.max(lengths.soon)
    }

    /// The next one: twice as long, if it comes soon after this.
    pub(super) fn next(self, now: Timestamp, lengths: Lengths) -> Self {
        let Lengths { first, longest, .. } = lengths;
        let length =
            if self.is_recent(now, lengths) { (self.length * 2).clamp(first, longest) } else { first };
        Self { until: now.add_nanos(length), length }
    }

    /// The same, for which the next is as short as the first.
    pub(super) fn forgiven(self) -> Self {
        Self { length: 0, ..self }
    }
}
