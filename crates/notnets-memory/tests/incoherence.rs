//! Lanes between two simulated hosts without coherence: what arrives is whole, in order and all of it, for
//! every seed; and leaving out any one publish or observe is noticed.

use std::cell::RefCell;
use std::convert::Infallible;
use std::panic::{AssertUnwindSafe, catch_unwind};

use notnets_memory::activity::{Activity, ActivityLine, ActivityWatch};
use notnets_memory::incoherent::{Incoherent, Site, World};
use notnets_memory::lane::{Blocks, Geometry, Lanes, Parts, stamp};
use notnets_memory::seal::Seal;
use notnets_memory::{LINE, LINE_WORDS, ReadMemory, Reference, WORD, WriteMemory};

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

/// Links that are noted in one line, more than it names.
const LINKS: usize = 9;
const NOTES: usize = 60;

/// Memory whose reader may come between what is stored and what is published.
struct Interrupted<'a> {
    memory: Incoherent,
    between: &'a dyn Fn(),
}

impl ReadMemory for Interrupted<'_> {
    fn words(&self) -> usize {
        self.memory.words()
    }

    fn load(&self, word: usize) -> u64 {
        self.memory.load(word)
    }

    fn load_acquire(&self, word: usize) -> u64 {
        self.memory.load_acquire(word)
    }

    fn observe(&self, _word: usize, _words: usize) {
        unreachable!("it only writes")
    }

    fn copy_out(&self, byte: usize, into: &mut [u8]) {
        self.memory.copy_out(byte, into);
    }

    fn fence(&self) {
        self.memory.fence();
    }
}

impl WriteMemory for Interrupted<'_> {
    fn store(&self, word: usize, value: u64) {
        self.memory.store(word, value);
    }

    fn store_release(&self, word: usize, value: u64) {
        self.memory.store_release(word, value);
    }

    #[track_caller]
    fn publish(&self, word: usize, words: usize) {
        (self.between)();
        self.memory.publish(word, words);
    }

    fn copy_in(&self, byte: usize, from: &[u8]) {
        self.memory.copy_in(byte, from);
    }
}

/// The host that learns of pushes by a line, and looks at these links only.
struct Reader {
    world: World,
    watch: ActivityWatch<Incoherent>,
    seen: [u64; LINKS + 1],
}

impl Reader {
    fn look(&mut self) {
        let found: Vec<usize> = match self.watch.look() {
            Activity::None => Vec::new(),
            Activity::On(names) => names.into_iter().map(|name| name as usize).collect(),
            Activity::Any => (1..=LINKS).collect(),
        };
        for link in found.into_iter().filter(|link| *link != 0) {
            let line = line(&self.world, 1, link);
            line.observe(0, 1);
            self.seen[link] = line.load_acquire(0);
        }
    }
}

/// The line of activity is the first, those of links come behind it.
fn line(world: &World, host: usize, nth: usize) -> Incoherent {
    world.memory(host).part(nth * LINE_WORDS, LINE_WORDS)
}

/// A host pushes on links and notes it, and another looks only at those of which it learns.
fn note(world: &World) -> Result<(), String> {
    for nth in 0..=LINKS {
        let line = line(world, 0, nth);
        (0..LINE_WORDS).for_each(|word| line.store(word, 0));
        line.publish(0, LINE_WORDS);
    }
    let watch = ActivityWatch::new(line(world, 1, 0));
    let reader = RefCell::new(Reader { world: world.clone(), watch, seen: [0; LINKS + 1] });
    let between = || {
        if world.draw(3) == 0 {
            reader.borrow_mut().look();
        }
    };
    let writer = ActivityLine::new(Interrupted { memory: line(world, 0, 0), between: &between });
    let mut pushed = [0; LINKS + 1];
    let mut busy = 1;
    for _ in 0..NOTES {
        if world.draw(6) == 0 {
            busy = 1 + world.draw(LINKS as u64) as usize;
        }
        pushed[busy] += 1;
        let line = line(world, 0, busy);
        line.store_release(0, pushed[busy]);
        line.publish(0, 1);
        writer.note(busy as u32);
    }
    let mut reader = reader.borrow_mut();
    reader.look();
    let seen = reader.seen;
    if seen == pushed { Ok(()) } else { Err(format!("of {pushed:?} only {seen:?} was seen")) }
}

fn run_notes(seed: u64, without: Option<Site>) -> Result<World, String> {
    let world = World::new((LINKS + 1) * LINE_WORDS, 2, seed);
    without.into_iter().for_each(|site| world.omit(site));
    note(&world).map(|()| world)
}

#[test]
fn no_note_is_missed() {
    for seed in 0..300 {
        if let Err(error) = run_notes(seed, None) {
            panic!("seed {seed}: {error}");
        }
    }
}

#[test]
fn leaving_out_any_publish_or_observe_of_a_note_is_noticed() {
    let sites = run_notes(0, None).expect("passes").sites();
    assert!(sites.len() >= 5, "{sites:#?}");
    for site in sites {
        let noticed = (0..200).find(|seed| run_notes(*seed, Some(site)).is_err());
        assert!(noticed.is_some(), "nobody notices that {site:?} is left out");
    }
}
