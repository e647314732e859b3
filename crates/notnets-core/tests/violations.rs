//! Peers that break the rules on purpose: nothing they write makes this side panic, grow without
//! bound or do work that nobody granted them.

use notnets_core::call::{Event, OpenOutcome, Received, Sent, StreamId, Violation};
use notnets_core::clock::Timestamp;
use notnets_core::code::Code;
use notnets_core::frame::{Frame, INLINE, Kind, PREFIX, Payload, prefix};
use notnets_core::limits::{Limits, MIN_WINDOW};
use notnets_core::pair::{HeapConnection, Pair, frozen_clock};
use notnets_memory::lane::{Blocks, Geometry};
use notnets_memory::{Reference, heap::Heap, lane::Lanes};
use proptest::prelude::*;

const METHOD: &str = "/pkg.Service/Method";
const NONE: [(&str, &[u8]); 0] = [];

/// With a block that is much larger than any limit.
fn pair(limits: Limits) -> Pair {
    let geometry = Geometry { large: Blocks { bytes: 1 << 20, count: 1 }, ..Geometry::default() };
    Pair::new(geometry, limits, limits)
}

fn open(client: &mut HeapConnection) -> StreamId {
    match client.open(METHOD, NONE, None, &mut &b""[..], false, &mut Some(())) {
        Ok(OpenOutcome::Opened(stream, Sent::All)) => stream,
        other => panic!("{other:?}"),
    }
}

/// Writes a frame past all rules.
fn push(lanes: &mut Lanes<Heap, Heap>, frame: Frame) {
    assert!(lanes.room().unwrap() > 0);
    lanes.push(frame.encode());
}

/// A payload of so many bytes in a block.
fn block(lanes: &mut Lanes<Heap, Heap>, bytes: usize) -> Reference {
    let mut loan = lanes.loan(bytes, bytes).unwrap();
    lanes.arena().write(&mut loan, &vec![b'x'; bytes]);
    lanes.arena().commit(loan, 0)
}

/// A request without metadata; the method is a string that is not kept.
fn request(stream: StreamId) -> Frame {
    let mut bytes = [0; INLINE];
    bytes[..2].copy_from_slice(b"/x");
    Frame {
        code: 2,
        payload: Payload::Inline { bytes, len: 2, head: 2 },
        ..Frame::new(Kind::Request, stream)
    }
}

#[test]
fn answers_that_nobody_reads_do_not_pile_up() {
    let limits = Limits::default().with_streams(100);
    for refused in [true, false] {
        let mut pair = pair(limits);
        if refused {
            pair.server.go_away();
        }
        let mut sent = StreamId::LINK;
        while pair.server.violation().is_none() {
            sent = sent.next();
            assert!(sent.get() < 10_000, "it remembers an answer for each of {sent} requests");
            push(pair.client.lanes(), request(sent));
            pair.server.receive(usize::MAX, frozen_clock);
            if !refused {
                push(pair.client.lanes(), Frame::new(Kind::Reset, sent));
                pair.server.receive(usize::MAX, frozen_clock);
            }
            while pair.server.accept().is_some() {}
            while pair.server.poll_event().is_some() {}
        }
        assert!(sent.get() > 100, "so many are within the limit");
    }
}

#[test]
fn a_call_that_is_cut_short_has_not_ended_well_and_says_nothing_to_a_terminal() {
    let mut pair = pair(Limits::default());
    let stream = open(&mut pair.client);
    pair.drive();
    let mut bytes = [0; INLINE];
    bytes[..5].copy_from_slice(b"\x1b[2Jx");
    let payload = Payload::Inline { bytes, len: 5, head: 0 };
    push(pair.server.lanes(), Frame { payload, ..Frame::new(Kind::Reset, stream) });
    pair.client.receive(1, frozen_clock);
    let Some(Err(failure)) = pair.client.response(stream) else { panic!("it goes on") };
    assert_eq!((failure.code, &*failure.message), (Code::UNKNOWN, "\\u{1b}[2Jx"));
}

#[test]
fn a_reset_gives_its_reason_in_few_bytes() {
    let mut pair = pair(Limits::default());
    let stream = open(&mut pair.client);
    let reference = block(pair.server.lanes(), 1 << 20);
    push(
        pair.server.lanes(),
        Frame { payload: Payload::Reference(reference), ..Frame::new(Kind::Reset, stream) },
    );
    pair.client.receive(usize::MAX, frozen_clock);
    assert_eq!(pair.client.violation(), Some(&Violation::State(stream, Kind::Reset)));
}

#[test]
fn what_is_over_a_limit_is_not_even_copied() {
    let limits = Limits::default().with_stream_window(MIN_WINDOW).with_link_window(MIN_WINDOW);
    let mut data = pair(limits);
    let stream = open(&mut data.client);
    data.server.receive(usize::MAX, frozen_clock);
    let reference = block(data.client.lanes(), 1 << 20);
    push(
        data.client.lanes(),
        Frame { payload: Payload::Reference(reference), ..Frame::new(Kind::Data, stream) },
    );
    data.server.receive(usize::MAX, frozen_clock);
    assert_eq!(data.server.violation(), Some(&Violation::Window(stream)));
    assert_eq!(data.client.lanes().arena().lent(), 1, "a block is given back when it has been copied");

    let mut head = pair(limits);
    let reference = Reference { head: 1 << 20, ..block(head.client.lanes(), 1 << 20) };
    push(head.client.lanes(), Frame { payload: Payload::Reference(reference), ..request(StreamId::new(1)) });
    head.server.receive(usize::MAX, frozen_clock);
    assert!(matches!(head.server.violation(), Some(Violation::HeadTooLarge { .. })));
    assert_eq!(head.client.lanes().arena().lent(), 1);
}

