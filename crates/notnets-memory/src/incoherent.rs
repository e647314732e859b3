//! Simulated hosts that share memory without coherence: for tests.
//!
//! Each host has its own copy of every line that it has touched. A store changes the host's copy only; a
//! load is served from it, however old it is. Copies and memory are brought together by
//! [`publish`](crate::WriteMemory::publish), [`observe`](crate::ReadMemory::observe), and the *weather*: at
//! random, by the seed, a host fetches lines that it was not asked for, forgets copies, or writes some words
//! of a line back and others not. A host that [crashes](World::crash) loses what it has not published.
//!
//! The world also checks what all of this rests on: a line has one writing host, and a host that observes a
//! line has nothing unpublished in it.
//!
//! A host can be [cut off](World::cut_off) from the memory: what it observes is not there, and what it
//! publishes arrives when it is back. A [journal](World::keep_journal) tells a test what was published,
//! line by line.
//!
//! To prove that a test would notice a missing publish or observe, [`World::sites`] lists the places in the
//! code where they are, and [`World::omit`] leaves one of them out.

use std::collections::{BTreeSet, VecDeque};
use std::panic::Location;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::{Coherence, LINE_WORDS, ReadMemory, WORD, WriteMemory};

/// A place in the code where something is published or observed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Site {
    /// `true` for a publish, `false` for an observe.
    pub publishes: bool,
    /// The file.
    pub file: &'static str,
    /// The line in it.
    pub line: u32,
}

/// A line that was published.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Published {
    /// The host that did it.
    pub host: usize,
    /// Where the line begins.
    pub word: usize,
    /// What it said.
    pub words: [u64; LINE_WORDS],
}

/// The memory, and the hosts around it.
#[derive(Clone, Debug)]
pub struct World(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    random: u64,
    weather: Weather,
    lines: Vec<[u64; LINE_WORDS]>,
    writers: Vec<Option<usize>>,
    caches: Vec<Cache>,
    /// Lines that were touched last: those are what prefetching goes for.
    recent: VecDeque<usize>,
    sites: BTreeSet<Site>,
    omitted: Option<Site>,
    /// A line may have several writing hosts, as when two of them take themselves for the same.
    unruly: bool,
    journal: Option<Vec<Published>>,
}

/// What a host has of the memory.
#[derive(Debug, Default)]
struct Cache {
    lines: Vec<Option<Copied>>,
    /// Lines with words that were stored and are not in memory.
    dirty: BTreeSet<usize>,
    /// It can't reach the memory.
    cut_off: bool,
    /// What it would have published meanwhile.
    late: BTreeSet<usize>,
}

/// How often something happens by itself: once in a number of accesses, or never.
#[derive(Clone, Copy, Debug)]
struct Weather {
    fetch: Option<u64>,
    forget: Option<u64>,
    write_back: Option<u64>,
}

/// A host's copy of a line.
#[derive(Clone, Copy, Debug)]
struct Copied {
    words: [u64; LINE_WORDS],
    /// A bit for each word that was stored and is not in memory.
    dirty: u8,
}

impl World {
    /// A memory of `words` words, full of what looks like data of an earlier incarnation, and hosts that have
    /// old copies of parts of it.
    pub fn new(words: usize, hosts: usize, seed: u64) -> Self {
        let mut state = State {
            random: seed ^ 0x9e37_79b9_7f4a_7c15,
            weather: Weather { fetch: None, forget: None, write_back: None },
            lines: vec![[0; LINE_WORDS]; words.div_ceil(LINE_WORDS)],
            writers: vec![None; words.div_ceil(LINE_WORDS)],
            caches: (0..hosts).map(|_| Cache::of(words.div_ceil(LINE_WORDS))).collect(),
            recent: VecDeque::new(),
            sites: BTreeSet::new(),
            omitted: None,
            unruly: false,
            journal: None,
        };
        for line in 0..state.lines.len() {
            state.lines[line] = std::array::from_fn(|_| state.draw(1 << 20));
            for host in 0..hosts {
                if state.draw(2) == 0 {
                    state.copy(host, line);
                }
            }
        }
        state.weather = Weather {
            fetch: Some(2 + state.draw(6)),
            forget: [None, Some(300)][state.draw(2) as usize],
            write_back: [None, Some(3)][state.draw(2) as usize],
        };
        Self(Arc::new(Mutex::new(state)))
    }

