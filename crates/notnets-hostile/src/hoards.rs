//! What a hostile peer has the other side hold: as much as it can of each thing, on one link.

use std::io;
use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

use notnets_core::Limits;
use notnets_core::call::{Event, OpenOutcome, Sent, StreamId};
use notnets_core::clock;
use notnets_core::frame::{Frame, Kind};
use notnets_core::link::handshake::Config;
use notnets_core::link::packet::Packet;
use notnets_core::link::socket::Incoming;
use notnets_memory::lane::{Blocks, Geometry};
use notnets_memory::{OwnSegment, Sealed};

use crate::ground::{Ground, Met, next, wait_readable};

/// How long a server that has other work may take for a step.
const PATIENCE: Duration = Duration::from_secs(60);

/// Who gives no credit for as long gives none.
const QUIET: Duration = Duration::from_millis(500);

/// The largest first segment that is accepted, and windows without end: the server may send what it likes.
pub fn greedy() -> Config {
    let geometry = Geometry {
        slots: 1 << 16,
        small: Blocks { bytes: 1024, count: 8 },
        large: Blocks { bytes: 128 << 10, count: 472 },
    };
    let limits = Limits::default().with_stream_window(u32::MAX).with_link_window(u32::MAX);
    Config { limits, geometry, ..Config::default() }
}

/// Opens calls with these metadata and no data yet, until the server refuses one or there are `most`. Returns
/// those that it has taken.
///
/// # Errors
/// When the link ends, or the server does nothing any more.
pub fn open(
    ground: &mut Ground<'_>,
    path: &str,
    metadata: &[(&str, &[u8])],
    most: usize,
) -> io::Result<Vec<StreamId>> {
    let (mut opened, mut refused) = (Vec::new(), Vec::new());
    let begin = Instant::now();
    while opened.len() < most && refused.is_empty() {
        let entries = metadata.iter().copied();
        match ground.connection.open(path, entries, None, &mut &[][..], false, &mut Some(())) {
            Ok(OpenOutcome::Opened(stream, _)) => opened.push(stream),
            Ok(OpenOutcome::Blocked) => refused.extend(turn(ground, begin)?),
            other => return Err(io::Error::other(format!("{other:?}"))),
        }
        refused.extend(look(ground));
    }
    refused.extend(settle(ground)?);
    opened.retain(|stream| !refused.contains(stream));
    Ok(opened)
}

/// Takes this many calls of a client, and answers each with a head.
///
/// # Errors
/// When the link ends, or the client makes fewer.
pub fn take_calls(ground: &mut Ground<'_>, count: usize) -> io::Result<Vec<StreamId>> {
    let (mut taken, begin) = (Vec::new(), Instant::now());
    while taken.len() < count {
        turn(ground, begin)?;
        while let Some(request) = ground.connection.accept() {
            ground.connection.set_user(request.stream, ());
            while ground.connection.respond(request.stream, [], &mut &[][..], None) == Ok(Sent::Nothing) {
                turn(ground, begin)?;
            }
            taken.push(request.stream);
        }
    }
    Ok(taken)
}

/// Sends this many bytes on a call, in chunks of this size, as far as there is credit. Returns how many went.
///
/// # Errors
/// When the link ends, or the server does nothing any more.
pub fn send(ground: &mut Ground<'_>, stream: StreamId, bytes: &[u8], chunk: usize) -> io::Result<usize> {
    let mut sent = 0;
    for chunk in bytes.chunks(chunk) {
        let mut rest = chunk;
        while ground.connection.send(stream, &mut rest, false) != Sent::All {
            // What the server has not taken yet it may take still.
            settle(ground)?;
            if !rest.is_empty() && !goes_on(ground, stream, &mut rest)? {
                return Ok(sent + chunk.len() - rest.len());
            }
            if rest.is_empty() {
                break;
            }
        }
        sent += chunk.len();
    }
    Ok(sent)
}

