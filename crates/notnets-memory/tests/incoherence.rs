//! Lanes between two simulated hosts without coherence: what arrives is whole, in order and all of it, for
//! every seed; and leaving out any one publish or observe is noticed.

use std::convert::Infallible;
use std::panic::{AssertUnwindSafe, catch_unwind};

use notnets_memory::incoherent::{Incoherent, Site, World};
use notnets_memory::lane::{Blocks, Geometry, Lanes, Parts, stamp};
use notnets_memory::seal::Seal;
use notnets_memory::{LINE, Reference, WORD, WriteMemory};

type Side = Lanes<Incoherent, Incoherent>;

const GEOMETRY: Geometry =
    Geometry { slots: 4, small: Blocks { bytes: 128, count: 2 }, large: Blocks { bytes: 4096, count: 1 } };
const MESSAGES: u64 = 40;
/// Without any progress for so many steps nothing more comes.
const PATIENCE: usize = 400;

/// A side makes its first segment: zeroes it and stamps it, over whatever was there.
fn make(memory: &Incoherent) {
    for word in 0..memory_words() {
        memory.store(word, 0);
    }
    memory.publish(0, memory_words());
    stamp(&memory.part(0, LINE / WORD));
}

fn memory_words() -> usize {
    GEOMETRY.segment_bytes() / WORD
}

/// Cuts a side's segment as a host sees it, and keeps to it.
fn cut(memory: &Incoherent) -> Parts<Incoherent> {
    let part = |at: usize, bytes: usize| Ok::<_, Infallible>(memory.part(at / WORD, bytes.div_ceil(WORD)));
    let Ok(parts) = Parts::cut(GEOMETRY, GEOMETRY, part);
    parts
}

fn pair(world: &World) -> Result<(Side, Side), String> {
    let segment = |host: usize, owner: usize| world.memory(host).part(owner * memory_words(), memory_words());
    make(&segment(0, 0));
    make(&segment(1, 1));
    let seals = [Seal::new([1, 2, 0]), Seal::new([1, 2, 1])];
    let join = |host: usize| {
        let (own, peer) = (cut(&segment(host, host)), cut(&segment(host, 1 - host)));
        let lanes = Lanes::join(own, GEOMETRY, peer, GEOMETRY).map_err(|error| error.to_string())?;
        Ok::<_, String>(lanes.across_hosts(seals[host], seals[1 - host]))
    };
    Ok((join(0)?, join(1)?))
}

/// What the n-th message of a side says.
fn payload(side: u64, n: u64) -> Vec<u8> {
    (0..n * 7 % 300).map(|i| (i * 5 + n * 3 + side) as u8).collect()
}

/// Sends the n-th message, if there is room for it.
fn send(lanes: &mut Side, side: u64, n: u64) -> Result<bool, String> {
    if lanes.room().map_err(|error| error.to_string())? == 0 {
        return Ok(false);
    }
    let bytes = payload(side, n);
    let mut words = [0; 4];
    if !bytes.is_empty() {
        let Some(mut loan) = lanes.loan(bytes.len(), bytes.len()) else { return Ok(false) };
        lanes.arena().write(&mut loan, &bytes);
        words = lanes.arena().commit(loan, 0).to_words();
    }
    let [a, b, c, d] = words;
    lanes.push([n, side, n * n, a, b, c, d]);
    Ok(true)
}

/// Takes the n-th message of the other side, if it is there.
fn receive(lanes: &mut Side, from: u64, n: u64) -> Result<bool, String> {
    let Some(descriptor) = lanes.pop() else { return Ok(false) };
    let [number, side, square, a, b, c, d] = descriptor;
    if (number, side, square) != (n, from, n * n) {
        return Err(format!("{descriptor:?} came instead of message {n} of {from}"));
    }
    let expected = payload(from, n);
    if !expected.is_empty() {
        let reference = Reference::from_words([a, b, c, d]);
        let mut read = Vec::new();
        lanes.read(&reference, &mut read).map_err(|error| error.to_string())?;
        if read != expected {
            return Err(format!("message {n} of {from} has another payload"));
        }
        lanes.release(&reference);
    }
    Ok(true)
}

/// Messages both ways, each side acting at random.
fn exchange(world: &World) -> Result<(), String> {
    let (mut a, mut b) = pair(world)?;
    let (mut sent, mut received) = ([0; 2], [0; 2]);
    let mut idle = 0;
    while received != [MESSAGES; 2] {
        let side = world.draw(2) as usize;
        let lanes = if side == 0 { &mut a } else { &mut b };
        let progress = match world.draw(2) {
            0 if sent[side] < MESSAGES => {
                let went = send(lanes, side as u64, sent[side])?;
                sent[side] += u64::from(went);
                went
            }
            _ => {
                let came = receive(lanes, 1 - side as u64, received[side])?;
                received[side] += u64::from(came);
                came
            }
        };
        idle = if progress { 0 } else { idle + 1 };
        if idle == PATIENCE {
            return Err(format!("stuck: sent {sent:?}, received {received:?}"));
        }
    }
    Ok(())
}

fn run(seed: u64, without: Option<Site>) -> Result<World, String> {
    let world = World::new(2 * memory_words(), 2, seed);
    without.into_iter().for_each(|site| world.omit(site));
    let outcome = catch_unwind(AssertUnwindSafe(|| exchange(&world)));
    outcome.unwrap_or_else(|_| Err("panicked".to_owned())).map(|()| world)
}

#[test]
fn messages_arrive_whole_and_in_order() {
    for seed in 0..60 {
        if let Err(error) = run(seed, None) {
            panic!("seed {seed}: {error}");
        }
    }
}

#[test]
fn leaving_out_any_publish_or_observe_is_noticed() {
    let sites = run(0, None).expect("passes").sites();
    assert!(sites.len() >= 9, "{sites:#?}");
    for site in sites {
        let noticed = (0..40).find(|seed| run(*seed, Some(site)).is_err());
        assert!(noticed.is_some(), "nobody notices that {site:?} is left out");
    }
}
