//! Memory that the hardware keeps coherent, and memory that it doesn't.
//!
//! Between the processes of one host the caches agree by themselves. Between the hosts of a pod
//! they do not yet, so a writer writes back the lines it publishes and a reader drops its copies
//! before it looks.
//!
//! | | write back | invalidate |
//! | --- | --- | --- |
//! | x86-64 | `clwb`, else `clflushopt`, else `clflush`; `sfence` | `clflushopt`, else `clflush`; `mfence` |
//! | AArch64 | `dc cvac`; `dsb sy` | `dc civac`; `dsb sy` |
//!
//! Which instructions there are is asked of the processor, never assumed.

use crate::LINE;

/// How the copies of a line are kept in step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Coherence {
    /// The hardware does: publish and observe cost nothing.
    Hardware,
    /// We do: publish writes lines back, observe invalidates them.
    Software,
}

/// Writes back the lines that hold these bytes, and waits until that is done.
///
/// # Safety
/// The bytes must be mapped.
pub(crate) unsafe fn write_back(start: *const u8, len: usize) {
    // SAFETY: the caller vouches for the bytes, and a line is never mapped in part.
    lines(start, len, |line| unsafe { processor::clean(line) });
    processor::store_fence();
}

/// Drops this host's copies of the lines that hold these bytes, before any later load.
///
/// # Safety
/// The bytes must be mapped, and this host must have nothing unpublished in those lines.
pub(crate) unsafe fn invalidate(start: *const u8, len: usize) {
    // SAFETY: the caller vouches for the bytes, and a line is never mapped in part.
    lines(start, len, |line| unsafe { processor::flush(line) });
    processor::full_fence();
}

/// Names of the instructions that this processor writes back and invalidates with.
pub fn instructions() -> (&'static str, &'static str) {
    processor::instructions()
}

#[inline]
fn lines(start: *const u8, len: usize, mut each: impl FnMut(*const u8)) {
    if len == 0 {
        return;
    }
    let offset = start as usize % LINE;
    let first = start.wrapping_sub(offset);
    for line in 0..(offset + len).div_ceil(LINE) {
        each(first.wrapping_add(line * LINE));
    }
}

#[cfg(target_arch = "x86_64")]
mod processor {
    use core::arch::asm;
    use core::arch::x86_64::{__cpuid, __cpuid_count, _mm_clflush, _mm_mfence, _mm_sfence};
    use std::sync::atomic::{AtomicU8, Ordering};

    const KNOWN: u8 = 1;
    const CLFLUSHOPT: u8 = 2;
    const CLWB: u8 = 4;

    /// The processor's features beyond `clflush`, which every x86-64 processor has.
    #[inline]
    fn features() -> u8 {
        static FEATURES: AtomicU8 = AtomicU8::new(0);
        match FEATURES.load(Ordering::Relaxed) {
            0 => {
                let found = detect();
                FEATURES.store(found, Ordering::Relaxed);
                found
            }
            known => known,
        }
    }

    #[cold]
    fn detect() -> u8 {
        if __cpuid(0).eax < 7 {
            return KNOWN;
        }
        let extended = __cpuid_count(7, 0).ebx;
        let bit = |bit: u32, flag: u8| if extended >> bit & 1 == 1 { flag } else { 0 };
        KNOWN | bit(23, CLFLUSHOPT) | bit(24, CLWB)
    }

    pub(super) fn instructions() -> (&'static str, &'static str) {
        let flush = if features() & CLFLUSHOPT != 0 { "clflushopt" } else { "clflush" };
        (if features() & CLWB != 0 { "clwb" } else { flush }, flush)
    }

    /// Writes the line back, and may keep it.
    #[inline]
    pub(super) unsafe fn clean(line: *const u8) {
        if features() & CLWB != 0 {
            // SAFETY: the caller vouches for the line; the processor has the instruction, and it
            // changes no bytes.
            unsafe { asm!("clwb [{}]", in(reg) line, options(nostack, preserves_flags)) }
        } else {
            // SAFETY: by this function's contract.
            unsafe { flush(line) }
        }
    }

    /// Writes the line back and drops it.
    #[inline]
    pub(super) unsafe fn flush(line: *const u8) {
        if features() & CLFLUSHOPT != 0 {
            // SAFETY: as for `clwb`.
            unsafe { asm!("clflushopt [{}]", in(reg) line, options(nostack, preserves_flags)) }
        } else {
            // SAFETY: the line is mapped; the instruction changes no bytes.
            unsafe { _mm_clflush(line) }
        }
    }

    #[inline]
    pub(super) fn store_fence() {
        // SAFETY: an SSE fence, on every x86-64 CPU.
        unsafe { _mm_sfence() }
    }

    #[inline]
    pub(super) fn full_fence() {
        // SAFETY: an SSE2 fence, on every x86-64 CPU.
        unsafe { _mm_mfence() }
    }
}

#[cfg(target_arch = "aarch64")]
mod processor {
    use core::arch::asm;

    pub(super) fn instructions() -> (&'static str, &'static str) {
        ("dc cvac", "dc civac")
    }

    /// To the point of coherency, where the other hosts' copies come from.
    #[inline]
    pub(super) unsafe fn clean(line: *const u8) {
        // SAFETY: the caller vouches for the line; the instruction changes no bytes.
        unsafe { asm!("dc cvac, {}", in(reg) line, options(nostack, preserves_flags)) }
    }

    #[inline]
    pub(super) unsafe fn flush(line: *const u8) {
        // SAFETY: as above.
        unsafe { asm!("dc civac, {}", in(reg) line, options(nostack, preserves_flags)) }
    }

    #[inline]
    pub(super) fn store_fence() {
        full_fence();
    }

    #[inline]
    pub(super) fn full_fence() {
        // SAFETY: a barrier.
        unsafe { asm!("dsb sy", options(nostack, preserves_flags)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_those_that_hold_the_bytes() {
        let count = |start: usize, len| {
            let mut n = 0;
            lines(start as *const u8, len, |line| {
                assert_eq!(line as usize % LINE, 0);
                n += 1;
            });
            n
        };
        assert_eq!((count(0, 0), count(64, 1), count(64, 64), count(100, 64)), (0, 1, 1, 2));
    }

    #[test]
    #[cfg(not(miri))]
    fn writing_back_and_invalidating_change_no_bytes() {
        let bytes: Vec<u8> = (0..1000).map(|i| i as u8).collect();
        // SAFETY: the bytes are there, and nothing but this thread uses them.
        unsafe {
            write_back(bytes.as_ptr().add(3), 500);
            invalidate(bytes.as_ptr().add(7), 900);
        }
        assert!(bytes.iter().enumerate().all(|(i, byte)| *byte == i as u8));
        let (clean, flush) = instructions();
        assert!(clean.len() > 3 && flush.len() > 3);
    }
}
