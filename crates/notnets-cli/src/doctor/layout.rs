//! The region's own records, and its hosts.

use notnets_cli_common::number::bytes;
use notnets_memory::Coherence;
use notnets_memory::coherence::instructions;
use notnets_memory::region::Region;
use notnets_pod::survey::{Presence, survey};

use super::finding::{Finding, Findings};

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
