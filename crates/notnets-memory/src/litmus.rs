//! Litmus tests: whether memory between two hosts does what lanes rely on.
//!
//! Each side writes its own lines and reads the other's, as everywhere. The steps that the sides take in
//! turns, and their times, is their caller's business; here are the steps, and what was seen. Each test is
//! run with write-back and invalidation, which has to work, and without them, which shows whether caches
//! agree by themselves.
//!
//! | test | steps of the writer | steps of the reader | wrong is |
//! | --- | --- | --- | --- |
//! | stale line | [`write`] | [`touch`] before, [`check`] after | an old word |
//! | message passing | [`send`] | [`receive`] | an old word behind a new flag |
//! | store buffering | [`exchange`] on both sides at once | | neither sees the other's store |
//!
//! [`write`]: Litmus::write
//! [`touch`]: Litmus::touch
//! [`check`]: Litmus::check
//! [`send`]: Litmus::send
//! [`receive`]: Litmus::receive
//! [`exchange`]: Litmus::exchange

use crate::{Coherence, LINE, LINE_WORDS, ReadMemory, WriteMemory};

/// Lines with data; a flag lies on one more, before them.
const LINES: usize = 16;
const DATA: usize = LINE_WORDS;
const DATA_WORDS: usize = LINES * LINE_WORDS;

/// Bytes that each side writes.
pub const LITMUS_BYTES: usize = LINE * (1 + LINES);

/// One side of litmus tests between two hosts.
#[derive(Debug)]
pub struct Litmus<W, R> {
    own: W,
    peer: R,
    how: Coherence,
}

/// A reader's observations, in words.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// Words that were read.
    pub words: u64,
    /// Words that were older than they could be.
    pub stale: u64,
    /// Words that were never stored like that.
    pub torn: u64,
}

impl Seen {
    /// Returns `true` if all words were as they had to be.
    pub fn is_clean(&self) -> bool {
        self.stale == 0 && self.torn == 0
    }

    /// The sum of both.
    #[must_use]
    pub fn and(self, more: Self) -> Self {
        Self { words: self.words + more.words, stale: self.stale + more.stale, torn: self.torn + more.torn }
    }
}

impl<W: WriteMemory, R: ReadMemory> Litmus<W, R> {
    /// A side with memory of its own and of its peer. Lines are written back and invalidated under
    /// [`Coherence::Software`] only.
    ///
    /// # Panics
    /// When one of them is smaller than [`LITMUS_BYTES`].
    pub fn new(own: W, peer: R, how: Coherence) -> Self {
        assert!(own.words() >= DATA + DATA_WORDS && peer.words() >= DATA + DATA_WORDS);
        Self { own, peer, how }
    }

    /// This side, with its memory kept coherent in another way.
    #[must_use]
    pub fn by(self, how: Coherence) -> Self {
        Self { how, ..self }
    }

    /// Stores round `n` into all data.
    pub fn write(&self, n: u32) {
        for word in DATA..DATA + DATA_WORDS {
            self.own.store(word, pattern(n));
        }
        self.publish(DATA, DATA_WORDS);
    }

    /// Reads all data, so that this host has copies of it.
    pub fn touch(&self) -> u64 {
        (DATA..DATA + DATA_WORDS).fold(0, |all, word| all ^ self.peer.load(word))
    }

    /// Looks whether all data is of round `n`, or of a later one.
    pub fn check(&self, n: u32) -> Seen {
        self.observe(DATA, DATA_WORDS);
        let mut seen = Seen::default();
        for word in DATA..DATA + DATA_WORDS {
            let found = self.peer.load(word);
            seen.words += 1;
            match round(found) {
                None => seen.torn += 1,
                Some(round) if is_before(round, n) => seen.stale += 1,
                Some(_) => {}
            }
        }
        seen
    }

    /// Stores data and then a flag, both of round `n`.
    pub fn send(&self, n: u32) {
        self.write(n);
        self.ring(n);
    }

    /// If the flag of round `n` is there: whether the data is, too.
    pub fn receive(&self, n: u32) -> Option<Seen> {
        self.is_rung(n).then(|| self.check(n))
    }

    /// Stores the flag alone.
    pub fn ring(&self, n: u32) {
        self.own.store_release(0, pattern(n));
        self.publish(0, 1);
    }

    /// Returns `true` if the flag of round `n` is there.
    pub fn is_rung(&self, n: u32) -> bool {
        self.observe(0, 1);
        round(self.peer.load_acquire(0)).is_some_and(|round| !is_before(round, n))
    }

