//! Message bodies whose content can be checked.

use crate::pb::{Chunk, Summary};

/// `size` bytes that depend on the seed and on their position.
pub fn pattern(seed: u64, size: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut body = Vec::with_capacity(size + 8);
    while body.len() < size {
        // xorshift64: cheap, and no two positions of a message look alike.
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        body.extend_from_slice(&state.to_le_bytes());
    }
    body.truncate(size);
    body
}

/// FNV-1a over a body, continued from the checksum of what came before it.
pub fn checksum(before: u64, body: &[u8]) -> u64 {
    let start = before ^ 0xcbf2_9ce4_8422_2325;
    body.iter().fold(start, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

impl Summary {
    /// Adds a chunk to the sum of those before it.
    pub fn add(&mut self, chunk: &Chunk) {
        self.messages += 1;
        self.bytes += chunk.body.len() as u64;
        self.checksum = checksum(self.checksum ^ chunk.index, &chunk.body);
    }
}
