//! Records: a few words that are published together and valid only together.
//!
//! A record is its fields, and one more word with a checksum over them (high half) and a 1 (low half).
//! Its writer overwrites it in place. A reader that looks meanwhile, or sees only some of its lines, finds a
//! wrong checksum and looks again later.

use crate::seal::Seal;
use crate::{ReadMemory, WriteMemory};

/// Stores and publishes a record, which takes one word more than it has fields.
#[track_caller]
pub fn publish<const N: usize>(memory: &impl WriteMemory, word: usize, seal: Seal, fields: [u64; N]) {
    // First, so that the record is torn for as short a time as can be: its writer may be killed meanwhile.
    let check = check(seal, fields);
    for (i, field) in fields.into_iter().enumerate() {
        memory.store(word + i, field);
    }
    // Pairs with the load of the checksum in `Unchecked::read`.
    memory.store_release(word + N, check);
    memory.publish(word, N + 1);
}

/// Observes and reads a record. `None` when its checksum is wrong.
#[track_caller]
pub fn observe<const N: usize>(memory: &impl ReadMemory, word: usize, seal: Seal) -> Option<[u64; N]> {
    memory.observe(word, N + 1);
    read(memory, word, seal)
}

/// Reads a record that this host writes itself. `None` when its checksum is wrong.
pub fn read<const N: usize>(memory: &impl ReadMemory, word: usize, seal: Seal) -> Option<[u64; N]> {
    let seen = Unchecked::read(memory, word);
    seen.proves(seal, seen.fields).then_some(seen.fields)
}

/// What lies where a record is, which may be torn: the checksum of one, and fields that are as late or later.
#[derive(Clone, Copy, Debug)]
pub struct Unchecked<const N: usize> {
    /// The fields that are there.
    pub fields: [u64; N],
    check: u64,
}

impl<const N: usize> Unchecked<N> {
    /// Reads what there is, as [`read`].
    pub fn read(memory: &impl ReadMemory, word: usize) -> Self {
        // Pairs with the store of the checksum in `publish`.
        let check = memory.load_acquire(word + N);
        Self { fields: std::array::from_fn(|i| memory.load(word + i)), check }
    }

    /// Returns `true` if the checksum is that of these fields: the writer has published them.
    pub fn proves(&self, seal: Seal, fields: [u64; N]) -> bool {
        self.check == check(seal, fields)
    }
}

fn check<const N: usize>(seal: Seal, fields: [u64; N]) -> u64 {
    u64::from(seal.of(fields)) << 32 | 1
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::heap::Heap;
    use crate::incoherent::World;

    #[test]
    fn a_record_reaches_hosts_whose_caches_do_not_agree() {
        for seed in 0..100 {
            let (world, seal) = (World::new(32, 2, seed), Seal::new([3]));
            let [writer, reader] = [0, 1].map(|host| world.memory(host));
            // Its checksum lies in another line than its fields.
            for round in 0..4 {
                let fields = [round; 8];
                publish(&writer, 8, seal, fields);
                assert_eq!(observe(&reader, 8, seal), Some(fields), "seed {seed}");
            }
        }
    }

    #[test]
    fn a_record_is_believed_whole_and_in_its_place_only() {
        let (memory, seal) = (Heap::new(16), Seal::new([3]));
        assert_eq!(observe::<7>(&memory, 8, seal), None, "zeros are not a record");
        publish(&memory, 8, seal, [1, 2, 3, 4, 5, 6, 7]);
        assert_eq!(observe(&memory, 8, seal), Some([1, 2, 3, 4, 5, 6, 7]));
        assert_eq!(observe::<7>(&memory, 8, seal.at(1)), None, "another place");
        for word in 8..16 {
            let whole = memory.load(word);
            memory.store(word, whole + 1);
            assert_eq!(observe::<7>(&memory, 8, seal), None, "torn in word {word}");
            memory.store(word, whole);
        }
    }
}

#[cfg(all(test, loom))]
mod loom_tests {
    use super::*;
    use crate::heap::Heap;

    /// A reader sees a record as it was before or after, or none, and never a mixture.
    #[test]
    fn a_record_is_seen_whole_or_not_at_all() {
        loom::model(|| {
            let (memory, seal) = (Heap::new(8), Seal::new([3]));
            publish(&memory, 0, seal, [1, 1]);
            let own = memory.clone();
            let writer = loom::thread::spawn(move || publish(&own, 0, seal, [2, 2]));
            let seen = observe::<2>(&memory, 0, seal);
            assert!(matches!(seen, None | Some([1, 1] | [2, 2])), "{seen:?}");
            writer.join().unwrap();
            assert_eq!(observe(&memory, 0, seal), Some([2, 2]));
        });
    }
}
