//! The ring: descriptors of one cache line, from one writer to one reader.
//!
//! A slot is valid by its own absolute sequence number, which is written last, with release order,
//! and never wraps. The reader polls the line that carries the message and nothing else. It stores
//! how far it has *taken* in its own memory, before it acts on a descriptor; the writer looks there
//! only when its last look leaves no room.
//!
//! Between hosts the sequence number is not enough: there a line can be torn or of an earlier life. Such a
//! ring is *sealed*: the first word of a slot is the low half of the sequence number and, above it, a
//! checksum over all of it and the descriptor ([`Seal`]). A descriptor whose checksum is wrong is not there
//! yet.
//!
//! | atomic | pairs with |
//! | --- | --- |
//! | writer: `store_release(sequence)` | reader: `load_acquire(sequence)`: the descriptor is whole |
//! | reader: `store_release(taken)` | writer: `load_acquire(taken)`: the slot has been read and is free |

use crate::seal::Seal;
use crate::{Coherence, LINE_WORDS, ReadMemory, WriteMemory};

/// The content of a slot beside its sequence number: 56 bytes, opaque here.
pub type Descriptor = [u64; LINE_WORDS - 1];

/// The peer stored a `taken` that can't be: less than before, or more than was pushed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the peer claims to have taken descriptor {said}, but it had taken {before} of {pushed}")]
pub struct BadTaken {
    said: u64,
    before: u64,
    pushed: u64,
}

/// The writer's end.
///
/// ```
/// use notnets_memory::{heap::Heap, ring::{RingReader, RingWriter}};
/// let (slots, taken) = (Heap::new(8 * 4), Heap::new(8));
/// let mut writer = RingWriter::new(slots.clone(), taken.clone());
/// let mut reader = RingReader::new(slots, taken);
/// assert_eq!(reader.pop(), None);
/// assert!(writer.room()? > 0);
/// writer.push([7; 7]);
/// assert_eq!(reader.pop(), Some([7; 7]));
/// # Ok::<(), notnets_memory::ring::BadTaken>(())
/// ```
#[derive(Debug)]
pub struct RingWriter<W, R> {
    slots: W,
    taken: R,
    capacity: u64,
    pushed: u64,
    known_taken: u64,
    seal: Option<Seal>,
}

impl<W: WriteMemory, R: ReadMemory> RingWriter<W, R> {
    /// A writer on zeroed `slots`, a power of two of lines. `taken` is the reader's word.
    ///
    /// # Panics
    /// When the number of slots is not a power of two.
    pub fn new(slots: W, taken: R) -> Self {
        let capacity = (slots.words() / LINE_WORDS) as u64;
        assert!(capacity.is_power_of_two());
        Self { slots, taken, capacity, pushed: 0, known_taken: 0, seal: None }
    }

    /// Seals what is pushed with `seal`, which the reader has to know.
    pub fn sealed(self, seal: Seal) -> Self {
        Self { seal: Some(seal), ..self }
    }

    /// How many descriptors can be pushed for certain. Looks at the reader's memory only if by the
    /// last look there is no room.
    ///
    /// # Errors
    /// When the reader's word can't be true.
    #[inline]
    pub fn room(&mut self) -> Result<usize, BadTaken> {
        if self.pushed - self.known_taken == self.capacity {
            self.look()?;
        }
        Ok((self.capacity - (self.pushed - self.known_taken)) as usize)
    }

    /// How many descriptors the reader has taken in all. After its death that proves which ones it
    /// never read.
    ///
    /// # Errors
    /// When the reader's word can't be true.
    pub fn look(&mut self) -> Result<u64, BadTaken> {
        self.taken.observe(0, 1);
        // Pairs with the store in `RingReader::pop`: the slots up to it have been read, and may be
        // written.
        let mut said = self.taken.load_acquire(0);
        if self.taken.coherence() == Coherence::Software {
            // An older word is a stale one.
            said = said.max(self.known_taken);
        }
        if said < self.known_taken || said > self.pushed {
            return Err(BadTaken { said, before: self.known_taken, pushed: self.pushed });
        }
        self.known_taken = said;
        Ok(said)
    }

