//! A model of far memory, for measurements: what this machine's memory is as a part of a region gets the
//! latency and the bandwidth of a device that the user describes, and lines that are fetched are counted.
//!
//! The model: an [`observe`](crate::ReadMemory::observe) of lines of a region waits for the latency of a
//! line. Further lines of the same look follow one behind the other, as a core fetches ahead: at the
//! bandwidth of the device, or, where none is given, in a tenth of the latency each. They arrive while they
//! are copied, so a copy takes as long as the slower of the two. Under hardware coherence only lines that
//! were written since this process looked last have to be fetched, which shows in their content or is known
//! of them ([`observe_written`](crate::ReadMemory::observe_written)); under software coherence all of them,
//! each time. Counted are those that were written, under both. A line of zeros that is seen for the first
//! time is not counted, and a line that is written while it is looked at is counted when it is looked at
//! again.
//!
//! Bandwidth is that of [queues](Queues): one for each host and direction, and one for all hosts and each
//! direction. What is read waits for what the queue has to carry before it, whichever process wanted that.
//! What is [published](crate::WriteMemory::publish) enters the queue of writes while it is stored; its
//! writer waits until the queue has carried it, and under software coherence also for the latency of a
//! write, since it has fenced. Under hardware coherence stores wait in the core's own buffers.
//!
//! A cache that is too small: lines whose content is remembered are those in the cache, and one that has
//! to go for another is fetched, and counted, again.
//!
//! Not modelled: that a writer takes a line back from its readers, and what is read where it lies.

use std::cell::Cell;
use std::fs::File;
use std::ops::Range;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use once_cell::race::OnceBox;
use rustix::mm::ProtFlags;

use crate::mapping::{Mapping, View};
use crate::ticks::monotonic as now;
use crate::{Coherence, LINE, LINE_WORDS, PAGE, SegmentError};

/// Lines whose content is remembered, as in a cache: in sets of some, of which one has to go for another.
const REMEMBERED: usize = 1 << 16;
const SET: usize = 8;
/// Fetches that a core has under way at once, where no bandwidth is given.
const AT_ONCE: u64 = 10;
/// A look at more lines than this is a copy, which goes on while they arrive.
const FEW: u64 = 4;

static MODEL: OnceBox<Model> = OnceBox::new();

thread_local! {
    /// When the lines that this thread has looked at last have all arrived.
    static ARRIVES: Cell<u64> = const { Cell::new(0) };
}

/// The memory that a region is taken for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FarMemory {
    /// What fetching a line takes. With none, and no bandwidth, lines are only counted.
    pub latency: Duration,
    /// What a fence behind written lines waits for, under software coherence.
    pub write_latency: Duration,
    /// Bytes that a host reads in a second, and as many that it writes meanwhile.
    pub host_bandwidth: Option<u64>,
    /// Bytes that all hosts together read in a second, and as many that they write meanwhile.
    pub device_bandwidth: Option<u64>,
    /// Lines that a process's cache holds: 65,536 unless told, and no more.
    pub cache_lines: Option<usize>,
}

/// Makes regions that are opened in this process from now on far. What was begun once stays as it is.
pub fn begin(memory: FarMemory, queues: Queues) {
    let _ = MODEL.set(Model::new(memory, queues).into());
}

/// How many lines that others had changed this process has fetched.
pub fn lines_fetched() -> u64 {
    MODEL.get().map_or(0, |model| model.fetched.load(Ordering::Relaxed))
}

pub(crate) fn is_on() -> bool {
    MODEL.get().is_some()
}

/// Fetches the lines that hold these words of the memory at `address`. All of them were `written` since the
/// last time, or some may have been. `load` reads a word of that memory, or 0 beyond its end.
pub(crate) fn fetch(
    coherence: Coherence,
    written: bool,
    address: usize,
    words: Range<usize>,
    load: impl Fn(usize) -> u64,
) {
    let Some(model) = MODEL.get() else { return };
    let lines = words.start / LINE_WORDS..words.end.div_ceil(LINE_WORDS);
    if written {
        return model.fetch_written(lines.len() as u64);
    }
    let line = |nth: usize| {
        let content = std::array::from_fn(|word| load(nth * LINE_WORDS + word));
        (address + nth * LINE, content)
    };
    model.fetch(coherence, lines.map(line));
}

