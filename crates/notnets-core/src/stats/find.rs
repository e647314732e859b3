//! The counters of other processes, by `/proc`: for whoever may look into a process, which is its own user
//! and root (`ptrace(2)`, "Ptrace access mode checking").

use std::collections::HashSet;
use std::fs::{self, File};
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::Snapshot;

/// What `/proc` shows of a stats segment's descriptor.
pub(super) const SEGMENT_NAME: &str = "notnets-stats";

/// Looks at the counters of each of a process's servers. None for one that this process may not look into.
pub fn of_process(pid: u32) -> Vec<Snapshot> {
    look(&Path::new("/proc").join(pid.to_string()))
}

/// Looks at the counters of each of this process's servers, and of its client links.
pub fn of_this_process() -> Vec<Snapshot> {
    look(Path::new("/proc/self"))
}

fn look(process: &Path) -> Vec<Snapshot> {
    let mut seen = HashSet::new();
    let mut found = Vec::new();
    let mut own_pid = None;
    for entry in fs::read_dir(process.join("fd")).into_iter().flatten().flatten() {
        let is_stats = fs::read_link(entry.path()).is_ok_and(|target| is_segment(&target));
        if !is_stats {
            continue;
        }
        let Ok(file) = File::open(entry.path()) else { continue };
        // One segment has several descriptors when it is sent to a tool, or a child has inherited it.
        let Ok(segment) = file.metadata().map(|metadata| metadata.ino()) else { continue };
        if !seen.insert(segment) {
            continue;
        }
        let Some(mut snapshot) = Snapshot::read(&OwnedFd::from(file)) else { continue };
        snapshot.segment = segment;
        let own_pid = *own_pid.get_or_insert_with(|| pid_in_its_namespace(process));
        if own_pid == Some(snapshot.pid) {
            found.push(snapshot);
        }
    }
    found
}

fn is_segment(target: &Path) -> bool {
    let name = target.to_str().and_then(|target| target.strip_prefix("/memfd:"));
    name.and_then(|name| name.strip_prefix(SEGMENT_NAME))
        .is_some_and(|rest| rest.is_empty() || rest == " (deleted)")
}

/// How the process numbers itself.
fn pid_in_its_namespace(process: &Path) -> Option<u32> {
    let status = fs::read_to_string(process.join("status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("NSpid:"))?;
    line.split_whitespace().last()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::Stats;

    #[test]
    fn the_counters_of_this_process_are_found() {
        let stats = Stats::of_server().unwrap();
        stats.serves("a-name-of-this-test");
        let found = of_process(std::process::id());
        let own = found.iter().find(|found| found.names == "a-name-of-this-test").unwrap();
        assert!(own.pid == std::process::id() && own.serves && own.since > 0);
        drop(stats);
        let found = of_process(std::process::id());
        assert!(found.iter().all(|found| found.names != "a-name-of-this-test"));
    }

    #[test]
    fn other_files_are_not_taken_for_counters() {
        for (target, taken) in [
            ("/memfd:notnets-stats", true),
            ("/memfd:notnets-stats (deleted)", true),
            ("/memfd:notnets (deleted)", false),
            ("/tmp/notnets-stats", false),
            ("/memfd:notnets-stats-of-others", false),
        ] {
            assert_eq!(is_segment(Path::new(target)), taken, "{target}");
        }
    }
}
