//! Segments beyond the first: offered, accepted, used; and a peer that offers without end.

use std::os::fd::OwnedFd;

use notnets_core::limits::Limits;
use notnets_core::link::Established;
use notnets_core::link::handshake::{Config, Dialing, answer};
use notnets_core::link::packet::Packet;
use notnets_core::link::segments::{Memfds, SegmentViolation, Segments};
use notnets_core::link::socket::{Incoming, Socket};
use notnets_memory::lane::Blocks;
use notnets_memory::{OwnSegment, PAGE};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};

const BUDGET: u32 = 1 << 20;
const TINY: Blocks = Blocks { bytes: 64, count: 1 };

/// A client's and a server's end.
fn link() -> (Established, Established) {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let (client, server) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None).unwrap();
    let limits = Limits::default().with_segment_bytes(BUDGET);
    let config = Config { limits, ..Config::default() };
    let dialing = Dialing::start(client.into(), config, "x", "").unwrap();
    let server = Socket::from(server);
    let Incoming::Packet(Packet::Hello(hello), descriptor) = server.receive().unwrap() else { panic!() };
    let server = answer(server, hello, descriptor, config).unwrap();
    let welcome = dialing.socket().receive().unwrap();
    (dialing.finish(welcome).unwrap(), server)
}

fn memfds(own_budget: u32, peer_budget: u32) -> Segments {
    Segments::new(Box::new(Memfds), own_budget, peer_budget)
}

fn packet(socket: &Socket) -> (Packet, Option<OwnedFd>) {
    match socket.receive().unwrap() {
        Incoming::Packet(packet, descriptor) => (packet, descriptor),
        other => panic!("{other:?}"),
    }
}

/// Sends all packets that wait. Returns `false` if the socket takes no more.
fn flush(segments: &mut Segments, socket: &Socket) -> bool {
    while let Some((packet, descriptor)) = segments.next_packet() {
        if socket.send(packet, descriptor).is_err() {
            return false;
        }
        segments.packet_sent();
    }
    true
}

#[test]
fn an_accepted_segment_carries_payloads() {
    let (mut client, mut server) = link();
    let (mut clients, mut servers) = (memfds(BUDGET, BUDGET), memfds(BUDGET, BUDGET));
    let blocks = Blocks { bytes: 64 << 10, count: 4 };
    assert!(clients.may_offer(blocks));
    clients.offer(blocks).unwrap();
    assert!(flush(&mut clients, &client.socket));
    let (offer, descriptor) = packet(&server.socket);
    assert!(!servers.receive(offer, descriptor, &mut server.lanes).unwrap());
    assert!(flush(&mut servers, &server.socket));
    let (accept, descriptor) = packet(&client.socket);
    assert!(clients.receive(accept, descriptor, &mut client.lanes).unwrap());

    let payload: Vec<u8> = (0..60_000).map(|i| (i % 251) as u8).collect();
    let mut loan = client.lanes.loan(payload.len(), payload.len()).unwrap();
    client.lanes.arena().write(&mut loan, &payload);
    let reference = client.lanes.arena().commit(loan, 0);
    let mut read = Vec::new();
    server.lanes.read(&reference, &mut read).unwrap();
    assert!(read == payload);
}

#[test]
fn what_is_over_the_budget_is_declined() {
    let (mut client, mut server) = link();
    let (mut clients, mut servers) = (memfds(BUDGET, u32::MAX), memfds(BUDGET, BUDGET));
    let blocks = Blocks { bytes: 64 << 10, count: 17 };
    clients.offer(blocks).unwrap();
    flush(&mut clients, &client.socket);
    let (offer, descriptor) = packet(&server.socket);
    servers.receive(offer, descriptor, &mut server.lanes).unwrap();
    flush(&mut servers, &server.socket);
    let (decline, _) = packet(&client.socket);
    assert!(matches!(decline, Packet::Decline { .. }));
    assert!(clients.receive(decline, None, &mut client.lanes).unwrap());
    assert!(!clients.may_offer(TINY), "it would be declined as well");
    assert!(clients.wants_look(), "for a while");
    assert!(clients.look(&mut client.lanes), "there may be room now");
    assert!(clients.may_offer(TINY));
}