#[test]
fn a_status_alone_is_an_end() {
    let mut pair = pair(Limits::default());
    let stream = open(&mut pair.client);
    push(pair.server.lanes(), Frame { trailers_only: true, ..Frame::new(Kind::Response, stream) });
    pair.client.receive(usize::MAX, frozen_clock);
    assert_eq!(pair.client.violation(), Some(&Violation::State(stream, Kind::Response)));
}

#[test]
fn a_message_is_no_part_of_trailers() {
    let mut pair = pair(Limits::default());
    let stream = open(&mut pair.client);
    push(pair.server.lanes(), Frame::new(Kind::Response, stream));
    push(pair.server.lanes(), Frame { message: true, ..Frame::new(Kind::Trailers, stream) });
    pair.client.receive(usize::MAX, frozen_clock);
    assert_eq!(pair.client.violation(), Some(&Violation::State(stream, Kind::Trailers)));
}

#[test]
fn what_is_put_in_front_of_a_message_counts() {
    let limits = Limits::default().with_stream_window(MIN_WINDOW);
    let geometry = Geometry { large: Blocks { bytes: 2048, count: 1 }, ..Geometry::default() };
    for (bytes, allowed) in [(MIN_WINDOW as usize - PREFIX, true), (MIN_WINDOW as usize - PREFIX + 1, false)]
    {
        let mut pair: Pair = Pair::new(geometry, limits, limits);
        let stream = open(&mut pair.client);
        pair.server.receive(usize::MAX, frozen_clock);
        let lanes = pair.client.lanes();
        let mut loan = lanes.loan(bytes, bytes).unwrap();
        lanes.arena().write(&mut loan, &vec![7; bytes]);
        let payload = Payload::Reference(lanes.arena().commit(loan, 0));
        push(lanes, Frame { message: true, payload, ..Frame::new(Kind::Data, stream) });
        pair.server.receive(usize::MAX, frozen_clock);
        assert_eq!(pair.server.violation().is_none(), allowed);
        let whole = [&prefix(bytes as u32)[..], &vec![7; bytes]].concat();
        let taken = if allowed { Received::Data(whole.into()) } else { Received::Pending };
        assert_eq!(pair.server.take(stream), taken);
    }
}

/// Frames of which many are almost right.
fn frames() -> impl Strategy<Value = Vec<[u64; 7]>> {
    let number = || prop_oneof![4 => 0u64..6, 1 => Just(64), 1 => Just(1024), 1 => any::<u64>()];
    let first = (0u8..12, 0u8..32, 0u8..34, 0u8..34, prop_oneof![0u32..5, Just(0x4002), Just(0x8000)]);
    let frame = (first, number(), number(), [number(), number(), number(), number()]);
    let encoded = frame.prop_map(|((kind, flags, len, head, code), stream, argument, words)| {
        let code = code.to_le_bytes();
        let first = u64::from_le_bytes([kind, flags, len, head.min(len), code[0], code[1], code[2], code[3]]);
        [first, stream, argument, words[0], words[1], words[2], words[3]]
    });
    prop::collection::vec(encoded, 1..60)
}

/// Takes whatever came, and answers some of it.
fn use_it(side: &mut HeapConnection) {
    while let Some(request) = side.accept() {
        side.set_user(request.stream, ());
    }
    while let Some(event) = side.poll_event() {
        if let Event::Readable(stream) | Event::Writable(stream) = event {
            let _ = side.response(stream);
            let _ = side.take(stream);
            let _ = side.send(stream, &mut &b"data"[..], false);
        }
    }
    for stream in (1..4).map(StreamId::new) {
        let _ = side.take(stream);
        if side.role_accepts() && stream.get() == 2 {
            let _ = side.respond(stream, NONE, &mut &b"x"[..], Some(Code::OK));
        } else if stream.get() == 3 {
            side.close(stream);
        }
    }
    side.expire(Timestamp::from_nanos(u64::MAX / 2));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..Default::default() })]
    #[test]
    fn any_frames_are_refused_or_taken(frames in frames(), to_server in any::<bool>()) {
        let limits = Limits::default().with_streams(3).with_stream_window(MIN_WINDOW);
        let large = Blocks { bytes: 2048, count: 1 };
        let geometry = Geometry { slots: 64, small: Blocks { bytes: 64, count: 4 }, large };
        let mut pair = Pair::new(geometry, limits, limits);
        for _ in 0..3 {
            open(&mut pair.client);
        }
        pair.server.receive(usize::MAX, frozen_clock);
        let (hostile, victim) =
            if to_server { (&mut pair.client, &mut pair.server) } else { (&mut pair.server, &mut pair.client) };
        for frame in frames {
            if hostile.lanes().room() == Ok(0) {
                break;
            }
            hostile.lanes().push(frame);
            victim.receive(usize::MAX, frozen_clock);
            use_it(victim);
            prop_assert!(victim.open_streams() <= 3);
        }
    }
}
