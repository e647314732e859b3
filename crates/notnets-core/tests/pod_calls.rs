//! Calls between two simulated hosts whose caches do not agree: all of the call layer, over lanes of which
//! only what is published arrives, and only what is observed is seen.

use std::convert::Infallible;

use bytes::Buf;
use notnets_core::call::{Connection, End, OpenOutcome, Received, Role, Sent, StreamId};
use notnets_core::pair::frozen_clock;
use notnets_core::{Code, Limits};
use notnets_memory::incoherent::{Incoherent, World};
use notnets_memory::lane::{Blocks, Geometry, Lanes, Parts, stamp};
use notnets_memory::seal::Seal;
use notnets_memory::{LINE, WORD, WriteMemory};

type Side = Connection<(), Incoherent, Incoherent>;

const GEOMETRY: Geometry =
    Geometry { slots: 8, small: Blocks { bytes: 256, count: 4 }, large: Blocks { bytes: 4096, count: 2 } };
const CALLS: usize = 16;
const PATIENCE: usize = 20_000;

fn words() -> usize {
    GEOMETRY.segment_bytes() / WORD
}

fn sides(world: &World) -> [Side; 2] {
    let segment = |host: usize, owner: usize| world.memory(host).part(owner * words(), words());
    for host in 0..2 {
        let own = segment(host, host);
        (0..words()).for_each(|word| own.store(word, 0));
        own.publish(0, words());
        stamp(&own.part(0, LINE / WORD));
    }
    let seals = [Seal::new([1]), Seal::new([2])];
    let limits = Limits::default().with_stream_window(8192).with_link_window(32768).check().unwrap();
    [Role::Client, Role::Server].map(|role| {
        let host = usize::from(role == Role::Server);
        let cut = |owner: usize| {
            let memory = segment(host, owner);
            let part =
                |at: usize, bytes: usize| Ok::<_, Infallible>(memory.part(at / WORD, bytes.div_ceil(WORD)));
            let Ok(parts) = Parts::cut(GEOMETRY, GEOMETRY, part);
            parts
        };
        let lanes = Lanes::join(cut(host), GEOMETRY, cut(1 - host), GEOMETRY).expect("stamped");
        Connection::new(role, lanes.across_hosts(seals[host], seals[1 - host]), limits, limits)
    })
}

fn payload(call: usize) -> Vec<u8> {
    (0..call * 611 % 6000).map(|i| (i + call) as u8).collect()
}

/// A call as its client sees it.
#[derive(Default)]
struct Call {
    stream: Option<StreamId>,
    sent: usize,
    received: Vec<u8>,
    over: bool,
}

/// A call as the server sees it: what came is sent back once all of it is there.
struct Served {
    stream: StreamId,
    body: Vec<u8>,
    whole: bool,
    begun: bool,
    sent: usize,
    over: bool,
}

impl Served {
    fn new(stream: StreamId) -> Self {
        Self { stream, body: Vec::new(), whole: false, begun: false, sent: 0, over: false }
    }
}

fn echo(seed: u64) -> Result<(), String> {
    let world = World::new(2 * words(), 2, seed);
    let [mut client, mut server] = sides(&world);
    let mut calls: Vec<Call> = (0..CALLS).map(|_| Call::default()).collect();
    let mut served: Vec<Served> = Vec::new();
    for _ in 0..PATIENCE {
        match world.draw(2) {
            0 => {
                client.receive(4, frozen_clock);
                while client.poll_event().is_some() {}
                for (n, call) in calls.iter_mut().enumerate() {
                    step_client(&mut client, n, call)?;
                }
            }
            _ => {
                server.receive(4, frozen_clock);
                while server.poll_event().is_some() {}
                while let Some(request) = server.accept() {
                    served.push(Served::new(request.stream));
                }
                served.iter_mut().for_each(|call| step_server(&mut server, call));
            }
        }
        for side in [&client, &server] {
            if let Some(violation) = side.violation() {
                return Err(violation.to_string());
            }
        }
        if calls.iter().all(|call| call.over) {
            return Ok(());
        }
    }
    Err(format!("{} of {CALLS} calls ended", calls.iter().filter(|call| call.over).count()))
}