#[test]
fn answers_are_right_or_break_the_link() {
    let (mut client, _server) = link();
    let mut segments = memfds(BUDGET, BUDGET);
    let mut receive = |packet| segments.receive(packet, None, &mut client.lanes);
    let accept = receive(Packet::Accept { segment: 2 });
    assert!(matches!(accept, Err(SegmentViolation::NotOffered(2))));
    let decline = receive(Packet::Decline { segment: 2 });
    assert!(matches!(decline, Err(SegmentViolation::NotOffered(2))));
    assert!(matches!(receive(Packet::Inspect), Err(SegmentViolation::Unexpected)));
    let offer = |segment, blocks| Packet::Offer { segment, blocks };
    assert!(matches!(receive(offer(2, TINY)), Ok(false)), "declined: it came without a descriptor");
    assert!(matches!(receive(offer(2, TINY)), Err(SegmentViolation::Again(2))));
    for blocks in [(0, 1), (63, 1), (64, 0), (u32::MAX - 63, 1)] {
        let (bytes, count) = blocks;
        let mut segments = memfds(BUDGET, BUDGET);
        let received = segments.receive(offer(9, Blocks { bytes, count }), None, &mut client.lanes);
        assert!(matches!(received, Err(SegmentViolation::Blocks(_))), "{blocks:?}");
    }
}

#[test]
fn offers_whose_answers_are_not_read_break_the_link() {
    let (mut client, _server) = link();
    // It accepts nothing: each offer is to be declined, and nobody reads that.
    let mut segments = memfds(0, BUDGET);
    let broken = (2..1000).find_map(|segment| {
        let offer = Packet::Offer { segment, blocks: TINY };
        segments.receive(offer, None, &mut client.lanes).err().map(|violation| (segment, violation))
    });
    let (after, violation) = broken.expect("it goes on for ever");
    assert!(after < 20 && matches!(violation, SegmentViolation::Unread(_)), "{after}: {violation}");
}

/// The packets that wait on one side, taken by the other.
fn carry(
    from: (&mut Segments, &Socket),
    to: (&mut Segments, &mut Established),
) -> Result<bool, SegmentViolation> {
    let mut any = false;
    assert!(flush(from.0, from.1));
    while let Ok(Incoming::Packet(packet, descriptor)) = to.1.socket.receive() {
        to.0.receive(packet, descriptor, &mut to.1.lanes)?;
        any = true;
    }
    Ok(any)
}

/// A link on which the client has offered segments, and the server has accepted them.
struct Grown {
    client: Established,
    server: Established,
    clients: Segments,
    servers: Segments,
}

impl Grown {
    fn new(count: usize, blocks: Blocks) -> Self {
        let (client, server) = link();
        assert!(client.retires && server.retires, "both sides know how");
        let (mut clients, mut servers) = (memfds(BUDGET, BUDGET), memfds(BUDGET, BUDGET));
        clients.begin_retiring();
        servers.begin_retiring();
        let mut grown = Self { client, server, clients, servers };
        for _ in 0..count {
            grown.clients.offer(blocks).unwrap();
            grown.drive();
        }
        grown
    }

    fn drive(&mut self) {
        let Self { client, server, clients, servers } = self;
        while carry((clients, &client.socket), (servers, server)).unwrap()
            | carry((servers, &server.socket), (clients, client)).unwrap()
        {}
    }

    /// The client looks what it has not used. Returns whether it wants to look again.
    fn look(&mut self) -> bool {
        self.clients.look(&mut self.client.lanes);
        self.drive();
        self.clients.wants_look()
    }

    fn bytes(&self) -> [usize; 2] {
        [self.clients.bytes().offered, self.servers.bytes().mapped]
    }
}

const LARGE: Blocks = Blocks { bytes: 64 << 10, count: 4 };

#[test]
fn a_segment_that_is_not_used_is_retired() {
    let mut grown = Grown::new(4, LARGE);
    assert_eq!(grown.bytes(), [BUDGET as usize; 2]);
    assert!(!grown.clients.may_offer(LARGE) && grown.look(), "nothing is known of them yet");
    assert_eq!(grown.bytes(), [BUDGET as usize; 2]);
    let mut loan = grown.client.lanes.loan(60_000, 60_000).unwrap();
    grown.client.lanes.arena().write(&mut loan, &[7; 60_000]);
    let lent = grown.client.lanes.arena().commit(loan, 0);
    assert!(grown.look(), "one was used since");
    assert_eq!(grown.bytes(), [LARGE.segment_bytes(); 2], "the others were not");
    assert!(grown.look());
    assert_eq!(grown.bytes(), [LARGE.segment_bytes(); 2], "the server has a block of it");
    let mut read = Vec::new();
    grown.server.lanes.read(&lent, &mut read).unwrap();
    assert_eq!(read, [7; 60_000]);
    grown.server.lanes.release(&lent);
    assert!(!grown.look());
    assert_eq!(grown.bytes(), [0, 0]);
    assert!(grown.server.lanes.check(&lent).is_err(), "it is not mapped any more");
    assert!(grown.clients.may_offer(LARGE), "there is room again");
    for _ in 0..100 {
        grown.clients.offer(LARGE).unwrap();
        grown.drive();
        grown.look();
        assert_eq!(grown.bytes(), [LARGE.segment_bytes(); 2]);
        grown.look();
    }
    assert_eq!(grown.bytes(), [0, 0]);
}

