//! What is said of a region.

use std::fmt::Write;
use std::path::{Path, PathBuf};

use notnets_cli_common::coherence::Coherence;
use notnets_cli_common::number::bytes;
use notnets_memory::region::Region;
use notnets_memory::region::file::Kind;
use notnets_pod::survey::{HeldExtent, Holder, HostSurvey, Presence, Survey};
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
    /// What is remarkable about hosts, and what to do, in sentences.
    findings: Vec<String>,
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
    /// Extents whose processes are not in the pod any more, and for whom they are held.
    held: Vec<Held>,
    serves: Vec<String>,
}

/// An extent whose process is not in the pod any more, and that is not free.
#[derive(Debug, Serialize)]
struct Held {
    host: usize,
    extent: usize,
    bytes: u64,
    /// It stays as it is until a host is there again that is not.
    lost: bool,
    payloads: bool,
    process: u16,
    generation: u32,
    held_for: Vec<HeldFor>,
}

/// For whom.
#[derive(Debug, Serialize)]
struct HeldFor {
    /// `owner`, `reader` or `claim`.
    who: &'static str,
    host: usize,
    state: &'static str,
    /// The process epoch that a reader's host has to see, and has seen.
    #[serde(skip_serializing_if = "Option::is_none")]
    epoch: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    seen: Option<u64>,
}

/// What was found by looking at each record.
#[derive(Debug, Serialize)]
pub struct Checked {
    region: PathBuf,
    /// Extents that no process of the pod uses, and that are not free, which is no fault.
    held: Vec<Held>,
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
            held: Held::of(host, found, region.layout().extent_bytes() as u64),
            serves: found.services.iter().map(|service| service.name.to_string()).collect(),
        };
        Self {
            division: Division::new(path, region),
            by_host: survey.hosts.iter().enumerate().map(host).collect(),
            findings: findings(region.superblock().lease_ms, survey),
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
        if !self.findings.is_empty() {
            text.push('\n');
        }
        for finding in &self.findings {
            writeln!(text, "! {finding}").expect("a string");
        }
        match self.faults {
            0 => {}
            n => writeln!(text, "\n{n} faults: see `notnets region fsck`").expect("a string"),
        }
        text
    }
}

impl Checked {
    pub fn new(path: &Path, region: &Region, survey: &Survey) -> Self {
        let bytes = region.layout().extent_bytes() as u64;
        let held = survey.hosts.iter().enumerate().flat_map(|(host, found)| Held::of(host, found, bytes));
        let unfinished = survey.hosts.iter().enumerate().filter_map(|(host, found)| {
            let what = found.unfinished.as_ref()?;
            Some(format!(
                "host {host}: {what} is half written, as its agent was killed: its next one mends that"
            ))
        });
        Self {
            region: path.to_owned(),
            held: held.collect(),
            unfinished: unfinished.collect(),
            faults: survey.problems.iter().map(ToString::to_string).collect(),
        }
    }

    pub fn text(&self) -> String {
        let mut text = String::new();
        for line in self.unfinished.iter().chain(&self.faults) {
            writeln!(text, "{line}").expect("a string");
        }
        for held in &self.held {
            writeln!(text, "{}", held.sentence()).expect("a string");
        }
        let lost = self.held.iter().filter(|held| held.lost);
        let (extents, lost) = lost.fold((0, 0), |(extents, all), held| (extents + 1, all + held.bytes));
        if extents > 0 {
            let lost = bytes(lost);
            writeln!(text, "{lost} in {extents} extents are lost until those hosts are there again")
                .expect("a string");
        }
        if self.faults.is_empty() {
            writeln!(text, "{} is in order", self.region.display()).expect("a string");
        }
        text
    }
}

impl Held {
    fn of(host: usize, found: &HostSurvey, bytes: u64) -> Vec<Self> {
        let held = |held: &HeldExtent| Self {
            host,
            extent: held.extent,
            bytes,
            lost: held.is_lost(),
            payloads: held.payloads,
            process: held.owner.process,
            generation: held.owner.generation,
            held_for: held.held_for.iter().map(|holder| HeldFor::of(host, found, *holder)).collect(),
        };
        found.held.iter().map(held).collect()
    }

