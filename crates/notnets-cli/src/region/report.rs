//! What is said of a region.

use std::fmt::Write;
use std::path::{Path, PathBuf};

use notnets_cli_common::coherence::Coherence;
use notnets_cli_common::number::bytes;
use notnets_memory::region::Region;
use notnets_memory::region::file::Kind;
use notnets_pod::survey::{HostSurvey, Presence, Survey};
use serde::Serialize;

use crate::table::{Side, table, width};

/// A region and how it is divided.
#[derive(Debug, Serialize)]
pub struct Division {
    region: PathBuf,
    kind: &'static str,
    pod: String,
    uuid: String,
    coherence: Coherence,
    hosts: u32,
    /// Of each host.
    partition_bytes: u64,
    /// Of each host.
    extents: usize,
    extent_bytes: u64,
    /// Of each host.
    control_bytes: u64,
    unit_bytes: u64,
    heartbeat_ms: u32,
    lease_ms: u32,
}

/// A region, how it is divided, and its hosts.
#[derive(Debug, Serialize)]
pub struct Shown {
    #[serde(flatten)]
    division: Division,
    by_host: Vec<Host>,
    faults: usize,
}

#[derive(Debug, Serialize)]
struct Host {
    host: usize,
    state: &'static str,
    incarnation: Option<String>,
    processes: usize,
    extents_used: usize,
    extents_kept: usize,
    serves: Vec<String>,
}

/// What was found by looking at each record.
#[derive(Debug, Serialize)]
pub struct Checked {
    region: PathBuf,
    /// What agents left half written when they were killed, which is no fault.
    unfinished: Vec<String>,
    pub faults: Vec<String>,
}

impl Division {
    pub fn new(path: &Path, region: &Region) -> Self {
        let superblock = region.superblock();
        let layout = region.layout();
        Self {
            region: path.to_owned(),
            kind: match region.file().kind {
                Kind::DeviceDax => "device DAX",
                Kind::HugePages => "a file of huge pages",
                Kind::File => "a file",
                Kind::PciBar => "a PCI bar",
            },
            pod: superblock.pod.clone(),
            uuid: superblock.uuid.to_string(),
            coherence: superblock.coherence.into(),
            hosts: superblock.hosts,
            partition_bytes: superblock.partition_bytes,
            extents: layout.extents(),
            extent_bytes: superblock.extent_bytes,
            control_bytes: layout.control(0).len() as u64,
            unit_bytes: superblock.unit,
            heartbeat_ms: superblock.heartbeat_ms,
            lease_ms: superblock.lease_ms,
        }
    }

    pub fn text(&self) -> String {
        let coherence = match self.coherence {
            Coherence::Hardware => "by the hardware",
            Coherence::Software => "by software",
        };
        let mut text = String::new();
        let mut line = |what: &str, value: String| writeln!(text, "{what:<12}{value}").expect("a string");
        line("region", format!("{}, {}", self.region.display(), self.kind));
        line("pod", self.pod.clone());
        line("uuid", self.uuid.clone());
        line("coherence", coherence.to_owned());
        line("hosts", format!("{}, each with {}", self.hosts, bytes(self.partition_bytes)));
        line("extents", format!("{} of {} for each host", self.extents, bytes(self.extent_bytes)));
        line("control", format!("{} for each host", bytes(self.control_bytes)));
        line("unit", bytes(self.unit_bytes));
        line(
            "heartbeat",
            format!("every {} ms; without one dead after {} ms", self.heartbeat_ms, self.lease_ms),
        );
        text
    }
}

impl Shown {
    pub fn new(path: &Path, region: &Region, survey: &Survey) -> Self {
        let host = |(host, found): (usize, &HostSurvey)| Host {
            host,
            state: presence(found.presence),
            incarnation: found.record.as_ref().map(|record| record.incarnation.to_string()),
            processes: found.processes.len(),
            extents_used: found.granted,
            extents_kept: found.kept,
            serves: found.services.iter().map(|service| service.name.to_string()).collect(),
        };
        Self {
            division: Division::new(path, region),
            by_host: survey.hosts.iter().enumerate().map(host).collect(),
            faults: survey.problems.len(),
        }
    }

    pub fn text(&self) -> String {
        use Side::{Left, Right};

        let headings = ["HOST", "STATE", "LIFE", "PROCESSES", "EXTENTS USED", "KEPT", "SERVES"];
        let rows = self.by_host.iter().map(|host| {
            // As much of it as distinguishes two incarnations.
            let life = host.incarnation.as_deref().and_then(|all| all.get(..8)).unwrap_or("-");
            vec![
                host.host.to_string(),
                host.state.to_owned(),
                life.to_owned(),
                host.processes.to_string(),
                host.extents_used.to_string(),
                host.extents_kept.to_string(),
                host.serves.join(" "),
            ]
        });
        let sides = [Left, Left, Left, Right, Right, Right, Left];
        let mut text = self.division.text() + "\n";
        text += &table(&headings, &sides, &rows.collect::<Vec<_>>(), width());
        match self.faults {
            0 => {}
            n => writeln!(text, "\n{n} faults: see `notnets region fsck`").expect("a string"),
        }
        text
    }
}

impl Checked {
    pub fn new(path: &Path, survey: &Survey) -> Self {
        let unfinished = survey.hosts.iter().enumerate().filter_map(|(host, found)| {
            let what = found.unfinished.as_ref()?;
            Some(format!(
                "host {host}: {what} is half written, as its agent was killed: its next one mends that"
            ))
        });
        Self {
            region: path.to_owned(),
            unfinished: unfinished.collect(),
            faults: survey.problems.iter().map(ToString::to_string).collect(),
        }
    }

    pub fn text(&self) -> String {
        let mut text = String::new();
        for line in self.unfinished.iter().chain(&self.faults) {
            writeln!(text, "{line}").expect("a string");
        }
        if self.faults.is_empty() {
            writeln!(text, "{} is in order", self.region.display()).expect("a string");
        }
        text
    }
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