    /// How many descriptors were pushed in all.
    pub fn pushed(&self) -> u64 {
        self.pushed
    }

    /// Publishes a descriptor.
    ///
    /// # Panics
    /// When [`room`](Self::room) has not returned that there is room.
    #[inline]
    pub fn push(&mut self, descriptor: Descriptor) {
        assert!(self.pushed - self.known_taken < self.capacity, "push without room");
        let slot = (self.pushed & (self.capacity - 1)) as usize * LINE_WORDS;
        self.pushed += 1;
        // Before the first store: a reader that polls takes the line away from us in the middle.
        let first = self.seal.map_or(self.pushed, |seal| sealed(seal, self.pushed, &descriptor));
        self.slots.store_each(slot + 1, descriptor);
        // Pairs with the load of the sequence in `RingReader`: the slot's other words, and the block,
        // are there.
        self.slots.store_release(slot, first);
        self.slots.publish(slot, LINE_WORDS);
    }
}

/// The first word of a sealed slot.
#[inline]
fn sealed(seal: Seal, sequence: u64, descriptor: &Descriptor) -> u64 {
    let check = seal.of(std::iter::once(sequence).chain(*descriptor));
    u64::from(check) << 32 | sequence & LOW
}

/// The half of a sealed slot's first word that is its sequence number's.
const LOW: u64 = u32::MAX as u64;

/// The reader's end.
#[derive(Debug)]
pub struct RingReader<W, R> {
    slots: R,
    taken: W,
    capacity: u64,
    popped: u64,
    seal: Option<Seal>,
    /// Sealed rings: what [`is_ready`](Self::is_ready) has read already, so that the line isn't fetched once
    /// more.
    found: Option<Descriptor>,
}

impl<W: WriteMemory, R: ReadMemory> RingReader<W, R> {
    /// A reader of the writer's `slots`, a power of two of lines, with its own word `taken`.
    ///
    /// # Panics
    /// When the number of slots is not a power of two.
    pub fn new(slots: R, taken: W) -> Self {
        let capacity = (slots.words() / LINE_WORDS) as u64;
        assert!(capacity.is_power_of_two());
        Self { slots, taken, capacity, popped: 0, seal: None, found: None }
    }

    /// Believes only what was sealed with `seal`.
    pub fn sealed(self, seal: Seal) -> Self {
        Self { seal: Some(seal), ..self }
    }

    /// Returns `true` if there is a descriptor to pop.
    #[inline]
    pub fn is_ready(&mut self) -> bool {
        let Some(seal) = self.seal else { return self.look() == self.popped + 1 };
        self.is_sealed_ready(seal)
    }

    /// Apart, so that links within a host do not bear its frame.
    #[inline(never)]
    fn is_sealed_ready(&mut self, seal: Seal) -> bool {
        self.found = self.found.take().or_else(|| self.unsealed(seal, self.look()));
        self.found.is_some()
    }

    /// Takes the next descriptor, read once. That it is taken is stored before this returns.
    #[inline]
    pub fn pop(&mut self) -> Option<Descriptor> {
        let descriptor = match self.seal {
            None if self.look() != self.popped + 1 => return None,
            None => self.descriptor(),
            Some(seal) => self.found.take().or_else(|| self.unsealed(seal, self.look()))?,
        };
        self.popped += 1;
        // Pairs with the load in `RingWriter::look`.
        self.taken.store_release(0, self.popped);
        self.taken.publish(0, 1);
        Some(descriptor)
    }

    /// Returns `true` if the next descriptor seems to be there but fails its checksum. That must not last.
    pub fn is_torn(&self) -> bool {
        let Some(seal) = self.seal else { return false };
        let first = self.look();
        first & LOW == (self.popped + 1) & LOW && first != 0 && self.unsealed(seal, first).is_none()
    }

