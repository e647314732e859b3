//! RPC semantics between two connections, without threads or time.

use bytes::Bytes;
use notnets_core::call::{
    End, Event, HeadError, OpenOutcome, Received, Request, ResponseHead, Sent, StreamId, Violation,
};
use notnets_core::clock::Timestamp;
use notnets_core::code::Code;
use notnets_core::frame::{Frame, INLINE, Kind, prefix};
use notnets_core::limits::{Limits, MIN_WINDOW};
use notnets_core::metadata::Metadata;
use notnets_core::pair::{HeapConnection, Pair, frozen_clock};
use notnets_memory::lane::{Blocks, Geometry};

const METHOD: &str = "/pkg.Service/Method";
const NONE: [(&str, &[u8]); 0] = [];

fn open(client: &mut HeapConnection, data: &[u8], end: bool) -> StreamId {
    match client.open(METHOD, NONE, None, &mut { data }, end, &mut Some(())) {
        Ok(OpenOutcome::Opened(stream, Sent::All)) => stream,
        other => panic!("{other:?}"),
    }
}

fn accept(pair: &mut Pair) -> Request {
    pair.drive();
    let request = pair.server.accept().expect("a request");
    assert!(pair.server.set_user(request.stream, ()));
    request
}

/// All data there is, and the end if it came.
fn take_all(side: &mut HeapConnection, stream: StreamId) -> (Vec<u8>, Option<End>) {
    let mut all = Vec::new();
    loop {
        match side.take(stream) {
            Received::Data(data) => all.extend_from_slice(&data),
            Received::Pending => return (all, None),
            Received::End(end) => return (all, Some(end)),
        }
    }
}

fn events(side: &mut HeapConnection) -> Vec<Event<()>> {
    std::iter::from_fn(|| side.poll_event()).collect()
}

fn is_idle(pair: &mut Pair) {
    pair.drive();
    pair.assert_no_violation();
    assert_eq!((pair.client.open_streams(), pair.server.open_streams()), (0, 0));
    assert_eq!((pair.client.lanes().arena().lent(), pair.server.lanes().arena().lent()), (0, 0));
}

/// As gRPC puts it into a body.
fn framed(message: &[u8]) -> Vec<u8> {
    [&prefix(message.len() as u32)[..], message].concat()
}

#[test]
fn small_messages_need_no_block_and_arrive_as_they_were() {
    let mut pair = Pair::default();
    // The first call brings the method's path.
    for len in [0].into_iter().chain(0..=INLINE + 8) {
        let message: Vec<u8> = (0..len as u8).collect();
        let first = pair.client.lanes().pushed() == 0;
        let stream = open(&mut pair.client, &framed(&message), true);
        assert_eq!(pair.client.lanes().arena().lent() > 0, !first && len > INLINE, "{len} bytes");
        accept(&mut pair);
        assert_eq!(take_all(&mut pair.server, stream), (framed(&message), Some(End::Requests)));
        let mut reply = framed(&message);
        // Not what it looks like at first: compressed, of another length, or with something behind.
        match len % 4 {
            1 => reply[0] = 1,
            2 => reply[4] ^= 1,
            3 => reply.push(0),
            _ => {}
        }
        assert_eq!(pair.server.respond(stream, NONE, &mut &reply[..], Some(Code::OK)), Ok(Sent::All));
        pair.drive();
        assert_eq!(take_all(&mut pair.client, stream).0, reply);
        pair.client.close(stream);
    }
    is_idle(&mut pair);
    let credit = pair.client.link_credit();
    assert_eq!(credit.to_send + pair.server.link_credit().to_give, u64::from(Limits::default().link_window));
}

#[test]
fn small_messages_of_a_stream_are_counted_alike_on_both_sides() {
    let mut pair = Pair::default();
    let stream = open(&mut pair.client, b"", false);
    accept(&mut pair);
    // More than a window holds, so credit has to come back right.
    for i in 0..20_000u32 {
        let message = framed(&i.to_le_bytes()[..i as usize % 5]);
        assert_eq!(pair.client.send(stream, &mut &message[..], false), Sent::All, "message {i}");
        pair.drive();
        assert_eq!(pair.server.take(stream), Received::Data(message.into()));
        pair.drive();
    }
    pair.assert_no_violation();
}

