//! A link's streams, by their ids.
//!
//! Slots are reused: a stream has a few hundred bytes, and moving it would cost more than most operations
//! on it. The first stream has a slot of its own: where calls come one after the other it is the only one,
//! and finding it takes no hashing. Nor does finding one of many: ids are consecutive, so that each of them
//! has a place of its own among the last ones. Only those are looked up in a map that found their place
//! taken: by a stream that has stayed open for long, or because the peer leaves out ids.

use foldhash::{HashMap, HashMapExt};

use super::StreamId;
use super::stream::Stream;

/// More slots than this are given back when they are not used.
pub(super) const KEPT: usize = 64;
/// Places for streams with consecutive ids.
const PLACES: usize = 128;

#[derive(Debug)]
pub(super) struct Streams<T> {
    /// The stream in the first slot, or the link if that is empty.
    first: StreamId,
    slots: Vec<Stream<T>>,
    /// The slots of the others: in a place, unless that was taken. Empty until there are others.
    places: Vec<Place>,
    crowded: HashMap<StreamId, u32>,
    /// The number of others.
    others: usize,
    free: Vec<u32>,
}

/// A place: a stream, or the link if it is empty, and its slot.
#[derive(Clone, Copy, Debug)]
struct Place {
    id: StreamId,
    slot: u32,
}

impl Place {
    const EMPTY: Self = Self { id: StreamId::LINK, slot: 0 };
}

impl<T> Streams<T> {
    pub fn new() -> Self {
        Self {
            first: StreamId::LINK,
            slots: vec![Stream::vacant()],
            places: Vec::new(),
            crowded: HashMap::new(),
            others: 0,
            free: Vec::new(),
        }
    }

    /// A new stream, with what each side may send at first.
    #[inline]
    pub fn insert(&mut self, id: StreamId, receive_window: u32, send_window: u32) -> &mut Stream<T> {
        debug_assert!(id != StreamId::LINK && !self.contains(id), "ids are never used again");
        let slot = if self.first == StreamId::LINK {
            self.first = id;
            0
        } else {
            self.insert_other(id)
        };
        let stream = &mut self.slots[slot];
        stream.begin(receive_window, send_window);
        stream
    }

    fn insert_other(&mut self, id: StreamId) -> usize {
        let slot = self.free.pop().unwrap_or(self.slots.len() as u32);
        if slot as usize == self.slots.len() {
            self.slots.push(Stream::vacant());
        }
        if self.places.is_empty() {
            self.places = vec![Place::EMPTY; PLACES];
        }
        self.others += 1;
        let place = &mut self.places[place(id)];
        if place.id == StreamId::LINK {
            *place = Place { id, slot };
        } else {
            self.crowded.insert(id, slot);
        }
        slot as usize
    }

    /// Forgets a stream, and drops what was not taken of it. Returns `true` if it was the last of many, whose
    /// slots are given back.
    #[inline]
    pub fn remove(&mut self, id: StreamId) -> bool {
        if id == StreamId::LINK {
            return false;
        }
        if self.first == id {
            self.first = StreamId::LINK;
            self.slots[0].end();
            return false;
        }
        let slot = match self.places.get_mut(place(id)) {
            Some(place) if place.id == id => std::mem::replace(place, Place::EMPTY).slot,
            _ => match self.crowded.remove(&id) {
                Some(slot) => slot,
                None => return false,
            },
        };
        self.others -= 1;
        self.slots[slot as usize].end();
        let is_last_of_many = self.others == 0 && self.slots.len() > KEPT;
        if is_last_of_many {
            self.slots.truncate(1);
            self.slots.shrink_to(KEPT);
            self.free = Vec::new();
        } else {
            self.free.push(slot);
        }
        is_last_of_many
    }

    #[inline]
    fn slot(&self, id: StreamId) -> Option<usize> {
        if id == StreamId::LINK {
            return None;
        }
        if self.first == id {
            return Some(0);
        }
        match self.places.get(place(id)) {
            Some(place) if place.id == id => Some(place.slot as usize),
            _ => self.crowded.get(&id).map(|slot| *slot as usize),
        }
    }