fn step_client(client: &mut Side, n: usize, call: &mut Call) -> Result<(), String> {
    let bytes = payload(n);
    if call.over {
        return Ok(());
    }
    let mut rest = &bytes[call.sent..];
    let Some(stream) = call.stream else {
        let entries = [("key", &b"value"[..])];
        let opened = client.open("/echo.Echo/Say", entries, None, &mut rest, true, &mut Some(()));
        if let OpenOutcome::Opened(stream, _) = opened.map_err(|error| error.to_string())? {
            call.stream = Some(stream);
            call.sent = bytes.len() - rest.remaining();
        }
        return Ok(());
    };
    if client.is_sending(stream) {
        client.send(stream, &mut rest, true);
        call.sent = bytes.len() - rest.remaining();
    }
    loop {
        match client.take(stream) {
            Received::Pending => return Ok(()),
            Received::Data(data) => call.received.extend_from_slice(&data),
            Received::End(End::Trailers(Code::OK, _)) => break,
            Received::End(end) => return Err(format!("call {n} ended with {end:?}")),
        }
    }
    call.over = true;
    client.close(stream);
    match call.received == bytes {
        true => Ok(()),
        false => Err(format!("call {n} came back as something else")),
    }
}

fn step_server(server: &mut Side, call: &mut Served) {
    while !call.whole {
        match server.take(call.stream) {
            Received::Pending => return,
            Received::Data(data) => call.body.extend_from_slice(&data),
            Received::End(_) => call.whole = true,
        }
    }
    let none: [(&str, &[u8]); 0] = [];
    if !call.begun {
        let begun = server.respond(call.stream, none, &mut &b""[..], None);
        call.begun = !matches!(begun, Ok(Sent::Nothing));
    }
    if call.begun && call.sent < call.body.len() {
        let mut rest = &call.body[call.sent..];
        server.send(call.stream, &mut rest, false);
        call.sent = call.body.len() - rest.remaining();
    }
    if call.begun && call.sent == call.body.len() && !call.over {
        call.over = !matches!(server.finish(call.stream, none, Code::OK), Ok(Sent::Nothing));
    }
}

#[test]
fn calls_come_back_as_they_were_sent() {
    for seed in 0..4 {
        if let Err(error) = echo(seed) {
            panic!("seed {seed}: {error}");
        }
    }
}

/// A client that sends more than its blocks hold goes on when it sees that there is room, which nobody
/// tells it.
#[test]
fn a_sender_that_polls_sees_room_by_itself() {
    let seed = 7;
    let world = World::new(2 * words(), 2, seed);
    let [mut client, mut server] = sides(&world);
    let bytes = vec![7; 8000];
    let none: [(&str, &[u8]); 0] = [];
    let mut waits = 0;
    for _ in 0..3 {
        let mut rest = &bytes[..];
        let mut stream = None;
        loop {
            let sent = match stream {
                Some(stream) => client.send(stream, &mut rest, true) == Sent::All,
                None => match client.open("/echo.Echo/Say", none, None, &mut rest, true, &mut Some(())) {
                    Ok(OpenOutcome::Opened(opened, sent)) => {
                        stream = Some(opened);
                        sent == Sent::All
                    }
                    _ => false,
                },
            };
            if sent {
                break;
            }
            waits += 1;
            let mut looks = 0;
            while !client.can_go_on() {
                looks += 1;
                assert!(looks < PATIENCE, "seed {seed}: the room is not seen");
                server.receive(1, frozen_clock);
            }
            client.wake_queued();
        }
    }
    assert!(waits > 2, "seed {seed}: all of it had room");
    assert!(server.violation().is_none() && client.violation().is_none(), "seed {seed}");
}