/// Writes so many bytes back.
pub(crate) fn write_back(coherence: Coherence, bytes: usize) {
    if let Some(model) = MODEL.get() {
        model.write(coherence, bytes);
    }
}

/// Waits until the lines that this thread has looked at last have arrived: it has copied them meanwhile.
pub(crate) fn arrive() {
    wait_until(ARRIVES.replace(0));
}

#[derive(Debug)]
struct Model {
    memory: FarMemory,
    queues: Queues,
    fetched: AtomicU64,
    /// For each line which one it is, and a digest of its content; 0 for none.
    seen: Box<[AtomicU64]>,
}

impl Model {
    fn new(memory: FarMemory, queues: Queues) -> Self {
        let lines = memory.cache_lines.unwrap_or(REMEMBERED).clamp(SET, REMEMBERED).next_multiple_of(SET);
        let seen = (0..lines).map(|_| AtomicU64::new(0)).collect();
        Self { memory, queues, fetched: AtomicU64::new(0), seen }
    }

    /// Fetches lines, each with its address and content.
    fn fetch(&self, coherence: Coherence, lines: impl Iterator<Item = (usize, [u64; LINE_WORDS])>) {
        let mut all = 0;
        let mut changed = 0;
        for (address, words) in lines {
            all += 1;
            // A slot that was never used holds no message, though it has to be fetched to see that.
            changed += u64::from(self.remember(address, words).unwrap_or(words != [0; LINE_WORDS]));
        }
        self.fetched.fetch_add(changed, Ordering::Relaxed);
        self.read(if coherence == Coherence::Software { all } else { changed });
    }

    /// Fetches lines that are known to have been written.
    fn fetch_written(&self, lines: u64) {
        self.fetched.fetch_add(lines, Ordering::Relaxed);
        self.read(lines);
    }

    fn read(&self, lines: u64) {
        let latency = self.memory.latency.as_nanos() as u64;
        if lines == 0 || latency == 0 && !self.has_bandwidth() {
            return;
        }
        let now = now();
        let (first, last) = if self.has_bandwidth() {
            let carried = self.carry(READS, lines * LINE as u64, now);
            (carried.begins, carried.ends)
        } else {
            (now, now + (lines - 1) * latency / AT_ONCE)
        };
        if lines <= FEW {
            return wait_until(last + latency);
        }
        ARRIVES.set(last + latency);
        wait_until(first + latency);
    }

    fn write(&self, coherence: Coherence, bytes: usize) {
        let fence = if coherence == Coherence::Software { self.memory.write_latency } else { Duration::ZERO };
        if fence.is_zero() && !self.has_bandwidth() {
            return;
        }
        let now = now();
        // They have been on their way since they were stored.
        let bytes = bytes.next_multiple_of(LINE) as u64;
        let stored = now.saturating_sub(self.slowest(bytes));
        let ends = self.carry(WRITES, bytes, stored).ends.max(now);
        wait_until(ends + fence.as_nanos() as u64);
    }

    fn has_bandwidth(&self) -> bool {
        self.memory.host_bandwidth.is_some() || self.memory.device_bandwidth.is_some()
    }

    /// How long the slower of the queues takes for so many bytes.
    fn slowest(&self, bytes: u64) -> u64 {
        let FarMemory { host_bandwidth, device_bandwidth, .. } = self.memory;
        let of = |bandwidth| transfer(bytes, bandwidth);
        [host_bandwidth, device_bandwidth].into_iter().flatten().map(of).max().unwrap_or(0)
    }

    fn carry(&self, direction: usize, bytes: u64, now: u64) -> Carried {
        let FarMemory { host_bandwidth, device_bandwidth, .. } = self.memory;
        let mut all = Carried { begins: now, ends: now };
        for (place, bandwidth) in [(1 + self.queues.host, host_bandwidth), (0, device_bandwidth)] {
            let Some(bandwidth) = bandwidth else { continue };
            let carried = self.queues.enter(place, direction, now, transfer(bytes, bandwidth));
            all = Carried { begins: all.begins.max(carried.begins), ends: all.ends.max(carried.ends) };
        }
        all
    }

