//! Values that a hostile peer sends.

pub use notnets_cli_common::random::Random;

/// Values of which some are nearly right.
pub trait Values {
    /// A word: mostly one that could be true, or is just beside it.
    fn word(&mut self) -> u64;

    /// These many bytes.
    fn bytes(&mut self, length: usize) -> Vec<u8>;
}

impl Values for Random {
    fn word(&mut self) -> u64 {
        match self.below(8) {
            0..=3 => self.below(16),
            4 => self.below(1 << 16),
            5 => u64::MAX - self.below(4),
            6 => 1 << self.below(64),
            _ => self.bits(),
        }
    }

    fn bytes(&mut self, length: usize) -> Vec<u8> {
        (0..length).map(|_| self.bits() as u8).collect()
    }
}
