//! A process's use of resources: clocks and counters of the kernel.

use std::fs;
use std::path::Path;

use notnets_memory::descriptors;
use rustix::thread::{CpuSet, sched_setaffinity};
use rustix::time::{ClockId, clock_gettime};

/// Reads a clock, in nanoseconds.
fn read(clock: ClockId) -> u64 {
    let time = clock_gettime(clock);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// Returns the host's monotonic time in nanoseconds, which is the same for all processes.
pub fn now() -> u64 {
    read(ClockId::Monotonic)
}

/// Returns the processor time of this process in nanoseconds, over all its threads, including those that have
/// ended.
pub fn cpu_time() -> u64 {
    read(ClockId::ProcessCPUTime)
}

/// Keeps this thread busy for that much of its own processor time, in nanoseconds.
pub fn burn(nanos: u64) {
    let until = read(ClockId::ThreadCPUTime) + nanos;
    while read(ClockId::ThreadCPUTime) < until {}
}

/// Keeps this process, and the threads that it starts later, on one core.
pub fn stay_on(core: usize) -> std::io::Result<()> {
    let mut cores = CpuSet::new();
    cores.set(core);
    Ok(sched_setaffinity(None, &cores)?)
}

/// Raises the limit of open descriptors as far as allowed: a thousand connections need thousands.
pub fn allow_descriptors() {
    // If it can't be raised, opening too many descriptors fails with an error of its own.
    let _ = descriptors::raise_limit();
}

/// How often a process's threads gave up a processor or lost it. Reading it does not disturb the process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Switches {
    /// It had to wait for something: each is followed by a wake-up.
    pub voluntary: u64,
    /// Another thread's turn came.
    pub involuntary: u64,
}

/// Returns the context switches of a process's living threads so far.
pub fn switches(pid: u32) -> Switches {
    let mut all = Switches::default();
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    for task in tasks {
        let status = fs::read_to_string(task.path().join("status")).unwrap_or_default();
        all.voluntary += field(&status, "voluntary_ctxt_switches:").unwrap_or(0);
        all.involuntary += field(&status, "nonvoluntary_ctxt_switches:").unwrap_or(0);
    }
    all
}

/// Returns the nanoseconds that a process's living threads have run, up to their last switch, by the
/// scheduler's own account. Unlike asking for [`cpu_time`], reading it does not wake the process.
pub fn time_on_core(pid: u32) -> Option<u64> {
    fs::read_dir(format!("/proc/{pid}/task")).ok()?.flatten().map(|task| time_of(&task)).sum()
}

/// Returns the nanoseconds that threads of this process have run which have one of these names.
pub fn time_of_threads(names: &[&str]) -> u64 {
    let is_named = |task: &fs::DirEntry| {
        fs::read_to_string(task.path().join("comm")).is_ok_and(|name| names.contains(&name.trim()))
    };
    let tasks = fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
    tasks.filter(is_named).filter_map(|task| time_of(&task)).sum()
}

/// The nanoseconds that a thread has run.
fn time_of(task: &fs::DirEntry) -> Option<u64> {
    fs::read_to_string(task.path().join("schedstat")).ok()?.split(' ').next()?.parse().ok()
}

/// Bytes of memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    /// Proportional set size: a page that n processes have mapped counts an nth for each.
    pub pss: u64,
    /// Page tables.
    pub page_tables: u64,
}

/// Returns the memory that a process takes now.
pub fn memory(pid: u32) -> Memory {
    let read =
        |file| fs::read_to_string(Path::new("/proc").join(pid.to_string()).join(file)).unwrap_or_default();
    let kibibytes = |file, name| field(&read(file), name).unwrap_or(0) * 1024;
    Memory { pss: kibibytes("smaps_rollup", "Pss:"), page_tables: kibibytes("status", "VmPTE:") }
}

/// Returns the bytes in the kernel's own allocator, of the whole host.
pub fn slab() -> u64 {
    field(&fs::read_to_string("/proc/meminfo").unwrap_or_default(), "Slab:").unwrap_or(0) * 1024
}

/// Returns the nanoseconds that all cores together have not been idle, for whatever process. Time that a
/// hypervisor took away counts too. The resolution is a hundredth of a second.
pub fn host_busy() -> u64 {
    let stat = fs::read_to_string("/proc/stat").unwrap_or_default();
    let times = stat.lines().next().unwrap_or_default().split_whitespace().skip(1);
    // user, nice, system, idle, iowait, irq, softirq, steal; what follows is part of the first two.
    let busy = times.take(8).enumerate().filter(|(nth, _)| ![3, 4].contains(nth));
    // Each is in the hundredths of a second that Linux shows to programs, however it counts itself.
    busy.filter_map(|(_, ticks)| ticks.parse::<u64>().ok()).sum::<u64>() * 10_000_000
}

/// Returns the number after a name at the beginning of a line.
fn field(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn burning_takes_processor_time() {
        let before = read(ClockId::ThreadCPUTime);
        burn(2_000_000);
        assert!(read(ClockId::ThreadCPUTime) >= before + 2_000_000);
    }

    #[test]
    fn a_process_can_be_looked_at() {
        let cpu = cpu_time();
        // Far more than what other tests of this process use and free meanwhile.
        let mut pages = vec![0u8; 128 << 20];
        let start = memory(std::process::id());
        pages.iter_mut().step_by(4096).for_each(|byte| *byte = 1);
        assert!(memory(std::process::id()).pss >= start.pss + (64 << 20));
        // What a thread of another test has counted is gone with it.
        let sleep_is_seen = |_| {
            let before = switches(std::process::id());
            std::thread::sleep(std::time::Duration::from_millis(1));
            switches(std::process::id()).voluntary > before.voluntary
        };
        assert!((0..100).any(sleep_is_seen));
        assert!(cpu_time() > cpu && time_on_core(std::process::id()) > Some(0) && slab() > 0);
        assert!(host_busy() > 0);
        assert_eq!(pages[4096], 1);
    }
}
