//! What a store has: blocks by their hashes, and the pieces of memory in which they lie, of which those that
//! were used longest ago go first.

use std::collections::HashMap;

use bytes::Bytes;
use notnets_examples::kv_cache::Run;

/// Blocks that were put together. They lie one behind the other, and go together.
struct Slab {
    run: Run,
    hashes: Vec<Bytes>,
    used: u64,
}

/// Where a block is.
#[derive(Clone, Copy)]
struct Place {
    slab: u64,
    nth: usize,
}

/// Blocks of up to so many bytes.
pub struct Store {
    blocks: HashMap<Bytes, Place>,
    slabs: HashMap<u64, Slab>,
    bytes: usize,
    capacity: usize,
    /// Counts uses, and slabs.
    clock: u64,
}

impl Store {
    pub fn new(capacity: usize) -> Self {
        Self { blocks: HashMap::new(), slabs: HashMap::new(), bytes: 0, capacity, clock: 0 }
    }

    /// Keeps blocks, for which others may have to go. Those that are there already stay where they are.
    pub fn put(&mut self, hashes: Vec<Bytes>, run: Run) {
        if run.data.len() > self.capacity || hashes.iter().all(|hash| self.blocks.contains_key(hash)) {
            return;
        }
        self.make_room(run.data.len());
        let slab = self.tick();
        for (nth, hash) in hashes.iter().enumerate() {
            self.blocks.entry(hash.clone()).or_insert(Place { slab, nth });
        }
        self.bytes += run.data.len();
        self.slabs.insert(slab, Slab { run, hashes, used: slab });
    }

    fn make_room(&mut self, bytes: usize) {
        while self.bytes + bytes > self.capacity
            && let Some((&oldest, _)) = self.slabs.iter().min_by_key(|(_, slab)| slab.used)
            && let Some(slab) = self.slabs.remove(&oldest)
        {
            self.bytes -= slab.run.data.len();
            for hash in slab.hashes {
                if self.blocks.get(&hash).is_some_and(|place| place.slab == oldest) {
                    self.blocks.remove(&hash);
                }
            }
        }
    }

    /// The blocks that are there, from the first on, as runs that lie one behind the other in memory.
    pub fn get(&mut self, hashes: &[Bytes]) -> Vec<Run> {
        let places: Vec<Place> = hashes.iter().map_while(|hash| self.blocks.get(hash).copied()).collect();
        // What follows is of no use without what comes before: that counts as used later.
        for place in places.iter().rev() {
            let now = self.tick();
            if let Some(slab) = self.slabs.get_mut(&place.slab) {
                slab.used = now;
            }
        }
        let follows = |a: &Place, b: &Place| (a.slab, a.nth + 1) == (b.slab, b.nth);
        places.chunk_by(follows).filter_map(|places| self.run(places)).collect()
    }

    /// Blocks that follow one another in a slab.
    fn run(&self, places: &[Place]) -> Option<Run> {
        let (first, count) = (places.first()?, places.len());
        let slab = self.slabs.get(&first.slab)?;
        let block = slab.run.data.len() / slab.hashes.len();
        Some(Run {
            checksums: slab.run.checksums[first.nth..][..count].to_vec(),
            data: slab.run.data.slice(first.nth * block..(first.nth + count) * block),
        })
    }

    fn tick(&mut self) -> u64 {
        self.clock += 1;
        self.clock
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hashes(names: &str) -> Vec<Bytes> {
        names.bytes().map(|name| vec![name].into()).collect()
    }

    /// Each block is its name and nothing else.
    fn put(store: &mut Store, names: &str) {
        let checksums = names.bytes().map(u32::from).collect();
        store.put(hashes(names), Run { checksums, data: names.to_owned().into() });
    }

    fn get(store: &mut Store, names: &str) -> Vec<String> {
        let runs = store.get(&hashes(names));
        runs.iter().for_each(|run| assert_eq!(run.checksums.len(), run.data.len()));
        runs.iter().map(|run| String::from_utf8_lossy(&run.data).into_owned()).collect()
    }

    #[test]
    fn the_longest_prefix_is_found_in_runs() {
        let mut store = Store::new(10);
        put(&mut store, "abc");
        put(&mut store, "def");
        assert_eq!(get(&mut store, "abdexf"), ["ab", "de"]);
        assert_eq!(get(&mut store, "bcd"), ["bc", "d"]);
        assert_eq!(get(&mut store, "xabc"), [""; 0]);
    }

    #[test]
    fn what_was_used_longest_ago_goes_first_and_a_beginning_after_its_end() {
        let mut store = Store::new(6);
        put(&mut store, "ab");
        put(&mut store, "cd");
        put(&mut store, "ef");
        assert_eq!(get(&mut store, "abcd"), ["ab", "cd"]);
        put(&mut store, "gh");
        assert_eq!(get(&mut store, "ef"), [""; 0]);
        put(&mut store, "ij");
        assert_eq!(get(&mut store, "abcd"), ["ab"], "the end has gone first");
        assert_eq!(get(&mut store, "ghij"), ["gh", "ij"]);
    }

    #[test]
    fn blocks_stay_that_are_there_and_too_much_is_not_kept() {
        let mut store = Store::new(6);
        put(&mut store, "ab");
        put(&mut store, "bc");
        put(&mut store, "ab");
        assert_eq!(get(&mut store, "abc"), ["ab", "c"]);
        put(&mut store, "1234567");
        assert_eq!(get(&mut store, "1"), [""; 0]);
        put(&mut store, "123456");
        assert_eq!(get(&mut store, "123456"), ["123456"]);
        assert_eq!(store.blocks.len(), 6);
    }
}
