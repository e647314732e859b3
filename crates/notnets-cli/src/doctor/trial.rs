//! What two doctors try together, each on its host, step by step.

use std::time::{Duration, Instant};

use notnets_cli_common::number::median;
use notnets_core::name::Name;
use notnets_memory::litmus::{LITMUS_BYTES, Litmus, Seen};
use notnets_memory::{Coherence, OwnMemory, PAGE, Part, PeerMemory, ReadMemory, WORD, WriteMemory};
use notnets_pod::lockstep::{Lockstep, look_again};
use notnets_pod::member::PodError;

use super::finding::{Figures, Finding};
use super::host::Host;

/// Doctors meet at this name.
const NAME: &str = "notnets-doctor";
const STALE_ROUNDS: u32 = 200;
const MESSAGES: u32 = 5000;
const EXCHANGES: u32 = 1000;
/// Round trips of a line: so many are timed together, so often.
const TRIPS: u32 = 20;
const BATCHES: u32 = 100;
/// What is written and read at once for the bandwidth, at most, and how often.
const BULK: usize = 256 << 10;
const PASSES: usize = 16;
/// For a step: a machine can be stopped for seconds. A line that is not seen by then never will be.
const PATIENCE: Duration = Duration::from_secs(10);

/// What came out.
#[derive(Clone, Copy, Debug)]
pub struct Outcome {
    /// The other doctor's host.
    pub peer: u16,
    /// As the region says.
    pub said: Coherence,
    /// With write-back and invalidation.
    pub kept: Tried,
    /// Without.
    pub plain: Tried,
    /// As the region says, or with write-back where nothing else works.
    pub figures: Figures,
}

/// What was seen on both sides.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tried {
    /// Lines that the reader had copies of.
    pub lines: Seen,
    /// Data behind flags. Nothing where lines are stale already.
    pub messages: Seen,
    /// Flags that were not seen at all.
    pub lost: u64,
    /// Stores of both sides, of which neither saw the other's.
    pub unseen: u64,
    /// Out of so many.
    pub exchanges: u64,
}

impl Tried {
    /// Did all arrive that has to?
    pub fn works(&self) -> bool {
        self.lines.is_clean() && self.messages.is_clean() && self.lost == 0
    }
}

/// Waits for the doctor of another host, and tries everything with it.
///
/// # Errors
/// When none comes before `deadline`, or it goes away.
pub fn run(host: &Host, deadline: Instant) -> Result<Outcome, Finding> {
    let extent = host.region.layout().extent_bytes();
    let bulk = BULK.min((extent / 2) / PAGE * PAGE).max(PAGE);
    let name: Name = NAME.parse().expect("a name");
    let met = Lockstep::at(&host.member, &name, LITMUS_BYTES + bulk, deadline);
    let (meeting, own, theirs) = met.map_err(|error| match error {
        PodError::TimedOut => Finding::fault("litmus", "no doctor of another host came in time").todo(
            "run `notnets doctor --region … --host-id N` on another host at the same time, and on two hosts only",
        ),
        error => Finding::fault("litmus", format!("there is no room for tests: {error}")),
    })?;
    let gone = |error: PodError| {
        Finding::fault("litmus", format!("the other doctor does not go on: {error}"))
            .todo("run both again; if it happens again, look at what the other says")
    };
    let (own, theirs) = (own.with_coherence(Coherence::Software), theirs.with_coherence(Coherence::Software));
    let said = host.region.superblock().coherence;
    Trial { meeting, own: &own, theirs: &theirs, n: 0 }.all(said).map_err(gone)
}

struct Trial<'a> {
    meeting: Lockstep,
    own: &'a OwnMemory,
    theirs: &'a PeerMemory,
    /// The last round, on both sides.
    n: u32,
}

type Side<'a> = Litmus<Part<'a, OwnMemory>, Part<'a, PeerMemory>>;

impl<'a> Trial<'a> {
    fn all(mut self, said: Coherence) -> Result<Outcome, PodError> {
        let kept = self.litmus(Coherence::Software)?;
        let plain = self.litmus(Coherence::Hardware)?;
        let how = if plain.works() { said } else { Coherence::Software };
        let figures = match kept.works() {
            true => self.figures(how)?,
            false => Figures { line_round_trip_ns: 0.0, write_gb_per_s: 0.0, read_gb_per_s: 0.0 },
        };
        Ok(Outcome { peer: self.meeting.peer().host, said, kept, plain, figures })
    }

    fn litmus(&mut self, how: Coherence) -> Result<Tried, PodError> {
        let words = LITMUS_BYTES / WORD;
        let side = Litmus::new(Part::new(self.own, 0, words), Part::new(self.theirs, 0, words), how);
        let mut tried = Tried { lines: self.stale_lines(&side)?, ..Tried::default() };
        if tried.lines.is_clean() {
            (tried.messages, tried.lost) = self.messages(&side)?;
        }
        if tried.works() {
            (tried.unseen, tried.exchanges) = (self.exchanges(&side)?, EXCHANGES.into());
        }
        Ok(tried)
    }

