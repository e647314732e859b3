//! Activity lines: one line that shows on which of many links something was pushed.
//!
//! Between hosts nothing rings. A side that parks is woken by a thread of its host which looks at lanes, and
//! one that looks at each of a thousand idle links fetches a thousand lines to see nothing. So a process has
//! one line for each remote process with which it has links. After a turn in which it pushed on one of them
//! it [notes](ActivityLine::note) that, and the peer's host [looks](ActivityWatch::look) at this line only.
//!
//! | word | content |
//! | --- | --- |
//! | 0 | how often something was noted (low half); how often the names below have changed (high half) |
//! | 1–6 | the last links on which something was pushed: the reader's numbers for them, 0 for none |
//! | 7 | in the line for the watcher of the same host: 1 while any side of this process is parked |
//!
//! A look finds that something was noted, and names the links; if the names have changed since the look
//! before, it could be any link. So one busy link among a thousand costs no look at the others.
//!
//! **No note is missed.** A value of word 0 is stored once, under a lock, so that a different value means a
//! note, and what was pushed before the note can be seen after the look that finds it. Names are published
//! before the word that tells of them, on the same line.
//!
//! **A watcher of a process of which no side is parked can sleep** until one [is](Parked): the first that
//! parks says so, and then rings the watcher. The watcher takes what was rung, looks for a while, and then
//! sees whether a side is parked before it sleeps.
//!
//! | atomic | pairs with |
//! | --- | --- |
//! | writer: `store_release(word 0)` | reader: `load_acquire(word 0)`: all before it is there |
//! | reader: fence before it looks who is armed | parker: fence in [`ArmedFlag::arm_local`] |
//! | parker: `store_release(word 7)` before it rings | watcher: `load_acquire(word 7)` after it was rung |
//!
//! [`ArmedFlag::arm_local`]: crate::doorbell::ArmedFlag::arm_local

#[cfg(loom)]
use loom::sync::Mutex;
use std::os::fd::OwnedFd;
#[cfg(not(loom))]
use std::sync::Mutex;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use crate::process::ForkGuard;
use crate::{LINE_WORDS, OwnMemory, PeerMemory, ReadMemory, WriteMemory};

/// Links that a line names.
pub const NAMED: usize = LINE_WORDS - 2;
/// The word that says whether a side is parked.
const PARKED: usize = LINE_WORDS - 1;

/// A line that this process writes: for one remote process, or for the watcher of its own host.
#[derive(Debug)]
pub struct ActivityLine<W = OwnMemory> {
    line: W,
    noted: Mutex<Noted>,
}

/// The line's content.
#[derive(Debug, Default)]
struct Noted {
    count: u32,
    changes: u32,
    names: [u32; NAMED],
    /// The name that has to go for another.
    oldest: usize,
    /// Sides of this process that are parked.
    parked: usize,
}

/// A watcher that was rung looks for this long at least, before it may sleep again.
pub const AWAKE: Duration = Duration::from_millis(10);
/// So one that was rung this lately needs not be rung again: it sees who is parked before it sleeps.
const LATELY: Duration = Duration::from_millis(5);

/// Wakes the watcher of this host, as long as there is one to ring.
#[derive(Debug, Default)]
pub struct WatcherBell(Mutex<Bell>);

#[derive(Debug, Default)]
struct Bell {
    event: Option<OwnedFd>,
    rung: Option<Instant>,
}

impl WatcherBell {
    /// From now on this event is counted up to ring. It is rung once: sides may be parked already.
    pub fn set(&self, event: OwnedFd) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Bell { event: Some(event), rung: None };
        self.ring();
    }

    /// Rings, unless it was rung lately. To be called after it was said that a side is parked.
    fn ring(&self) {
        let mut bell = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Bell { event: Some(event), rung } = &mut *bell else { return };
        let now = Instant::now();
        if rung.is_none_or(|rung| now - rung >= LATELY) {
            *rung = Some(now);
            // That it can't be means that it was rung already.
            let _ = rustix::io::write(&*event, &1u64.to_ne_bytes());
        }
    }
}

/// A side that is parked, until this is dropped.
#[derive(Debug)]
pub struct Parked {
    line: Arc<ActivityLine>,
    /// In a forked child the line is not mapped.
    fork: Option<ForkGuard>,
}

impl Parked {
    /// Says so in the line for the watcher of this host, and wakes it if it may sleep.
    pub fn new(line: &Arc<ActivityLine>, bell: &WatcherBell) -> Self {
        if line.park() {
            bell.ring();
        }
        Self { line: Arc::clone(line), fork: ForkGuard::new().ok() }
    }
}

impl Drop for Parked {
    fn drop(&mut self) {
        if self.fork.is_some_and(|fork| !fork.is_forked_child()) {
            self.line.unpark();
        }
    }
}

impl<W: WriteMemory> ActivityLine<W> {
    /// A line on zeroed memory.
    ///
    /// # Panics
    /// When that is not one line.
    pub fn new(line: W) -> Self {
        assert_eq!(line.words(), LINE_WORDS);
        Self { line, noted: Mutex::new(Noted::default()) }
    }

