//! The interface to memory for rings and arenas.
//!
//! Three kinds of memory stand behind these traits: mapped memory ([`crate::segment`],
//! [`crate::region`]), the heap (`crate::heap`, also under loom) and a simulator of hosts that forget what
//! was not published (`crate::incoherent`). Offsets are in words of 8 bytes, for only aligned words are never
//! seen in part.
//!
//! All offsets come from code on this side, already checked, so one out of bounds is a bug here and
//! panics. Offsets that a peer sent are checked by [`crate::arena`] before they get here.

use crate::mapping::{Lent, OwnBytes};
use crate::{Coherence, TrustPeerMemory, WORD};

/// Memory that can be read here, whoever writes it.
pub trait ReadMemory {
    /// Its size in words.
    fn words(&self) -> usize;

    /// How the copies of its lines are kept in step.
    #[inline]
    fn coherence(&self) -> Coherence {
        Coherence::Hardware
    }

    /// Reads a word, relaxed.
    fn load(&self, word: usize) -> u64;

    /// Reads words one behind the other, each relaxed.
    #[inline]
    fn load_each<const N: usize>(&self, word: usize) -> [u64; N] {
        std::array::from_fn(|i| self.load(word + i))
    }

    /// Reads a word; what its writer stored before a [`WriteMemory::store_release`] that is seen
    /// here can be read afterwards.
    fn load_acquire(&self, word: usize) -> u64;

    /// Makes sure that the next loads of these words see what their writer has published: drops
    /// this side's cached copies where the hardware doesn't.
    fn observe(&self, word: usize, words: usize);

    /// Acts as [`observe`](Self::observe), for words of which all were written since this side observed
    /// them last, as those of a message. A model that counts fetched lines can distinguish them.
    #[inline]
    #[track_caller]
    fn observe_written(&self, word: usize, words: usize) {
        self.observe(word, words);
    }

    /// Returns `true` where nothing has to be done to observe.
    #[inline]
    fn is_plain(&self) -> bool {
        self.coherence() == Coherence::Hardware
    }

    /// Waits until what was observed last has arrived, where a model says when that is.
    #[inline]
    fn arrive(&self) {}

    /// Copies bytes out, each read once. They may change meanwhile if their writer misbehaves; what
    /// arrives then is arbitrary but nothing else happens.
    fn copy_out(&self, byte: usize, into: &mut [u8]);

    /// Appends a copy of `len` bytes, as [`copy_out`](Self::copy_out) makes it.
    fn append_to(&self, byte: usize, len: usize, bytes: &mut Vec<u8>) {
        let before = bytes.len();
        bytes.resize(before + len, 0);
        self.copy_out(byte, &mut bytes[before..]);
    }

    /// Bytes to be read where they are, without a copy, from a writer that is trusted not to change them.
    /// `None` for memory of a kind that can't be read in this way.
    fn lend(&self, _trust: TrustPeerMemory, _byte: usize, _len: usize) -> Option<Lent> {
        None
    }

    /// A sequentially consistent fence, as [`std::sync::atomic::fence`].
    fn fence(&self);
}

/// Memory that is written here and nowhere else.
pub trait WriteMemory: ReadMemory {
    /// Writes a word, relaxed.
    fn store(&self, word: usize, value: u64);

    /// Writes words one behind the other, each relaxed.
    #[inline]
    fn store_each<const N: usize>(&self, word: usize, values: [u64; N]) {
        for (i, value) in values.into_iter().enumerate() {
            self.store(word + i, value);
        }
    }

    /// Writes a word after everything written before.
    fn store_release(&self, word: usize, value: u64);

    /// Makes these words visible to observers: writes them back where the hardware doesn't.
    fn publish(&self, word: usize, words: usize);

    /// Copies bytes in.
    fn copy_in(&self, byte: usize, from: &[u8]);

    /// Bytes to be written where they are. `None` for memory of a kind in which that can't be done.
    ///
    /// # Safety
    /// For as long as what is returned lives, nothing else here writes to these bytes, refers to them or gets
    /// them by this function.
    unsafe fn loan(&self, _byte: usize, _len: usize) -> Option<OwnBytes> {
        None
    }
}

/// A part of some memory, as memory of its own.
#[derive(Clone, Copy, Debug)]
pub struct Part<'a, M> {
    memory: &'a M,
    first: usize,
    words: usize,
}

impl<'a, M: ReadMemory> Part<'a, M> {
    /// The part of `words` words from word `first` on.
    ///
    /// # Panics
    /// When they are not within the memory.
    pub fn new(memory: &'a M, first: usize, words: usize) -> Self {
        assert!(first <= memory.words() && words <= memory.words() - first);
        Self { memory, first, words }
    }

    #[inline]
    fn at(&self, word: usize, words: usize) -> usize {
        assert!(word <= self.words && words <= self.words - word);
        self.first + word
    }
}

impl<M: ReadMemory> ReadMemory for Part<'_, M> {
    fn words(&self) -> usize {
        self.words
    }

    fn coherence(&self) -> Coherence {
        self.memory.coherence()
    }

    fn load(&self, word: usize) -> u64 {
        self.memory.load(self.at(word, 1))
    }

    fn load_acquire(&self, word: usize) -> u64 {
        self.memory.load_acquire(self.at(word, 1))
    }

    #[track_caller]
    fn observe(&self, word: usize, words: usize) {
        self.memory.observe(self.at(word, words), words);
    }

    #[track_caller]
    fn observe_written(&self, word: usize, words: usize) {
        self.memory.observe_written(self.at(word, words), words);
    }

    fn copy_out(&self, byte: usize, into: &mut [u8]) {
        self.at(byte / WORD, (byte % WORD + into.len()).div_ceil(WORD));
        self.memory.copy_out(self.first * WORD + byte, into);
    }

    fn append_to(&self, byte: usize, len: usize, bytes: &mut Vec<u8>) {
        self.at(byte / WORD, (byte % WORD + len).div_ceil(WORD));
        self.memory.append_to(self.first * WORD + byte, len, bytes);
    }

    fn fence(&self) {
        self.memory.fence();
    }
}

impl<M: WriteMemory> WriteMemory for Part<'_, M> {
    fn store(&self, word: usize, value: u64) {
        self.memory.store(self.at(word, 1), value);
    }

    fn store_release(&self, word: usize, value: u64) {
        self.memory.store_release(self.at(word, 1), value);
    }

    #[track_caller]
    fn publish(&self, word: usize, words: usize) {
        self.memory.publish(self.at(word, words), words);
    }

    fn copy_in(&self, byte: usize, from: &[u8]) {
        self.at(byte / WORD, (byte % WORD + from.len()).div_ceil(WORD));
        self.memory.copy_in(self.first * WORD + byte, from);
    }
}
