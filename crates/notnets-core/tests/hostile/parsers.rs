//! What is parsed outside of a connection: packets, heads, and the terms of a handshake.

use std::ops::Range;
use std::os::fd::AsFd;

use bytes::Bytes;
use notnets_core::limits::MAX_STREAMS;
use notnets_core::link::handshake::{Config, Dialing, answer};
use notnets_core::link::packet::{Hello, Packet, Terms, VERSIONS};
use notnets_core::link::socket::Incoming;
use notnets_core::link::{LinkError, Socket};
use notnets_core::metadata;
use notnets_core::strings::{MAX_STRING_BYTES, StringReader};
use notnets_memory::PAGE;
use notnets_memory::lane::{FirstSegment, Geometry, Parts};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};

use super::input::Input;

/// A packet is refused, or taken in one way only.
pub fn packet(bytes: &[u8]) {
    let Ok(packet) = Packet::decode(bytes) else { return };
    let encoded = packet.encode();
    let again = Packet::decode(&encoded).expect("what we encode, we decode");
    // A string over our own limit is cut, and an unknown reason has become one of ours.
    assert_eq!(again.encode(), encoded);
}

/// Head after head on one link: what comes out is in what went in, or in the strings it defined.
pub fn heads(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let mut strings = StringReader::default();
    while !input.is_empty() {
        let len = input.below(600);
        let head = input.bytes(len);
        let Ok(entries) = metadata::read(&mut Bytes::copy_from_slice(head), &mut strings) else { return };
        // Two bytes of tag and four of length, at least.
        assert!(entries.len() * 6 <= head.len());
        assert!(entries.iter().map(|(_, value)| value.len()).sum::<usize>() <= head.len());
        assert!(entries.iter().all(|(key, _)| key.len() <= MAX_STRING_BYTES));
    }
}

/// A client's first packet, with a segment that is as it should be, or none: the server either has a link
/// within its limits or tells the client why not.
pub fn terms(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let hello = if input.flag() {
        let Ok(Packet::Hello(hello)) = Packet::decode(input.bytes(usize::MAX)) else { return };
        hello
    } else {
        nearly_right(&mut input)
    };
    let geometry = hello.terms.geometry;
    if geometry.check().is_ok() {
        parts_are_apart(geometry);
    }
    if hello.terms.limits.check().is_ok() {
        assert!(hello.terms.limits.streams <= MAX_STREAMS);
    }
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let (client, server) =
        socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None).expect("sockets");
    let client = Socket::from(client);
    let segment = FirstSegment::create(Geometry::default()).expect("memory");
    let descriptor = segment.descriptor().try_clone_to_owned().expect("a descriptor");
    let answered = answer(server.into(), hello, Some(descriptor), Config::default());
    match (&answered, client.receive()) {
        (Ok(_), Ok(Incoming::Packet(Packet::Welcome(_), Some(_)))) => {
            assert_eq!(geometry.segment_bytes(), Geometry::default().segment_bytes());
        }
        (Err(_), Ok(Incoming::Packet(Packet::Refused { .. }, None))) => {}
        (answered, told) => panic!("{answered:?}, and the client was told {told:?}"),
    }
}

/// A server's answer: the client has a link or an error.
pub fn answers(bytes: &[u8]) {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let (client, server) =
        socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None).expect("sockets");
    let dialing = Dialing::start(client.into(), Config::default(), "x", "").expect("memory");
    let segment = FirstSegment::create(Geometry::default()).expect("memory");
    let mut input = Input::new(bytes);
    let descriptor = input.flag().then(|| segment.descriptor());
    let incoming = if input.flag() {
        match Packet::decode(input.bytes(usize::MAX)) {
            Ok(packet) => Incoming::Packet(packet, descriptor.and_then(|fd| fd.try_clone_to_owned().ok())),
            Err(bad) => Incoming::Bad(bad),
        }
    } else {
        let welcome = Packet::Welcome(nearly_right(&mut input).terms);
        Socket::from(server.as_fd().try_clone_to_owned().expect("a descriptor"))
            .send(&welcome, descriptor)
            .expect("room");
        dialing.socket().receive().expect("a packet")
    };
    if let Err(error) = dialing.finish(incoming) {
        assert!(!matches!(error, LinkError::Io { .. }), "{error}");
    }
}

/// What a client says, with a few fields that it might not.
fn nearly_right(input: &mut Input<'_>) -> Hello {
    let config = Config::default();
    let mut terms = Terms {
        version: VERSIONS.1,
        features: 0,
        incarnation: [7; 16],
        limits: config.limits,
        geometry: config.geometry,
    };
    let mut versions = VERSIONS;
    for _ in 0..input.below(4) {
        let word = input.word();
        let number = word as u32;
        match input.byte() % 16 {
            0 => versions.0 = word as u16,
            1 => versions.1 = word as u16,
            2 => terms.version = word as u16,
            3 => terms.features = word,
            4 => terms.limits.metadata_bytes = number,
            5 => terms.limits.streams = number,
            6 => terms.limits.stream_window = number,
            7 => terms.limits.link_window = number,
            8 => terms.limits.segment_bytes = number,
            9 => terms.geometry.slots = number,
            10 => terms.geometry.small.bytes = number,
            11 => terms.geometry.small.count = number,
            12 => terms.geometry.large.bytes = number,
            13 => terms.geometry.large.count = number,
            _ => {}
        }
    }
    Hello { versions, terms, name: "x".into(), user_agent: String::new() }
}

/// The parts of a segment that has passed the check follow each other, with less than a page between them,
/// and fill it.
fn parts_are_apart(geometry: Geometry) {
    let mut end = 0;
    let part = |at: usize, bytes: usize| -> Result<Range<usize>, ()> {
        assert!(at >= end && at - end < PAGE);
        end = at.checked_add(bytes).expect("no overflow");
        Ok(at..end)
    };
    assert!(Parts::cut(geometry, Geometry::default(), part).is_ok());
    assert_eq!(end.next_multiple_of(PAGE), geometry.segment_bytes());
}
