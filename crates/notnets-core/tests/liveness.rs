//! Nobody waits for what has come already: wake-ups at the edges of room, blocks, credit and limits.
//! Each was found by the simulation or by reading, and is pinned here by its shortest story.

use notnets_core::call::{Connection, Event, OpenOutcome, Role, Sent, StreamId};
use notnets_core::code::Code;
use notnets_core::limits::{Limits, MIN_WINDOW, ValidLimits};
use notnets_core::pair::{HeapConnection, Pair, frozen_clock};
use notnets_memory::lane::{Blocks, Geometry, heap_pair};

const METHOD: &str = "/pkg.Service/Method";
const NONE: [(&str, &[u8]); 0] = [];

fn tiny(slots: u32, large: u32) -> Geometry {
    let small = Blocks { bytes: 64, count: 2 };
    Geometry { slots, small, large: Blocks { bytes: large, count: 1 } }
}

fn open(client: &mut HeapConnection, data: &[u8], end: bool) -> StreamId {
    match client.open(METHOD, NONE, None, &mut { data }, end, &mut Some(())) {
        Ok(OpenOutcome::Opened(stream, Sent::All)) => stream,
        other => panic!("{other:?}"),
    }
}

fn try_open(client: &mut HeapConnection) -> OpenOutcome {
    client.open(METHOD, NONE, None, &mut &b""[..], true, &mut Some(())).unwrap()
}

fn accept_all(server: &mut HeapConnection) {
    server.receive(usize::MAX, frozen_clock);
    while let Some(request) = server.accept() {
        assert!(server.set_user(request.stream, ()));
    }
}

fn events(side: &mut HeapConnection) -> Vec<Event<()>> {
    std::iter::from_fn(|| side.poll_event()).collect()
}

#[test]
fn control_frames_that_wait_go_out_when_room_is_looked_for_once_more() {
    let mut pair = Pair::new(tiny(2, 4096), Limits::default(), Limits::default());
    // The server's ring is full, so its answer to a ping has to wait.
    for _ in 0..2 {
        let stream = open(&mut pair.client, b"", true);
        accept_all(&mut pair.server);
        assert_eq!(pair.server.respond(stream, NONE, &mut &b"x"[..], Some(Code::OK)), Ok(Sent::All));
    }
    pair.client.ping(7);
    pair.server.receive(usize::MAX, frozen_clock);
    assert!(pair.server.waits_for_space());
    // The client takes all there is before the server has armed: it will not ring.
    pair.client.receive(usize::MAX, frozen_clock);
    assert!(!pair.client.lanes().bell_is_due());
    // So what the server does between arming and sleeping has to find the room.
    pair.server.lanes().arm_space();
    pair.server.wake_queued();
    assert!(!pair.server.waits_for_space(), "it sleeps, and nobody will ring");
    pair.client.receive(usize::MAX, frozen_clock);
    assert!(events(&mut pair.client).contains(&Event::Pong(7)));
}

#[test]
fn a_head_that_fills_the_largest_block_goes_without_its_data() {
    let mut pair = Pair::new(tiny(16, 1024), Limits::default(), Limits::default());
    let stream = open(&mut pair.client, b"", true);
    accept_all(&mut pair.server);
    // A tag with the key, and a length before the value.
    let value = [1; 1024 - 2 - 1 - 4];
    let mut data = &b"data"[..];
    let sent = pair.server.respond(stream, [("k", &value[..])], &mut data, Some(Code::OK));
    assert!(matches!(sent, Ok(Sent::All | Sent::Part)), "{sent:?}: there is no larger block to wait for");
    pair.drive();
    assert!(matches!(pair.client.response(stream), Some(Ok(_))));
}

#[test]
fn who_waits_to_open_is_told_that_the_server_goes_away() {
    let server = Limits::default().with_streams(1);
    let mut pair = Pair::new(Geometry::default(), Limits::default(), server);
    open(&mut pair.client, b"", false);
    accept_all(&mut pair.server);
    assert_eq!(try_open(&mut pair.client), OpenOutcome::Blocked);
    pair.server.go_away();
    pair.drive();
    // The one that is open may stay so for days.
    assert!(events(&mut pair.client).contains(&Event::CanOpen));
    assert_eq!(try_open(&mut pair.client), OpenOutcome::Draining);
}

