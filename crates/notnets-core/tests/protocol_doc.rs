//! `docs/protocol.md` says what the code does: its constants and its examples in hexadecimal digits
//! are compared with what is compiled. A failure prints what has to stand there.

use notnets_core::call::{MAX_PAYLOADS, OpenOutcome, Place, Sent, StreamId};
use notnets_core::clock::Timestamp;
use notnets_core::code::Code;
use notnets_core::frame::{Frame, INLINE, Kind, Payload, SharedReference};
use notnets_core::limits::{Limits, MAX_METADATA, MAX_STREAMS, MIN_CHARGE, MIN_WINDOW};
use notnets_core::link::packet::{self, Hello, Packet, Refusal, Terms};
use notnets_core::link::segments::MAX_OFFERED;
use notnets_core::name::MAX_NAME_LENGTH;
use notnets_core::pair::{HeapConnection, Pair, frozen_clock};
use notnets_core::strings::{MAX_STRING, MAX_STRING_BYTES, MAX_STRINGS};
use notnets_memory::lane::{self, Blocks, Geometry};
use notnets_memory::region::RegionOffset;
use notnets_memory::ring::Descriptor;
use notnets_memory::{LINE, PAGE};

const PAGE_TEXT: &str = include_str!("../../../docs/protocol.md");
const NONE: [(&str, &[u8]); 0] = [];

/// Without spaces, so that the page may break its lines as it likes.
fn squeezed(text: &str) -> String {
    text.split_whitespace().collect()
}

fn assert_stands_there(lines: &[String]) {
    let page = squeezed(PAGE_TEXT);
    let missing: Vec<_> =
        lines.iter().filter(|line| !page.contains(&squeezed(line))).map(String::as_str).collect();
    assert!(missing.is_empty(), "docs/protocol.md lacks:\n{}", missing.join("\n"));
}

fn hex(bytes: &[u8]) -> String {
    bytes
        .chunks(8)
        .map(|group| group.iter().map(|byte| format!("{byte:02x}")).collect::<String>())
        .collect::<Vec<_>>()
        .join(" ")
}

#[test]
fn constants() {
    let Limits { metadata_bytes, streams, stream_window, link_window, segment_bytes, .. } = Limits::default();
    let Geometry { slots, small, large } = Geometry::default();
    let constants: [(&str, u64); 24] = [
        ("LINE", LINE as u64),
        ("PAGE", PAGE as u64),
        ("LAYOUT_VERSION", lane::LAYOUT_VERSION),
        ("MAX_PACKET", packet::MAX_PACKET as u64),
        ("VERSIONS.0", packet::VERSIONS.0.into()),
        ("VERSIONS.1", packet::VERSIONS.1.into()),
        ("INLINE", INLINE as u64),
        ("MAX_STRING", MAX_STRING as u64),
        ("MAX_STRINGS", MAX_STRINGS as u64),
        ("MAX_STRING_BYTES", MAX_STRING_BYTES as u64),
        ("MIN_CHARGE", MIN_CHARGE),
        ("MIN_WINDOW", MIN_WINDOW.into()),
        ("MAX_METADATA", MAX_METADATA.into()),
        ("MAX_STREAMS", MAX_STREAMS.into()),
        ("MAX_PAYLOADS", MAX_PAYLOADS as u64),
        ("MAX_OFFERED", MAX_OFFERED as u64),
        ("MAX_NAME_LENGTH", MAX_NAME_LENGTH as u64),
        ("metadata_bytes", metadata_bytes.into()),
        ("streams", streams.into()),
        ("stream_window", stream_window.into()),
        ("link_window", link_window.into()),
        ("segment_bytes", segment_bytes.into()),
        ("slots", slots.into()),
        ("first segment", Geometry::default().segment_bytes() as u64),
    ];
    let mut lines: Vec<_> = constants.iter().map(|(name, value)| format!("| `{name}` | {value} |")).collect();
    for (name, Blocks { bytes, count }) in [("small", small), ("large", large)] {
        lines.push(format!("| `{name}` | {count} × {bytes} |"));
    }
    assert_stands_there(&lines);
}