/// Waits for credit that may be on its way. Returns `true` if something went.
fn goes_on(ground: &mut Ground<'_>, stream: StreamId, rest: &mut &[u8]) -> io::Result<bool> {
    let (before, begin) = (rest.len(), Instant::now());
    while begin.elapsed() < QUIET {
        turn(ground, begin)?;
        ground.connection.send(stream, rest, false);
        if rest.len() < before {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Offers segments of this size, with blocks of that size, until one is declined. Returns how many were
/// accepted.
///
/// # Errors
/// When the link ends, or the server does not answer.
pub fn offer_segments(met: &Met, bytes: usize, block: u32) -> io::Result<u32> {
    for segment in 2.. {
        let blocks = Blocks { bytes: block, count: (bytes / block as usize) as u32 };
        let made = OwnSegment::create(bytes).map_err(io::Error::other)?;
        met.socket.send(&Packet::Offer { segment, blocks }, Some(made.descriptor()))?;
        loop {
            match next(&met.socket, PATIENCE)? {
                Incoming::Packet(Packet::Accept { .. }, _) => break,
                Incoming::Packet(Packet::Decline { .. }, _) => return Ok(segment - 2),
                Incoming::Packet(Packet::Doorbell, _) => {}
                other => return Err(io::Error::other(format!("no answer, but {other:?}"))),
            }
        }
    }
    Ok(0)
}

/// Shares payloads, each a file of its own or all the same one, until one is declined. Returns how many
/// were taken.
///
/// # Errors
/// When the link ends, or the server does not answer.
pub fn share(ground: &mut Ground<'_>, mut payload: impl FnMut() -> Sealed) -> io::Result<u32> {
    for number in 1.. {
        let sealed = payload();
        let bytes = sealed.as_slice().len() as u64;
        send_packet(ground, &Packet::Share { payload: number, bytes }, sealed.descriptor())?;
        let frame = Frame { argument: number.into(), ..Frame::new(Kind::Share, StreamId::new(0)) };
        ground.push(frame.encode());
        let answer = answer_to(ground, number)?;
        if answer.code == 0 {
            return Ok(number - 1);
        }
    }
    Ok(0)
}

fn send_packet(ground: &Ground<'_>, packet: &Packet, descriptor: Option<BorrowedFd<'_>>) -> io::Result<()> {
    let begin = Instant::now();
    loop {
        match ground.met.socket.send(packet, descriptor) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock && begin.elapsed() < PATIENCE => {
                wait_readable(&ground.met.socket, Duration::from_millis(1));
            }
            sent => return sent,
        }
    }
}

fn answer_to(ground: &mut Ground<'_>, payload: u32) -> io::Result<Frame> {
    let begin = Instant::now();
    loop {
        if let Some(descriptor) = ground.connection.lanes().pop() {
            let frame = Frame::decode(descriptor).map_err(io::Error::other)?;
            if frame.kind == Kind::Shared && frame.argument == u64::from(payload) {
                return Ok(frame);
            }
        } else {
            ground.met.socket.ring();
            wait(ground, begin)?;
        }
    }
}

/// Takes what the server sends, without telling it, until it sends nothing for a while.
///
/// # Errors
/// When the link ends.
pub fn take_and_keep(ground: &mut Ground<'_>, quiet: Duration) -> io::Result<u64> {
    let (mut taken, mut last) = (0, Instant::now());
    while last.elapsed() < quiet {
        if ground.connection.lanes().pop().is_some() {
            (taken, last) = (taken + 1, Instant::now());
        } else {
            ground.met.socket.ring();
            answer_offers(ground)?;
            wait_readable(&ground.met.socket, Duration::from_millis(1));
        }
    }
    Ok(taken)
}

/// Accepts each segment that the server offers.
fn answer_offers(ground: &mut Ground<'_>) -> io::Result<()> {
    loop {
        match ground.met.socket.receive() {
            Ok(Incoming::Packet(Packet::Offer { segment, blocks }, _)) => {
                let bytes = (blocks.count as usize * size_of::<u64>()).next_multiple_of(4096);
                let table = OwnSegment::create(bytes).map_err(io::Error::other)?;
                send_packet(ground, &Packet::Accept { segment }, Some(table.descriptor()))?;
            }
            Ok(Incoming::Closed) => return Err(io::ErrorKind::ConnectionReset.into()),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error),
        }
    }
}

/// Waits until the server has taken all that there is. Returns the calls that it has answered meanwhile.
///
/// # Errors
/// When the link ends, or the server does nothing any more.
pub fn settle(ground: &mut Ground<'_>) -> io::Result<Vec<StreamId>> {
    let (begin, mut answered) = (Instant::now(), Vec::new());
    while ground.taken() < ground.connection.lanes().pushed() {
        answered.extend(turn(ground, begin)?);
    }
    // What it pushed before it said that it had taken the last one.
    answered.extend(look(ground));
    Ok(answered)
}

/// Takes what has come. Returns the calls that were answered: none should be, unless it is refused.
fn look(ground: &mut Ground<'_>) -> Vec<StreamId> {
    ground.connection.receive(64, clock::now);
    let events = std::iter::from_fn(|| ground.connection.poll_event());
    let answered =
        events.filter_map(|event| if let Event::Readable(stream) = event { Some(stream) } else { None });
    let answered = answered.collect();
    if ground.connection.lanes().bell_is_due() {
        ground.met.socket.ring();
    }
    answered
}

/// Lets the server have its turn. Returns what [`look`] does.
fn turn(ground: &mut Ground<'_>, begin: Instant) -> io::Result<Vec<StreamId>> {
    ground.met.socket.ring();
    wait(ground, begin)?;
    Ok(look(ground))
}

fn wait(ground: &mut Ground<'_>, begin: Instant) -> io::Result<()> {
    answer_offers(ground)?;
    if begin.elapsed() > PATIENCE {
        return Err(io::ErrorKind::TimedOut.into());
    }
    wait_readable(&ground.met.socket, Duration::from_micros(200));
    Ok(())
}