    fn sentence(&self) -> String {
        let Self { host, extent, .. } = self;
        let owner = match (self.process, self.generation) {
            // Its entry was damaged.
            (u16::MAX, _) => "an unknown process".to_owned(),
            (process, generation) => format!("process {process} (generation {generation})"),
        };
        let held_for: Vec<_> = self.held_for.iter().map(HeldFor::phrase).collect();
        let held_for = match &held_for[..] {
            [] => "until its agent has looked again".to_owned(),
            holders => holders.join(", and "),
        };
        let (verb, size) = (if self.lost { "lost" } else { "kept back" }, bytes(self.bytes));
        format!("host {host}: extent {extent} ({size}) of {owner} is {verb}: {held_for}")
    }
}

impl HeldFor {
    fn of(own: usize, found: &HostSurvey, holder: Holder) -> Self {
        let at = |who, host: u16, state: Presence| Self {
            who,
            host: host.into(),
            state: presence(state),
            epoch: None,
            seen: None,
        };
        match holder {
            Holder::Owner => at("owner", own as u16, found.presence),
            Holder::Reader { host, presence, epoch, seen } => {
                Self { epoch: Some(epoch), seen, ..at("reader", host, presence) }
            }
            Holder::Claim { host, presence } => at("claim", host, presence),
        }
    }

    fn phrase(&self) -> String {
        let Self { host, state, .. } = self;
        match (self.who, self.epoch, self.seen) {
            ("owner", ..) => "the process runs on outside of the pod, and may use it".to_owned(),
            ("claim", ..) => format!("host {host} ({state}) reads payloads there"),
            (_, Some(epoch), Some(seen)) if seen >= epoch => {
                format!("host {host} ({state}) is not there to say that it reads nothing")
            }
            (_, Some(epoch), Some(seen)) => {
                format!("host {host} ({state}) has seen process epoch {seen}, and not {epoch}")
            }
            (_, epoch, _) => {
                format!("host {host} ({state}) has not seen process epoch {}", epoch.unwrap_or_default())
            }
        }
    }
}

/// What there is to say about hosts that were marked dead, or will be.
fn findings(lease_ms: u32, survey: &Survey) -> Vec<String> {
    let hosts = survey.hosts.iter().enumerate();
    hosts.filter_map(|(host, found)| Some(format!("host {host}: {}", finding(lease_ms, found)?))).collect()
}

fn finding(lease_ms: u32, host: &HostSurvey) -> Option<String> {
    let by = |starved, before| {
        let by = host.burials.iter().filter(|said| (said.starved, said.before) == (starved, before));
        let by: Vec<_> = by.map(|said| format!("host {}", said.by)).collect();
        (!by.is_empty()).then(|| by.join(", "))
    };
    if matches!(host.presence, Presence::Never | Presence::Left) {
        return None;
    }
    if let Some(by) = by(true, false) {
        return Some(format!(
            "marked dead by {by}, as its agent does not run though its processes do: give the agent a \
             processor, or SIGCONT if it was stopped"
        ));
    }
    if let Some(by) = by(false, false) {
        return Some(format!(
            "marked dead by {by}, as its heart does not beat, and there was no sign of its processes: see \
             there whether it is up, and start its agent"
        ));
    }
    if host.presence == Presence::Silent {
        return Some(format!(
            "its heart does not beat, for which others mark it dead after {lease_ms} ms: see there whether its \
             agent runs"
        ));
    }
    if let Some(by) = by(true, true) {
        return Some(format!(
            "its life before was ended by {by}, as its agent did not run though its processes did: give the \
             agent a processor of its own, or the pod a longer lease"
        ));
    }
    by(false, true).map(|by| {
        format!(
            "its life before was ended by {by}, as its heart did not beat: the log of its agent says how late \
             it came, and why"
        )
    })
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