#[test]
fn a_unary_call_is_one_descriptor_each_way() {
    let mut pair = Pair::default();
    for round in 0..3 {
        let pushed = (pair.client.lanes().pushed(), pair.server.lanes().pushed());
        let stream = open(&mut pair.client, b"request", true);
        let request = accept(&mut pair);
        assert_eq!((&*request.method, request.stream), (METHOD, stream));
        assert_eq!(take_all(&mut pair.server, stream), (b"request".to_vec(), Some(End::Requests)));
        let sent = pair.server.respond(stream, NONE, &mut &b"reply"[..], Some(Code::OK));
        assert_eq!(sent, Ok(Sent::All));
        pair.drive();
        assert_eq!(pair.client.response(stream), Some(Ok(ResponseHead::Head(Metadata::new()))));
        let end = End::Trailers(Code::OK, Metadata::new());
        assert_eq!(take_all(&mut pair.client, stream), (b"reply".to_vec(), Some(end)));
        pair.client.close(stream);
        is_idle(&mut pair);
        let now = (pair.client.lanes().pushed(), pair.server.lanes().pushed());
        assert_eq!(now, (pushed.0 + 1, pushed.1 + 1), "round {round}");
    }
}

#[test]
fn metadata_cross_in_order_with_repetition() {
    let mut pair = Pair::default();
    let entries = [("a", &b"1"[..]), ("b-bin", &[0, 255][..]), ("a", &b""[..])];
    let opened = pair.client.open(METHOD, entries, None, &mut &b""[..], true, &mut Some(())).unwrap();
    let OpenOutcome::Opened(stream, Sent::All) = opened else { panic!("{opened:?}") };
    let request = accept(&mut pair);
    let got: Vec<_> = request.metadata.iter().map(|(k, v)| (&**k, &**v)).collect();
    assert_eq!(got, entries);
    assert_eq!(pair.server.respond(stream, entries, &mut &b""[..], None), Ok(Sent::All));
    assert_eq!(pair.server.finish(stream, entries, Code(9)), Ok(Sent::All));
    pair.drive();
    let Some(Ok(ResponseHead::Head(head))) = pair.client.response(stream) else { panic!() };
    assert_eq!(head.len(), 3);
    let (_, Some(End::Trailers(Code(9), trailers))) = take_all(&mut pair.client, stream) else { panic!() };
    assert_eq!(trailers, head);
    pair.client.close(stream);
    is_idle(&mut pair);
}

#[test]
fn trailers_only_replies_are_told_apart() {
    let mut pair = Pair::default();
    let stream = open(&mut pair.client, b"", true);
    accept(&mut pair);
    let sent = pair.server.respond_trailers_only(stream, [("grpc-message", &b"no"[..])], Code(5));
    assert_eq!(sent, Ok(Sent::All));
    pair.drive();
    let Some(Ok(ResponseHead::TrailersOnly(Code(5), metadata))) = pair.client.response(stream) else {
        panic!()
    };
    assert_eq!(metadata.len(), 1);
    pair.client.close(stream);
    is_idle(&mut pair);
}

#[test]
fn messages_of_every_size_arrive_through_a_small_arena() {
    let mut pair = Pair::default();
    for size in (0..70).chain([1000, 1024, 1025, 16 * 1024, 100_000, 5 << 20]) {
        let sent: Vec<u8> = (0..size).map(|i| (i * 7 + size) as u8).collect();
        let mut data = Bytes::from(sent.clone());
        let opened = pair.client.open(METHOD, NONE, None, &mut data, true, &mut Some(())).unwrap();
        let OpenOutcome::Opened(stream, mut progress) = opened else { panic!("{opened:?}") };
        accept(&mut pair);
        let mut got = Vec::new();
        let mut back = Bytes::from(sent.clone());
        loop {
            if progress != Sent::All {
                progress = pair.client.send(stream, &mut data, true);
            }
            pair.drive();
            let (some, end) = take_all(&mut pair.server, stream);
            got.extend(some);
            if end.is_some() {
                break;
            }
        }
        assert!(got == sent, "{size} bytes");
        let mut progress = pair.server.respond(stream, NONE, &mut back, Some(Code::OK)).unwrap();
        let mut got = Vec::new();
        let end = loop {
            if progress != Sent::All {
                progress = pair.server.send(stream, &mut back, false);
                if progress == Sent::All {
                    progress = pair.server.finish(stream, NONE, Code::OK).unwrap();
                }
            }
            pair.drive();
            let (some, end) = take_all(&mut pair.client, stream);
            got.extend(some);
            if let Some(end) = end {
                break end;
            }
        };
        assert!(got == sent, "{size} bytes back");
        assert_eq!(end, End::Trailers(Code::OK, Metadata::new()));
        pair.client.close(stream);
        is_idle(&mut pair);
    }
}

