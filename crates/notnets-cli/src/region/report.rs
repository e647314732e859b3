//! Texts about a region.

use std::fmt::Write;
use std::path::Path;

use notnets_cli_common::number::bytes;
use notnets_memory::Coherence;
use notnets_memory::region::Region;
use notnets_memory::region::file::Kind;
use notnets_pod::survey::{HostSurvey, Presence, Survey};

/// Describes a region and how it is divided.
pub(super) fn divided(path: &Path, region: &Region) -> String {
    let superblock = region.superblock();
    let layout = region.layout();
    let kind = match region.file().kind {
        Kind::DeviceDax => "device DAX",
        Kind::HugePages => "a file of huge pages",
        Kind::File => "a file",
        Kind::PciBar => "a PCI bar",
    };
    let coherence = match superblock.coherence {
        Coherence::Hardware => "by the hardware",
        Coherence::Software => "by software",
    };
    let hosts = layout.hosts();
    let extents = layout.extents();
    let mut text = String::new();
    let mut line = |what: &str, value: String| writeln!(text, "{what:<12}{value}").expect("a string");
    line("region", format!("{}, {kind}", path.display()));
    line("pod", superblock.pod.clone());
    line("uuid", superblock.uuid.to_string());
    line("coherence", coherence.to_owned());
    line("hosts", format!("{hosts}, each with {}", bytes(superblock.partition_bytes)));
    line("extents", format!("{extents} of {} for each host", bytes(superblock.extent_bytes)));
    line("control", format!("{} for each host", bytes(layout.control(0).len() as u64)));
    line("unit", bytes(superblock.unit));
    line(
        "heartbeat",
        format!("every {} ms; without one dead after {} ms", superblock.heartbeat_ms, superblock.lease_ms),
    );
    text
}

/// Describes a region, how it is divided, and its hosts.
pub(super) fn show(path: &Path, region: &Region, survey: &Survey) -> String {
    let mut text = divided(path, region);
    text.push_str("\nHOST  STATE     LIFE      PROCESSES  EXTENTS USED  KEPT  SERVES\n");
    for (host, found) in survey.hosts.iter().enumerate() {
        let state = presence(found.presence);
        // As much of it as distinguishes two incarnations.
        let life = found.record.as_ref().map(|record| format!("{:08x}", record.incarnation.0[0] >> 32));
        let life = life.unwrap_or_else(|| "-".to_owned());
        let names: Vec<_> = found.services.iter().map(|service| service.name.as_str()).collect();
        let row = format!(
            "{host:<4}  {state:<8}  {life:<8}  {:>9}  {:>12}  {:>4}  {}",
            found.processes.len(),
            found.granted,
            found.kept,
            names.join(" ")
        );
        text.push_str(row.trim_end());
        text.push('\n');
    }
    match survey.problems.len() {
        0 => {}
        n => writeln!(text, "\n{n} faults: see `notnets region fsck`").expect("a string"),
    }
    text
}

/// Says of each host what its agent left half written when it was killed, which is no fault.
pub(super) fn unfinished(hosts: &[HostSurvey]) -> String {
    let mut text = String::new();
    for (host, found) in hosts.iter().enumerate() {
        if let Some(what) = &found.unfinished {
            writeln!(
                text,
                "host {host}: {what} is half written, as its agent was killed: its next one mends that"
            )
            .expect("a string");
        }
    }
    text
}

/// In a word.
pub fn presence(presence: Presence) -> &'static str {
    match presence {
        Presence::Never => "never",
        Presence::Running => "running",
        Presence::Silent => "silent",
        Presence::Claiming => "starting",
        Presence::Left => "left",
        Presence::Damaged => "damaged",
    }
}
