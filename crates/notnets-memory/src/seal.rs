//! Seals: checksums that distinguish words written for this reader from words that only look so.
//!
//! Between hosts a line can arrive torn, stale, or out of an earlier incarnation of its writer. Anything
//! larger than a word carries a CRC32C that is seeded with the writer, the reader and the location. If the
//! checksum is wrong, it counts as not written yet.

use crate::{LINE, PAGE, ReadMemory, WORD};

/// The CRC32C of the first `len` bytes.
///
/// # Panics
/// When there are not that many.
pub fn checksum(memory: &impl ReadMemory, len: usize) -> u32 {
    let mut buffer = [0; PAGE];
    (0..len).step_by(PAGE).fold(0, |crc, at| {
        let bytes = &mut buffer[..PAGE.min(len - at)];
        memory.copy_out(at, bytes);
        crc32c::crc32c_append(crc, bytes)
    })
}

/// The seed of the checksums at one location, for one writer and one reader.
///
/// ```
/// use notnets_memory::seal::Seal;
/// let (here, elsewhere) = (Seal::new([1, 2]), Seal::new([1, 3]));
/// assert_eq!(here.of([7, 8]), here.of([7, 8]));
/// assert_ne!(here.of([7, 8]), here.of([7, 9]));
/// assert_ne!(here.of([7, 8]), elsewhere.of([7, 8]));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seal(u32);

impl Seal {
    /// A seal for what these words stand for: incarnations, an offset.
    pub fn new(words: impl IntoIterator<Item = u64>) -> Self {
        // All ones, so that zeroed memory never checks.
        Self(words.into_iter().fold(u32::MAX, append))
    }

    /// The seal for a part of what this one is for.
    pub fn at(self, part: u64) -> Self {
        Self(append(self.0, part))
    }

    /// The checksum of these words.
    #[inline]
    pub fn of(self, words: impl IntoIterator<Item = u64>) -> u32 {
        // In one go: each call of the library takes as long as the checksum of a whole line.
        let mut line = Line([0; LINE]);
        let mut crc = self.0;
        let mut len = 0;
        for word in words {
            if len == LINE {
                crc = crc32c::crc32c_append(crc, &line.0);
                len = 0;
            }
            line.0[len..len + WORD].copy_from_slice(&word.to_le_bytes());
            len += WORD;
        }
        crc32c::crc32c_append(crc, &line.0[..len])
    }
}

/// Bytes that lie as words do.
#[repr(align(8))]
struct Line([u8; LINE]);

fn append(crc: u32, word: u64) -> u32 {
    crc32c::crc32c_append(crc, &word.to_le_bytes())
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn words_are_summed_up_one_behind_the_other_however_many() {
        let seal = Seal::new([1, 2]);
        for count in 0..20 {
            let words = (0..count).map(|word: u64| word.wrapping_mul(0x9e37_79b9_7f4a_7c15));
            assert_eq!(seal.of(words.clone()), words.fold(seal.0, append), "{count}");
        }
    }
}