    /// Stores the flag of round `n`, and looks whether the peer's is there already. Of two sides that do this
    /// at once at least one sees the other's.
    pub fn exchange(&self, n: u32) -> bool {
        self.own.store(0, pattern(n));
        self.publish(0, 1);
        self.own.fence();
        self.is_rung(n)
    }

    fn publish(&self, word: usize, words: usize) {
        if self.how == Coherence::Software {
            self.own.publish(word, words);
        }
    }

    fn observe(&self, word: usize, words: usize) {
        if self.how == Coherence::Software {
            self.peer.observe(word, words);
        }
    }
}

/// A word of round `n`: the number of the round in both halves.
fn pattern(n: u32) -> u64 {
    u64::from(n) << 32 | u64::from(n)
}

fn round(word: u64) -> Option<u32> {
    let low = word as u32;
    let high = (word >> 32) as u32;
    (low == high).then_some(low)
}

/// Rounds wrap around.
fn is_before(round: u32, n: u32) -> bool {
    (round.wrapping_sub(n) as i32) < 0
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::incoherent::{Incoherent, World};

    const WORDS: usize = LITMUS_BYTES / crate::WORD;

    fn sides(seed: u64, how: Coherence) -> [Litmus<Incoherent, Incoherent>; 2] {
        let world = World::new(2 * WORDS, 2, seed);
        let part = |host: usize, owner: usize| world.memory(host).part(owner * WORDS, WORDS);
        let side = |host: usize| {
            // The earlier content belongs to no round.
            let own = part(host, host);
            (0..WORDS).for_each(|word| own.store(word, 0));
            own.publish(0, WORDS);
            Litmus::new(own, part(host, 1 - host), how)
        };
        [side(0), side(1)]
    }

    fn stale_lines(seed: u64, how: Coherence) -> Seen {
        let [a, b] = sides(seed, how);
        (1..30).fold(Seen::default(), |seen, n| {
            b.touch();
            a.write(n);
            seen.and(b.check(n))
        })
    }

    /// The observations, and the number of flags seen.
    fn messages(seed: u64, how: Coherence) -> (Seen, usize) {
        let [a, b] = sides(seed, how);
        let mut seen = Seen::default();
        let mut came = 0;
        for n in 1..30 {
            a.send(n);
            if let Some(more) = (0..50).find_map(|_| b.receive(n)) {
                seen = seen.and(more);
                came += 1;
            }
        }
        (seen, came)
    }

    #[test]
    fn nothing_is_stale_where_lines_are_written_back_and_invalidated() {
        for seed in 0..100 {
            let seen = stale_lines(seed, Coherence::Software);
            assert!(seen.is_clean() && seen.words == 29 * DATA_WORDS as u64, "seed {seed}: {seen:?}");
            let (seen, came) = messages(seed, Coherence::Software);
            assert!(seen.is_clean() && came == 29, "seed {seed}: {seen:?}, {came}");
            let [a, b] = sides(seed, Coherence::Software);
            assert!((1..30).all(|n| !a.exchange(n) && b.exchange(n)), "seed {seed}");
        }
    }

    #[test]
    fn hosts_whose_caches_do_not_agree_are_found_out() {
        for seed in 0..100 {
            // The reader's copies may hold the content from before: of no round at all.
            assert!(!stale_lines(seed, Coherence::Hardware).is_clean(), "seed {seed}");
        }
        // A reader that invalidates nothing, and has no copy of the flag yet.
        let behind_a_flag = |seed| {
            let [a, b] = sides(seed, Coherence::Software);
            let b = b.by(Coherence::Hardware);
            b.touch();
            a.send(1);
            b.receive(1).is_some_and(|seen| !seen.is_clean())
        };
        assert!((0..100).any(behind_a_flag), "a flag overtakes its data");
        let neither = |seed| {
            let [a, b] = sides(seed, Coherence::Hardware);
            (1..30).any(|n| !a.exchange(n) && !b.exchange(n))
        };
        assert!((0..100).any(neither), "neither side sees the other's store");
    }

    #[test]
    fn a_word_that_nobody_stored_is_torn() {
        let [a, b] = sides(1, Coherence::Software);
        a.write(7);
        a.own.store(DATA + 3, 7 << 32 | 6);
        a.own.publish(DATA + 3, 1);
        assert_eq!(b.check(7), Seen { words: DATA_WORDS as u64, stale: 0, torn: 1 });
        assert_eq!(b.check(8).stale, DATA_WORDS as u64 - 1);
    }

    #[test]
    fn rounds_wrap_around() {
        assert!(is_before(u32::MAX, 0) && is_before(0, 1) && !is_before(1, u32::MAX) && !is_before(5, 5));
    }
}