    /// Returns whether the line differs from what it was when it was last looked at, or `None` if that is not
    /// known, or not any more.
    fn remember(&self, address: usize, words: [u64; LINE_WORDS]) -> Option<bool> {
        let line = mix(1, (address / LINE) as u64);
        let tag = line >> 32 | 1;
        let content = words.into_iter().fold(line, mix) as u32;
        let first = line as usize % (self.seen.len() / SET) * SET;
        let set = &self.seen[first..first + SET];
        let known = set.iter().find(|seen| seen.load(Ordering::Relaxed) >> 32 == tag);
        let free = || set.iter().find(|seen| seen.load(Ordering::Relaxed) == 0);
        // By chance, as a cache might.
        let any = || &set[content as usize % SET];
        let slot = known.or_else(free).unwrap_or_else(any);
        let before = slot.swap(tag << 32 | u64::from(content), Ordering::Relaxed);
        known.map(|_| before as u32 != content)
    }
}

fn mix(all: u64, word: u64) -> u64 {
    (all ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29)
}

/// Nanoseconds that so many bytes take.
fn transfer(bytes: u64, bandwidth: u64) -> u64 {
    (u128::from(bytes) * 1_000_000_000 / u128::from(bandwidth.max(1))) as u64
}

const READS: usize = 0;
const WRITES: usize = 1;

/// The queues of a device, and of the ways from it to its hosts: each is busy until a time that all processes
/// which are in the same model know.
#[derive(Debug)]
pub struct Queues {
    busy_until: View,
    host: usize,
}

/// When a queue begins to carry something, and when it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Carried {
    begins: u64,
    ends: u64,
}

impl Queues {
    /// Hosts that can be told apart.
    pub const HOSTS: usize = PAGE / LINE - 1;
    /// Bytes of a file of queues.
    pub const BYTES: usize = PAGE;

    /// The queues in this file, of [`BYTES`](Self::BYTES) zeros at first, as a process of this host has them.
    ///
    /// # Errors
    /// When it can't be mapped.
    ///
    /// # Panics
    /// When there is no such host.
    pub fn shared(file: &File, host: usize) -> Result<Self, SegmentError> {
        assert!(host < Self::HOSTS);
        let map = Mapping::new(file.as_fd(), Self::BYTES, ProtFlags::READ | ProtFlags::WRITE)?;
        let busy_until = View::new(&Arc::new(map), 0, Self::BYTES, Coherence::Hardware);
        Ok(Self { busy_until, host })
    }

    fn enter(&self, place: usize, direction: usize, now: u64, takes: u64) -> Carried {
        let queue = self.busy_until.word(place * LINE_WORDS + direction);
        let join = |busy: u64| Some(busy.max(now) + takes);
        // It orders nothing.
        let before = queue.fetch_update(Ordering::Relaxed, Ordering::Relaxed, join).unwrap_or(0);
        let begins = before.max(now);
        Carried { begins, ends: begins + takes }
    }
}

fn wait_until(time: u64) {
    while time > 0 && now() < time {
        std::hint::spin_loop();
    }
}

#[cfg(all(test, not(loom), not(miri)))]
mod tests {
    use rustix::fs::{MemfdFlags, ftruncate, memfd_create};

    use super::*;

    fn queues() -> (File, Queues) {
        let file = memfd_create("queues", MemfdFlags::CLOEXEC).unwrap();
        ftruncate(&file, Queues::BYTES as u64).unwrap();
        let file = File::from(file);
        let queues = Queues::shared(&file, 0).unwrap();
        (file, queues)
    }

    fn model(memory: FarMemory) -> Model {
        Model::new(memory, queues().1)
    }

    fn fetched(model: &Model, coherence: Coherence, lines: &[(usize, u64)]) -> u64 {
        let before = model.fetched.load(Ordering::Relaxed);
        model.fetch(coherence, lines.iter().map(|(address, word)| (*address, [*word; LINE_WORDS])));
        model.fetched.load(Ordering::Relaxed) - before
    }

    /// How long it takes, in nanoseconds.
    fn time(act: impl FnOnce()) -> u64 {
        let began = now();
        act();
        now() - began
    }