/// A first segment has no other limits than those on the page.
#[test]
fn limits_of_a_geometry() {
    let fine = Geometry::default();
    let blocks = |bytes, count| Blocks { bytes, count };
    for (geometry, valid) in [
        (Geometry { slots: 65536, ..fine }, true),
        (Geometry { slots: 131_072, ..fine }, false),
        (Geometry { large: blocks(67_108_864 - 28_672, 1), ..fine }, true),
        (Geometry { large: blocks(67_108_864 - 28_672 + 64, 1), ..fine }, false),
        (Geometry { small: blocks(64, 479), large: blocks(64, 1), ..fine }, true),
        (Geometry { small: blocks(64, 480), large: blocks(64, 1), ..fine }, false),
    ] {
        assert_eq!(geometry.check().is_ok(), valid, "{geometry:?}");
    }
    assert_stands_there(&["at most 65536".into(), "in all at most 67108864".into(), "at most 480".into()]);
}

#[test]
fn packets() {
    let blocks = Blocks { bytes: 65536, count: 32 };
    let terms = Terms {
        version: 1,
        features: 0,
        incarnation: *b"sixteen byte id.",
        limits: Limits::default(),
        geometry: Geometry::default(),
    };
    let hello = Hello { versions: (1, 1), terms, name: "inventory".into(), user_agent: "shop/2".into() };
    let examples = [
        ("DOORBELL", Packet::Doorbell),
        ("HELLO", Packet::Hello(hello)),
        ("WELCOME", Packet::Welcome(terms)),
        ("REFUSED", Packet::Refused { reason: Refusal::Identity, text: "no".into() }),
        ("OFFER", Packet::Offer { segment: 2, blocks }),
        ("ACCEPT", Packet::Accept { segment: 2 }),
        ("DECLINE", Packet::Decline { segment: 2 }),
        ("INSPECT", Packet::Inspect),
        ("STATS", Packet::Stats),
        ("SHARE", Packet::Share { payload: 7, bytes: 1 << 20 }),
        ("RETIRE", Packet::Retire { segment: 2 }),
        ("RETIRED", Packet::Retired { segment: 2 }),
        ("TAKEN OVER", Packet::TakenOver),
    ];
    let lines = examples.map(|(name, packet)| {
        let bytes = packet.encode();
        assert_eq!(Packet::decode(&bytes), Ok(packet));
        format!("{name}: {}", hex(&bytes))
    });
    assert_stands_there(&lines);
}

/// The next descriptor that was pushed to this side, as it lies in the ring: with its sequence.
fn pushed_to(side: &mut HeapConnection, sequence: u64) -> String {
    let descriptor: Descriptor = side.lanes().pop().expect("something was pushed");
    Frame::decode(descriptor).expect("is a frame");
    let words = std::iter::once(sequence).chain(descriptor);
    hex(&words.flat_map(u64::to_le_bytes).collect::<Vec<_>>())
}

/// The stream that is opened first on a link.
const FIRST: StreamId = StreamId::new(1);

/// Opens the first stream on a new link.
fn open(pair: &mut Pair, entries: &[(&str, &[u8])], mut data: &[u8], end: bool) {
    let deadline = Some(pair.client.deadline(Timestamp::from_nanos(1_000_000_000), frozen_clock));
    let entries = entries.iter().copied();
    let opened = pair.client.open("/a.B/C", entries, deadline, &mut data, end, &mut Some(()));
    assert_eq!(opened, Ok(OpenOutcome::Opened(FIRST, Sent::All)));
}

/// A call that the server has accepted.
fn accepted() -> Pair {
    let mut pair = Pair::default();
    open(&mut pair, &[], b"", false);
    pair.drive();
    assert!(pair.server.accept().is_some() && pair.server.set_user(FIRST, ()));
    pair
}