#[test]
fn a_reader_that_stops_stops_its_writer_and_nobody_else() {
    let mut pair = Pair::default();
    let stuck = open(&mut pair.client, b"", false);
    accept(&mut pair);
    let mut sent = 0;
    loop {
        let mut data = &[0u8; 1000][..];
        let progress = pair.client.send(stuck, &mut data, false);
        sent += 1000 - data.len();
        pair.drive();
        if progress == Sent::Nothing && pair.client.send(stuck, &mut data, false) == Sent::Nothing {
            break;
        }
    }
    let window = Limits::default().stream_window as usize;
    assert!(sent <= window && sent > window - 2000, "{sent} of {window}");
    for _ in 0..10 {
        let stream = open(&mut pair.client, &[1; 5000], true);
        assert_eq!(accept(&mut pair).stream, stream);
        assert_eq!(take_all(&mut pair.server, stream).0.len(), 5000);
        assert_eq!(pair.server.respond_trailers_only(stream, NONE, Code::OK), Ok(Sent::All));
        pair.drive();
        pair.client.close(stream);
    }
    events(&mut pair.client);
    assert_eq!(take_all(&mut pair.server, stuck).0.len(), sent);
    pair.drive();
    assert_eq!(events(&mut pair.client), [Event::Writable(stuck)]);
    assert_eq!(pair.client.send(stuck, &mut &[0; 1000][..], true), Sent::All);
    pair.drive();
    assert_eq!(take_all(&mut pair.server, stuck).1, Some(End::Requests));
    pair.client.close(stuck);
    is_idle(&mut pair);
}

#[test]
fn link_credit_is_never_lost() {
    let limits = Limits::default().with_stream_window(MIN_WINDOW).with_link_window(4 * MIN_WINDOW);
    let mut pair = Pair::new(Geometry::default(), limits, limits);
    // Calls that end in every way with data nobody takes.
    for round in 0..200 {
        let stream = open(&mut pair.client, &[0; 500], round % 3 == 0);
        accept(&mut pair);
        match round % 4 {
            0 => pair.client.close(stream),
            1 => pair.server.reset(stream, Code::INTERNAL, "no"),
            2 => drop(pair.server.respond(stream, NONE, &mut &[0; 500][..], Some(Code::OK)).unwrap()),
            _ => {
                pair.client.close(stream);
                pair.server.reset(stream, Code::INTERNAL, "no");
            }
        }
        pair.drive();
        pair.client.close(stream);
        is_idle(&mut pair);
    }
}

#[test]
fn a_cancelled_call_is_dropped_by_the_server() {
    let mut pair = Pair::default();
    let stream = open(&mut pair.client, b"x", false);
    accept(&mut pair);
    events(&mut pair.server);
    pair.client.close(stream);
    pair.drive();
    assert_eq!(events(&mut pair.server), [Event::Cancelled(stream, Some(()))]);
    assert_eq!(pair.server.respond(stream, NONE, &mut &b""[..], None), Ok(Sent::Stopped));
    is_idle(&mut pair);
}

#[test]
fn a_request_that_was_taken_back_is_never_started() {
    let mut pair = Pair::default();
    let stream = open(&mut pair.client, b"x", true);
    pair.client.close(stream);
    pair.drive();
    assert!(pair.server.accept().is_none());
    is_idle(&mut pair);
}

#[test]
fn a_call_that_is_refused_is_safe_to_make_again() {
    let mut pair = Pair::default();
    for end in [false, true] {
        let stream = open(&mut pair.client, b"x", end);
        accept(&mut pair);
        pair.server.refuse_call(stream, Code::UNAVAILABLE, "not here");
        pair.server.refuse_call(stream, Code::INTERNAL, "it is over already");
        pair.drive();
        let Some(Err(failure)) = pair.client.response(stream) else { panic!() };
        assert_eq!(
            (failure.code, &*failure.message, failure.retry_safe),
            (Code::UNAVAILABLE, "not here", true)
        );
        pair.client.close(stream);
        is_idle(&mut pair);
    }
}

