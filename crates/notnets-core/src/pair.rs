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

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, PoisonError};

use notnets_memory::WORD;
use notnets_memory::heap::Heap;
use notnets_memory::lane::{Blocks, Geometry, heap_pair};
use notnets_memory::process::PeerCredentials;
use notnets_memory::region::RegionOffset;

use crate::call::{Connection, Role};
use crate::clock::Timestamp;
use crate::limits::Limits;
use crate::link::PeerIdentity;
use crate::link::handshake::IdentitySource;
use crate::link::packet::Packet;
use crate::link::segments::{NoMemory, Outbox, PeerLocation, SegmentEvent, SegmentSource, SegmentViolation};
use crate::session::{Ends, Session};

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

/// A session over the heap.
pub type HeapSession<T = ()> = Session<T, Heap, Heap>;

/// A client's and a server's session, joined by memory on the heap. Packets and doorbells are carried by
/// whoever drives them.
///
/// # Panics
/// When a link can't work with these limits.
pub fn sessions<T>(geometry: Geometry, client: Limits, server: Limits) -> [HeapSession<T>; 2] {
    let [client, server] = [client, server].map(|limits| limits.check().expect("limits that work"));
    let (a, b) = heap_pair(geometry, geometry);
    let segments = SharedSegments::default();
    let sides = [(Role::Client, a, client, server, 0), (Role::Server, b, server, client, 1)];
    sides.map(|(role, lanes, own, peer_limits, side)| {
        let source = Box::new(HeapSegments { shared: segments.clone(), side });
        let peer = PeerIdentity {
            credentials: PeerCredentials { pid: None, uid: 0, gid: 0 },
            incarnation: [0; 16],
            label: None,
            user_agent: String::new(),
            identity_source: IdentitySource::Kernel,
        };
        let ends = Ends { lanes, source, own, peer_limits, peer };
        let mut session = Session::over(role, ends).expect("a page to tell forks by");
        session.begin_retiring();
        session
    })
}

/// The further segments of both sides, by their maker and number.
type SharedSegments = Arc<Mutex<HashMap<(usize, u64), Heap>>>;

/// Segments on the heap. They have two blocks, so that more are asked for soon.
#[derive(Debug)]
struct HeapSegments {
    shared: SharedSegments,
    side: usize,
}

impl HeapSegments {
    /// A segment's blocks are kept at an even number, its table at the odd one after it.
    fn number(segment: u32, table: bool) -> u64 {
        u64::from(segment) * 2 + u64::from(table)
    }

    fn make(&self, number: u64, bytes: usize) -> Heap {
        let heap = Heap::new(bytes.div_ceil(WORD));
        let mut shared = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        shared.insert((self.side, number), heap.clone());
        heap
    }

    fn forget(&self, number: u64) {
        let mut shared = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        shared.remove(&(self.side, number));
    }
}

impl SegmentSource<Heap, Heap> for HeapSegments {
    fn offer(
        &mut self,
        segment: u32,
        blocks: Blocks,
        outbox: &mut Outbox,
    ) -> Result<(Blocks, Heap), NoMemory> {
        let blocks = Blocks { count: 2, ..blocks };
        outbox.push_back((Packet::Offer { segment, blocks }, None));
        Ok((blocks, self.make(Self::number(segment, false), blocks.total())))
    }

    fn withdraw(&mut self, segment: u32) {
        self.forget(Self::number(segment, false));
    }

    fn retire(&mut self, segment: u32, outbox: &mut Outbox) {
        outbox.push_back((Packet::Retire { segment }, None));
    }

    fn release(&mut self, segment: u32, outbox: &mut Outbox) {
        self.forget(Self::number(segment, true));
        outbox.push_back((Packet::Retired { segment }, None));
    }

    fn map(&self, location: PeerLocation, _bytes: usize) -> Result<Option<Heap>, SegmentViolation> {
        let PeerLocation::Offset(RegionOffset(number)) = location else {
            return Err(SegmentViolation::Location);
        };
        let shared = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        shared.get(&(1 - self.side, number)).cloned().map(Some).ok_or(SegmentViolation::Location)
    }

    fn accept(&mut self, segment: u32, bytes: usize, outbox: &mut Outbox) -> Result<Heap, NoMemory> {
        outbox.push_back((Packet::Accept { segment }, None));
        Ok(self.make(Self::number(segment, true), bytes))
    }

    fn decline(&mut self, segment: u32, outbox: &mut Outbox) {
        outbox.push_back((Packet::Decline { segment }, None));
    }

    fn read(&mut self, packet: Packet, _: Option<OwnedFd>) -> Result<SegmentEvent, SegmentViolation> {
        let at = |segment, table| PeerLocation::Offset(RegionOffset(Self::number(segment, table)));
        match packet {
            Packet::Offer { segment, blocks } => {
                Ok(SegmentEvent::Offered { segment, blocks, location: at(segment, false) })
            }
            Packet::Accept { segment } => Ok(SegmentEvent::Accepted { segment, location: at(segment, true) }),
            Packet::Decline { segment } => Ok(SegmentEvent::Declined { segment }),
            Packet::Retire { segment } => Ok(SegmentEvent::Retiring { segment }),
            Packet::Retired { segment } => Ok(SegmentEvent::Retired { segment }),
            _ => Err(SegmentViolation::Unexpected),
        }
    }

    fn poll(&mut self) -> Option<SegmentEvent> {
        None
    }
}
