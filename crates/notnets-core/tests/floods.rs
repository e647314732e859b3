//! What a peer does over and over makes nothing grow on the other side.

use notnets_core::Code;
use notnets_core::call::{OpenOutcome, Sent, StreamId, Violation};
use notnets_core::frame::{Frame, INLINE, Kind, Payload};
use notnets_core::limits::{Limits, MIN_CHARGE, MIN_WINDOW};
use notnets_core::pair::{HeapConnection, Pair, frozen_clock};
use notnets_memory::Reference;
use notnets_memory::lane::{Blocks, Geometry};

const NONE: [(&str, &[u8]); 0] = [];
const STREAMS: u32 = 10;
const TIMES: u64 = 10_000;

fn pair() -> Pair {
    let limits = Limits::default().with_streams(STREAMS).with_link_window(2 * MIN_WINDOW);
    Pair::new(Geometry::default(), limits, limits)
}

/// Pushes frames that the connection on this side knows nothing of; the other side takes them.
fn push(pair: &mut Pair, frames: impl IntoIterator<Item = Frame>) {
    for frame in frames {
        assert!(pair.client.lanes().room().unwrap() > 0);
        pair.client.lanes().push(frame.encode());
        pair.server.receive(1, frozen_clock);
    }
}

fn forget_events(side: &mut HeapConnection) {
    while side.poll_event().is_some() {}
}

#[test]
fn calls_that_are_taken_back_while_their_answers_are_not_taken() {
    let mut pair = pair();
    let mut stream = StreamId::LINK;
    while pair.server.violation().is_none() {
        stream = stream.next();
        assert!(stream.get() < TIMES, "it goes on for ever");
        push(&mut pair, [Frame::new(Kind::Request, stream), Frame::new(Kind::Reset, stream)]);
        forget_events(&mut pair.server);
        let backlog = pair.server.backlog();
        assert!(backlog.control <= STREAMS as usize + 3, "{backlog:?}");
        assert!(backlog.requests <= STREAMS as usize, "{backlog:?}");
    }
    assert!(matches!(pair.server.violation(), Some(Violation::Unread(_))), "{:?}", pair.server.violation());
}

#[test]
fn calls_over_the_limit_while_their_refusals_are_not_taken() {
    let mut pair = pair();
    let mut stream = StreamId::LINK;
    while pair.server.violation().is_none() {
        stream = stream.next();
        assert!(stream.get() < TIMES, "it goes on for ever");
        push(&mut pair, [Frame::new(Kind::Request, stream)]);
        forget_events(&mut pair.server);
        assert!(pair.server.open_streams() <= STREAMS as usize);
        let backlog = pair.server.backlog();
        assert!(backlog.control <= STREAMS as usize + 3, "{backlog:?}");
    }
    assert!(matches!(pair.server.violation(), Some(Violation::Unread(_))), "{:?}", pair.server.violation());
}

/// A client may take calls back faster than the server's application accepts any.
#[test]
fn calls_that_are_taken_back_before_they_are_accepted() {
    let mut pair = pair();
    for stream in (1..TIMES).map(StreamId::new) {
        push(&mut pair, [Frame::new(Kind::Request, stream), Frame::new(Kind::Reset, stream)]);
        take_answers(&mut pair);
        let backlog = pair.server.backlog();
        assert!(backlog.requests <= STREAMS as usize, "{backlog:?}");
    }
    assert_eq!(pair.server.violation(), None);
    assert!(pair.server.accept().is_none(), "nobody waits for any of them");
}

/// The response to each call waits for credit of the link, which the client never gives.
#[test]
fn calls_that_are_taken_back_while_their_responses_wait_for_credit() {
    let mut pair = pair();
    for stream in (1..TIMES).map(StreamId::new) {
        push(&mut pair, [Frame::new(Kind::Request, stream)]);
        assert_eq!(pair.server.accept().expect("a request").stream, stream);
        pair.server.respond(stream, NONE, &mut &[0; 4096][..], None).unwrap();
        // As often as its application tries.
        for _ in 0..3 {
            assert_eq!(pair.server.send(stream, &mut &[0; 4096][..], false), Sent::Nothing);
        }
        assert_eq!(pair.server.backlog().waiting, 1);
        push(&mut pair, [Frame::new(Kind::Reset, stream)]);
        take_answers(&mut pair);
        assert_eq!(pair.server.backlog().waiting, 0);
    }
    assert_eq!(pair.server.violation(), None);
}

/// Each stream stays within its own window; all of them together don't within the link's.
#[test]
fn data_on_many_streams_that_nobody_takes() {
    let mut pair = pair();
    let streams = u64::from(STREAMS);
    push(&mut pair, (1..=streams).map(|stream| Frame::new(Kind::Request, StreamId::new(stream))));
    let payload = Payload::Inline { bytes: [7; INLINE], len: INLINE as u8, head: 0 };
    let mut sent = 0;
    while pair.server.violation().is_none() {
        sent += 1;
        assert!(sent < TIMES, "it goes on for ever");
        push(&mut pair, [Frame { payload, ..Frame::new(Kind::Data, StreamId::new(1 + sent % streams)) }]);
        forget_events(&mut pair.server);
        assert!(pair.server.backlog().unread as u64 <= u64::from(2 * MIN_WINDOW));
    }
    assert_eq!(
        sent,
        u64::from(2 * MIN_WINDOW) / MIN_CHARGE + 1,
        "small chunks are charged for as larger ones"
    );
    assert!(matches!(pair.server.violation(), Some(Violation::Window(_))), "{:?}", pair.server.violation());
}

