//! The litmus tests that two doctors run together, step by step, each on its host.

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
/// Round trips of a line that are timed together, and the number of such batches.
const TRIPS: u32 = 20;
const BATCHES: u32 = 100;
/// The most bytes that are written and read at once for the bandwidth, and the number of passes.
const BULK: usize = 256 << 10;
const PASSES: usize = 16;
/// The time limit of a step. A machine can be stopped for seconds; a line that is not seen by then never will
/// be.
const PATIENCE: Duration = Duration::from_secs(10);

/// The outcome of all tests.
#[derive(Clone, Copy, Debug)]
pub struct Outcome {
    /// The other doctor's host.
    pub peer: u16,
    /// The coherence that the region is formatted for.
    pub configured: Coherence,
    /// The result with write-back and invalidation.
    pub with_flush: LitmusResult,
    /// The result without them.
    pub without_flush: LitmusResult,
    /// Measured with the configured coherence, or with write-back where nothing else works.
    pub figures: Figures,
}

/// Both sides' observations with one kind of coherence.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LitmusResult {
    /// Lines that the reader had copies of.
    pub lines: Seen,
    /// Data behind flags. Nothing where lines are stale already.
    pub messages: Seen,
    /// Flags that were not seen at all.
    pub lost: u64,
    /// Stores of both sides, of which neither saw the other's.
    pub unseen: u64,
    /// The number of such exchanges. 0 if they were not tried.
    pub exchanges: u64,
}

impl LitmusResult {
    /// Returns `true` if everything arrived that has to.
    pub fn works(&self) -> bool {
        self.lines.is_clean() && self.messages.is_clean() && self.lost == 0
    }
}

/// Waits for the doctor of another host, and runs all tests with it.
///
/// # Errors
/// When none comes before `deadline`, or it goes away.
pub fn run(host: &Host, deadline: Instant) -> Result<Outcome, Finding> {
    let extent = host.region.layout().extent_bytes();
    let bulk = BULK.min((extent / 2) / PAGE * PAGE).max(PAGE);
    let name: Name = NAME.parse().expect("a name");
    let met = Lockstep::at(&host.member, &name, LITMUS_BYTES + bulk, deadline);
    let (lockstep, own, theirs) = met.map_err(|error| match error {
        PodError::TimedOut => Finding::fault("litmus", "no doctor of another host came in time").todo(
            "run `notnets doctor --region … --host-id N` on another host at the same time, and on two hosts only",
        ),
        error => Finding::fault("litmus", format!("there is no room for tests: {error}")),
    })?;
    let gone = |error: PodError| {
        Finding::fault("litmus", format!("the other doctor does not go on: {error}"))
            .todo("run both again; if it happens again, look at what the other says")
    };
    let own = own.with_coherence(Coherence::Software);
    let theirs = theirs.with_coherence(Coherence::Software);
    let configured = host.region.superblock().coherence;
    LitmusRun { lockstep, own: &own, theirs: &theirs, n: 0 }.all(configured).map_err(gone)
}

struct LitmusRun<'a> {
    lockstep: Lockstep,
    own: &'a OwnMemory,
    theirs: &'a PeerMemory,
    /// The last round, on both sides.
    n: u32,
}

type Side<'a> = Litmus<Part<'a, OwnMemory>, Part<'a, PeerMemory>>;

impl<'a> LitmusRun<'a> {
    fn all(mut self, configured: Coherence) -> Result<Outcome, PodError> {
        let with_flush = self.litmus(Coherence::Software)?;
        let without_flush = self.litmus(Coherence::Hardware)?;
        let how = if without_flush.works() { configured } else { Coherence::Software };
        let figures = if with_flush.works() {
            self.figures(how)?
        } else {
            Figures { line_round_trip_ns: 0.0, write_gb_per_s: 0.0, read_gb_per_s: 0.0 }
        };
        Ok(Outcome { peer: self.lockstep.peer().host, configured, with_flush, without_flush, figures })
    }