/// Streams that wait for room, in this order: more than are woken at once.
fn queued(pair: &mut Pair) -> Vec<StreamId> {
    let next = |pair: &mut Pair| {
        let stream = open(&mut pair.client, b"", false);
        accept_all(&mut pair.server);
        stream
    };
    let streams: Vec<StreamId> = (0..20).map(|_| next(pair)).collect();
    let filler = next(pair);
    for _ in 0..2 {
        assert_eq!(pair.client.send(filler, &mut &b"x"[..], false), Sent::All);
    }
    for stream in &streams {
        assert_eq!(pair.client.send(*stream, &mut &b"x"[..], false), Sent::Nothing);
    }
    events(&mut pair.client);
    streams
}

/// The peer has taken everything from the ring and rings: whoever waits for room hears of it now, or
/// never.
fn doorbell(client: &mut HeapConnection) {
    client.wake_queued();
    while client.receive(usize::MAX, frozen_clock) > 0 {}
}

#[test]
fn room_that_was_meant_for_ended_calls_goes_to_those_behind_them() {
    // The server has a larger ring.
    let (client, server) = heap_pair(tiny(2, 4096), Geometry::default());
    let limits = ValidLimits::default();
    let client = Connection::new(Role::Client, client, limits, limits);
    let mut pair = Pair { client, server: Connection::new(Role::Server, server, limits, limits) };
    let streams = queued(&mut pair);
    accept_all(&mut pair.server);
    // All but the last end, before they have sent anything more.
    for stream in &streams[..19] {
        assert_eq!(pair.server.respond_trailers_only(*stream, NONE, Code(5)), Ok(Sent::All));
    }
    doorbell(&mut pair.client);
    for stream in &streams[..19] {
        pair.client.close(*stream);
    }
    assert!(events(&mut pair.client).contains(&Event::Writable(streams[19])));
}

#[test]
fn room_that_streams_without_credit_can_not_use_goes_to_those_behind_them() {
    let server = Limits::default().with_link_window(20 * MIN_WINDOW);
    let mut pair = Pair::new(tiny(2, 4096), Limits::default(), server);
    let other = open(&mut pair.client, b"", false);
    let streams = queued(&mut pair);
    accept_all(&mut pair.server);
    // Another one takes all of the link's credit, and nobody reads it.
    while pair.client.link_credit().to_send >= 64 {
        pair.client.send(other, &mut &[0; 4096][..], false);
        accept_all(&mut pair.server);
    }
    doorbell(&mut pair.client);
    // Whoever is woken tries again. The last one only wants to end, which takes no credit.
    let mut ended = false;
    while let Some(event) = pair.client.poll_event() {
        if let Event::Writable(stream) = event {
            let end = stream == streams[19];
            let data = if end { &b""[..] } else { b"x" };
            ended |= pair.client.send(stream, &mut { data }, end) == Sent::All && end;
        }
    }
    assert!(ended, "there is room, and it does not know");
}

#[test]
fn a_stream_without_link_credit_is_told_once() {
    let server = Limits::default().with_link_window(MIN_WINDOW);
    let mut pair = Pair::new(Geometry::default(), Limits::default(), server);
    let stream = open(&mut pair.client, b"", false);
    accept_all(&mut pair.server);
    assert_eq!(pair.client.send(stream, &mut &[0; 1000][..], false), Sent::All);
    // A task may be polled for other reasons while it waits.
    for _ in 0..1000 {
        assert_eq!(pair.client.send(stream, &mut &[0; 1000][..], false), Sent::Nothing);
    }
    pair.drive();
    while let notnets_core::call::Received::Data(_) = pair.server.take(stream) {}
    pair.drive();
    let told = events(&mut pair.client).into_iter().filter(|event| *event == Event::Writable(stream));
    assert_eq!(told.count(), 1);
}
