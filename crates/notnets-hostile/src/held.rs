//! What a process holds, as the kernel counts it.

use std::fmt;
use std::fs;
use std::io;

/// What a process holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held {
    /// Bytes of private memory.
    pub private: u64,
    /// Bytes of links' segments that it has mapped, its own and its peers'.
    pub segments: u64,
    /// Bytes of shared payloads that it has mapped.
    pub payloads: u64,
    /// Descriptors that are open.
    pub descriptors: u64,
    /// Threads.
    pub threads: u64,
}

impl Held {
    /// Looks at a process.
    ///
    /// # Errors
    /// When it has ended.
    pub fn by(pid: u32) -> io::Result<Self> {
        let read = |file: &str| fs::read_to_string(format!("/proc/{pid}/{file}"));
        let status = read("status")?;
        let field = |name: &str| {
            let value = status.lines().find_map(|line| line.strip_prefix(name))?.split_whitespace().next()?;
            value.parse::<u64>().ok()
        };
        let maps = read("maps")?;
        let mapped = |name: &str| {
            let ranges = maps.lines().filter(|line| line.split_whitespace().any(|word| word == name));
            ranges.filter_map(|line| line.split(' ').next()).filter_map(length).sum()
        };
        Ok(Self {
            private: field("RssAnon:").unwrap_or(0) << 10,
            segments: mapped("/memfd:notnets"),
            payloads: mapped("/memfd:notnets-sealed"),
            descriptors: fs::read_dir(format!("/proc/{pid}/fd"))?.count() as u64,
            threads: field("Threads:").unwrap_or(0),
        })
    }

    /// What it holds beyond what it held before, nothing where it is less.
    pub fn beyond(self, before: Self) -> Self {
        let Self { private, segments, payloads, descriptors, threads } = self;
        Self {
            private: private.saturating_sub(before.private),
            segments: segments.saturating_sub(before.segments),
            payloads: payloads.saturating_sub(before.payloads),
            descriptors: descriptors.saturating_sub(before.descriptors),
            threads: threads.saturating_sub(before.threads),
        }
    }

    /// Returns `true` if nothing of it is more.
    pub fn is_within(self, bound: Self) -> bool {
        self.private <= bound.private
            && self.segments <= bound.segments
            && self.payloads <= bound.payloads
            && self.descriptors <= bound.descriptors
            && self.threads <= bound.threads
    }
}

impl fmt::Display for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { private, segments, payloads, descriptors, threads } = self;
        let [private, segments, payloads] = [private, segments, payloads].map(|bytes| bytes >> 10);
        write!(
            f,
            "{private} KiB private, {segments} KiB of segments, {payloads} KiB of payloads, {descriptors} \
             descriptors, {threads} threads"
        )
    }
}

/// The length of a range of addresses.
fn length(range: &str) -> Option<u64> {
    let (start, end) = range.split_once('-')?;
    let [start, end] = [start, end].map(|at| u64::from_str_radix(at, 16).ok());
    end?.checked_sub(start?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_looked_at() {
        let before = Held::by(std::process::id()).unwrap();
        let sealed = notnets_memory::Sealed::copy_of(&[1; 10_000]).unwrap();
        let more = Held::by(std::process::id()).unwrap();
        assert_eq!(more.payloads, before.payloads + 12_288, "whole pages");
        assert!(more.descriptors > before.descriptors && more.threads > 0 && more.private > 0);
        assert_eq!(more.beyond(before).payloads, 12_288);
        assert!(before.is_within(before) && !more.is_within(before));
        drop(sealed);
    }
}