/// Many small entries take more than the bytes that they came in.
#[test]
fn heads_of_open_calls_take_no_more_than_is_said() {
    const HEAD: u32 = 4096;
    const OPEN: u32 = 64;
    let small = vec![("k", &b""[..]); HEAD as usize / 8];
    let large = vec![("k", &[b'v'; HEAD as usize - 100][..])];
    for (entries, at_least) in [(small, 4), (large, OPEN)] {
        let limits = Limits::default().with_streams(OPEN).with_metadata_bytes(HEAD);
        let mut pair = Pair::new(Geometry::default(), limits, limits);
        let mut requests = Vec::new();
        let held = allocation_counter::measure(|| {
            for _ in 0..OPEN {
                let mut opened = Ok(OpenOutcome::Blocked);
                while opened == Ok(OpenOutcome::Blocked) {
                    let entries = entries.iter().copied();
                    opened = pair.client.open("/x", entries, None, &mut &[][..], true, &mut Some(()));
                    pair.drive();
                }
                requests.extend(std::iter::from_fn(|| pair.server.accept()));
                forget_events(&mut pair.client);
            }
        });
        pair.assert_no_violation();
        assert!(requests.len() >= at_least as usize, "{} are taken", requests.len());
        let bound = u64::from((HEAD + 1280) * OPEN);
        // The rest is the client's, and what each call takes.
        assert!(held.bytes_current < 2 * bound as i64, "{} of {bound} bytes", held.bytes_current);
        for request in requests {
            pair.server.reset(request.stream, Code::CANCELLED, "");
        }
        pair.drive();
        let again = pair.client.open("/x", entries, None, &mut &[][..], true, &mut Some(()));
        assert!(matches!(again, Ok(OpenOutcome::Opened(..))), "{again:?}");
        pair.drive();
        assert!(pair.server.accept().is_some(), "there is room again");
    }
}

/// What the server says is taken, and not heeded.
fn take_answers(pair: &mut Pair) {
    while pair.client.lanes().pop().is_some() {}
    forget_events(&mut pair.server);
}

/// A client whose arena has four such blocks.
fn pair_with_a_block(bytes: u32) -> Pair {
    let geometry = Geometry { large: Blocks { bytes, count: 4 }, ..Geometry::default() };
    let limits = Limits::default().with_streams(STREAMS);
    Pair::new(geometry, limits, limits)
}

/// Pushes a frame whose data are all of a block.
fn push_block(pair: &mut Pair, frame: Frame, bytes: u32) {
    assert!(pair.client.lanes().room().unwrap() > 0);
    let loan = pair.client.lanes().loan(bytes as usize, bytes as usize).expect("a block is free");
    let reference = pair.client.lanes().arena().commit(loan, 0);
    let reference = Reference { length: bytes, ..reference };
    pair.client.lanes().push(Frame { payload: Payload::Reference(reference), ..frame }.encode());
}

/// Taking many blocks takes long, while others wait.
#[test]
fn blocks_are_taken_a_few_at_a_time() {
    const BLOCK: u32 = 256 << 10;
    let mut pair = pair_with_a_block(BLOCK);
    push(&mut pair, (1..=4).map(|stream| Frame::new(Kind::Request, StreamId::new(stream))));
    for stream in (1..=4).map(StreamId::new) {
        push_block(&mut pair, Frame::new(Kind::Data, stream), BLOCK);
    }
    assert_eq!(pair.server.receive(usize::MAX, frozen_clock), 2, "that is enough for now");
    assert_eq!(pair.server.receive(usize::MAX, frozen_clock), 2);
    assert_eq!(pair.server.receive(usize::MAX, frozen_clock), 0);
    pair.assert_no_violation();
    assert_eq!(pair.server.backlog().unread, 4 * BLOCK as usize);
}

/// For calls that are over, and for calls that are refused.
#[test]
fn what_is_for_nobody_is_given_back_unread() {
    const BLOCK: u32 = 256 << 10;
    let mut pair = pair_with_a_block(BLOCK);
    push(&mut pair, [Frame::new(Kind::Request, StreamId::new(1)), Frame::new(Kind::Reset, StreamId::new(1))]);
    take_answers(&mut pair);
    let copied = allocation_counter::measure(|| {
        for _ in 0..1000 {
            push_block(&mut pair, Frame::new(Kind::Data, StreamId::new(1)), BLOCK);
            assert_eq!(pair.server.receive(1, frozen_clock), 1);
            take_answers(&mut pair);
        }
    });
    pair.assert_no_violation();
    assert!(copied.bytes_total < 2 * u64::from(BLOCK), "{} bytes", copied.bytes_total);
}
