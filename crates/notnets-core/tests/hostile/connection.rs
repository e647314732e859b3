//! A connection whose peer does what it should, and then whatever the input says.
//!
//! The peer is a connection too, so that hostile frames meet a link in the middle of its work; and it
//! can write any descriptor into its ring and any word into its memory, as a process can that has gone
//! wrong or bad.

use notnets_core::call::{Connection, Role, StreamId};
use notnets_core::frame::{Frame, Kind};
use notnets_core::limits::Limits;
use notnets_core::pair::HeapConnection;
use notnets_memory::heap::Heap;
use notnets_memory::lane::{Blocks, Geometry, LAYOUT_VERSION, Lanes, MAGIC, Parts};
use notnets_memory::ring::Descriptor;
use notnets_memory::{ReadMemory, WORD, WriteMemory};

use super::application::{CALLS, Side};
use super::input::Input;

/// Small, so that a few hundred steps reach all of them.
const LIMITS: Limits = Limits::new()
    .with_metadata_bytes(512)
    .with_streams(8)
    .with_stream_window(2048)
    .with_link_window(4096)
    .with_segment_bytes(0);

const GEOMETRY: Geometry =
    Geometry { slots: 8, small: Blocks { bytes: 64, count: 4 }, large: Blocks { bytes: 1024, count: 3 } };

/// Any peer, and a victim of this role: it does not panic, holds no more than its limits allow, and
/// takes nothing more once it has found fault.
pub fn any_peer(role: Role, bytes: &[u8]) {
    let mut scene = Scene::new(role);
    let mut input = Input::new(bytes);
    while !input.is_empty() {
        match input.byte() % 16 {
            0..=4 => scene.peer.act(&mut input),
            5..=9 => scene.victim.act(&mut input),
            10 => drop(scene.peer.receive(input.below(16))),
            11..=13 => scene.victim_receives(input.below(16)),
            14 if input.byte().is_multiple_of(8) => scene.rapid_reset(input.below(64)),
            14 => scene.push(&mut input),
            _ => scene.overwrite(&mut input),
        }
        scene.check();
    }
}

/// Two sides that keep to the rules: neither finds fault, and when all calls are given up nothing is left.
pub fn honest_peers(bytes: &[u8]) {
    let mut scene = Scene::new(Role::Server);
    let mut input = Input::new(bytes);
    while !input.is_empty() {
        match input.byte() % 8 {
            0..=2 => scene.peer.act(&mut input),
            3..=5 => scene.victim.act(&mut input),
            6 => drop(scene.peer.receive(input.below(16))),
            _ => scene.victim_receives(input.below(16)),
        }
        scene.check();
        assert_eq!((scene.victim.connection.violation(), scene.peer.connection.violation()), (None, None));
    }
    scene.peer.close_all();
    while scene.peer.receive(usize::MAX) + scene.victim.receive(usize::MAX) > 0 {
        scene.victim.close_all();
    }
    scene.victim.close_all();
    for side in [&mut scene.victim, &mut scene.peer] {
        assert_eq!(side.connection.violation(), None);
        assert_eq!((side.connection.open_streams(), side.connection.lanes().arena().lent()), (0, 0));
        assert_eq!(side.connection.backlog(), Default::default());
    }
}

struct Scene {
    victim: Side,
    peer: Side,
    /// All that the peer can write.
    memory: Heap,
    /// The last stream of a call that was taken back at once.
    last: StreamId,
}

impl Scene {
    fn new(victim: Role) -> Self {
        let peer = if victim == Role::Client { Role::Server } else { Role::Client };
        let words = GEOMETRY.segment_bytes() / WORD;
        let (own, memory) = (Heap::new(words), Heap::new(words));
        let cut = |memory: &Heap| {
            let part = |at, bytes| Ok::<_, std::convert::Infallible>(memory.part(at / WORD, bytes / WORD));
            let Ok(parts) = Parts::cut(GEOMETRY, GEOMETRY, part);
            parts
        };
        for memory in [&own, &memory] {
            memory.store(1, LAYOUT_VERSION);
            memory.store_release(0, MAGIC);
        }
        let side = |role, own, other| -> Side {
            let lanes = Lanes::join(cut(own), GEOMETRY, cut(other), GEOMETRY).expect("stamped");
            let limits = LIMITS.check().expect("limits that work");
            let mut connection: HeapConnection = Connection::new(role, lanes, limits, limits);
            connection.begin_sharing(1 << 20);
            Side::new(role, connection)
        };
        Self {
            victim: side(victim, &own, &memory),
            peer: side(peer, &memory, &own),
            memory,
            last: StreamId::new(1000),
        }
    }

    fn victim_receives(&mut self, max: usize) {
        let at_fault = self.victim.connection.violation().is_some();
        let taken = self.victim.receive(max);
        assert!(!at_fault || taken == 0, "{taken} descriptors were taken after a violation");
    }

    /// A descriptor that the peer's connection did not make.
    fn push(&mut self, input: &mut Input<'_>) {
        let lanes = self.peer.connection.lanes();
        if lanes.room().is_ok_and(|room| room > 0) {
            lanes.push(descriptor(input));
        }
    }

    /// Calls that are taken back at once, and so don't count as open.
    fn rapid_reset(&mut self, times: usize) {
        for _ in 0..times {
            self.last = self.last.next();
            let lanes = self.peer.connection.lanes();
            for kind in [Kind::Request, Kind::Reset] {
                if lanes.room().is_ok_and(|room| room > 0) {
                    lanes.push(Frame::new(kind, self.last).encode());
                }
            }
            self.victim_receives(2);
        }
    }

    /// A word of the peer's memory: its ring, how far it has taken, its releases, its blocks.
    fn overwrite(&mut self, input: &mut Input<'_>) {
        // Most of it is blocks: the first page has the words that steer.
        let words = if input.flag() { 64 } else { self.memory.words() };
        self.memory.store(input.below(words), input.word());
    }

    fn check(&self) {
        let connection = &self.victim.connection;
        let backlog = connection.backlog();
        let (streams, limit) = (connection.open_streams(), LIMITS.streams as usize);
        // A client's own application decides how many calls it opens.
        assert!(streams <= limit + CALLS, "{streams} streams");
        assert!(!connection.role_accepts() || streams <= limit, "{streams} streams");
        assert!(backlog.unread <= LIMITS.link_window as usize, "{backlog:?}");
        assert!(backlog.requests <= limit, "{backlog:?}");
        assert!(backlog.control <= limit + CALLS + 1, "{backlog:?}");
        assert!(backlog.deadlines <= streams, "{backlog:?}");
        assert!(backlog.waiting <= 2 * (limit + CALLS), "{backlog:?}");
    }
}

/// Mostly with the shape of a frame.
fn descriptor(input: &mut Input<'_>) -> Descriptor {
    if input.byte() == 0 {
        return std::array::from_fn(|_| input.word());
    }
    let kind = Kind::ALL[input.below(Kind::ALL.len())] as u8;
    let (flags, len) = (input.byte() % 64, input.byte() % 34);
    let head = if input.flag() { 0 } else { input.byte() % 34 };
    let code = (input.word() as u32).to_le_bytes();
    let first = [kind, flags, len, head, code[0], code[1], code[2], code[3]];
    let mut descriptor = [u64::from_le_bytes(first), 0, 0, 0, 0, 0, 0];
    for word in &mut descriptor[1..] {
        *word = input.word();
    }
    descriptor
}