#[test]
fn a_reset_tells_its_status_and_reason() {
    let mut pair = Pair::default();
    let stream = open(&mut pair.client, b"x", false);
    accept(&mut pair);
    pair.server.reset(stream, Code::INTERNAL, "the handler panicked");
    pair.drive();
    let Some(Err(failure)) = pair.client.response(stream) else { panic!() };
    assert_eq!(
        (failure.code, &*failure.message, failure.retry_safe),
        (Code::INTERNAL, "the handler panicked", false)
    );
    assert_eq!(pair.client.send(stream, &mut &b"y"[..], true), Sent::Stopped);
    pair.client.close(stream);
    is_idle(&mut pair);
}

#[test]
fn a_deadline_ends_the_call_on_both_sides() {
    for (client_late, server_late) in [(true, true), (true, false), (false, true)] {
        let mut pair = Pair::default();
        let at = Timestamp::from_nanos(1000);
        let deadline = Some(pair.client.deadline(at, frozen_clock));
        let opened = pair.client.open(METHOD, NONE, deadline, &mut &b""[..], false, &mut Some(())).unwrap();
        let OpenOutcome::Opened(stream, _) = opened else { panic!() };
        let request = accept(&mut pair);
        assert_eq!(request.deadline, Some(at));
        assert_eq!((pair.client.next_deadline(), pair.server.next_deadline()), (Some(at), Some(at)));
        events(&mut pair.server);
        let before = Timestamp::from_nanos(999);
        pair.client.expire(if client_late { at } else { before });
        pair.server.expire(if server_late { at } else { before });
        pair.drive();
        assert_eq!(events(&mut pair.server), [Event::Cancelled(stream, Some(()))]);
        let Some(Err(failure)) = pair.client.response(stream) else { panic!() };
        assert_eq!(failure.code, Code::DEADLINE_EXCEEDED);
        pair.client.close(stream);
        is_idle(&mut pair);
        assert_eq!((pair.client.next_deadline(), pair.server.next_deadline()), (None, None));
    }
}

#[test]
fn an_early_status_stops_the_clients_sending_without_failing_the_call() {
    let mut pair = Pair::default();
    let stream = open(&mut pair.client, b"first", false);
    accept(&mut pair);
    assert_eq!(pair.server.respond_trailers_only(stream, NONE, Code(7)), Ok(Sent::All));
    assert_eq!(pair.client.send(stream, &mut &b"crossing"[..], false), Sent::All);
    pair.drive();
    assert_eq!(pair.client.send(stream, &mut &b"more"[..], false), Sent::Stopped);
    assert_eq!(pair.client.response(stream), Some(Ok(ResponseHead::TrailersOnly(Code(7), Metadata::new()))));
    pair.client.close(stream);
    is_idle(&mut pair);
}

#[test]
fn the_client_keeps_to_the_servers_stream_limit() {
    let server = Limits::default().with_streams(2);
    let mut pair = Pair::new(Geometry::default(), Limits::default(), server);
    let first = open(&mut pair.client, b"", true);
    open(&mut pair.client, b"", true);
    let mut third = || pair.client.open(METHOD, NONE, None, &mut &b""[..], true, &mut Some(()));
    assert_eq!(third(), Ok(OpenOutcome::Blocked));
    accept(&mut pair);
    pair.server.respond_trailers_only(first, NONE, Code::OK).unwrap();
    pair.drive();
    assert!(events(&mut pair.client).contains(&Event::CanOpen));
    open(&mut pair.client, b"", true);
    pair.assert_no_violation();
}

#[test]
fn go_away_lets_calls_finish_and_refuses_new_ones() {
    let mut pair = Pair::default();
    let running = open(&mut pair.client, b"", true);
    accept(&mut pair);
    pair.server.go_away();
    // The client can't know yet, so this one is taken as well.
    let crossing = open(&mut pair.client, b"", true);
    assert!(!pair.server.is_draining());
    pair.drive();
    assert_eq!(accept(&mut pair).stream, crossing);
    let opened = pair.client.open(METHOD, NONE, None, &mut &b""[..], true, &mut Some(()));
    assert_eq!(opened, Ok(OpenOutcome::Draining));
    assert!(pair.server.is_draining(), "the client has heard of it: no more can come");
    for stream in [running, crossing] {
        pair.server.respond_trailers_only(stream, NONE, Code::OK).unwrap();
        pair.drive();
        assert!(matches!(pair.client.response(stream), Some(Ok(_))));
        pair.client.close(stream);
    }
    is_idle(&mut pair);
}

