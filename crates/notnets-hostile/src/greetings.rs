//! What a hostile peer says on the socket: before there is a link, and on one.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use notnets_core::link::packet::{Packet, Refusal, Terms};
use notnets_core::link::socket::{Incoming, Socket};
use notnets_memory::OwnSegment;
use notnets_memory::lane::{Blocks, Geometry};
use rustix::fs::{MemfdFlags, Mode, OFlags, SealFlags, fcntl_add_seals, ftruncate, memfd_create, open};
use rustix::io::IoSlice;
use rustix::net::{
    AddressFamily, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketFlags, SocketType, send,
    sendmsg, socketpair,
};

use crate::ground::{honest_hello, honest_terms, next};
use crate::random::{Random, Values};

/// How long a silent connection is kept.
const SILENCE: Duration = Duration::from_millis(30);

/// Says hello to a server in a way that it must not be said.
pub fn greet_server(socket: &Socket, name: &str, random: &mut Random) {
    let mut hello = honest_hello(name);
    match random.below(8) {
        0 => std::thread::sleep(SILENCE),
        1 => garbage(socket, random),
        2 => many_descriptors(socket, &Packet::Hello(hello), random),
        3 => {
            let _ = socket.send(&Packet::Hello(hello), wrong_descriptor(random).as_ref().map(AsFd::as_fd));
        }
        4 => resized(socket, Packet::Hello(hello), random),
        5 => {
            any_terms(&mut hello.terms, random);
            hello.versions = (random.word() as u16, random.word() as u16);
            hello.name = text(random);
            hello.user_agent = text(random);
            with_segment(socket, Packet::Hello(hello), random);
        }
        6 => {
            for _ in 0..random.below(50) {
                let _ = socket.send(&Packet::Inspect, None);
            }
        }
        _ => {
            let _ = socket.send(&any_packet(random), wrong_descriptor(random).as_ref().map(AsFd::as_fd));
        }
    }
    answered(socket);
}

/// Answers a client's hello in a way that it must not be answered.
pub fn greet_client(socket: &Socket, random: &mut Random) {
    let mut terms = honest_terms();
    match random.below(8) {
        0 => std::thread::sleep(SILENCE),
        1 => garbage(socket, random),
        2 => many_descriptors(socket, &Packet::Welcome(terms), random),
        3 => {
            let _ = socket.send(&Packet::Welcome(terms), wrong_descriptor(random).as_ref().map(AsFd::as_fd));
        }
        4 => resized(socket, Packet::Welcome(terms), random),
        5 => {
            any_terms(&mut terms, random);
            terms.version = random.word() as u16;
            with_segment(socket, Packet::Welcome(terms), random);
        }
        6 => {
            let reason = random.one_of(&[
                Refusal::Version,
                Refusal::Identity,
                Refusal::Resources,
                Refusal::ShuttingDown,
                Refusal::Protocol,
            ]);
            let _ = socket.send(&Packet::Refused { reason, text: text(random) }, None);
        }
        _ => {
            let _ = socket.send(&any_packet(random), wrong_descriptor(random).as_ref().map(AsFd::as_fd));
        }
    }
}

/// Says things on the socket of a link.
pub fn disturb(socket: &Socket, random: &mut Random) {
    for _ in 0..random.below(200) {
        match random.below(4) {
            0 => garbage(socket, random),
            1 => many_descriptors(socket, &any_packet(random), random),
            2 => socket.ring(),
            _ => {
                let descriptor = wrong_descriptor(random);
                let _ = socket.send(&any_packet(random), descriptor.as_ref().map(AsFd::as_fd));
            }
        }
    }
}

/// Reads the other's answers. It need not answer what it takes for the beginning of something.
fn answered(socket: &Socket) {
    while let Ok(Incoming::Packet(..)) = next(socket, SILENCE) {}
}

fn any_packet(random: &mut Random) -> Packet {
    let segment = random.word() as u32;
    match random.below(11) {
        0 => Packet::Doorbell,
        1 => Packet::Hello(honest_hello(&text(random))),
        2 => Packet::Welcome(honest_terms()),
        3 | 4 => Packet::Offer { segment, blocks: blocks(random) },
        5 => Packet::Accept { segment },
        6 => Packet::Decline { segment },
        7 => Packet::Retire { segment: random.one_of(&[segment, 2, 3]) },
        8 => Packet::Retired { segment: random.one_of(&[segment, 2, 3]) },
        9 => Packet::Share { payload: random.one_of(&[segment, 1]), bytes: random.word() },
        _ if random.once_in(2) => Packet::Inspect,
        _ => Packet::Stats,
    }
}

