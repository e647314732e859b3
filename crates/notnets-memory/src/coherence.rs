//! Memory that the hardware keeps coherent, and memory that it doesn't.
//!
//! Between the processes of one host the caches agree by themselves. Between the hosts of a pod
//! they do not yet, so a writer writes back the lines it publishes and a reader drops its copies
//! before it looks.

use crate::LINE;

/// Who keeps the copies of a line in step.
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
    lines(start, len, |line| unsafe { flush(line) });
    store_fence();
}

/// Drops this host's copies of the lines that hold these bytes, before any later load.
///
/// # Safety
/// The bytes must be mapped, and this host must have nothing unpublished in those lines.
pub(crate) unsafe fn invalidate(start: *const u8, len: usize) {
    // SAFETY: as above.
    lines(start, len, |line| unsafe { flush(line) });
    full_fence();
}

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
unsafe fn flush(line: *const u8) {
    // `clflush` is on every x86-64 CPU. The ordered and slower form; which of `clwb` and
    // `clflushopt` there is, is looked up where it pays (pods).
    // SAFETY: the line is mapped; the instruction changes no bytes.
    unsafe { core::arch::x86_64::_mm_clflush(line) }
}

#[cfg(target_arch = "x86_64")]
fn store_fence() {
    // SAFETY: an SSE fence, on every x86-64 CPU.
    unsafe { core::arch::x86_64::_mm_sfence() }
}

#[cfg(target_arch = "x86_64")]
fn full_fence() {
    // SAFETY: an SSE2 fence, on every x86-64 CPU.
    unsafe { core::arch::x86_64::_mm_mfence() }
}

#[cfg(target_arch = "aarch64")]
unsafe fn flush(line: *const u8) {
    // SAFETY: the line is mapped; clean and invalidate to the point of coherency changes no bytes.
    unsafe { core::arch::asm!("dc civac, {}", in(reg) line, options(nostack, preserves_flags)) }
}

#[cfg(target_arch = "aarch64")]
fn store_fence() {
    full_fence();
}

#[cfg(target_arch = "aarch64")]
fn full_fence() {
    // SAFETY: a barrier.
    unsafe { core::arch::asm!("dsb sy", options(nostack, preserves_flags)) }
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
}