#[test]
fn a_client_that_does_not_hear_the_go_away_is_refused() {
    let mut pair = Pair::default();
    let running = open(&mut pair.client, b"", true);
    accept(&mut pair);
    pair.server.go_away();
    pair.server.refuse();
    let crossing = open(&mut pair.client, b"", true);
    pair.drive();
    assert!(pair.server.accept().is_none());
    let Some(Err(failure)) = pair.client.response(crossing) else { panic!() };
    assert_eq!((failure.code, failure.retry_safe), (Code::UNAVAILABLE, true));
    pair.server.respond_trailers_only(running, NONE, Code::OK).unwrap();
    pair.drive();
    assert!(matches!(pair.client.response(running), Some(Ok(_))));
    pair.client.close(running);
    pair.client.close(crossing);
    is_idle(&mut pair);
}

#[test]
fn a_head_over_the_limit_is_refused_before_it_is_sent() {
    let server = Limits::default().with_metadata_bytes(100);
    let mut pair = Pair::new(Geometry::default(), Limits::default(), server);
    let large = [0; 101];
    let refused = pair.client.open(METHOD, [("k", &large[..])], None, &mut &b""[..], true, &mut Some(()));
    assert!(matches!(refused, Err(HeadError::TooLarge { limit: 100, .. })));
    // Strings of the refused head are defined anew.
    let stream = open(&mut pair.client, b"", true);
    let request = accept(&mut pair);
    assert_eq!((&*request.method, request.stream), (METHOD, stream));
}

#[test]
fn a_full_ring_delays_and_loses_nothing() {
    let small = Blocks { bytes: 64, count: 1 };
    let geometry = Geometry { slots: 2, small, large: Blocks { bytes: 4096, count: 1 } };
    let mut pair = Pair::new(geometry, Limits::default(), Limits::default());
    let mut streams = Vec::new();
    let mut blocked = 0;
    while streams.len() < 50 {
        match pair.client.open(METHOD, NONE, None, &mut &[7; 40][..], true, &mut Some(())).unwrap() {
            OpenOutcome::Opened(stream, Sent::All) => streams.push(stream),
            _ => {
                blocked += 1;
                pair.drive();
                assert!(events(&mut pair.client).contains(&Event::CanOpen));
            }
        }
    }
    assert!(blocked > 10);
    pair.drive();
    // Resets for all of them wait for room, and arrive.
    for stream in &streams {
        pair.client.close(*stream);
    }
    is_idle(&mut pair);
}

#[test]
fn pings_are_answered() {
    let mut pair = Pair::default();
    pair.client.ping(42);
    pair.drive();
    assert_eq!(events(&mut pair.client), [Event::Pong(42)]);
}

#[test]
fn frames_that_have_no_place_break_the_link() {
    let frame = |kind, stream| Frame::new(kind, StreamId::new(stream));
    let data = |bytes: u8| notnets_core::frame::Payload::Inline { bytes: [0; 32], len: bytes, head: 0 };
    let wrong = [
        frame(Kind::Response, 1),
        frame(Kind::Trailers, 1),
        frame(Kind::GoAway, 0),
        frame(Kind::Data, 9),
        frame(Kind::Reset, 9),
        frame(Kind::Data, 0),
        Frame { argument: u64::MAX, ..frame(Kind::Window, 0) },
        Frame { argument: 1, ..frame(Kind::Window, 0) },
        Frame { code: 0x8000, ..frame(Kind::Request, 1) },
        Frame { code: 0x10000, ..frame(Kind::Request, 1) },
        Frame { code: 2, payload: data(1), ..frame(Kind::Request, 1) },
    ];
    for frame in wrong {
        let mut pair = Pair::<()>::default();
        pair.client.lanes().push(frame.encode());
        pair.drive();
        assert!(pair.server.violation().is_some(), "{frame:?}");
    }
    let mut pair = Pair::<()>::default();
    pair.client.lanes().push([u64::MAX; 7]);
    pair.drive();
    assert!(matches!(pair.server.violation(), Some(Violation::Frame(_))));
}