    /// Something was pushed on a link, for which the reader has this number.
    #[inline]
    pub fn note(&self, link: u32) {
        let mut noted = self.noted.lock().unwrap_or_else(PoisonError::into_inner);
        if !noted.names.contains(&link) {
            self.name(&mut noted, link);
        }
        noted.count = noted.count.wrapping_add(1);
        // Pairs with the load in `ActivityWatch::look`.
        self.line.store_release(0, u64::from(noted.changes) << 32 | u64::from(noted.count));
        self.line.publish(0, 1);
    }

    /// One more side of this process is parked. Returns `true` if it is the first: then **the watcher has to
    /// be rung**, for it may sleep.
    fn park(&self) -> bool {
        let mut noted = self.noted.lock().unwrap_or_else(PoisonError::into_inner);
        noted.parked += 1;
        if noted.parked == 1 {
            // Pairs with the load in `ActivityWatch::is_any_parked`.
            self.line.store_release(PARKED, 1);
        }
        noted.parked == 1
    }

    /// One side less is.
    fn unpark(&self) {
        let mut noted = self.noted.lock().unwrap_or_else(PoisonError::into_inner);
        noted.parked -= 1;
        if noted.parked == 0 {
            // Pairs with the load in `ActivityWatch::is_any_parked`.
            self.line.store_release(PARKED, 0);
        }
    }

    #[cold]
    fn name(&self, noted: &mut Noted, link: u32) {
        let place = noted.oldest;
        noted.oldest = (place + 1) % NAMED;
        noted.names[place] = link;
        noted.changes = noted.changes.wrapping_add(1);
        self.line.store(1 + place, link.into());
        self.line.publish(1 + place, 1);
    }
}

/// The reader of a line.
#[derive(Debug)]
pub struct ActivityWatch<R = PeerMemory> {
    line: R,
    /// It was written on this host, so that nothing has to be fetched.
    is_near: bool,
    seen: Option<u64>,
    names: [u32; NAMED],
}

/// What a look at a line has found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activity {
    /// Nothing was noted since the last look.
    None,
    /// Something was, on some of these links; 0 is none.
    On([u32; NAMED]),
    /// It could be on any.
    Any,
}

impl<R: ReadMemory> ActivityWatch<R> {
    /// A reader that has not looked yet.
    ///
    /// # Panics
    /// When the memory is not one line.
    pub fn new(line: R) -> Self {
        assert_eq!(line.words(), LINE_WORDS);
        Self { line, is_near: false, seen: None, names: [0; NAMED] }
    }

    /// A reader of a line that a process of the same host writes.
    ///
    /// # Panics
    /// When the memory is not one line.
    pub fn near(line: R) -> Self {
        Self { is_near: true, ..Self::new(line) }
    }

    /// Looks whether anything was noted since the last look.
    pub fn look(&mut self) -> Activity {
        if !self.is_near {
            self.line.observe(0, 1);
        }
        // Pairs with the store in `ActivityLine::note`.
        let now = self.line.load_acquire(0);
        let Some(before) = self.seen.replace(now) else { return self.any() };
        if now == before {
            return Activity::None;
        }
        if now >> 32 != before >> 32 {
            return self.any();
        }
        // Pairs with the fence in `ArmedFlag::arm_local`.
        self.line.fence();
        Activity::On(self.names)
    }

    /// Returns `true` if a side of the process that writes this line is parked. Of a process of another host
    /// that is not told.
    pub fn is_any_parked(&self) -> bool {
        // Pairs with the store in `ActivityLine::park`.
        self.is_near && self.line.load_acquire(PARKED) != 0
    }

