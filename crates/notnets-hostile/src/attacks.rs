//! What a hostile peer does on a link.

use std::sync::atomic::{AtomicBool, Ordering};

use notnets_core::call::{OpenOutcome, Role, StreamId};
use notnets_core::clock;
use notnets_core::code::Code;
use notnets_core::frame::{Frame, INLINE, Kind, Payload};
use notnets_memory::ring::Descriptor;
use notnets_memory::{Reference, WriteMemory};

use crate::ground::Ground;
use crate::random::{Random, Values};

/// A kind of attack on an established link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attack {
    /// Frames as they should be, but for one field.
    OneField,
    /// Frames with the shape of frames, and with any values.
    Shaped,
    /// Any 56 bytes.
    Random,
    /// The same frame over and over.
    Flood(Kind),
    /// Calls that are taken back at once.
    RapidReset,
    /// References to blocks: any, and all the same one.
    References,
    /// Honest calls, while words of our memory change beneath them.
    Overwritten,
    /// A second thread changes what is being read.
    Racing,
    /// Honest calls up to a point, and then nothing more: no answers, no releases.
    Deaf,
    /// The words that steer: how far was taken, what is released, who sleeps.
    Steering,
}

/// All attacks, those most often that end no link: they are taken in great numbers.
pub const ATTACKS: [Attack; 21] = [
    Attack::OneField,
    Attack::Shaped,
    Attack::Random,
    Attack::Flood(Kind::Ping),
    Attack::Flood(Kind::Pong),
    Attack::Flood(Kind::Reset),
    Attack::Flood(Kind::Window),
    Attack::Flood(Kind::Closed),
    Attack::Flood(Kind::Data),
    Attack::Flood(Kind::Request),
    Attack::Flood(Kind::Response),
    Attack::Flood(Kind::Trailers),
    Attack::Flood(Kind::GoAway),
    Attack::Flood(Kind::Share),
    Attack::RapidReset,
    Attack::RapidReset,
    Attack::References,
    Attack::Overwritten,
    Attack::Racing,
    Attack::Deaf,
    Attack::Steering,
];

/// The path of calls that the victim answers.
pub const ECHO: &str = "/hostile.Test/Echo";
/// The path of calls whose handler takes nothing, and does not answer.
pub const IDLE: &str = "/hostile.Idle/Call";
/// The path of calls whose handler takes HTTP, and keeps all of the request until it is there.
pub const COLLECTED: &str = "/hostile.Collected/Call";
/// The path of calls that are answered without end.
pub const TORRENT: &str = "/hostile.Torrent/Call";

/// Attacks with at most `most` descriptors.
pub fn run(attack: Attack, ground: &mut Ground<'_>, random: &mut Random, most: u64) {
    match attack {
        Attack::Racing => {
            let memory = &ground.met.memory;
            let (stop, mut other) = (AtomicBool::new(false), random.clone());
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    while !stop.load(Ordering::Relaxed) {
                        let word = other.bits() as usize % notnets_memory::ReadMemory::words(memory);
                        // The header, and the ring's sequence numbers now and then, stay: else nothing is
                        // read.
                        if word >= 24 && (!word.is_multiple_of(8) || other.once_in(64)) {
                            memory.store(word, other.word());
                        }
                    }
                });
                each(ground, most.min(2000), |ground| {
                    honest(ground, random);
                    true
                });
                stop.store(true, Ordering::Relaxed);
            });
        }
        Attack::Deaf => {
            for _ in 0..random.below(60) {
                honest(ground, random);
            }
            // It is asked, and has to answer; we don't.
            each(ground, most.min(200), |ground| {
                ground.push(Frame::new(Kind::Ping, StreamId::new(0)).encode())
            });
        }
        Attack::Flood(kind) => {
            let frame = flooding(kind, random);
            each(ground, most, |ground| ground.push(frame));
        }
        Attack::RapidReset => {
            let mut stream = StreamId::new(0);
            each(ground, most / 2, |ground| {
                stream = stream.next();
                let kinds = if ground.role() == Role::Client {
                    [Kind::Request, Kind::Reset]
                } else {
                    [Kind::Reset, Kind::Closed]
                };
                kinds.into_iter().all(|kind| ground.push(Frame::new(kind, stream).encode()))
            });
        }
        _ => each(ground, most, |ground| step(attack, ground, random)),
    }
    ground.settle();
}

/// Goes on until the link is over.
fn each(ground: &mut Ground<'_>, most: u64, mut act: impl FnMut(&mut Ground<'_>) -> bool) {
    for count in 1..=most {
        if !act(ground) || (count % 64 == 0 && ground.is_over()) {
            return;
        }
    }
}

/// A descriptor of an attack that is nothing but descriptors.
pub fn descriptor(attack: Attack, random: &mut Random) -> Option<Descriptor> {
    Some(match attack {
        Attack::OneField => one_field(random),
        Attack::Shaped => shaped(random),
        Attack::Random => std::array::from_fn(|_| random.bits()),
        Attack::References => {
            let mut frame = Frame::new(random.one_of(&Kind::ALL), StreamId::new(random.below(8)));
            frame.payload = Payload::Reference(reference(random));
            frame.message = random.once_in(2);
            frame.encode()
        }
        Attack::Flood(kind) => flooding(kind, random),
        Attack::RapidReset | Attack::Overwritten | Attack::Racing | Attack::Deaf | Attack::Steering => {
            return None;
        }
    })
}

