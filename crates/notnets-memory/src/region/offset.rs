//! Where bytes lie in a region: offsets that hosts exchange, and ranges of them.

use std::fmt;

use crate::WORD;

/// A distance in bytes from the beginning of a region. Hosts map a region at different addresses, so
/// this is how they name places in it to each other. One that a peer sent is not checked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RegionOffset(pub u64);

impl RegionOffset {
    /// The beginning of the region.
    pub const ZERO: Self = Self(0);

    /// The offset that is `bytes` further on, or `None` if there can't be one.
    pub fn checked_add(self, bytes: usize) -> Option<Self> {
        self.0.checked_add(bytes as u64).map(Self)
    }

    /// Returns `true` if the offset is a multiple of `unit`, a number of bytes other than 0.
    pub fn is_aligned(self, unit: usize) -> bool {
        self.0.is_multiple_of(unit as u64)
    }
}

impl fmt::Display for RegionOffset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// Bytes of a region that follow one another.
///
/// ```
/// use notnets_memory::region::{RegionOffset, RegionRange};
/// let page = RegionRange::new(RegionOffset(4096), 4096).unwrap();
/// assert_eq!((page.start().0, page.end().0, page.len()), (4096, 8192, 4096));
/// assert_eq!(page.part(64, 128), RegionRange::new(RegionOffset(4160), 128));
/// assert_eq!(page.part(4095, 2), None);
/// assert_eq!(RegionRange::new(RegionOffset(u64::MAX), 2), None);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct RegionRange {
    start: RegionOffset,
    len: usize,
}

impl RegionRange {
    /// The range of `bytes` from `start` on, or `None` if it would end beyond all offsets.
    pub fn new(start: RegionOffset, bytes: usize) -> Option<Self> {
        start.checked_add(bytes).map(|_| Self { start, len: bytes })
    }

    /// For offsets and lengths that this code has computed within a region.
    pub(crate) fn within(start: usize, bytes: usize) -> Self {
        debug_assert!(start.checked_add(bytes).is_some());
        Self { start: RegionOffset(start as u64), len: bytes }
    }

    /// The offset of its first byte.
    pub fn start(self) -> RegionOffset {
        self.start
    }

    /// The offset after its last byte.
    pub fn end(self) -> RegionOffset {
        // `new` has seen to it that this is an offset.
        RegionOffset(self.start.0 + self.len as u64)
    }

    /// Its length in bytes.
    pub fn len(self) -> usize {
        self.len
    }

    /// Returns `true` if it holds no byte.
    pub fn is_empty(self) -> bool {
        self.len == 0
    }

    /// Returns `true` if it begins and ends at multiples of `unit`.
    pub fn is_aligned(self, unit: usize) -> bool {
        self.start.is_aligned(unit) && self.len.is_multiple_of(unit)
    }

    /// Returns `true` if all bytes of `inner` are in this range.
    pub fn contains(self, inner: Self) -> bool {
        self.start <= inner.start && inner.end() <= self.end()
    }

    /// A part of it, `from` bytes after its beginning, or `None` if that is not within it.
    pub fn part(self, from: usize, bytes: usize) -> Option<Self> {
        let part = Self::new(self.start.checked_add(from)?, bytes)?;
        self.contains(part).then_some(part)
    }

    /// Returns `true` if it is made of whole words.
    pub(crate) fn is_words(self) -> bool {
        self.is_aligned(WORD)
    }
}

impl fmt::Debug for RegionRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for RegionRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}..{}", self.start.0, self.end().0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(start: u64, bytes: usize) -> RegionRange {
        RegionRange::new(RegionOffset(start), bytes).unwrap()
    }

    #[test]
    fn parts_are_within_their_range() {
        let page = range(4096, 4096);
        assert_eq!(page.part(0, 4096), Some(page));
        assert_eq!(page.part(4096, 0), Some(range(8192, 0)));
        for (from, bytes) in [(1, 4096), (4097, 0), (usize::MAX, 1), (1, usize::MAX)] {
            assert_eq!(page.part(from, bytes), None);
        }
        assert!(page.contains(range(4096, 1)) && page.contains(range(8191, 1)));
        assert!(!page.contains(range(4095, 2)) && !page.contains(range(8191, 2)));
    }

    #[test]
    fn alignment_is_that_of_both_ends() {
        assert!(range(4096, 8192).is_aligned(4096) && range(0, 0).is_aligned(4096));
        assert!(!range(4096, 1).is_aligned(4096) && !range(1, 4096).is_aligned(4096));
        assert!(range(8, 16).is_words() && !range(4, 8).is_words());
    }

    #[test]
    fn ranges_are_shown_as_ranges() {
        assert_eq!(range(4096, 64).to_string(), "4096..4160");
        assert_eq!(RegionOffset(4096).to_string(), "4096");
    }
}
