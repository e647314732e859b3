//! What another process holds, as the kernel counts it.

use std::fs;

use super::helper::Helper;

/// What a process holds.
#[derive(Clone, Copy, Debug)]
pub struct Held {
    /// Bytes of links' memory that it has mapped.
    pub mapped: u64,
    pub descriptors: usize,
    /// Bytes of memory that it has, the mapped ones too.
    pub resident: u64,
}

impl Held {
    pub fn by(process: &Helper) -> Self {
        let read =
            |file: &str| fs::read_to_string(format!("/proc/{}/{file}", process.pid())).expect("it lives");
        let maps = read("maps");
        let segments = maps.lines().filter(|line| line.contains("/memfd:notnets "));
        let bytes = segments.map(|line| {
            let range = line.split(' ').next().and_then(|range| range.split_once('-')).expect("a range");
            let [start, end] =
                [range.0, range.1].map(|at| u64::from_str_radix(at, 16).expect("is an address"));
            end - start
        });
        let rollup = read("smaps_rollup");
        let resident =
            rollup.lines().find_map(|line| line.strip_prefix("Rss:")).expect("the kernel tells it");
        let resident: u64 = resident.trim().trim_end_matches(" kB").parse().expect("is a number");
        let descriptors = fs::read_dir(format!("/proc/{}/fd", process.pid())).expect("it lives").count();
        Self { mapped: bytes.sum(), descriptors, resident: resident * 1024 }
    }
}
