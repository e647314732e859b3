//! The region's own records, and its hosts.

use std::hint::black_box;
use std::time::Instant;

use notnets_cli_common::number::bytes;
use notnets_memory::coherence::instructions;
use notnets_memory::region::Region;
use notnets_memory::{Coherence, ReadMemory};
use notnets_pod::survey::{Presence, survey};

use super::finding::{Finding, Findings};

/// A load from a cache takes less, from anything else more.
const CACHED_NS: u64 = 40;
/// The least of so many rounds counts, of so many loads each.
const ROUNDS: usize = 20;
const LOADS: u64 = 200;

/// Examines the region. This takes three heartbeats.
pub fn examine(region: &Region, findings: &mut Findings) {
    let superblock = region.superblock();
    let layout = region.layout();
    findings.pod = Some(superblock.pod.clone());
    let text = format!(
        "the pod {} has room for {} hosts with {} each, in {} extents of {}",
        superblock.pod,
        layout.hosts(),
        bytes(superblock.partition_bytes),
        layout.extents(),
        bytes(superblock.extent_bytes)
    );
    findings.push(Finding::ok("superblock", text));
    findings.push(coherence(superblock.coherence));
    findings.push(caching(region));
    let survey = survey(region);
    let running = survey.hosts.iter().filter(|host| host.presence == Presence::Running).count();
    findings.push(Finding::ok("hosts", format!("{running} of {} hosts are running", layout.hosts())));
    for (host, found) in survey.hosts.iter().enumerate() {
        if found.presence == Presence::Silent {
            let text = format!("host {host} says that it runs, and its heart does not beat");
            findings.push(Finding::warning("hosts", text).todo(format!(
                "look whether that machine is up, and start `notnets agent --host-id {host}` there"
            )));
        }
        if found.free == 0 && found.presence != Presence::Never {
            let text = format!(
                "host {host} has no extent left: {} are in use, {} kept back",
                found.granted, found.kept
            );
            findings.push(
                Finding::warning("hosts", text)
                    .todo("end processes there that need no links, or format a larger region"),
            );
        }
    }
    for problem in survey.problems {
        findings.push(Finding::fault("records", problem).todo(
            "if it lasts, stop the pod and look for what else writes this memory; then format it anew",
        ));
    }
}

/// Reports whether this host's caches hold the region's lines.
fn caching(region: &Region) -> Finding {
    let lines = region.peer(region.layout().control(0));
    let Some(lines) = lines else { return Finding::note("caching", "the region's memory can't be read") };
    let nanoseconds = (0..ROUNDS).map(|_| {
        let begin = Instant::now();
        for _ in 0..LOADS {
            black_box(lines.load(0));
        }
        begin.elapsed().as_nanos() as u64 / LOADS
    });
    cached(nanoseconds.min().unwrap_or_default())
}

/// Reports what it means that a line which was just read takes so long to be read again.
fn cached(nanoseconds: u64) -> Finding {
    if nanoseconds < CACHED_NS {
        return Finding::ok("caching", "this host caches the region's lines");
    }
    let text = format!(
        "a line that was just read takes {nanoseconds} ns to be read again: its mapping is not cached, and \
         each eight bytes of a message take that"
    );
    Finding::warning("caching", text).todo(
        "map memory that is write-back: device DAX, and not the BAR of a device, whose mapping is uncached \
         unless the hypervisor overrides that",
    )
}

/// Reports with what this host keeps lines coherent.
fn coherence(configured: Coherence) -> Finding {
    let (clean, flush) = instructions();
    match configured {
        Coherence::Hardware => Finding::ok("coherence", "the region says that the hardware keeps it coherent"),
        Coherence::Software if flush == "clflush" => Finding::warning(
            "coherence",
            "software keeps the region coherent, and this processor has only clflush, one line after the other",
        )
        .todo("expect large messages to be slow from this host"),
        Coherence::Software => Finding::ok(
            "coherence",
            format!("software keeps the region coherent, here with {clean} and {flush}"),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::super::finding::Level;
    use super::*;

    #[test]
    fn mappings_that_are_not_cached_are_told() {
        assert_eq!([1, 39].map(|nanoseconds| cached(nanoseconds).level), [Level::Ok; 2]);
        let found = cached(300);
        assert!(found.level == Level::Warning && found.text.contains("300 ns"), "{found:?}");
    }
}
