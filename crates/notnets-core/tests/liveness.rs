//! Nobody waits for what has come already: wake-ups at the edges of room, blocks, credit and limits.
//! Each was found by the simulation or by reading, and is pinned here by its shortest story.

use notnets_core::call::{Event, Opened, Sent};
use notnets_core::code::Code;
use notnets_core::limits::Limits;
use notnets_core::pair::{HeapConnection, Pair};
use notnets_memory::lane::{Blocks, Geometry};

const METHOD: &str = "/pkg.Service/Method";
const NONE: [(&str, &[u8]); 0] = [];

fn tiny(slots: u32, large: u32) -> Geometry {
    let small = Blocks { bytes: 64, count: 2 };
    Geometry { slots, small, large: Blocks { bytes: large, count: 1 } }
}

fn open(client: &mut HeapConnection, data: &[u8], end: bool) -> u64 {
    match client.open(METHOD, NONE, None, &mut { data }, end, &mut Some(())) {
        Ok(Opened::Stream(stream, Sent::All)) => stream,
        other => panic!("{other:?}"),
    }
}

fn try_open(client: &mut HeapConnection) -> Opened {
    client.open(METHOD, NONE, None, &mut &b""[..], true, &mut Some(())).unwrap()
}

fn accept_all(server: &mut HeapConnection) {
    server.receive(usize::MAX);
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
    pair.server.receive(usize::MAX);
    assert!(pair.server.waits_for_space());
    // The client takes all there is before the server has armed: it will not ring.
    pair.client.receive(usize::MAX);
    assert!(!pair.client.lanes().bell_is_due());
    // So what the server does between arming and sleeping has to find the room.
    pair.server.lanes().arm_space();
    pair.server.wake_queued();
    assert!(!pair.server.waits_for_space(), "it sleeps, and nobody will ring");
    pair.client.receive(usize::MAX);
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
    let server = Limits { streams: 1, ..Limits::default() };
    let mut pair = Pair::new(Geometry::default(), Limits::default(), server);
    open(&mut pair.client, b"", false);
    accept_all(&mut pair.server);
    assert_eq!(try_open(&mut pair.client), Opened::NotYet);
    pair.server.go_away();
    pair.drive();
    // The one that is open may stay so for days.
    assert!(events(&mut pair.client).contains(&Event::CanOpen));
    assert_eq!(try_open(&mut pair.client), Opened::Never);
}