    #[test]
    fn lines_are_counted_when_they_have_changed() {
        let model = model(FarMemory::default());
        let fetched = |coherence, lines: &[_]| fetched(&model, coherence, lines);
        assert_eq!(fetched(Coherence::Hardware, &[(0, 1), (64, 1)]), 2);
        assert_eq!(fetched(Coherence::Hardware, &[(0, 1), (64, 2)]), 1);
        assert_eq!(fetched(Coherence::Software, &[(0, 1), (64, 2)]), 0);
        assert_eq!(
            [0, 3, 0].map(|word| fetched(Coherence::Hardware, &[(128, word)])),
            [0, 1, 1],
            "at first unused"
        );
        // As many lines as a process has links, as far apart as these lie.
        let idle: Vec<_> = (1..=2000).map(|nth| (nth * (270 << 10), 5)).collect();
        fetched(Coherence::Hardware, &idle);
        assert_eq!(fetched(Coherence::Hardware, &idle), 0, "they stay in the cache");
        let before = model.fetched.load(Ordering::Relaxed);
        model.fetch_written(3);
        assert_eq!(model.fetched.load(Ordering::Relaxed) - before, 3, "with whatever content");
    }

    #[test]
    fn a_small_cache_forgets() {
        let model = model(FarMemory { cache_lines: Some(16), ..FarMemory::default() });
        let lines: Vec<_> = (1..=1000).map(|nth| (nth * LINE, 5)).collect();
        fetched(&model, Coherence::Hardware, &lines);
        assert!(fetched(&model, Coherence::Hardware, &lines) > 900);
    }

    #[test]
    fn a_look_takes_the_latency_of_a_line() {
        let latency = Duration::from_millis(2);
        let model = model(FarMemory { latency, ..FarMemory::default() });
        for coherence in [Coherence::Hardware, Coherence::Software] {
            assert!(time(|| _ = fetched(&model, coherence, &[(0, 7)])) >= 2_000_000);
        }
    }

    #[test]
    fn many_lines_come_at_the_bandwidth_while_they_are_copied() {
        // A mebibyte takes some 10 ms.
        let memory = FarMemory {
            latency: Duration::from_millis(1),
            host_bandwidth: Some(100 << 20),
            ..FarMemory::default()
        };
        let model = model(memory);
        let mebibyte = (1 << 20) / LINE as u64;
        let began = now();
        model.fetch_written(mebibyte);
        let first = now() - began;
        arrive();
        let all = now() - began;
        assert!((1_000_000..10_000_000).contains(&first), "the first line has come: {first}");
        assert!(all >= 11_000_000, "{all}");
        assert!(time(arrive) < 10_000_000, "nothing is expected any more");
    }

    #[test]
    fn what_one_process_reads_another_waits_for() {
        let (file, queues) = queues();
        let memory = FarMemory {
            latency: Duration::from_nanos(1),
            device_bandwidth: Some(100 << 20),
            ..FarMemory::default()
        };
        let one = Model::new(memory, queues);
        let of_other_host = Model::new(memory, Queues::shared(&file, 1).unwrap());
        one.fetch_written((1 << 20) / LINE as u64);
        assert!(time(|| of_other_host.fetch_written(1)) >= 9_000_000);
        arrive();
        let own = FarMemory { host_bandwidth: memory.device_bandwidth, device_bandwidth: None, ..memory };
        let (one, other) = (model(own), Model::new(own, Queues::shared(&file, 1).unwrap()));
        one.fetch_written((1 << 20) / LINE as u64);
        assert!(time(|| other.fetch_written(1)) < 9_000_000, "each host has a way of its own");
        arrive();
    }

    #[test]
    fn writers_wait_for_the_queue_and_for_fences() {
        let memory = FarMemory {
            write_latency: Duration::from_millis(3),
            host_bandwidth: Some(100 << 20),
            ..FarMemory::default()
        };
        let model = model(memory);
        model.write(Coherence::Hardware, 1 << 20);
        assert!(time(|| model.write(Coherence::Hardware, 1 << 20)) >= 9_000_000, "behind the first");
        let few = time(|| model.write(Coherence::Software, LINE));
        assert!((3_000_000..9_000_000).contains(&few), "{few}");
        let before = time(|| model.fetch_written(1));
        assert!(before < 9_000_000, "reads have a queue of their own");
    }
}
