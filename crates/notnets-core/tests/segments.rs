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
