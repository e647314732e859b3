//! What one direction of a call carries: bytes that tell where they belong, and metadata.

use bytes::Bytes;
use notnets_core::metadata::Entry;

use super::random::Random;

/// The bytes of one direction, as far as they have got.
#[derive(Clone, Debug)]
pub struct Flow {
    pub total: usize,
    pub done: usize,
    key: u64,
}

impl Flow {
    pub fn new(key: u64, total: usize) -> Self {
        Self { total, done: 0, key }
    }

    pub fn rest(&self) -> usize {
        self.total - self.done
    }

    /// The next bytes to send, perhaps not all.
    pub fn next(&self, random: &mut Random) -> Vec<u8> {
        let len = match random.below(3) {
            0 => self.rest(),
            1 => self.rest().min(random.below(100)),
            _ => self.rest().min(random.below(3000)),
        };
        (self.done..self.done + len).map(|at| self.byte(at)).collect()
    }

    /// These were received: they must be the next ones.
    pub fn received(&mut self, data: &Bytes) {
        assert!(data.len() <= self.rest(), "more bytes than were sent");
        for (i, byte) in data.iter().enumerate() {
            assert_eq!(*byte, self.byte(self.done + i), "at byte {} of {}", self.done + i, self.total);
        }
        self.done += data.len();
    }

    fn byte(&self, at: usize) -> u8 {
        (self.key.wrapping_mul(0x9e37_79b9).wrapping_add(at as u64 * 7) >> 3) as u8
    }
}

/// How many bytes a direction has: mostly few.
pub fn random_total(random: &mut Random) -> usize {
    match random.below(12) {
        0..4 => random.below(40),
        4 => 0,
        5..10 => random.below(1500),
        10 => random.below(5000),
        _ => random.below(12_000),
    }
}

pub type Entries = Vec<(String, Vec<u8>)>;

/// Metadata: mostly few, sometimes as many as may be or a little more.
pub fn random_entries(random: &mut Random, limit: usize) -> Entries {
    let value = |random: &mut Random, len: usize| vec![random.next() as u8; len];
    match random.below(20) {
        0..8 => Vec::new(),
        // Exactly at the limit, or just beside it: a key is a tag and two bytes at first, a value has
        // its length before it.
        8 => {
            let len = (limit + random.below(9)).saturating_sub(14);
            vec![("zz".into(), value(random, len))]
        }
        9 => vec![(format!("unique-{}", random.next()), value(random, 3))],
        _ => {
            let key = |random: &mut Random| format!("key-{}", random.below(6));
            let len = random.below(40);
            (0..random.below(4)).map(|_| (key(random), value(random, len))).collect()
        }
    }
}

/// As the call layer takes them.
pub fn borrowed(entries: &Entries) -> impl Iterator<Item = (&str, &[u8])> {
    entries.iter().map(|(key, value)| (&**key, &**value))
}

/// Checks that these are the entries that were sent.
pub fn assert_entries<'a>(got: impl IntoIterator<Item = &'a Entry>, sent: &Entries) {
    let got: Vec<_> = got.into_iter().map(|(key, value)| (&**key, &**value)).collect();
    assert_eq!(got, borrowed(sent).collect::<Vec<_>>());
}