    /// Looks at the next slot. Returns its first word.
    #[inline]
    fn look(&self) -> u64 {
        let slot = self.slot();
        self.slots.observe(slot, LINE_WORDS);
        // Pairs with the store of the sequence in `RingWriter::push`.
        self.slots.load_acquire(slot)
    }

    /// The descriptor of a sealed slot, if it is whole and the next one.
    #[inline]
    fn unsealed(&self, seal: Seal, first: u64) -> Option<Descriptor> {
        let sequence = self.popped + 1;
        if first & LOW != sequence & LOW {
            return None;
        }
        let descriptor = self.descriptor();
        (first == sealed(seal, sequence, &descriptor)).then_some(descriptor)
    }

    #[inline]
    fn descriptor(&self) -> Descriptor {
        self.slots.load_each(self.slot() + 1)
    }

    fn slot(&self) -> usize {
        (self.popped & (self.capacity - 1)) as usize * LINE_WORDS
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::collections::VecDeque;

    use proptest::prelude::*;

    use super::*;
    use crate::heap::Heap;
    use crate::incoherent::World;

    fn pair(slots: usize) -> (RingWriter<Heap, Heap>, RingReader<Heap, Heap>, Heap) {
        let (memory, taken) = (Heap::new(slots * LINE_WORDS), Heap::new(LINE_WORDS));
        let writer = RingWriter::new(memory.clone(), taken.clone());
        (writer, RingReader::new(memory, taken.clone()), taken)
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: if cfg!(miri) { 4 } else { 256 }, failure_persistence: None, ..Default::default() })]
        /// Whatever the order of pushes and pops, the ring is a bounded queue.
        #[test]
        fn is_a_bounded_queue(operations in prop::collection::vec(any::<bool>(), 0..200), log in 0u32..4) {
            let capacity = 1 << log;
            let (mut writer, mut reader, _) = pair(capacity);
            let mut model = VecDeque::new();
            for (i, push) in operations.into_iter().enumerate() {
                if push {
                    let room = writer.room().unwrap();
                    prop_assert!(room <= capacity - model.len());
                    prop_assert_eq!(room == 0, model.len() == capacity);
                    if room > 0 {
                        writer.push([i as u64; 7]);
                        model.push_back([i as u64; 7]);
                    }
                } else {
                    prop_assert_eq!(reader.pop(), model.pop_front());
                }
            }
        }
    }

    #[test]
    fn a_reader_that_lies_is_found_out() {
        let (mut writer, _, taken) = pair(1);
        writer.push([0; 7]);
        taken.store(0, 2);
        assert_eq!(writer.room(), Err(BadTaken { said: 2, before: 0, pushed: 1 }));
        taken.store(0, 1);
        assert_eq!((writer.look(), writer.pushed()), (Ok(1), 1));
        writer.push([0; 7]);
        assert_eq!((writer.look(), writer.pushed()), (Ok(1), 2));
        taken.store(0, 0);
        assert_eq!(writer.look(), Err(BadTaken { said: 0, before: 1, pushed: 2 }), "it goes back");
    }

    #[test]
    fn between_hosts_an_older_word_is_a_stale_one() {
        let world = World::new(LINE_WORDS, 2, 5);
        let [seen, taken] = [0, 1].map(|host| world.memory(host));
        let say = |word| {
            taken.store(0, word);
            taken.publish(0, 1);
        };
        let mut writer = RingWriter::new(Heap::new(2 * LINE_WORDS), seen);
        writer.push([0; 7]);
        for (said, known) in [(0, Ok(0)), (1, Ok(1)), (0, Ok(1))] {
            say(said);
            assert_eq!(writer.look(), known);
        }
        say(2);
        assert_eq!(writer.look(), Err(BadTaken { said: 2, before: 1, pushed: 1 }));
    }

    #[test]
    fn a_sealed_slot_with_any_word_of_another_life_is_no_descriptor() {
        let (memory, taken) = (Heap::new(LINE_WORDS), Heap::new(LINE_WORDS));
        let (now, before) = (Seal::new([1, 2, 3]), Seal::new([1, 2, 4]));
        RingWriter::new(memory.clone(), taken.clone()).sealed(before).push([5; 7]);
        let reader = || RingReader::new(memory.clone(), taken.clone()).sealed(now);
        assert!(reader().is_torn(), "it seems to be there");
        assert!(!reader().is_ready());
        assert_eq!(reader().pop(), None, "of an earlier life");
        RingWriter::new(memory.clone(), taken.clone()).sealed(now).push([6; 7]);
        for word in 0..LINE_WORDS {
            let whole = memory.load(word);
            memory.store(word, whole ^ 1 << (word * 9));
            assert_eq!(reader().pop(), None, "torn in word {word}");
            memory.store(word, whole);
        }
        assert!(reader().is_ready() && !reader().is_torn());
        assert_eq!(reader().pop(), Some([6; 7]));
    }

    #[test]
    fn what_was_found_whole_is_read_once() {
        let (memory, taken) = (Heap::new(LINE_WORDS), Heap::new(LINE_WORDS));
        let seal = Seal::new([9]);
        RingWriter::new(memory.clone(), taken.clone()).sealed(seal).push([5; 7]);
        let mut reader = RingReader::new(memory.clone(), taken.clone()).sealed(seal);
        assert!(reader.is_ready());
        memory.store(3, 6);
        assert!(reader.is_ready() && taken.load(0) == 0);
        assert_eq!((reader.pop(), taken.load(0)), (Some([5; 7]), 1));
        assert!(!reader.is_ready());
    }

    #[test]
    fn sealed_rings_go_round() {
        let (memory, taken) = (Heap::new(2 * LINE_WORDS), Heap::new(LINE_WORDS));
        let seal = Seal::new([9]);
        let mut writer = RingWriter::new(memory.clone(), taken.clone()).sealed(seal);
        let mut reader = RingReader::new(memory, taken).sealed(seal);
        for lap in 0..9 {
            assert!(writer.room().unwrap() > 0);
            writer.push([lap; 7]);
            assert_eq!(reader.pop(), Some([lap; 7]));
            assert_eq!(reader.pop(), None);
            assert!(!reader.is_torn());
        }
    }

    #[test]
    fn a_sequence_of_another_lap_is_no_descriptor() {
        let (mut writer, mut reader, _) = pair(2);
        for lap in 0..5 {
            writer.room().unwrap();
            writer.push([lap; 7]);
            assert_eq!(reader.pop(), Some([lap; 7]));
            assert_eq!(reader.pop(), None);
        }
    }
}

#[cfg(all(test, loom))]
mod loom_tests {
    use super::*;
    use crate::heap::Heap;

    /// Every interleaving of a writer and a reader on two slots: what is popped is whole and in order.
    #[test]
    fn descriptors_arrive_whole_and_in_order() {
        loom::model(|| {
            let (slots, taken) = (Heap::new(2 * LINE_WORDS), Heap::new(LINE_WORDS));
            let mut writer = RingWriter::new(slots.clone(), taken.clone());
            let mut reader = RingReader::new(slots, taken);
            let thread = loom::thread::spawn(move || {
                for i in 1..=3 {
                    while writer.room().unwrap() == 0 {
                        loom::thread::yield_now();
                    }
                    writer.push([i; 7]);
                }
            });
            for i in 1..=3 {
                let descriptor = loop {
                    match reader.pop() {
                        Some(descriptor) => break descriptor,
                        None => loom::thread::yield_now(),
                    }
                };
                assert_eq!(descriptor, [i; 7]);
            }
            thread.join().unwrap();
        });
    }
}