    fn litmus(&mut self, how: Coherence) -> Result<LitmusResult, PodError> {
        let words = LITMUS_BYTES / WORD;
        let side = Litmus::new(Part::new(self.own, 0, words), Part::new(self.theirs, 0, words), how);
        let mut result = LitmusResult { lines: self.stale_lines(&side)?, ..LitmusResult::default() };
        if result.lines.is_clean() {
            (result.messages, result.lost) = self.messages(&side)?;
        }
        if result.works() {
            result.unseen = self.exchanges(&side)?;
            result.exchanges = EXCHANGES.into();
        }
        Ok(result)
    }

    /// Reads the other's lines into a cache on both sides, and then changes them on both.
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

    /// Sends data and a flag over and back.
    fn messages(&mut self, side: &Side<'a>) -> Result<(Seen, u64), PodError> {
        self.step([0; 4])?;
        let mut seen = Seen::default();
        let mut lost = 0;
        for n in self.rounds(MESSAGES) {
            if self.lockstep.is_first() {
                side.send(n);
            }
            match until(|| side.receive(n)) {
                Ok(more) => seen = seen.and(more),
                Err(_) => {
                    lost += 1;
                    break;
                }
            }
            if !self.lockstep.is_first() {
                side.send(n);
            }
        }
        let [theirs, ..] = self.step([lost, 0, 0, 0])?;
        Ok((self.total(seen)?, lost + theirs))
    }

    /// Stores on both sides at once, and looks for the other's store right after.
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
                if self.lockstep.is_first() {
                    side.ring(n);
                }
                until(|| side.is_rung(n).then_some(()))?;
                if !self.lockstep.is_first() {
                    side.ring(n);
                }
            }
            trips.push(began.elapsed().as_nanos() as f64 / f64::from(TRIPS));
        }
        let mut speeds = (0.0, 0.0);
        for turn in [true, false] {
            self.step([0; 4])?;
            if self.lockstep.is_first() == turn {
                speeds = self.speeds(how);
            }
        }
        self.step([0; 4])?;
        let least = trips.into_iter().fold(f64::INFINITY, f64::min);
        Ok(Figures { line_round_trip_ns: least, write_gb_per_s: speeds.0, read_gb_per_s: speeds.1 })
    }

    /// Returns the GB written and read in a second.
    fn speeds(&self, how: Coherence) -> (f64, f64) {
        let first = LITMUS_BYTES / WORD;
        let words = self.own.words() - first;
        let mut bytes = vec![0x5a; words * WORD];
        let gb = |began: Instant| (words * WORD) as f64 / began.elapsed().as_nanos().max(1) as f64;
        let mut written = Vec::new();
        let mut read = Vec::new();
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

    /// Returns the numbers of the next rounds. Whatever happens in them, both sides continue after the last.
    fn rounds(&mut self, count: u32) -> std::ops::Range<u32> {
        self.n += count;
        self.n + 1 - count..self.n + 1
    }

    fn step(&mut self, data: [u64; 4]) -> Result<[u64; 4], PodError> {
        // The other may still be waiting for what was lost.
        self.lockstep.exchange(data, Instant::now() + PATIENCE * 3)
    }

    /// Adds what the other side saw.
    fn total(&mut self, seen: Seen) -> Result<Seen, PodError> {
        let [words, stale, torn, _] = self.step([seen.words, seen.stale, seen.torn, 0])?;
        Ok(seen.and(Seen { words, stale, torn }))
    }
}

/// Calls `look` until it finds something.
fn until<T>(mut look: impl FnMut() -> Option<T>) -> Result<T, PodError> {
    let mut looks = 0;
    let deadline = Instant::now() + PATIENCE;
    loop {
        match look() {
            Some(found) => return Ok(found),
            None => look_again(&mut looks, deadline)?,
        }
    }
}