    #[inline]
    pub fn get(&self, id: StreamId) -> Option<&Stream<T>> {
        self.slot(id).map(|slot| &self.slots[slot])
    }

    #[inline]
    pub fn get_mut(&mut self, id: StreamId) -> Option<&mut Stream<T>> {
        self.slot(id).map(|slot| &mut self.slots[slot])
    }

    #[inline]
    pub fn contains(&self, id: StreamId) -> bool {
        self.slot(id).is_some()
    }

    #[inline]
    pub fn len(&self) -> usize {
        self.others + usize::from(self.first != StreamId::LINK)
    }

    pub fn values(&self) -> impl Iterator<Item = &Stream<T>> {
        self.ids().filter_map(|id| self.get(id))
    }

    pub fn ids(&self) -> impl Iterator<Item = StreamId> {
        let placed = self.places.iter().map(|place| place.id);
        let in_place = [self.first].into_iter().chain(placed).filter(|id| *id != StreamId::LINK);
        in_place.chain(self.crowded.keys().copied())
    }
}

#[inline]
fn place(id: StreamId) -> usize {
    id.get() as usize % PLACES
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::call::stream::End;
    use crate::clock::Timestamp;

    #[test]
    fn is_a_map() {
        let (mut streams, mut model) = (Streams::new(), BTreeMap::new());
        let mut state = 1u64;
        for id in (1..2000).map(StreamId::new) {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let random = (state >> 33) as usize;
            // Between one and ten of them.
            while model.len() > random % 10 {
                let gone = *model.keys().nth(random % model.len()).expect("is one of them");
                let left = streams.get(gone).map(|stream| (stream.user, stream.deadline));
                assert_eq!(left, Some((model.remove(&gone), Some(Timestamp::from_nanos(gone.get())))));
                streams.remove(gone);
                assert!(streams.get(gone).is_none() && !streams.contains(gone));
                streams.remove(gone);
            }
            let stream = streams.insert(id, 7, 8);
            assert_eq!((stream.user, stream.receive.credit, stream.send.flow.credit), (None, 7, 8));
            stream.user = Some(random);
            stream.deadline = Some(Timestamp::from_nanos(id.get()));
            stream
                .receive
                .queue
                .push(crate::call::queue::Piece::copied(bytes::Bytes::from_static(b"unread")));
            stream.receive.end = Some(End::Requests);
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
            assert_eq!(streams.values().count(), ids.len());
            assert!(streams.get(StreamId::LINK).is_none());
        }
    }

    #[test]
    fn streams_whose_places_are_taken_are_found() {
        let mut streams = Streams::<u64>::new();
        let ids = |step: usize| (1..40_u64).map(move |nth| StreamId::new(nth * step as u64 + 1));
        // All of them want one place, then two others of them are in each place.
        for step in [PLACES, PLACES / 2, 1] {
            for id in ids(step) {
                streams.insert(id, 0, 0).user = Some(id.get());
            }
            assert_eq!(streams.len(), 39);
            assert_eq!(streams.values().count(), 39);
            // Those that came later find their places free then.
            for id in ids(step).filter(|id| id.get() % 3 == 0) {
                streams.remove(id);
                assert!(!streams.contains(id));
            }
            for id in ids(step).filter(|id| id.get() % 3 != 0) {
                assert_eq!(streams.get(id).and_then(|stream| stream.user), Some(id.get()));
                streams.remove(id);
                streams.remove(id);
                assert!(!streams.contains(id));
            }
            assert_eq!((streams.len(), streams.ids().count()), (0, 0));
        }
    }

    #[test]
    fn the_slots_of_many_are_given_back() {
        let mut streams = Streams::<()>::new();
        for id in (1..10_000).map(StreamId::new) {
            streams.insert(id, 0, 0);
        }
        for id in (1..10_000).map(StreamId::new) {
            streams.remove(id);
        }
        assert!(streams.slots.len() == 1 && streams.slots.capacity() <= KEPT);
        for id in [10_000, 10_001].map(StreamId::new) {
            streams.insert(id, 0, 0);
            assert!(streams.contains(id));
        }
    }
}