fn any_terms(terms: &mut Terms, random: &mut Random) {
    let geometry = &mut terms.geometry;
    match random.below(6) {
        0 => geometry.slots = random.word() as u32,
        1 => geometry.small = blocks(random),
        2 => geometry.large = blocks(random),
        3 => {
            terms.limits =
                terms.limits.with_streams(random.word() as u32).with_link_window(random.word() as u32)
        }
        4 => {
            let [metadata, segments] = [random.word() as u32, random.word() as u32];
            terms.limits = terms.limits.with_metadata_bytes(metadata).with_segment_bytes(segments);
        }
        _ => terms.features = random.word(),
    }
}

fn blocks(random: &mut Random) -> Blocks {
    let bytes = if random.once_in(2) { random.one_of(&[64, 1024, 16384]) } else { random.word() as u32 };
    Blocks { bytes, count: random.word() as u32 }
}

fn text(random: &mut Random) -> String {
    let length = random.one_of(&[0, 3, 60, 255, 300]);
    let bytes = random.bytes(length);
    bytes.into_iter().map(char::from).take(length).collect()
}

/// Bytes that are no packet, or nearly one.
fn garbage(socket: &Socket, random: &mut Random) {
    let mut bytes = any_packet(random).encode();
    match random.below(4) {
        0 => bytes = random.bytes(random.clone().below(600) as usize),
        1 => bytes.truncate(random.below(bytes.len() as u64 + 1) as usize),
        2 => bytes.push(0),
        _ => {
            let at = random.below(bytes.len() as u64) as usize;
            bytes[at] = random.bits() as u8;
        }
    }
    let _ = send(socket, &bytes, SendFlags::DONTWAIT | SendFlags::NOSIGNAL);
}

/// Sends more descriptors than belong to a packet.
fn many_descriptors(socket: &Socket, packet: &Packet, random: &mut Random) {
    let Ok(file) = null() else { return };
    let all: Vec<BorrowedFd<'_>> = vec![file.as_fd(); random.below(20) as usize];
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(20))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    control.push(SendAncillaryMessage::ScmRights(&all));
    let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
    let _ = sendmsg(socket, &[IoSlice::new(&packet.encode())], &mut control, flags);
}

/// A segment as it should be, for terms that are not.
fn with_segment(socket: &Socket, packet: Packet, random: &mut Random) {
    let bytes = Geometry::default().segment_bytes() << random.below(3);
    let Ok(segment) = OwnSegment::create(bytes) else { return };
    let _ = socket.send(&packet, Some(segment.descriptor()));
}

/// Memory of the right size, which is made smaller once it has been sent.
fn resized(socket: &Socket, packet: Packet, random: &mut Random) {
    let Ok(file) = memory(Geometry::default().segment_bytes() as u64) else { return };
    // What can be sealed and still be changed: not against shrinking.
    if random.once_in(2) {
        let _ = fcntl_add_seals(&file, SealFlags::GROW | SealFlags::FUTURE_WRITE);
    }
    let _ = socket.send(&packet, Some(file.as_fd()));
    let _ = ftruncate(&file, 0);
}

fn memory(bytes: u64) -> io::Result<OwnedFd> {
    let file = memfd_create("hostile", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
    ftruncate(&file, bytes)?;
    Ok(file)
}

fn null() -> io::Result<OwnedFd> {
    Ok(open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?)
}

/// A descriptor of something that is no segment, or not the one that was announced.
fn wrong_descriptor(random: &mut Random) -> Option<OwnedFd> {
    let bytes = Geometry::default().segment_bytes();
    let read = |path| open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).ok();
    match random.below(9) {
        0 => None,
        1 => null().ok(),
        2 => read("/dev/zero"),
        3 => read("/"),
        4 => read("/proc/self/maps"),
        5 => rustix::pipe::pipe().ok().map(|(reader, _)| reader),
        6 => socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)
            .ok()
            .map(|(end, _)| end),
        7 => memory(bytes as u64).ok(),
        _ => {
            let pages = 1 + random.below(20) as usize;
            OwnSegment::create(pages * 4096).ok()?.descriptor().try_clone_to_owned().ok()
        }
    }
}
