//! The processes of this host that have counters.

use std::collections::BTreeMap;
use std::fs;

use notnets_core::stats::mapped::{self, MappedBytes};
use notnets_core::stats::{Snapshot, find};

/// A process, and what it has counted.
#[derive(Clone, Debug, Default)]
pub struct Process {
    /// Its number here.
    pub pid: u32,
    /// What it is called.
    pub command: String,
    /// Its user.
    pub uid: Option<u32>,
    /// It was stopped, by SIGSTOP or a debugger.
    pub is_stopped: bool,
    /// A look at its counters: one for each server, and one for all links on which it is the client.
    pub counters: Vec<Snapshot>,
    /// Shared memory that it has mapped for links and payloads.
    pub mapped: MappedBytes,
}

/// The processes that have counters and may be looked into.
pub fn all() -> Vec<Process> {
    let mut all: Vec<_> = pids().filter_map(look).collect();
    all.sort_unstable_by_key(|process| process.pid);
    all
}

/// The processes of this host.
pub fn pids() -> impl Iterator<Item = u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

/// A look at one process. `None` if it has no counters, or may not be looked into.
pub fn look(pid: u32) -> Option<Process> {
    let counters = find::of_process(pid);
    if counters.is_empty() {
        return None;
    }
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
    Some(Process {
        pid,
        command: command(pid),
        uid: field("Uid:").and_then(|uids| uids.split_whitespace().next()?.parse().ok()),
        is_stopped: field("State:").is_some_and(|state| state.starts_with(['T', 't'])),
        counters,
        mapped: mapped::of_process(pid),
    })
}

impl Process {
    /// Bytes of its shared memory, by kind.
    pub fn memory(&self) -> BTreeMap<&'static str, u64> {
        let counters = self.counters.iter().map(|counters| counters.used_bytes).sum();
        self.mapped.by_kind().into_iter().chain([("counters", counters)]).collect()
    }
}

/// What a process is called; empty if there is none.
pub fn command(pid: u32) -> String {
    fs::read_to_string(format!("/proc/{pid}/comm"))
        .map_or_else(|_| String::new(), |name| name.trim().to_owned())
}
