//! What the instructions cost that move lines between a processor and memory: written back, dropped, stored
//! past the caches, fetched.
//!
//! Each is measured for lines one by one, with a fence after each, and for runs of lines with one fence:
//! within a run the processor has several of them on their way.

use std::hint::black_box;
use std::slice::from_ref;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use crate::{LINE, LINE_WORDS};

/// Lines of a run: those of a block of 16 KiB.
pub const RUN: usize = 256;
/// Lines that are measured at a time.
const LINES: usize = 16 * RUN;
const ROUNDS: usize = 31;
/// From one line to the next one of those that are measured one by one. It is odd, so that all have their
/// turn.
const STEP: usize = 1667;

/// What a line costs.
#[derive(Clone, Debug)]
pub struct LineCost {
    /// What is done with it.
    pub what: &'static str,
    /// Nanoseconds for each line, with a fence after each.
    pub single_ns: f64,
    /// Nanoseconds for each line of a run of [`RUN`], with one fence behind them.
    pub run_ns: f64,
}

#[repr(C, align(64))]
struct Line([AtomicU64; LINE_WORDS]);

const _: () = assert!(size_of::<Line>() == LINE);

impl Line {
    fn start(&self) -> *const u8 {
        (&raw const self.0).cast()
    }

    fn load(&self) {
        black_box(self.0[0].load(Ordering::Relaxed));
    }

    fn store(&self) {
        self.0[0].store(1, Ordering::Relaxed);
    }
}

/// Measures all that this processor has, on this process's own memory. Takes a fraction of a second.
pub fn measure() -> Vec<LineCost> {
    let lines: Vec<Line> =
        (0..LINES).map(|n| Line([(); LINE_WORDS].map(|()| AtomicU64::new(n as u64)))).collect();
    let nothing = |_: &[Line]| {};
    let touch = |lines: &[Line]| lines.iter().for_each(Line::load);
    let mut costs = vec![
        cost("load, in the cache", &lines, touch, |lines| {
            lines.iter().for_each(Line::load);
            processor::load_fence();
        }),
        cost("store, in the cache", &lines, touch, |lines| {
            lines.iter().for_each(Line::store);
            processor::store_fence();
        }),
        cost("load, from memory", &lines, drop_all, |lines| {
            lines.iter().for_each(Line::load);
            processor::load_fence();
        }),
    ];
    for (name, instruction) in processor::write_backs() {
        let [stored, clean] = name;
        costs.push(cost(stored, &lines, touch, |lines| {
            lines.iter().for_each(Line::store);
            lines.iter().for_each(|line| instruction(line.start()));
            processor::store_fence();
        }));
        costs.push(cost(clean, &lines, touch, |lines| {
            lines.iter().for_each(|line| instruction(line.start()));
            processor::store_fence();
        }));
    }
    costs.push(cost("publish, and observe on the same host", &lines, nothing, |lines| {
        lines.iter().for_each(Line::store);
        let start = lines.as_ptr().cast();
        // SAFETY: the lines are there, and nothing but this thread uses them.
        unsafe {
            crate::coherence::write_back(start, size_of_val(lines));
            crate::coherence::invalidate(start, size_of_val(lines));
        }
        lines.iter().for_each(Line::load);
    }));
    costs.extend(processor::stream().map(|stream| {
        cost("store of all of it past the caches", &lines, drop_all, move |lines| {
            lines.iter().for_each(|line| stream(&line.0));
            processor::store_fence();
        })
    }));
    costs
}

/// No cache has the lines any more.
fn drop_all(lines: &[Line]) {
    // SAFETY: the lines are there, and nothing but this thread uses them.
    unsafe { crate::coherence::invalidate(lines.as_ptr().cast(), size_of_val(lines)) };
}

