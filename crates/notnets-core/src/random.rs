//! Random numbers of the kernel.

use rustix::rand::{GetRandomFlags, getrandom};

/// 16 random bytes.
pub fn bytes() -> [u8; 16] {
    let mut random = [0; 16];
    // Only an ancient kernel or a strange sandbox fails here; the pid still distinguishes processes.
    if getrandom(&mut random, GetRandomFlags::empty()).is_err() {
        random[..4].copy_from_slice(&std::process::id().to_le_bytes());
    }
    random
}

/// Two random words.
pub fn words() -> [u64; 2] {
    let both = u128::from_le_bytes(bytes());
    [both as u64, (both >> 64) as u64]
}

/// A random word.
pub fn word() -> u64 {
    words()[0]
}