#[test]
fn data_beyond_the_window_break_the_link() {
    let limits = Limits::default().with_stream_window(MIN_WINDOW);
    let mut pair = Pair::new(Geometry::default(), Limits::default(), limits);
    let stream = open(&mut pair.client, b"", false);
    accept(&mut pair);
    let payload = notnets_core::frame::Payload::Inline { bytes: [0; 32], len: 32, head: 0 };
    for _ in 0..=MIN_WINDOW / 64 {
        pair.client.lanes().push(Frame { payload, ..Frame::new(Kind::Data, stream) }.encode());
    }
    pair.drive();
    assert_eq!(pair.server.violation(), Some(&Violation::Window(stream)));
}

#[test]
fn a_detached_connection_gives_what_it_has_and_touches_no_lane() {
    let mut pair = Pair::default();
    let mut data = &[1; 200_000][..];
    let opened = pair.client.open(METHOD, NONE, None, &mut data, false, &mut Some(()));
    let Ok(OpenOutcome::Opened(stream, _)) = opened else { panic!("{opened:?}") };
    accept(&mut pair);
    while !data.is_empty() {
        pair.client.send(stream, &mut data, false);
        pair.drive();
    }
    pair.server.detach();
    let pushed = pair.server.lanes().pushed();
    // Taking so much gives credit back, which must not be pushed.
    assert_eq!(take_all(&mut pair.server, stream).0.len(), 200_000);
    pair.server.reset(stream, Code::INTERNAL, "no");
    assert_eq!(pair.server.lanes().pushed(), pushed);
    pair.client.close(stream);
    assert_eq!(pair.server.receive(usize::MAX, frozen_clock), 0);
}

#[test]
fn between_clocks_deadlines_travel_as_the_time_that_is_left() {
    let mut pair: Pair = Pair::default();
    pair.client.send_time_left();
    pair.server.send_time_left();
    let [clients, servers] = [1_000, 5_000_000].map(|nanos| move || Timestamp::from_nanos(nanos));
    for (deadline, seen) in [(None, None), (Some(1_500), Some(5_000_500)), (Some(900), Some(5_000_001))] {
        let none: [(&str, &[u8]); 0] = [];
        let deadline = deadline.map(|nanos| pair.client.deadline(Timestamp::from_nanos(nanos), clients));
        pair.client.open("/a.B/C", none, deadline, &mut &b""[..], true, &mut Some(())).unwrap();
        pair.server.receive(1, servers);
        assert_eq!(pair.server.accept().unwrap().deadline, seen.map(Timestamp::from_nanos));
    }
    pair.assert_no_violation();
}

/// A message of `total` bytes that is sent in pieces of these sizes, and what comes out of it when the rest
/// behind `taken` bytes is put together.
#[test]
fn a_large_message_is_put_together_in_one_piece() {
    let geometry = Geometry {
        slots: 128,
        small: Blocks { bytes: 1024, count: 16 },
        large: Blocks { bytes: 16 << 10, count: 2 },
    };
    let message: Vec<u8> = (0..200_000u32).map(|i| (i % 251) as u8).collect();
    for behind in [0usize, 1, 40, 5000] {
        let mut pair: Pair = Pair::new(geometry, Limits::default(), Limits::default());
        let all = [&message[..], &vec![9; behind][..]].concat();
        let mut data = &all[..];
        let opened = pair.client.open("/a/b", [], None, &mut data, true, &mut Some(())).unwrap();
        let OpenOutcome::Opened(stream, _) = opened else { panic!("{opened:?}") };
        pair.drive();
        let request = pair.server.accept().unwrap().stream;
        let Received::Data(first) = pair.server.take(request) else { panic!() };
        assert!(first.len() < message.len());
        pair.server.gather(request, first, message.len()).unwrap();
        let mut came = Vec::new();
        while came.is_empty() {
            assert_eq!(
                pair.server.take(request),
                Received::Pending,
                "nothing of it before all of it is there"
            );
            while pair.server.poll_event().is_some() {}
            pair.client.send(stream, &mut data, true);
            pair.drive();
            came.extend(std::iter::from_fn(|| match pair.server.poll_event() {
                Some(Event::Readable(id)) if id == request => Some(()),
                _ => None,
            }));
        }
        while !data.is_empty() {
            pair.client.send(stream, &mut data, true);
            pair.drive();
        }
        assert_eq!(pair.server.take(request), Received::Data(message.clone().into()), "in one piece");
        let mut rest = Vec::new();
        while let Received::Data(data) = pair.server.take(request) {
            rest.extend_from_slice(&data);
        }
        assert_eq!(rest, vec![9; behind]);
        assert_eq!(pair.server.take(request), Received::End(End::Requests));
    }
}