fn cost(what: &'static str, lines: &[Line], before: impl Fn(&[Line]), each: impl Fn(&[Line])) -> LineCost {
    let median = |all: &dyn Fn()| {
        let mut rounds = [(); ROUNDS].map(|()| {
            before(lines);
            let begin = Instant::now();
            all();
            begin.elapsed().as_nanos() as f64 / lines.len() as f64
        });
        rounds.sort_unstable_by(f64::total_cmp);
        rounds[ROUNDS / 2]
    };
    // Not one behind the other, or the processor would fetch the next one before it is asked for.
    let single = || (0..lines.len()).for_each(|n| each(from_ref(&lines[n * STEP % lines.len()])));
    let runs = || lines.chunks(RUN).for_each(&each);
    LineCost { what, single_ns: median(&single), run_ns: median(&runs) }
}

#[cfg(target_arch = "x86_64")]
mod processor {
    use core::arch::asm;
    use core::arch::x86_64::{_mm_clflush, _mm_lfence, _mm_sfence, _mm_stream_si64};
    use std::sync::atomic::AtomicU64;

    use crate::LINE_WORDS;

    type Instruction = fn(*const u8);

    /// Instructions that write a line back, as they are called where it was stored to before and where not.
    pub(super) fn write_backs() -> Vec<([&'static str; 2], Instruction)> {
        let (clean, flush) = crate::coherence::instructions();
        let mut all: Vec<([&str; 2], Instruction)> = Vec::new();
        if clean == "clwb" {
            all.push((["store, clwb", "clwb, of a clean line"], |line| {
                // SAFETY: the processor has it; the line is there, and no byte of it changes.
                unsafe { asm!("clwb [{}]", in(reg) line, options(nostack, preserves_flags)) }
            }));
        }
        if flush == "clflushopt" {
            all.push((["store, clflushopt", "clflushopt, of a clean line"], |line| {
                // SAFETY: as for `clwb`.
                unsafe { asm!("clflushopt [{}]", in(reg) line, options(nostack, preserves_flags)) }
            }));
        }
        all.push((["store, clflush", "clflush, of a clean line"], |line| {
            // SAFETY: the line is there, and no byte of it changes.
            unsafe { _mm_clflush(line) }
        }));
        all
    }

    /// Stores a whole line past the caches.
    pub(super) fn stream() -> Option<fn(&[AtomicU64; LINE_WORDS])> {
        Some(|words| {
            for word in words {
                // SAFETY: the word may be changed through a shared reference, for it is atomic; it is one
                // aligned store of eight bytes.
                unsafe { _mm_stream_si64(word.as_ptr().cast(), 1) }
            }
        })
    }

    pub(super) fn store_fence() {
        // SAFETY: an SSE fence, on every x86-64 CPU.
        unsafe { _mm_sfence() }
    }

    pub(super) fn load_fence() {
        // SAFETY: an SSE2 fence, on every x86-64 CPU.
        unsafe { _mm_lfence() }
    }
}

#[cfg(target_arch = "aarch64")]
mod processor {
    use core::arch::asm;
    use std::sync::atomic::AtomicU64;

    use crate::LINE_WORDS;

    type Instruction = fn(*const u8);

    pub(super) fn write_backs() -> Vec<([&'static str; 2], Instruction)> {
        vec![
            (["store, dc cvac", "dc cvac, of a clean line"], |line| {
                // SAFETY: the line is there, and no byte of it changes.
                unsafe { asm!("dc cvac, {}", in(reg) line, options(nostack, preserves_flags)) }
            }),
            (["store, dc civac", "dc civac, of a clean line"], |line| {
                // SAFETY: as above.
                unsafe { asm!("dc civac, {}", in(reg) line, options(nostack, preserves_flags)) }
            }),
        ]
    }

    pub(super) fn stream() -> Option<fn(&[AtomicU64; LINE_WORDS])> {
        None
    }

    pub(super) fn store_fence() {
        // SAFETY: a barrier.
        unsafe { asm!("dsb sy", options(nostack, preserves_flags)) }
    }

    pub(super) fn load_fence() {
        store_fence();
    }
}

#[cfg(all(test, not(loom), not(miri)))]
mod tests {
    use super::*;

    #[test]
    fn each_instruction_has_its_costs() {
        let costs = measure();
        assert!(costs.len() >= 7, "{costs:?}");
        assert!(costs.iter().all(|cost| cost.single_ns > 0.0 && cost.run_ns > 0.0), "{costs:?}");
    }
}
