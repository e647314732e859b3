//! The number of a stream.

use std::fmt;

/// Identifies a stream of a link. The client that opens a stream gives it the next number, from 1 on; no
/// number is used twice on a link.
///
/// ```
/// use notnets_core::StreamId;
///
/// let first = StreamId::LINK.next();
/// assert_eq!((first.get(), first.to_string().as_str()), (1, "1"));
/// assert!(first < first.next());
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamId(u64);

impl StreamId {
    /// Stands for the link itself in frames that are about no stream.
    pub const LINK: Self = Self(0);
    /// The largest number, which no stream ever gets.
    pub const MAX: Self = Self(u64::MAX);

    /// The stream with this number; 0 is the [link](Self::LINK).
    #[inline]
    pub const fn new(number: u64) -> Self {
        Self(number)
    }

    /// The number, as it travels in frames.
    #[inline]
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The stream that is opened after this one.
    #[inline]
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl fmt::Display for StreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