    /// All of the memory, as one host sees it.
    pub fn memory(&self, host: usize) -> Incoherent {
        let words = self.lock().lines.len() * LINE_WORDS;
        Incoherent { world: self.clone(), host, first: 0, words }
    }

    /// The host loses all of its copies, and what it has not published.
    pub fn crash(&self, host: usize) {
        let mut state = self.lock();
        let lines = state.lines.len();
        state.caches[host] = Cache::of(lines);
    }

    /// The host can't reach the memory from now on. It has what it has written itself; of the rest it has
    /// what it does not observe, and then reads ones. It is not told that its publishing fails.
    pub fn cut_off(&self, host: usize) {
        self.lock().caches[host].cut_off = true;
    }

    /// It can again: what it published meanwhile arrives.
    pub fn reconnect(&self, host: usize) {
        let mut state = self.lock();
        state.caches[host].cut_off = false;
        for line in std::mem::take(&mut state.caches[host].late) {
            state.write_back(host, line, u8::MAX);
        }
    }

    /// Notes what is published from now on.
    pub fn keep_journal(&self) {
        self.lock().journal = Some(Vec::new());
    }

    /// Takes what was published since the last time, in order, also what is to arrive later.
    pub fn take_journal(&self) -> Vec<Published> {
        self.lock().journal.as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// Writes a word's line back for a host, as a test's own preparations need it.
    pub fn flush(&self, host: usize, word: usize) {
        let mut state = self.lock();
        state.write_back(host, word / LINE_WORDS, u8::MAX);
    }

    /// Where something was published or observed so far.
    pub fn sites(&self) -> BTreeSet<Site> {
        self.lock().sites.clone()
    }

    /// Leaves this publish or observe out from now on.
    pub fn omit(&self, site: Site) {
        self.lock().omitted = Some(site);
    }

    /// From now on a line may have several writing hosts: for tests of what happens then.
    pub fn allow_many_writers(&self) {
        self.lock().unruly = true;
    }

    /// A random number below `below`, from the world's seed.
    #[inline]
    pub fn draw(&self, below: u64) -> u64 {
        self.lock().draw(below)
    }

    #[inline]
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// xorshift64*: any seed but 0 goes round all numbers.
    #[inline]
    fn draw(&mut self, below: u64) -> u64 {
        self.random = self.random.max(1);
        self.random ^= self.random >> 12;
        self.random ^= self.random << 25;
        self.random ^= self.random >> 27;
        (self.random.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % below
    }

    #[inline]
    fn happens(&mut self, once_in: Option<u64>) -> bool {
        once_in.is_some_and(|n| self.draw(n) == 0)
    }

    /// The spontaneous events at an access to a line.
    #[inline]
    fn weather(&mut self, line: usize) {
        if !self.recent.contains(&line) {
            self.recent.push_back(line);
            if self.recent.len() > 12 {
                self.recent.pop_front();
            }
        }
        let Weather { fetch, forget, write_back } = self.weather;
        let host = self.draw(self.caches.len() as u64) as usize;
        if self.caches[host].cut_off {
            return;
        }
        if self.happens(fetch) {
            let nth = self.draw(self.recent.len() as u64) as usize;
            let near = self.recent[nth] + self.draw(3) as usize;
            self.copy(host, near.min(self.lines.len() - 1));
        }
        if self.happens(forget)
            && let Some(line) = self.some_clean_line(host)
        {
            self.caches[host].lines[line] = None;
        }
        if self.happens(write_back)
            && let Some(line) = self.some_dirty_line(host)
        {
            let words = self.draw(256) as u8;
            self.write_back(host, line, words);
        }
    }

    /// A line of which a host has a clean copy: the first from some place on.
    #[inline]
    fn some_clean_line(&mut self, host: usize) -> Option<usize> {
        let from = self.draw(self.lines.len() as u64) as usize;
        let lines = &self.caches[host].lines;
        let is_clean = |line: &usize| lines[*line].is_some_and(|copied| copied.dirty == 0);
        (from..lines.len()).chain(0..from).find(is_clean)
    }

    #[inline]
    fn some_dirty_line(&mut self, host: usize) -> Option<usize> {
        let count = self.caches[host].dirty.len() as u64;
        let nth = (count > 0).then(|| self.draw(count) as usize)?;
        self.caches[host].dirty.iter().nth(nth).copied()
    }

    /// Returns the host's copy of a line, fetched if need be.
    #[inline]
    fn copy(&mut self, host: usize, line: usize) -> &mut Copied {
        let words = self.lines[line];
        self.caches[host].lines[line].get_or_insert(Copied { words, dirty: 0 })
    }

    /// Returns what a host reads in a line.
    #[inline]
    fn read(&mut self, host: usize, line: usize, word: usize) -> u64 {
        let Cache { lines, cut_off, .. } = &self.caches[host];
        if *cut_off && lines[line].is_none() && self.writers[line] != Some(host) {
            return u64::MAX;
        }
        self.copy(host, line).words[word]
    }

    /// Writes those of the words back that are dirty.
    #[inline]
    fn write_back(&mut self, host: usize, line: usize, words: u8) {
        let cache = &mut self.caches[host];
        let Some(copied) = &mut cache.lines[line] else { return };
        for word in 0..LINE_WORDS {
            if copied.dirty & words & 1 << word != 0 {
                self.lines[line][word] = copied.words[word];
            }
        }
        copied.dirty &= !words;
        if copied.dirty == 0 {
            cache.dirty.remove(&line);
        }
    }

    /// A host publishes a line. Its own copy may stay, or go.
    #[inline]
    fn publish(&mut self, host: usize, line: usize) {
        if let Some(journal) = &mut self.journal {
            let words = self.caches[host].lines[line].map_or(self.lines[line], |copied| copied.words);
            journal.push(Published { host, word: line * LINE_WORDS, words });
        }
        if self.caches[host].cut_off {
            self.caches[host].late.insert(line);
            return;
        }
        self.write_back(host, line, u8::MAX);
        if self.draw(2) == 0 {
            self.caches[host].lines[line] = None;
        }
    }

    /// Notes the site. Returns `true` if it is left out.
    #[inline]
    fn visits(&mut self, publishes: bool, caller: &'static Location<'static>) -> bool {
        let site = Site { publishes, file: caller.file(), line: caller.line() };
        self.sites.insert(site);
        self.omitted == Some(site)
    }
}

impl Cache {
    fn of(lines: usize) -> Self {
        Self { lines: vec![None; lines], ..Self::default() }
    }
}

/// A part of the memory, as one host sees it.
#[derive(Clone, Debug)]
pub struct Incoherent {
    world: World,
    host: usize,
    first: usize,
    words: usize,
}

impl Incoherent {
    /// A part of this memory; whole lines, or words of one.
    pub fn part(&self, word: usize, words: usize) -> Self {
        assert!(word + words <= self.words);
        Self { world: self.world.clone(), first: self.first + word, words, ..*self }
    }

    #[inline]
    fn locate(&self, word: usize) -> (usize, usize) {
        assert!(word < self.words);
        let word = self.first + word;
        (word / LINE_WORDS, word % LINE_WORDS)
    }

    #[inline]
    fn lines(&self, word: usize, words: usize) -> std::ops::Range<usize> {
        assert!(word + words <= self.words);
        let first = self.first + word;
        first / LINE_WORDS..(first + words).div_ceil(LINE_WORDS)
    }
}

impl ReadMemory for Incoherent {
    #[inline]
    fn words(&self) -> usize {
        self.words
    }

    fn coherence(&self) -> Coherence {
        Coherence::Software
    }

    #[inline]
    fn load(&self, word: usize) -> u64 {
        let (line, word) = self.locate(word);
        let mut state = self.world.lock();
        state.weather(line);
        state.read(self.host, line, word)
    }

    #[inline]
    fn load_acquire(&self, word: usize) -> u64 {
        self.load(word)
    }

    #[inline]
    #[track_caller]
    fn observe(&self, word: usize, words: usize) {
        let mut state = self.world.lock();
        if state.visits(false, Location::caller()) {
            return;
        }
        for line in self.lines(word, words) {
            if state.caches[self.host].late.contains(&line) {
                continue;
            }
            let copied = state.caches[self.host].lines[line].take();
            let unpublished = copied.is_some_and(|copied| copied.dirty != 0);
            assert!(!unpublished, "host {} observes line {line}, which it has stored to", self.host);
        }
    }

    #[inline]
    fn copy_out(&self, byte: usize, into: &mut [u8]) {
        let mut at = byte;
        let mut rest = into;
        while !rest.is_empty() {
            let skip = at % WORD;
            let word = self.load(at / WORD).to_le_bytes();
            let (now, later) = rest.split_at_mut(rest.len().min(WORD - skip));
            now.copy_from_slice(&word[skip..skip + now.len()]);
            at += now.len();
            rest = later;
        }
    }

    fn fence(&self) {}
}

impl WriteMemory for Incoherent {
    #[inline]
    fn store(&self, word: usize, value: u64) {
        let (line, word) = self.locate(word);
        let mut state = self.world.lock();
        let writer = *state.writers[line].get_or_insert(self.host);
        assert!(state.unruly || writer == self.host, "line {line} has two writing hosts");
        let copied = state.copy(self.host, line);
        copied.words[word] = value;
        copied.dirty |= 1 << word;
        state.caches[self.host].dirty.insert(line);
        state.weather(line);
    }

    #[inline]
    fn store_release(&self, word: usize, value: u64) {
        self.store(word, value);
    }

    #[inline]
    #[track_caller]
    fn publish(&self, word: usize, words: usize) {
        let mut state = self.world.lock();
        if state.visits(true, Location::caller()) {
            return;
        }
        for line in self.lines(word, words) {
            state.publish(self.host, line);
        }
    }

    #[inline]
    fn copy_in(&self, byte: usize, from: &[u8]) {
        let mut at = byte;
        let mut rest = from;
        while !rest.is_empty() {
            let skip = at % WORD;
            let (now, later) = rest.split_at(rest.len().min(WORD - skip));
            let mut word = self.load(at / WORD).to_le_bytes();
            word[skip..skip + now.len()].copy_from_slice(now);
            self.store(at / WORD, u64::from_le_bytes(word));
            at += now.len();
            rest = later;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One line, two hosts; what the reader has seen before each step.
    fn world(seed: u64) -> (World, Incoherent, Incoherent) {
        let world = World::new(LINE_WORDS, 2, seed);
        let (writer, reader) = (world.memory(0), world.memory(1));
        writer.store(0, 1);
        writer.publish(0, 1);
        reader.observe(0, 1);
        (world, writer, reader)
    }

    fn seen(seed: u64, publish: bool, observe: bool) -> u64 {
        let (_world, writer, reader) = world(seed);
        assert_eq!(reader.load(0), 1);
        writer.store(0, 2);
        if publish {
            writer.publish(0, 1);
        }
        if observe {
            reader.observe(0, 1);
        }
        reader.load(0)
    }

    #[test]
    fn stores_arrive_when_they_are_published_and_observed() {
        for seed in 0..200 {
            assert_eq!(seen(seed, true, true), 2);
        }
        for (publish, observe) in [(false, true), (true, false), (false, false)] {
            let stale = (0..200).filter(|seed| seen(*seed, publish, observe) == 1).count();
            assert!(stale > 50, "publish {publish}, observe {observe}: stale {stale} times of 200");
        }
    }

    #[test]
    fn lines_are_torn_without_a_publish() {
        let torn = |seed| {
            let (_world, writer, reader) = world(seed);
            for word in 0..LINE_WORDS {
                writer.store(word, 2);
            }
            reader.observe(0, LINE_WORDS);
            let new = (0..LINE_WORDS).filter(|word| reader.load(*word) == 2).count();
            new > 0 && new < LINE_WORDS
        };
        assert!((0..200).any(torn));
    }

    #[test]
    fn a_crash_loses_what_is_not_published() {
        let (world, writer, _) = world(7);
        world.0.lock().unwrap().weather.write_back = None;
        writer.store(0, 2);
        world.crash(0);
        assert_eq!(writer.load(0), 1);
    }

    #[test]
    #[should_panic(expected = "two writing hosts")]
    fn a_line_has_one_writer() {
        let (_world, _, reader) = world(1);
        reader.store(5, 1);
    }
}