    /// Both have copies of the other's lines, and then both change theirs.
    fn stale_lines(&mut self, side: &Side<'a>) -> Result<Seen, PodError> {
        let mut seen = Seen::default();
        for n in self.rounds(STALE_ROUNDS) {
            std::hint::black_box(side.touch());
            self.step([0; 4])?;
            side.write(n);
            self.step([0; 4])?;
            seen = seen.and(side.check(n));
        }
        self.total(seen)
    }

    /// Data and flag go over and come back.
    fn messages(&mut self, side: &Side<'a>) -> Result<(Seen, u64), PodError> {
        self.step([0; 4])?;
        let (mut seen, mut lost) = (Seen::default(), 0);
        for n in self.rounds(MESSAGES) {
            if self.meeting.is_first() {
                side.send(n);
            }
            match until(|| side.receive(n)) {
                Ok(more) => seen = seen.and(more),
                Err(_) => {
                    lost += 1;
                    break;
                }
            }
            if !self.meeting.is_first() {
                side.send(n);
            }
        }
        let [theirs, ..] = self.step([lost, 0, 0, 0])?;
        Ok((self.total(seen)?, lost + theirs))
    }

    /// Both store, and look for the other's store, at once.
    fn exchanges(&mut self, side: &Side<'a>) -> Result<u64, PodError> {
        let mut unseen = 0;
        for n in self.rounds(EXCHANGES) {
            self.step([0; 4])?;
            let saw = side.exchange(n);
            let [theirs, ..] = self.step([saw.into(), 0, 0, 0])?;
            unseen += u64::from(!saw && theirs == 0);
        }
        Ok(unseen)
    }

    fn figures(&mut self, how: Coherence) -> Result<Figures, PodError> {
        let words = LITMUS_BYTES / WORD;
        let side = Litmus::new(Part::new(self.own, 0, words), Part::new(self.theirs, 0, words), how);
        self.step([0; 4])?;
        let mut trips = Vec::new();
        for _ in 0..BATCHES {
            let began = Instant::now();
            for n in self.rounds(TRIPS) {
                if self.meeting.is_first() {
                    side.ring(n);
                }
                until(|| side.is_rung(n).then_some(()))?;
                if !self.meeting.is_first() {
                    side.ring(n);
                }
            }
            trips.push(began.elapsed().as_nanos() as f64 / f64::from(TRIPS));
        }
        let mut speeds = (0.0, 0.0);
        for turn in [true, false] {
            self.step([0; 4])?;
            if self.meeting.is_first() == turn {
                speeds = self.speeds(how);
            }
        }
        self.step([0; 4])?;
        let least = trips.into_iter().fold(f64::INFINITY, f64::min);
        Ok(Figures { line_round_trip_ns: least, write_gb_per_s: speeds.0, read_gb_per_s: speeds.1 })
    }

    /// GB written and read in a second.
    fn speeds(&self, how: Coherence) -> (f64, f64) {
        let first = LITMUS_BYTES / WORD;
        let words = self.own.words() - first;
        let mut bytes = vec![0x5a; words * WORD];
        let gb = |began: Instant| (words * WORD) as f64 / began.elapsed().as_nanos().max(1) as f64;
        let (mut written, mut read) = (Vec::new(), Vec::new());
        for _ in 0..PASSES {
            let began = Instant::now();
            self.own.copy_in(LITMUS_BYTES, &bytes);
            if how == Coherence::Software {
                self.own.publish(first, words);
            }
            written.push(gb(began));
            let began = Instant::now();
            if how == Coherence::Software {
                self.theirs.observe(first, words);
            }
            self.theirs.copy_out(LITMUS_BYTES, &mut bytes);
            read.push(gb(began));
        }
        (median(written), median(read))
    }

    /// The numbers of the next rounds. Whatever happens in them, both sides go on behind them.
    fn rounds(&mut self, count: u32) -> std::ops::Range<u32> {
        self.n += count;
        self.n + 1 - count..self.n + 1
    }

    fn step(&mut self, said: [u64; 4]) -> Result<[u64; 4], PodError> {
        // The other may still be waiting for what was lost.
        self.meeting.exchange(said, Instant::now() + PATIENCE * 3)
    }

    /// What both sides saw.
    fn total(&mut self, seen: Seen) -> Result<Seen, PodError> {
        let [words, stale, torn, _] = self.step([seen.words, seen.stale, seen.torn, 0])?;
        Ok(seen.and(Seen { words, stale, torn }))
    }
}

/// Looks until it is there.
fn until<T>(mut look: impl FnMut() -> Option<T>) -> Result<T, PodError> {
    let (mut looks, deadline) = (0, Instant::now() + PATIENCE);
    loop {
        match look() {
            Some(found) => return Ok(found),
            None => look_again(&mut looks, deadline)?,
        }
    }
}