#[test]
fn a_message_that_is_cut_short_is_what_has_come_of_it() {
    let mut pair: Pair = Pair::default();
    let mut data = &[7; 3000][..];
    let opened = pair.client.open("/a/b", [], None, &mut &[1; 100][..], false, &mut Some(())).unwrap();
    let OpenOutcome::Opened(stream, Sent::All) = opened else { panic!("{opened:?}") };
    pair.drive();
    let request = pair.server.accept().unwrap().stream;
    let Received::Data(first) = pair.server.take(request) else { panic!() };
    pair.server.gather(request, first, 100_000).unwrap();
    while !data.is_empty() {
        pair.client.send(stream, &mut data, true);
        pair.drive();
    }
    let expected = [&[1; 100][..], &[7; 3000]].concat();
    assert_eq!(pair.server.take(request), Received::Data(expected.into()));
    assert_eq!(pair.server.take(request), Received::End(End::Requests));
    let late = pair.server.gather(request, bytes::Bytes::from_static(b"x"), 100);
    assert_eq!(late, Err(bytes::Bytes::from_static(b"x")), "nothing more comes");
}

#[test]
fn a_value_is_attached_to_a_stream_until_it_is_over() {
    let mut pair = Pair::<u32>::default();
    let opened = pair.client.open(METHOD, NONE, None, &mut &b""[..], true, &mut Some(7)).unwrap();
    let OpenOutcome::Opened(stream, Sent::All) = opened else { panic!("{opened:?}") };
    assert_eq!(pair.client.user(stream), Some(&mut 7));
    assert_eq!(pair.client.user_or_default(stream), Some(&mut 7));
    pair.drive();
    let request = pair.server.accept().unwrap().stream;
    assert_eq!(pair.server.user(request), None);
    assert_eq!(pair.server.user_or_default(request), Some(&mut 0));
    assert!(pair.server.set_user(request, 5));
    assert_eq!(pair.server.user_or_default(request), Some(&mut 5));
    // From now on it waits for the client to know.
    pair.server.reset(request, Code::INTERNAL, "");
    assert!(!pair.server.set_user(request, 6));
    assert_eq!(pair.server.user_or_default(request), None);
}

/// A client gives each of its streams a value when it opens it.
#[test]
fn a_client_attaches_no_value_of_its_own_accord() {
    let mut pair = Pair::<u32>::default();
    let opened = pair.client.open(METHOD, NONE, None, &mut &b""[..], true, &mut None).unwrap();
    let OpenOutcome::Opened(stream, Sent::All) = opened else { panic!("{opened:?}") };
    assert_eq!(pair.client.user_or_default(stream), None);
}

#[test]
fn a_client_knows_how_many_streams_it_may_open() {
    let limits = Limits::default().with_streams(2);
    let mut pair = Pair::<()>::new(Geometry::default(), Limits::default(), limits);
    for open_already in 0..2 {
        assert_eq!(pair.client.open_streams(), open_already);
        assert_eq!((pair.client.free_streams(), pair.client.is_full()), (2 - open_already, false));
        open(&mut pair.client, b"", true);
    }
    assert_eq!((pair.client.open_streams(), pair.client.free_streams()), (2, 0));
    assert!(pair.client.is_full());
    let full = pair.client.open(METHOD, NONE, None, &mut &b""[..], true, &mut Some(()));
    assert!(matches!(full, Ok(OpenOutcome::Blocked)), "{full:?}");
    // No stream can be opened later either.
    pair.server.refuse();
    pair.drive();
    assert!(!pair.client.is_full());
}

#[test]
fn credit_is_given_back_for_what_had_come_before_a_message_is_gathered() {
    let mut pair: Pair = Pair::default();
    let message = framed(&[7; 20_000]);
    let stream = open(&mut pair.client, &message[..10], false);
    let request = accept(&mut pair).stream;
    let send = |pair: &mut Pair, mut part: &[u8], end| {
        while !part.is_empty() {
            pair.client.send(stream, &mut part, end);
            pair.drive();
        }
    };
    send(&mut pair, &message[10..15_000], false);
    let Received::Data(first) = pair.server.take(request) else { panic!() };
    assert_eq!(first.len(), 10);
    pair.server.gather(request, first.slice(5..), 20_000).unwrap();
    send(&mut pair, &message[15_000..], true);
    let (whole, end) = take_all(&mut pair.server, request);
    assert_eq!((&whole[..], end), (&message[5..], Some(End::Requests)));
    pair.drive();
    let spent = pair.client.link_credit().to_send + pair.server.link_credit().to_give;
    assert_eq!(spent, u64::from(Limits::default().link_window));
}

