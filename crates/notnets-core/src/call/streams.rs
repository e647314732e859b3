//! A link's streams, by their ids.
//!
//! One of them lies beside the table: where calls come one after the other it is the only one, and
//! finding it takes no hashing.

use foldhash::{HashMap, HashMapExt};

use super::stream::Stream;

#[derive(Debug)]
pub(super) struct Streams<T> {
    /// Its id is 0 when there is none.
    first: (u64, Option<Stream<T>>),
    others: HashMap<u64, Stream<T>>,
}

impl<T> Streams<T> {
    pub fn new() -> Self {
        Self { first: (0, None), others: HashMap::new() }
    }

    #[inline]
    pub fn insert(&mut self, id: u64, stream: Stream<T>) {
        debug_assert!(id != 0 && !self.contains(id), "ids are never used again");
        if self.first.0 == 0 {
            self.first = (id, Some(stream));
        } else {
            self.others.insert(id, stream);
        }
    }

    #[inline]
    pub fn remove(&mut self, id: u64) -> Option<Stream<T>> {
        if self.first.0 == id {
            self.first.0 = 0;
            return self.first.1.take();
        }
        self.others.remove(&id)
    }

    #[inline]
    pub fn get(&self, id: u64) -> Option<&Stream<T>> {
        if self.first.0 == id { self.first.1.as_ref() } else { self.others.get(&id) }
    }

    #[inline]
    pub fn get_mut(&mut self, id: u64) -> Option<&mut Stream<T>> {
        if self.first.0 == id { self.first.1.as_mut() } else { self.others.get_mut(&id) }
    }

    #[inline]
    pub fn contains(&self, id: u64) -> bool {
        self.get(id).is_some()
    }

    #[inline]
    pub fn len(&self) -> usize {
        self.others.len() + usize::from(self.first.0 != 0)
    }

    pub fn values(&self) -> impl Iterator<Item = &Stream<T>> {
        self.first.1.iter().chain(self.others.values())
    }

    pub fn values_mut(&mut self) -> impl Iterator<Item = &mut Stream<T>> {
        self.first.1.iter_mut().chain(self.others.values_mut())
    }

    pub fn ids(&self) -> impl Iterator<Item = u64> {
        self.first.1.iter().map(|_| self.first.0).chain(self.others.keys().copied())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn is_a_map() {
        let (mut streams, mut model) = (Streams::new(), BTreeMap::new());
        let mut state = 1u64;
        for id in 1..2000 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let random = (state >> 33) as usize;
            // Between one and ten of them.
            while model.len() > random % 10 {
                let gone = *model.keys().nth(random % model.len()).expect("is one of them");
                assert_eq!(streams.remove(gone).and_then(|stream| stream.user), model.remove(&gone));
                assert!(streams.remove(gone).is_none() && !streams.contains(gone));
            }
            streams.insert(id, Stream::new(Some(random), None, 0, 0));
            model.insert(id, random);
            assert_eq!(streams.len(), model.len());
            for (id, user) in &model {
                assert_eq!(streams.get(*id).and_then(|stream| stream.user), Some(*user));
                assert_eq!(
                    streams.get_mut(*id).and_then(|stream| stream.user.as_mut()),
                    Some(&mut user.clone())
                );
            }
            let ids: std::collections::BTreeSet<_> = streams.ids().collect();
            assert!(ids.iter().eq(model.keys()));
            assert_eq!((streams.values().count(), streams.values_mut().count()), (ids.len(), ids.len()));
            assert!(streams.get(0).is_none());
        }
    }
}
