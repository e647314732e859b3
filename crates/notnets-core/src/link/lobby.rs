//! Connections that have said nothing yet: their number is bounded, and no uid can keep others out.

use std::collections::VecDeque;

/// Connections that wait at most.
const ROOM: usize = 128;

/// Connections that have not sent their first packet, in the order in which they came. `T` is what their
/// owner keeps of each.
///
/// When one more comes than there is room for, the oldest connection of the uid that has most of them leaves:
/// a process that opens many and says nothing takes their places from its own uid only.
#[derive(Debug)]
pub struct Lobby<T> {
    guests: VecDeque<Guest<T>>,
    room: usize,
    next: u64,
}

/// The place of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place(u64);

#[derive(Debug)]
struct Guest<T> {
    place: Place,
    uid: u32,
    connection: T,
}

impl<T> Default for Lobby<T> {
    fn default() -> Self {
        Self::with_room(ROOM)
    }
}

impl<T> Lobby<T> {
    /// One with room for this number of connections, at least one.
    pub fn with_room(room: usize) -> Self {
        Self { guests: VecDeque::new(), room: room.max(1), next: 0 }
    }

    /// Adds a connection. Returns its place, and the connection that had to leave for it, if any.
    pub fn enter(&mut self, uid: u32, connection: T) -> (Place, Option<T>) {
        let left = if self.guests.len() < self.room { None } else { self.make_room() };
        let place = Place(self.next);
        self.next += 1;
        self.guests.push_back(Guest { place, uid, connection });
        (place, left)
    }

    /// Takes a connection out, unless it has left already.
    pub fn leave(&mut self, place: Place) -> Option<T> {
        let at = self.guests.binary_search_by_key(&place.0, |guest| guest.place.0).ok()?;
        self.guests.remove(at).map(|guest| guest.connection)
    }

    /// All connections, the oldest first.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.guests.iter().map(|guest| &guest.connection)
    }

    /// Goes through all connections, the oldest first: `look` gives back those that go on waiting.
    pub fn retain_map(&mut self, mut look: impl FnMut(T) -> Option<T>) {
        let guests = std::mem::take(&mut self.guests);
        self.guests = guests
            .into_iter()
            .filter_map(|Guest { place, uid, connection }| {
                look(connection).map(|connection| Guest { place, uid, connection })
            })
            .collect();
    }

    /// Takes all out.
    pub fn drain(&mut self) -> impl Iterator<Item = T> {
        self.guests.drain(..).map(|guest| guest.connection)
    }

    fn make_room(&mut self) -> Option<T> {
        let share = |uid: u32| self.guests.iter().filter(|guest| guest.uid == uid).count();
        let mut most = (0, 0);
        for (at, guest) in self.guests.iter().enumerate() {
            // The first of its uid, where several uids have the same number.
            let share = share(guest.uid);
            if share > most.0 {
                most = (share, at);
            }
        }
        self.guests.remove(most.1).map(|guest| guest.connection)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_of_the_uid_that_has_most_leaves() {
        let mut lobby = Lobby::with_room(4);
        let (honest, none) = lobby.enter(1, "honest");
        assert_eq!(none, None);
        for flood in ["a", "b", "c"] {
            assert_eq!(lobby.enter(2, flood).1, None);
        }
        assert_eq!(lobby.enter(2, "d").1, Some("a"));
        assert_eq!(lobby.enter(3, "another").1, Some("b"));
        assert_eq!(lobby.enter(2, "e").1, Some("c"));
        assert_eq!(lobby.iter().copied().collect::<Vec<_>>(), ["honest", "d", "another", "e"]);
        assert_eq!(lobby.leave(honest), Some("honest"));
        assert_eq!(lobby.leave(honest), None);
    }

    #[test]
    fn among_equals_it_is_the_oldest() {
        let mut lobby = Lobby::with_room(2);
        lobby.enter(1, 'a');
        lobby.enter(2, 'b');
        assert_eq!(lobby.enter(3, 'c').1, Some('a'));
    }

    #[test]
    fn places_stay_while_others_leave() {
        let mut lobby = Lobby::default();
        let places: Vec<_> = (0..5).map(|number| lobby.enter(0, number).0).collect();
        lobby.retain_map(|number| (number % 2 == 0).then_some(number));
        assert_eq!(lobby.leave(places[1]), None);
        assert_eq!(lobby.leave(places[4]), Some(4));
        assert_eq!(lobby.drain().collect::<Vec<_>>(), [0, 2]);
    }
}