/// A message without its last byte, gathered by the server.
fn gather_most(pair: &mut Pair, len: usize) -> StreamId {
    let stream = open(&mut pair.client, &framed(&vec![7; len])[..10], false);
    let request = accept(pair).stream;
    let (first, end) = take_all(&mut pair.server, request);
    assert_eq!((first.len(), end), (10, None));
    pair.server.gather(request, Bytes::copy_from_slice(&first[5..]), len).unwrap();
    let rest = vec![7; len - 6];
    let mut rest = &rest[..];
    while !rest.is_empty() && pair.client.send(stream, &mut rest, false) != Sent::Stopped {
        pair.drive();
    }
    pair.drive();
    request
}

#[test]
fn messages_that_have_come_in_part_are_bounded() {
    const LEN: usize = 300_000;
    let limits = Limits::default().with_unfinished_bytes(2 * LEN as u64 - 100_000);
    let mut pair = Pair::new(Geometry::default(), limits, limits);
    let calls = [(); 2].map(|()| gather_most(&mut pair, LEN));
    assert_eq!(pair.server.backlog().unfinished, 2 * (LEN as u64 - 1));
    // A third one is too much: it ends, and the others do not.
    let third = gather_most(&mut pair, LEN);
    assert_eq!(pair.server.backlog().unfinished, 2 * (LEN as u64 - 1));
    assert!(!pair.server.is_open(third) && pair.server.is_open(calls[0]));
    let failure = match pair.client.take(third) {
        Received::End(End::Failed(failure)) => failure,
        other => panic!("{other:?}"),
    };
    assert_eq!((failure.code, &*failure.message), (Code::RESOURCE_EXHAUSTED, "too many unfinished messages"));
    pair.client.close(third);
    // Once a message is whole and was taken, another one may come, and one that was given up is none.
    for stream in calls {
        assert_eq!(pair.client.send(stream, &mut &[7][..], false), Sent::All);
        pair.drive();
        assert_eq!(take_all(&mut pair.server, stream).0, vec![7; LEN]);
    }
    assert_eq!(pair.server.backlog().unfinished, 0);
    let given_up = gather_most(&mut pair, LEN);
    let kept = gather_most(&mut pair, LEN);
    pair.client.close(given_up);
    pair.drive();
    assert_eq!(pair.server.backlog().unfinished, LEN as u64 - 1);
    // What the application keeps by itself counts until it takes more of it.
    let own = open(&mut pair.client, &framed(&[7; 50])[..20], false);
    accept(&mut pair);
    assert_eq!(take_all(&mut pair.server, own).0.len(), 20);
    pair.server.keep_unfinished(own, 15);
    assert_eq!(pair.server.backlog().unfinished, LEN as u64 - 1 + 15);
    assert_eq!(pair.client.send(own, &mut &[7; 35][..], false), Sent::All);
    pair.drive();
    assert_eq!(take_all(&mut pair.server, own).0.len(), 35);
    assert_eq!(pair.server.backlog().unfinished, LEN as u64 - 1);
    for stream in calls.into_iter().chain([given_up, kept, own]) {
        pair.client.close(stream);
    }
    pair.drive();
    assert_eq!(pair.server.backlog().unfinished, 0);
    is_idle(&mut pair);
}

#[test]
fn one_message_may_be_longer_than_all_unfinished_ones_together() {
    const LEN: usize = 300_000;
    let limits = Limits::default().with_unfinished_bytes(1000);
    let mut pair = Pair::new(Geometry::default(), limits, limits);
    let long = gather_most(&mut pair, LEN);
    assert!(pair.server.is_open(long));
    let small = open(&mut pair.client, &framed(&[7; 50])[..20], false);
    accept(&mut pair);
    pair.server.keep_unfinished(small, 15);
    assert!(!pair.server.is_open(small) && pair.server.is_open(long));
}
