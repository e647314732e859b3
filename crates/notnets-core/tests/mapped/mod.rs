//! A bed for tests of payloads that are not copied: two connections over mapped memory.

use bytes::{Buf, Bytes};
use notnets_core::call::{Connection, OpenOutcome, Received, Role, Sent, StreamId};
use notnets_core::clock::Timestamp;
use notnets_core::limits::Limits;
use notnets_memory::lane::{Blocks, FirstSegment, Geometry, Lanes};
use notnets_memory::{PeerSegment, Returns};

/// Bytes of a large block.
pub const BLOCK: usize = 64 << 10;

/// Both ends of a link.
pub struct Ends {
    pub client: Connection<()>,
    pub server: Connection<()>,
}

impl Ends {
    /// Each has this number of large blocks, and these limits.
    pub fn new(blocks: u32, limits: Limits) -> Self {
        let large = Blocks { bytes: BLOCK as u32, count: blocks };
        let geometry = Geometry { large, ..Geometry::default() };
        let (a, b) = (FirstSegment::create(geometry).unwrap(), FirstSegment::create(geometry).unwrap());
        let bytes = geometry.segment_bytes() as u64;
        let seen_a = PeerSegment::map(a.descriptor(), bytes).unwrap();
        let seen_b = PeerSegment::map(b.descriptor(), bytes).unwrap();
        let limits = limits.check().unwrap();
        let end = |role, own, peer| {
            let lanes = Lanes::open(own, peer, geometry).unwrap();
            let mut end = Connection::new(role, lanes, limits, limits);
            end.notice_returns(Returns::new().unwrap());
            end
        };
        Self { client: end(Role::Client, a, &seen_b), server: end(Role::Server, b, &seen_a) }
    }

    /// Opens a call with these data, of which more follow.
    pub fn open(&mut self, data: &mut impl Buf) -> StreamId {
        match self.client.open("/a/b", [("key", &b"value"[..])], None, data, false, &mut Some(())) {
            Ok(OpenOutcome::Opened(stream, _)) => stream,
            other => panic!("{other:?}"),
        }
    }

    /// Lets both take what there is.
    pub fn drive(&mut self) {
        let now = || Timestamp::ZERO;
        while self.client.receive(128, now) + self.server.receive(128, now) > 0 {}
        assert!(self.server.violation().is_none() && self.client.violation().is_none());
    }

    /// Sends all of it, however often it has to wait, and returns what comes.
    pub fn send(&mut self, stream: StreamId, mut data: impl Buf) -> Vec<Bytes> {
        let mut came = Vec::new();
        loop {
            let before = (data.remaining(), came.len());
            let sent = self.client.send(stream, &mut data, false);
            came.append(&mut self.take(stream));
            if sent == Sent::All && !data.has_remaining() {
                return came;
            }
            assert!((data.remaining(), came.len()) != before, "it is stuck");
        }
    }

    /// Takes what the server has received.
    pub fn take(&mut self, stream: StreamId) -> Vec<Bytes> {
        let next = || {
            self.drive();
            match self.server.take(stream) {
                Received::Data(data) => Some(data),
                Received::Pending => None,
                Received::End(end) => panic!("{end:?}"),
            }
        };
        std::iter::from_fn(next).collect()
    }

    /// Blocks of the client's that the server has not released.
    pub fn lent(&mut self) -> usize {
        self.client.lanes().arena().lent()
    }
}

pub fn message(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i % 251) as u8).collect()
}
