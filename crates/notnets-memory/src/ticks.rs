//! The clock of counters: the processor's time stamp where the kernel trusts it too, `CLOCK_MONOTONIC`
//! elsewhere.
//!
//! A look at the time stamp takes a fifth of what a look at a clock takes. All processes of a host see the
//! same one, but its rate isn't told: whoever reads counters [measures](Ticks::per_second) it.

use std::time::{Duration, Instant};

use once_cell::race::OnceBox;
use rustix::time::{ClockId, clock_gettime};

/// A clock that counts ticks, the same in all processes of a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ticks {
    is_time_stamp: bool,
}

impl Ticks {
    /// The clock of this host.
    pub fn of_host() -> Self {
        static HOST: OnceBox<Ticks> = OnceBox::new();
        *HOST.get_or_init(|| Self { is_time_stamp: time_stamp::EXISTS && kernel_trusts_it() }.into())
    }

    /// Ticks since a point in the past. Never 0.
    #[inline]
    pub fn now(self) -> u64 {
        let ticks = if self.is_time_stamp { time_stamp::read() } else { monotonic() };
        ticks | 1
    }

    /// As many bits can be left out of a number of ticks for the rest to be a few tenths of a microsecond.
    pub fn fine_bits(self) -> u32 {
        if self.is_time_stamp { time_stamp::fine_bits() } else { 8 }
    }

    /// How many ticks a second has, measured once in a process for 10 ms.
    pub fn per_second(self) -> f64 {
        static RATE: OnceBox<f64> = OnceBox::new();
        if !self.is_time_stamp {
            return 1e9;
        }
        *RATE.get_or_init(|| {
            let (ticks, begin) = (self.now(), Instant::now());
            std::thread::sleep(Duration::from_millis(10));
            let (passed, time) = (self.now().saturating_sub(ticks), begin.elapsed());
            (passed as f64 / time.as_secs_f64()).into()
        })
    }
}

/// Where the kernel itself tells the time by it, it has the same rate on all cores and never stops.
fn kernel_trusts_it() -> bool {
    let source = std::fs::read_to_string("/sys/devices/system/clocksource/clocksource0/current_clocksource");
    source.is_ok_and(|source| ["tsc", "arch_sys_counter"].contains(&source.trim()))
}

/// Nanoseconds by a clock that all processes share.
pub(crate) fn monotonic() -> u64 {
    let time = clock_gettime(ClockId::Monotonic);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

#[cfg(all(target_arch = "x86_64", not(miri)))]
mod time_stamp {
    pub const EXISTS: bool = true;

    #[inline]
    pub fn read() -> u64 {
        // SAFETY: every such processor has the instruction, and it touches no memory.
        unsafe { std::arch::x86_64::_rdtsc() }
    }

    /// Its rate is 1 to 5 GHz.
    pub fn fine_bits() -> u32 {
        8
    }
}

#[cfg(all(target_arch = "aarch64", not(miri)))]
mod time_stamp {
    use std::arch::asm;

    pub const EXISTS: bool = true;

    #[inline]
    pub fn read() -> u64 {
        let ticks;
        // SAFETY: the kernel lets every process read this register, which has no effects.
        unsafe { asm!("mrs {}, cntvct_el0", out(reg) ticks, options(nomem, nostack)) };
        ticks
    }

    /// Its rate, which is told, is 1 MHz to 1 GHz.
    pub fn fine_bits() -> u32 {
        let rate: u64;
        // SAFETY: as above.
        unsafe { asm!("mrs {}, cntfrq_el0", out(reg) rate, options(nomem, nostack)) };
        (rate / 4_000_000).max(1).ilog2()
    }
}

#[cfg(any(miri, not(any(target_arch = "x86_64", target_arch = "aarch64"))))]
mod time_stamp {
    pub const EXISTS: bool = false;

    pub fn read() -> u64 {
        unreachable!("there is no time stamp")
    }

    pub fn fine_bits() -> u32 {
        8
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_as_fast_as_is_said() {
        for clock in [Ticks::of_host(), Ticks { is_time_stamp: false }] {
            let rate = clock.per_second();
            let (ticks, begin) = (clock.now(), Instant::now());
            std::thread::sleep(Duration::from_millis(20));
            let (passed, time) = (clock.now() - ticks, begin.elapsed());
            let measured = passed as f64 / time.as_secs_f64();
            assert!((measured / rate - 1.0).abs() < 0.2, "{clock:?}: {measured} of {rate}");
            let fine = (1_u64 << clock.fine_bits()) as f64 / rate;
            assert!((2e-8..1e-6).contains(&fine), "{clock:?}: {fine} s");
        }
    }
}
