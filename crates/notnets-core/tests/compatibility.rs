//! A peer of the former version, recorded byte by byte, talks to today's code, in both directions
//! (`docs/compatibility.md`): greetings over sockets, calls over lanes.

use std::collections::BTreeMap;

use notnets_core::call::{End, Event, OpenOutcome, Received, ResponseHead, Sent, StreamId};
use notnets_core::clock::Timestamp;
use notnets_core::code::Code;
use notnets_core::frame::Frame;
use notnets_core::link::handshake::{Config, Dialing, answer};
use notnets_core::link::packet::Packet;
use notnets_core::link::socket::{Incoming, Socket};
use notnets_core::metadata::Metadata;
use notnets_core::pair::{HeapConnection, Pair, frozen_clock};
use notnets_memory::ring::Descriptor;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use std::os::fd::{AsFd, OwnedFd};

const RECORD: &str = include_str!("former/version-1.txt");
const FIRST: StreamId = StreamId::new(1);

/// What was recorded, by its name: a name and a colon at a line's beginning, then hexadecimal digits.
fn recorded() -> BTreeMap<String, Vec<u8>> {
    let mut all: BTreeMap<String, Vec<u8>> = BTreeMap::new();
    let mut name = String::new();
    for line in RECORD.lines().filter(|line| !line.starts_with('#')) {
        let digits = match line.split_once(':') {
            Some((begun, rest)) => {
                name = begun.to_owned();
                rest
            }
            None => line,
        };
        let digits: Vec<u8> = digits.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
        let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).expect("digits"), 16);
        let bytes = digits.chunks(2).map(|pair| byte(pair).expect("hexadecimal digits"));
        all.entry(name.clone()).or_default().extend(bytes);
    }
    all
}

fn packet(name: &str) -> Packet {
    Packet::decode(&recorded()[name]).expect("is still understood")
}

/// A recorded frame as its peer pushed it, without the sequence that the ring puts before it.
fn frame(name: &str) -> Descriptor {
    let bytes = &recorded()[name];
    assert_eq!(bytes.len(), 64, "{name}");
    let word = |at: usize| u64::from_le_bytes(bytes[at * 8..][..8].try_into().expect("8 bytes"));
    std::array::from_fn(|at| word(at + 1))
}

/// The recorded peer pushes a frame, in the place of one side of a pair.
fn push(recorded_side: &mut HeapConnection, name: &str) {
    let lanes = recorded_side.lanes();
    assert!(lanes.room().expect("is right") > 0);
    lanes.push(frame(name));
}

/// What today's code pushed for the recorded peer is what a peer of its own version would have pushed.
fn assert_pushed(recorded_side: &mut HeapConnection, name: &str) {
    assert_eq!(recorded_side.lanes().pop(), Some(frame(name)), "{name}");
}

fn connected() -> [Socket; 2] {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let (a, b): (OwnedFd, OwnedFd) =
        socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None).expect("two sockets");
    [a, b].map(Socket::from)
}

/// A first segment, as either version makes it: that of a client, which is held meanwhile.
fn segment() -> (Dialing, OwnedFd) {
    let [client, server] = connected();
    let dialing = Dialing::start(client, Config::default(), "x", "").expect("begins");
    let Ok(Incoming::Packet(Packet::Hello(_), Some(segment))) = server.receive() else { panic!() };
    (dialing, segment)
}

#[test]
fn all_that_was_recorded_is_understood_and_said_alike() {
    let record = recorded();
    assert_eq!(record.len(), 9 + 16);
    for (name, bytes) in record {
        if bytes.len() != 64 {
            assert_eq!(packet(&name).encode(), bytes, "{name}");
        } else {
            let decoded = Frame::decode(frame(&name)).expect("is still understood");
            assert_eq!(decoded.encode(), frame(&name), "{name}");
        }
    }
}

#[test]
fn a_former_client_gets_a_link_on_which_nothing_newer_is_used() {
    let (_held, segment) = segment();
    let [client, server] = connected();
    client.send(&packet("HELLO"), Some(segment.as_fd())).expect("is sent");
    let Ok(Incoming::Packet(Packet::Hello(hello), Some(descriptor))) = server.receive() else { panic!() };
    assert_eq!((&*hello.name, &*hello.user_agent), ("inventory", "shop/2"));
    let link = answer(server, hello, Some(descriptor), Config::default()).expect("gives a link");
    assert_eq!((link.shared_bytes, link.retires), (0, false));
    // The answer has the version that both speak, and the length that the client expects.
    let Ok(Incoming::Packet(welcome, Some(_segment))) = client.receive() else { panic!() };
    assert_eq!(welcome.encode().len(), recorded()["WELCOME"].len());
    assert!(matches!(welcome, Packet::Welcome(terms) if terms.version == 1), "{welcome:?}");
}

