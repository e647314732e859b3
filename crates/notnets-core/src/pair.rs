//! Two connections joined by memory on the heap, driven by hand: for tests, without threads or time.
//!
//! ```
//! use notnets_core::call::{Event, OpenOutcome, Received, Sent};
//! use notnets_core::pair::Pair;
//!
//! let mut pair = Pair::default();
//! let (metadata, mut data) = ([("k", &b"v"[..])], &b"hello"[..]);
//! let opened = pair.client.open("/echo.Echo/Say", metadata, None, &mut data, true, &mut Some(()))?;
//! let OpenOutcome::Opened(stream, Sent::All) = opened else { panic!("{opened:?}") };
//! pair.drive();
//! let request = pair.server.accept().unwrap();
//! assert_eq!(&*request.method, "/echo.Echo/Say");
//! assert_eq!(pair.server.take(request.stream), Received::Data("hello".into()));
//! # Ok::<(), notnets_core::call::HeadError>(())
//! ```

use notnets_memory::heap::Heap;
use notnets_memory::lane::{Geometry, heap_pair};

use crate::call::{Connection, Role};
use crate::clock::Timestamp;
use crate::limits::Limits;

/// The clock of tests in which no time passes.
pub fn frozen_clock() -> Timestamp {
    Timestamp::ZERO
}

/// A connection over the heap.
pub type HeapConnection<T = ()> = Connection<T, Heap, Heap>;

/// A client and a server, with nothing between them but memory.
#[derive(Debug)]
pub struct Pair<T = ()> {
    /// The client's side.
    pub client: HeapConnection<T>,
    /// The server's side.
    pub server: HeapConnection<T>,
}

impl<T> Default for Pair<T> {
    fn default() -> Self {
        Self::new(Geometry::default(), Limits::default(), Limits::default())
    }
}

impl<T> Pair<T> {
    /// Two connections with lanes of that geometry and what each side accepts.
    ///
    /// # Panics
    /// When a link can't work with these limits.
    pub fn new(geometry: Geometry, client: Limits, server: Limits) -> Self {
        let [client, server] = [client, server].map(|limits| limits.check().expect("limits that work"));
        let (a, b) = heap_pair(geometry, geometry);
        Self {
            client: Connection::new(Role::Client, a, client, server),
            server: Connection::new(Role::Server, b, server, client),
        }
    }

    /// Lets both take what the other has pushed, until neither has anything.
    pub fn drive(&mut self) {
        let sides = |pair: &mut Self| {
            [&mut pair.client, &mut pair.server].map(|side| side.receive(usize::MAX, frozen_clock))
        };
        while sides(self) != [0, 0] {}
    }

    /// Neither has found fault with the other.
    pub fn assert_no_violation(&self) {
        assert_eq!(self.client.violation(), None);
        assert_eq!(self.server.violation(), None);
    }
}