    fn any(&mut self) -> Activity {
        // They were published before the word that was seen, and are on its line.
        self.names = std::array::from_fn(|place| self.line.load(1 + place) as u32);
        // Pairs with the fence in `ArmedFlag::arm_local`.
        self.line.fence();
        Activity::Any
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::heap::Heap;

    fn line() -> (ActivityLine<Heap>, ActivityWatch<Heap>) {
        let memory = Heap::new(LINE_WORDS);
        (ActivityLine::new(memory.clone()), ActivityWatch::new(memory))
    }

    #[test]
    fn a_look_names_the_links_that_were_busy_lately() {
        let (line, mut watch) = line();
        assert_eq!(watch.look(), Activity::Any, "nothing is known at first");
        assert_eq!(watch.look(), Activity::None);
        line.note(7);
        assert_eq!(watch.look(), Activity::Any, "a new name");
        for _ in 0..3 {
            line.note(7);
            assert_eq!(watch.look(), Activity::On([7, 0, 0, 0, 0, 0]));
            assert_eq!(watch.look(), Activity::None);
        }
        for link in 1..=NAMED as u32 {
            line.note(link);
        }
        assert_eq!(watch.look(), Activity::Any);
        line.note(3);
        assert_eq!(watch.look(), Activity::On([6, 1, 2, 3, 4, 5]), "7 had to go");
        line.note(8);
        assert_eq!(watch.look(), Activity::Any);
        line.note(7);
        assert_eq!(watch.look(), Activity::Any, "8 has taken the place of 7");
    }

    #[test]
    fn a_watcher_sees_whether_any_side_is_parked() {
        let memory = Heap::new(LINE_WORDS);
        let (line, watch) = (ActivityLine::new(memory.clone()), ActivityWatch::near(memory));
        assert!(!watch.is_any_parked());
        assert!(line.park() && watch.is_any_parked());
        assert!(!line.park(), "another was");
        line.unpark();
        assert!(watch.is_any_parked());
        line.unpark();
        assert!(!watch.is_any_parked());
        assert!(line.park(), "again the first");
    }

    #[test]
    fn counts_go_round() {
        let (line, mut watch) = line();
        line.note(1);
        watch.look();
        line.noted.lock().unwrap().count = u32::MAX;
        line.note(1);
        assert_eq!(watch.look(), Activity::On([1, 0, 0, 0, 0, 0]), "names have not changed");
    }
}

#[cfg(all(test, loom))]
mod loom_tests {
    use std::sync::Arc;

    use super::*;
    use crate::doorbell::ArmedFlag;
    use crate::heap::Heap;
    use crate::ring::{RingReader, RingWriter};

    /// A side that parks, and does not see what is pushed, is found armed by a watcher that looks after the
    /// note.
    #[test]
    fn no_wakeup_is_lost_to_a_watcher() {
        loom::model(|| {
            let (slots, own, line) = (Heap::new(LINE_WORDS), Heap::new(16), Heap::new(LINE_WORDS));
            let mut writer = RingWriter::new(slots.clone(), own.part(8, 8));
            let noting = ActivityLine::new(line.clone());
            let sender = loom::thread::spawn(move || {
                writer.push([1; 7]);
                noting.note(1);
            });
            let (armed, mut watch) = (own.clone(), ActivityWatch::new(line.clone()));
            watch.seen = Some(0);
            let watcher = loom::thread::spawn(move || {
                let active = watch.look() != Activity::None;
                // Its first look at the link comes after that at the line.
                (active, active && armed.load_acquire(0) != 0, watch)
            });
            let mut reader = RingReader::new(slots, own.part(8, 8));
            let mut arm = ArmedFlag::new(0);
            arm.arm_local(&own);
            let seen = reader.pop().is_some();
            sender.join().unwrap();
            let (active, rung, mut watch) = watcher.join().unwrap();
            let later = watch.look() != Activity::None;
            assert!(seen || rung || (!active && later), "it sleeps, and nobody will look");
        });
    }

    /// A watcher that finds no side parked, and sleeps, is rung by the next that parks.
    #[test]
    fn no_side_parks_beside_a_watcher_that_sleeps() {
        use loom::sync::atomic::{AtomicBool, Ordering};
        loom::model(|| {
            let memory = Heap::new(LINE_WORDS);
            let line = Arc::new(ActivityLine::new(memory.clone()));
            let bell = Arc::new(AtomicBool::new(false));
            line.park();
            let (waker, rung) = (Arc::clone(&line), Arc::clone(&bell));
            let parker = loom::thread::spawn(move || {
                if waker.park() {
                    rung.swap(true, Ordering::AcqRel);
                }
            });
            let other = loom::thread::spawn(move || line.unpark());
            let watch = ActivityWatch::near(memory);
            bell.swap(false, Ordering::AcqRel);
            let sleeps = !watch.is_any_parked();
            parker.join().unwrap();
            other.join().unwrap();
            assert!(!sleeps || bell.swap(false, Ordering::AcqRel), "it sleeps, and nobody will look");
        });
    }

    /// Notes of two threads: each is found, and what was pushed before it is there.
    #[test]
    fn what_was_pushed_before_a_note_is_seen_after_the_look() {
        loom::model(|| {
            let (pushed, line) = (Heap::new(2), Heap::new(LINE_WORDS));
            let noting = Arc::new(ActivityLine::new(line.clone()));
            let sender = |word: usize| {
                let (pushed, noting) = (pushed.clone(), Arc::clone(&noting));
                loom::thread::spawn(move || {
                    pushed.store(word, 1);
                    noting.note(1 + word as u32);
                })
            };
            let (first, second) = (sender(0), sender(1));
            let mut watch = ActivityWatch::new(line);
            watch.seen = Some(0);
            let mut found = [false; 2];
            let mut look = |watch: &mut ActivityWatch<Heap>| {
                if watch.look() != Activity::None {
                    for (word, found) in found.iter_mut().enumerate() {
                        *found |= pushed.load(word) == 1;
                    }
                }
            };
            look(&mut watch);
            first.join().unwrap();
            second.join().unwrap();
            look(&mut watch);
            assert_eq!(found, [true; 2]);
        });
    }
}