fn step(attack: Attack, ground: &mut Ground<'_>, random: &mut Random) -> bool {
    match attack {
        Attack::Overwritten => {
            honest(ground, random);
            // Mostly blocks and the ring, else nothing is read for long.
            let word = if random.once_in(16) { random.below(512) } else { 512 + random.bits() / 2 };
            ground.overwrite(word, random.word());
            true
        }
        Attack::Steering => {
            honest(ground, random);
            if random.once_in(8) {
                ground.overwrite(8 + random.below(504), random.word());
                ground.met.socket.ring();
            }
            true
        }
        _ => {
            if attack == Attack::OneField && random.once_in(4) {
                honest(ground, random);
            }
            descriptor(attack, random).is_some_and(|descriptor| ground.push(descriptor))
        }
    }
}

/// A thing that keeps to the rules.
fn honest(ground: &mut Ground<'_>, random: &mut Random) {
    let connection = &mut ground.connection;
    connection.receive(32, clock::now);
    while connection.poll_event().is_some() {}
    let size = random.one_of(&[0, 10, 100, 2000, 20_000]);
    let bytes = vec![7; size];
    let mut data = &bytes[..];
    match ground.role() {
        Role::Client => {
            let metadata = [("key", &b"value"[..]), ("key-bin", &[0, 255])];
            let metadata = metadata.iter().copied().take(random.below(3) as usize);
            let is_last = !random.once_in(4);
            let connection = &mut ground.connection;
            let opened = connection.open(ECHO, metadata, None, &mut data, is_last, &mut Some(()));
            if let Ok(OpenOutcome::Opened(stream, _)) = opened
                && random.once_in(2)
            {
                connection.close(stream);
            }
        }
        _ => {
            let connection = &mut ground.connection;
            while let Some(request) = connection.accept() {
                if !connection.set_user(request.stream, ()) {
                    continue;
                }
                if random.once_in(3) {
                    connection.reset(request.stream, Code::INTERNAL, "no");
                } else {
                    let _ = connection.respond(request.stream, [], &mut data, Some(Code(0)));
                }
            }
        }
    }
    if ground.connection.lanes().bell_is_due() {
        ground.met.socket.ring();
    }
}

/// A frame that a link can take many times, or none at all.
fn flooding(kind: Kind, random: &mut Random) -> Descriptor {
    let stream = match kind {
        Kind::Ping | Kind::Pong | Kind::GoAway | Kind::Share | Kind::Shared | Kind::Unshare => 0,
        _ => random.one_of(&[0, 1, 2, 1000]),
    };
    let mut frame = Frame::new(kind, StreamId::new(stream));
    frame.argument = random.one_of(&[0, 1, 1 << 10]);
    if matches!(kind, Kind::Data | Kind::Response | Kind::Trailers) && random.once_in(2) {
        // The largest block that there is.
        frame.payload = Payload::Reference(Reference {
            segment: 1,
            block: 0,
            generation: 1,
            offset: 0,
            length: 16 << 10,
            head: 0,
            check: 0,
        });
    }
    frame.encode()
}

fn reference(random: &mut Random) -> Reference {
    Reference {
        segment: random.word() as u32,
        block: random.word() as u32,
        generation: random.word(),
        offset: random.word() as u32,
        length: random.word() as u32,
        head: random.word() as u32,
        check: random.word() as u32,
    }
}

/// A frame as it should be, with one field that is anything.
fn one_field(random: &mut Random) -> Descriptor {
    let mut frame = Frame::new(random.one_of(&Kind::ALL), StreamId::new(random.below(6)));
    let mut bytes = [0; INLINE];
    bytes[..4].copy_from_slice(b"data");
    frame.payload = Payload::Inline { bytes, len: random.below(5) as u8, head: 0 };
    frame.end = random.once_in(3);
    let mut descriptor = frame.encode();
    let field = random.below(11);
    match field {
        // Kind, flags, length, head.
        0..=3 => {
            let mut first = descriptor[0].to_le_bytes();
            first[field as usize] = random.word() as u8;
            descriptor[0] = u64::from_le_bytes(first);
        }
        // Method or status.
        4 => descriptor[0] = descriptor[0] & 0xffff_ffff | random.word() << 32,
        _ => descriptor[field as usize - 4] = random.word(),
    }
    descriptor
}

/// Mostly with the shape of a frame.
fn shaped(random: &mut Random) -> Descriptor {
    let kind = random.one_of(&Kind::ALL) as u8;
    let head = if random.once_in(2) { 0 } else { random.below(34) as u8 };
    let code = (random.word() as u32).to_le_bytes();
    let [flags, len] = [random.below(64) as u8, random.below(34) as u8];
    let first = [kind, flags, len, head, code[0], code[1], code[2], code[3]];
    let mut descriptor = [u64::from_le_bytes(first), 0, 0, 0, 0, 0, 0];
    for word in &mut descriptor[1..] {
        *word = random.word();
    }
    descriptor
}