#[test]
fn many_are_retired_a_few_at_a_time() {
    let mut grown = Grown::new(100, TINY);
    assert!(grown.look());
    let Grown { client, server, clients, servers } = &mut grown;
    clients.look(&mut client.lanes);
    let mut most = 0;
    while clients.bytes().offered > 0 {
        let waiting = std::iter::from_fn(|| clients.packet_sent()).collect::<Vec<_>>();
        most = most.max(waiting.len());
        for packet in waiting {
            servers.receive(packet, None, &mut server.lanes).unwrap();
        }
        for packet in std::iter::from_fn(|| servers.packet_sent()).collect::<Vec<_>>() {
            clients.receive(packet, None, &mut client.lanes).unwrap();
        }
    }
    assert!(most <= 16, "{most} at a time");
    assert_eq!(servers.bytes().mapped, 0);
}

#[test]
fn a_peer_that_does_not_unmap_gets_no_more() {
    let mut grown = Grown::new(4, LARGE);
    for _ in 0..10 {
        grown.clients.look(&mut grown.client.lanes);
    }
    let told: Vec<_> = std::iter::from_fn(|| grown.clients.packet_sent()).collect();
    assert_eq!(told, [2, 3, 4, 5].map(|segment| Packet::Retire { segment }));
    assert!(!grown.clients.may_offer(TINY), "it has all that it may have");
    assert!(!grown.clients.wants_look(), "nobody has to wake up for that");
}

#[test]
fn retirements_are_right_or_break_the_link() {
    let retire = |segment| Packet::Retire { segment };
    let retired = |segment| Packet::Retired { segment };
    let mut grown = Grown::new(1, LARGE);
    let Grown { client, server, clients, servers } = &mut grown;
    let mut receive = |packet| servers.receive(packet, None, &mut server.lanes);
    let never = receive(retire(3));
    assert!(matches!(never, Err(SegmentViolation::NotAccepted(3))), "{never:?}");
    for part_of_the_first in [0, 1] {
        let first = receive(retire(part_of_the_first));
        assert!(matches!(first, Err(SegmentViolation::NotAccepted(_))), "{first:?}");
    }
    assert!(matches!(receive(retire(2)), Ok(false)));
    let twice = receive(retire(2));
    assert!(matches!(twice, Err(SegmentViolation::NotAccepted(2))), "{twice:?}");
    let nothing = receive(retired(2));
    assert!(matches!(nothing, Err(SegmentViolation::NotRetired(2))), "{nothing:?}");
    let in_use = clients.receive(retired(2), None, &mut client.lanes);
    assert!(matches!(in_use, Err(SegmentViolation::NotRetired(2))), "{in_use:?}");
    let mut before = memfds(BUDGET, BUDGET);
    for packet in [retire(2), retired(2)] {
        let unknown = before.receive(packet, None, &mut client.lanes);
        assert!(unknown.is_err(), "that was not agreed on");
    }
}

#[test]
fn without_an_agreement_nothing_is_retired() {
    let (mut client, mut server) = link();
    let (mut clients, mut servers) = (memfds(BUDGET, BUDGET), memfds(BUDGET, BUDGET));
    clients.offer(LARGE).unwrap();
    carry((&mut clients, &client.socket), (&mut servers, &mut server)).unwrap();
    carry((&mut servers, &server.socket), (&mut clients, &mut client)).unwrap();
    assert!(!clients.wants_look());
    for _ in 0..3 {
        clients.look(&mut client.lanes);
    }
    assert!(clients.next_packet().is_none());
    assert!(client.lanes.loan(60_000, 60_000).is_some());
}

/// Each segment is two mappings, of which a process has 65,530.
#[test]
fn not_even_the_smallest_segments_are_accepted_without_end() {
    let (mut client, server) = link();
    let mut segments = memfds(u32::MAX, BUDGET);
    let small = OwnSegment::create(PAGE).unwrap();
    let declined = (2..2000).find(|segment| {
        let descriptor = small.descriptor().try_clone_to_owned().unwrap();
        let offer = Packet::Offer { segment: *segment, blocks: TINY };
        segments.receive(offer, Some(descriptor), &mut client.lanes).unwrap();
        assert!(flush(&mut segments, &client.socket));
        matches!(packet(&server.socket), (Packet::Decline { .. }, None))
    });
    assert!(declined.is_some_and(|segment| segment < 300), "{declined:?}");
}