#[test]
fn a_former_server_gives_a_link_on_which_nothing_newer_is_used() {
    let (_held, segment) = segment();
    let [client, server] = connected();
    let dialing = Dialing::start(client, Config::default(), "inventory", "shop/2").expect("begins");
    let Ok(Incoming::Packet(hello, Some(_segment))) = server.receive() else { panic!() };
    assert_eq!(hello.encode().len(), recorded()["HELLO"].len());
    assert!(matches!(hello, Packet::Hello(hello) if hello.versions.0 <= 1), "it speaks version 1");
    server.send(&packet("WELCOME"), Some(segment.as_fd())).expect("is sent");
    let welcome = dialing.socket().receive().expect("is there");
    let link = dialing.finish(welcome).expect("gives a link");
    assert_eq!((link.shared_bytes, link.retires), (0, false));
}

#[test]
fn a_former_client_calls_todays_server() {
    let mut pair = Pair::<()>::default();
    push(&mut pair.client, "REQUEST, its data one message");
    pair.server.receive(usize::MAX, frozen_clock);
    let request = pair.server.accept().expect("a request");
    assert_eq!((&*request.method, request.stream), ("/a.B/C", FIRST));
    assert!(pair.server.set_user(FIRST, ()));
    assert_eq!(pair.server.take(FIRST), Received::Data(b"\0\0\0\0\x02hi"[..].into()));
    assert_eq!(pair.server.take(FIRST), Received::End(End::Requests));
    let none = [("", &b""[..]); 0];
    let sent = pair.server.respond(FIRST, none, &mut &b"reply"[..], Some(Code::OK));
    assert_eq!(sent, Ok(Sent::All));
    assert_pushed(&mut pair.client, "RESPONSE, all of it");
    assert_eq!(pair.server.violation(), None);
}

#[test]
fn a_former_client_gives_a_call_up() {
    let mut pair = Pair::<()>::default();
    let none = [("", &b""[..]); 0];
    let opened = pair.client.open("/a.B/C", none, None, &mut &b""[..], false, &mut Some(()));
    assert_eq!(opened, Ok(OpenOutcome::Opened(FIRST, Sent::All)));
    pair.drive();
    assert!(pair.server.accept().is_some() && pair.server.set_user(FIRST, ()));
    push(&mut pair.client, "RESET");
    pair.server.receive(usize::MAX, frozen_clock);
    let events: Vec<_> = std::iter::from_fn(|| pair.server.poll_event()).collect();
    assert!(events.iter().any(|event| matches!(event, Event::Cancelled(FIRST, _))), "{events:?}");
    assert_pushed(&mut pair.client, "CLOSED");
    assert_eq!(pair.server.violation(), None);
}

/// Today's client makes the call that was recorded, up to its first frame.
fn called(entries: &[(&str, &[u8])], mut data: &[u8], name: &str) -> Pair {
    let mut pair = Pair::default();
    let deadline = Some(pair.client.deadline(Timestamp::from_nanos(1_000_000_000), frozen_clock));
    let entries = entries.iter().copied();
    let opened = pair.client.open("/a.B/C", entries, deadline, &mut data, true, &mut Some(()));
    assert_eq!(opened, Ok(OpenOutcome::Opened(FIRST, Sent::All)));
    assert_pushed(&mut pair.server, name);
    pair
}

#[test]
fn todays_client_calls_a_former_server() {
    let mut pair = called(&[("k", b"v")], b"hi", "REQUEST");
    push(&mut pair.server, "RESPONSE, all of it");
    pair.client.receive(usize::MAX, frozen_clock);
    assert_eq!(pair.client.response(FIRST), Some(Ok(ResponseHead::Head(Metadata::new()))));
    assert_eq!(pair.client.take(FIRST), Received::Data(b"reply"[..].into()));
    assert_eq!(pair.client.take(FIRST), Received::End(End::Trailers(Code::OK, Metadata::new())));
    assert_eq!(pair.client.violation(), None);
}

#[test]
fn todays_client_leaves_a_former_server_that_goes_away() {
    let mut pair = called(&[], b"\0\0\0\0\x02hi", "REQUEST, its data one message");
    push(&mut pair.server, "GO-AWAY, at once");
    pair.client.receive(usize::MAX, frozen_clock);
    assert!(pair.client.is_draining());
    assert_eq!(pair.client.violation(), None);
}
