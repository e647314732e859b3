//! A model of far memory, for measurements: fetching a line that another host has written takes a time that
//! the user chooses, and is counted.
//!
//! The model: an [`observe`](crate::ReadMemory::observe) of lines of a region waits for the latency of a
//! line, and for a tenth of it for each further one, since a core has some ten fetches under way at once.
//! Under hardware coherence only lines that were written since this process looked last have to be fetched,
//! which shows in their content or is known of them
//! ([`observe_written`](crate::ReadMemory::observe_written)); under software coherence all of them, each
//! time. Counted are those that were written, under both. Not modelled: writing back takes what the
//! processor's own instructions take, a writer does not wait until readers have let go of a line, and the
//! device has no queue. A line of zeros that is seen for the first time is not counted, and a line that is
//! written while it is looked at is counted when it is looked at again.

use std::ops::Range;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::{Coherence, LINE, LINE_WORDS};

/// Lines whose content is remembered, as in a cache: in sets of some, of which one has to go for another.
const REMEMBERED: usize = 1 << 16;
const SET: usize = 8;
/// Fetches that a core has under way at once.
const AT_ONCE: u64 = 10;

static IS_ON: AtomicBool = AtomicBool::new(false);
static LATENCY: AtomicU64 = AtomicU64::new(0);
static FETCHED: AtomicU64 = AtomicU64::new(0);
/// For each line which one it is, and a digest of its content; 0 for none.
static SEEN: LazyLock<Box<[AtomicU64]>> =
    LazyLock::new(|| (0..REMEMBERED).map(|_| AtomicU64::new(0)).collect());

/// Makes regions that are opened in this process from now on far: fetching a line takes `latency`. With a
/// latency of zero lines are only counted.
pub fn begin(latency: Duration) {
    LATENCY.store(latency.as_nanos() as u64, Ordering::Relaxed);
    IS_ON.store(true, Ordering::Release);
}

/// How many lines that others had changed this process has fetched.
pub fn lines_fetched() -> u64 {
    FETCHED.load(Ordering::Relaxed)
}

pub(crate) fn is_on() -> bool {
    IS_ON.load(Ordering::Acquire)
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
    let lines = words.start / LINE_WORDS..words.end.div_ceil(LINE_WORDS);
    let line = |nth: usize| {
        let content = std::array::from_fn(|word| load(nth * LINE_WORDS + word));
        (address + nth * LINE, content)
    };
    fetch_lines(coherence, written, lines.map(line));
}

/// Fetches lines, each with its address and content.
fn fetch_lines(coherence: Coherence, written: bool, lines: impl Iterator<Item = (usize, [u64; LINE_WORDS])>) {
    let mut all = 0;
    let mut changed = 0;
    for (address, words) in lines {
        all += 1;
        // A slot that was never used holds no message, though it has to be fetched to see that.
        changed += u64::from(match remember(address, words) {
            Some(differs) => differs || written,
            None => words != [0; LINE_WORDS] || written,
        });
    }
    FETCHED.fetch_add(changed, Ordering::Relaxed);
    let fetched = if coherence == Coherence::Software { all } else { changed };
    wait(fetched);
}

fn wait(fetched: u64) {
    let latency = LATENCY.load(Ordering::Relaxed);
    if fetched == 0 || latency == 0 {
        return;
    }
    let until = Duration::from_nanos(latency + (fetched - 1) * latency / AT_ONCE);
    let began = Instant::now();
    while began.elapsed() < until {
        std::hint::spin_loop();
    }
}

/// Returns whether the line differs from what it was when it was last looked at, or `None` if that is not
/// known, or not any more.
fn remember(address: usize, words: [u64; LINE_WORDS]) -> Option<bool> {
    let line = mix(1, (address / LINE) as u64);
    let tag = line >> 32 | 1;
    let content = words.into_iter().fold(line, mix) as u32;
    let first = line as usize % (REMEMBERED / SET) * SET;
    let set = &SEEN[first..first + SET];
    let known = set.iter().find(|seen| seen.load(Ordering::Relaxed) >> 32 == tag);
    let free = || set.iter().find(|seen| seen.load(Ordering::Relaxed) == 0);
    // By chance, as a cache might.
    let any = || &set[content as usize % SET];
    let slot = known.or_else(free).unwrap_or_else(any);
    let before = slot.swap(tag << 32 | u64::from(content), Ordering::Relaxed);
    known.map(|_| before as u32 != content)
}

fn mix(all: u64, word: u64) -> u64 {
    (all ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_counted_when_they_have_changed() {
        // Nothing else in this crate's tests begins the model or fetches.
        let fetched = |coherence, lines: &[(usize, u64)]| {
            let before = lines_fetched();
            fetch_lines(
                coherence,
                false,
                lines.iter().map(|(address, word)| (*address, [*word; LINE_WORDS])),
            );
            lines_fetched() - before
        };
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
        let before = lines_fetched();
        fetch_lines(Coherence::Hardware, true, [(64, [2; LINE_WORDS])].into_iter());
        assert_eq!(lines_fetched() - before, 1, "with the same content as before");
        LATENCY.store(2_000_000, Ordering::Relaxed);
        let takes = |coherence, word| {
            let began = Instant::now();
            fetched(coherence, &[(0, word)]);
            began.elapsed() >= Duration::from_millis(2)
        };
        assert!(takes(Coherence::Hardware, 7), "a changed line");
        assert!(takes(Coherence::Software, 7), "software looks anew each time");
        LATENCY.store(0, Ordering::Relaxed);
    }
}