#[test]
fn frames_of_a_call() {
    let mut lines = Vec::new();
    let mut is = |name: &str, bytes: String| lines.push(format!("{name}: {bytes}"));

    let mut pair = Pair::default();
    open(&mut pair, &[("k", b"v")], b"hi", true);
    is("REQUEST", pushed_to(&mut pair.server, 1));

    let mut pair = Pair::default();
    open(&mut pair, &[], b"\0\0\0\0\x02hi", true);
    is("REQUEST, its data one message", pushed_to(&mut pair.server, 1));

    let mut pair = Pair::default();
    open(&mut pair, &[], &[7; 100], true);
    is("REQUEST, its payload in a block", pushed_to(&mut pair.server, 1));

    let mut pair = accepted();
    assert_eq!(pair.server.respond(FIRST, NONE, &mut &b"reply"[..], Some(Code::OK)), Ok(Sent::All));
    is("RESPONSE, all of it", pushed_to(&mut pair.client, 1));

    let mut pair = accepted();
    assert_eq!(pair.server.respond_trailers_only(FIRST, NONE, Code(5)), Ok(Sent::All));
    is("RESPONSE, trailers only", pushed_to(&mut pair.client, 1));

    let mut pair = accepted();
    assert_eq!(pair.client.send(FIRST, &mut &b"more"[..], true), Sent::All);
    is("DATA", pushed_to(&mut pair.server, 2));

    let mut pair = accepted();
    assert_eq!(pair.server.respond(FIRST, NONE, &mut &b"reply"[..], None), Ok(Sent::All));
    assert_eq!(pair.server.finish(FIRST, [("k", &b"v"[..])], Code::OK), Ok(Sent::All));
    pushed_to(&mut pair.client, 1);
    is("TRAILERS", pushed_to(&mut pair.client, 2));

    assert_stands_there(&lines);
}

#[test]
fn frames_of_shared_payloads() {
    let link = |kind, code| Frame { argument: 1, code, ..Frame::new(kind, StreamId::LINK) };
    let reference = SharedReference { payload: 1, offset: 5, length: 65536 };
    let data = Frame { end: true, payload: Payload::Shared(reference), ..Frame::new(Kind::Data, FIRST) };
    let place = Place { offset: RegionOffset(1 << 21), bytes: 1 << 20, checksum: 0x1234_5678 };
    let placed = Frame { payload: place.encode(), ..link(Kind::Share, 0) };
    let frames = [
        ("SHARE", 1, link(Kind::Share, 0)),
        ("SHARE, in a region", 1, placed),
        ("SHARED", 1, link(Kind::Shared, 1)),
        ("DATA, shared", 2, data),
        ("UNSHARE", 3, link(Kind::Unshare, 0)),
    ];
    let lines = frames.map(|(name, sequence, frame)| {
        assert_eq!(Frame::decode(frame.encode()), Ok(frame));
        let words: Vec<u64> = std::iter::once(sequence).chain(frame.encode()).collect();
        format!("{name}: {}", hex(&words.into_iter().flat_map(u64::to_le_bytes).collect::<Vec<_>>()))
    });
    assert_stands_there(&lines);
}

#[test]
fn frames_that_steer() {
    let mut lines = Vec::new();
    let mut is = |name: &str, bytes: String| lines.push(format!("{name}: {bytes}"));

    let mut pair = accepted();
    pair.client.close(FIRST);
    is("RESET", pushed_to(&mut pair.server, 2));

    let mut pair = accepted();
    pair.client.close(FIRST);
    pair.server.receive(1, frozen_clock);
    is("CLOSED", pushed_to(&mut pair.client, 1));

    let mut pair = Pair::default();
    pair.server.go_away();
    is("GO-AWAY", pushed_to(&mut pair.client, 1));
    is("PING, behind it", pushed_to(&mut pair.client, 2));

    let mut pair = Pair::default();
    pair.server.refuse();
    open(&mut pair, &[], b"", true);
    pair.server.receive(1, frozen_clock);
    is("GO-AWAY, at once", pushed_to(&mut pair.client, 1));
    is("RESET, refused", pushed_to(&mut pair.client, 2));

    let limits = Limits::default().with_stream_window(MIN_WINDOW);
    let mut pair: Pair = Pair::new(Geometry::default(), limits, limits);
    open(&mut pair, &[], &[7; 300], false);
    pair.server.receive(1, frozen_clock);
    pair.server.take(FIRST);
    is("WINDOW", pushed_to(&mut pair.client, 1));

    let mut pair: Pair = Pair::default();
    pair.client.ping(42);
    is("PING", pushed_to(&mut pair.server, 1));

    let mut pair: Pair = Pair::default();
    pair.client.ping(42);
    pair.server.receive(1, frozen_clock);
    is("PONG", pushed_to(&mut pair.client, 1));

    assert_stands_there(&lines);
}
