//! Memory on the heap of one process, for tests, loom and miri.
//!
//! Under `--cfg loom` its words are loom's, so that the very code of the rings runs in loom's
//! scheduler.

use std::sync::Arc;

#[cfg(loom)]
use loom::sync::atomic::{AtomicU64, Ordering, fence};
#[cfg(not(loom))]
use std::sync::atomic::{AtomicU64, Ordering, fence};

use crate::{ReadMemory, WORD, WriteMemory};

/// Words that the threads of this process share. Clones refer to the same words.
///
/// ```
/// use notnets_memory::{ReadMemory, WriteMemory, heap::Heap};
/// let own = Heap::new(8);
/// let peer = own.clone();
/// own.store_release(3, 7);
/// assert_eq!(peer.load_acquire(3), 7);
/// ```
#[derive(Clone, Debug)]
pub struct Heap {
    words: Arc<[AtomicU64]>,
    first: usize,
    len: usize,
}

impl Heap {
    /// Zeroed memory of `words` words.
    pub fn new(words: usize) -> Self {
        Self { words: (0..words).map(|_| AtomicU64::new(0)).collect(), first: 0, len: words }
    }

    /// A part of this memory.
    pub fn part(&self, word: usize, words: usize) -> Self {
        assert!(word + words <= self.len);
        Self { words: Arc::clone(&self.words), first: self.first + word, len: words }
    }

    fn at(&self, word: usize) -> &AtomicU64 {
        assert!(word < self.len);
        &self.words[self.first + word]
    }
}

impl ReadMemory for Heap {
    fn words(&self) -> usize {
        self.len
    }

    fn load(&self, word: usize) -> u64 {
        self.at(word).load(Ordering::Relaxed)
    }

    fn load_acquire(&self, word: usize) -> u64 {
        self.at(word).load(Ordering::Acquire)
    }

    fn observe(&self, _word: usize, _words: usize) {}

    fn copy_out(&self, byte: usize, into: &mut [u8]) {
        for (i, to) in into.iter_mut().enumerate() {
            let at = byte + i;
            *to = self.load(at / WORD).to_le_bytes()[at % WORD];
        }
    }

    fn fence(&self) {
        fence(Ordering::SeqCst);
    }
}

impl WriteMemory for Heap {
    fn store(&self, word: usize, value: u64) {
        self.at(word).store(value, Ordering::Relaxed);
    }

    fn store_release(&self, word: usize, value: u64) {
        self.at(word).store(value, Ordering::Release);
    }

    fn publish(&self, _word: usize, _words: usize) {}

    fn copy_in(&self, byte: usize, from: &[u8]) {
        for (i, value) in from.iter().enumerate() {
            let at = byte + i;
            let mut word = self.load(at / WORD).to_le_bytes();
            word[at % WORD] = *value;
            self.store(at / WORD, u64::from_le_bytes(word));
        }
    }
}
