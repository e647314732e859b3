//! A look at a whole region from outside: its hosts, and any damage.
//!
//! It only reads, and it stops nobody. An entry that is just being written looks damaged for a moment,
//! so damage has to last.

use std::thread::sleep;
use std::time::Duration;

use notnets_memory::PeerMemory;
use notnets_memory::region::Region;

use super::table::{
    Control, EndedBy, Entry, ExtentEntry, ExtentId, ExtentState, HostRecord, HostState, ProcessId,
    ServiceEntry,
};

/// How often an unreadable entry is read again …
const LOOKS: usize = 4;
/// … and the pauses in between, in milliseconds.
const PAUSE: Duration = Duration::from_millis(2);

/// The findings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Survey {
    /// Each host, by its number.
    pub hosts: Vec<HostSurvey>,
    /// Problems, in sentences.
    pub problems: Vec<String>,
}

/// The findings about a host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostSurvey {
    /// Whether it is there.
    pub presence: Presence,
    /// Its record, if that can be read.
    pub record: Option<HostRecord>,
    /// Its processes that live, by its own account.
    pub processes: Vec<ProcessSurvey>,
    /// The names that it serves.
    pub services: Vec<ServiceEntry>,
    /// Extents that are free.
    pub free: usize,
    /// Extents that processes write.
    pub granted: usize,
    /// Extents that are kept back, for others may still read them.
    pub kept: usize,
    /// Those, and extents of processes that are not in the pod any more, and for whom each is held.
    pub held: Vec<HeldExtent>,
    /// The one record that its agent left half written when it was killed. The host's next agent mends it.
    pub unfinished: Option<String>,
    /// Hosts that have marked it dead for its silence, in this life or in the one before.
    pub burials: Vec<Burial>,
}

/// A host has marked another dead for its silence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Burial {
    /// Which host.
    pub by: u16,
    /// The other's processes were seen to go on: its agent alone did not run.
    pub starved: bool,
    /// It was in the life before the present one.
    pub before: bool,
}

/// An extent that is not free though its process is not in the pod any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeldExtent {
    /// Its number, in the partition of its host.
    pub extent: usize,
    /// The process that wrote it.
    pub owner: ProcessId,
    /// Payloads lie in it.
    pub payloads: bool,
    /// For whom it is held. Nobody, if its host has just not looked.
    pub held_for: Vec<Holder>,
}

/// For whom an extent is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Holder {
    /// Its own process runs on, outside of the pod, and may use it until it ends.
    Owner,
    /// Processes of that host may read it, until the host has seen an end.
    Reader {
        /// Which host.
        host: u16,
        /// Whether that is there.
        presence: Presence,
        /// The process epoch of the extent's host that it has to see.
        epoch: u64,
        /// The last that it has seen of the present incarnation.
        seen: Option<u64>,
    },
    /// Processes of that host read payloads there, or its agent has not taken that back.
    Claim {
        /// Which host.
        host: u16,
        /// Whether that is there.
        presence: Presence,
    },
}

impl HeldExtent {
    /// Returns `true` if it stays as it is until somebody is there again who is not.
    pub fn is_lost(&self) -> bool {
        self.held_for.iter().any(|holder| match holder {
            Holder::Owner => false,
            Holder::Reader { presence, .. } | Holder::Claim { presence, .. } => {
                !matches!(presence, Presence::Running | Presence::Claiming)
            }
        })
    }
}

/// A process that a host lists as in the pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProcessSurvey {
    /// Which one.
    pub id: ProcessId,
    /// Its process id, on its host.
    pub pid: u32,
    /// Its user there.
    pub uid: u32,
}

/// Whether a host is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Presence {
    /// Nobody has ever been this host.
    Never,
    /// Its heart beats.
    Running,
    /// By its record it runs, but its heartbeat has stopped.
    Silent,
    /// It looks whether its number is its alone.
    Claiming,
    /// It has left in order.
    Left,
    /// Its record can't be read.
    Damaged,
}

/// Looks at all of a region. Takes three of its heartbeats, and some more where something is wrong: what
/// a living pod writes meanwhile fits together only once it is written, so a problem is one that lasts.
pub fn survey(region: &Region) -> Survey {
    let controls: Vec<_> = (0..region.layout().hosts()).map(|host| control(region, host)).collect();
    let before: Vec<_> = controls.iter().map(Control::host).collect();
    let heartbeats = |n| sleep(Duration::from_millis(u64::from(region.superblock().heartbeat_ms) * n));
    let look = || {
        let mut problems = Vec::new();
        let hosts = controls.iter().zip(&before).enumerate();
        let mut hosts: Vec<_> =
            hosts.map(|(host, (control, before))| of_host(host, control, *before, &mut problems)).collect();
        find_holders(&mut hosts, &controls);
        find_burials(&mut hosts, &controls);
        Survey { hosts, problems }
    };
    heartbeats(3);
    let mut survey = look();
    for _ in 1..LOOKS {
        if survey.problems.is_empty() {
            break;
        }
        heartbeats(1);
        let earlier = std::mem::replace(&mut survey, look()).problems;
        survey.problems.retain(|problem| earlier.contains(problem));
    }
    survey
}

/// The control area of a host, to read.
fn control(region: &Region, host: usize) -> Control<PeerMemory> {
    let memory = region.peer(region.layout().control(host)).expect("within the region");
    Control::of_peer(memory, *region.layout(), region.superblock().uuid, host as u16)
}

fn of_host(
    host: usize,
    control: &Control<PeerMemory>,
    before: Option<HostRecord>,
    problems: &mut Vec<String>,
) -> HostSurvey {
    let mut problem = |what: String| problems.push(format!("host {host}: {what}"));
    let mut unreadable = Vec::new();
    let (presence, record) = presence(control, before);
    if presence == Presence::Damaged {
        unreadable.push("its record".to_owned());
    }
    let mut survey = HostSurvey {
        presence,
        record,
        processes: Vec::new(),
        services: Vec::new(),
        free: 0,
        granted: 0,
        kept: 0,
        held: Vec::new(),
        unfinished: None,
        burials: Vec::new(),
    };
    let mut processes = Vec::new();
    for (index, found) in control.processes().enumerate() {
        let found = lasting(found, || control.process_entry(index));
        if found == Entry::Damaged {
            unreadable.push(format!("process entry {index}"));
        }
        let found = found.valid();
        processes.push(found.map(|found| (found.generation, found.alive)));
        survey.processes.extend(found.filter(|found| found.alive).map(|found| {
            let id = ProcessId { host: host as u16, process: index as u16, generation: found.generation };
            ProcessSurvey { id, pid: found.pid, uid: found.uid }
        }));
    }
    let entry = |process: u16| processes.get(usize::from(process)).copied().flatten();
    let is_alive = |process: u16, generation: u32| entry(process) == Some((generation, true));
    // One that has left the pod and still runs may write its extents until its number is another's.
    let may_write =
        |process: u16, generation: u32| entry(process).is_some_and(|(last, _)| last == generation);
    for (index, found) in control.services().enumerate() {
        let found = lasting(found, || control.service_entry(index));
        if found == Entry::Damaged {
            unreadable.push(format!("service entry {index}"));
        }
        let Some(service) = found.valid().flatten() else { continue };
        if !is_alive(service.process, service.generation) {
            problem(format!("{} is served by process {}, which has ended", service.name, service.process));
        }
        survey.services.push(service);
    }
    for (index, found) in control.extents().enumerate() {
        match lasting(found, || control.extent_entry(index)) {
            Entry::Damaged => unreadable.push(format!("the entry of extent {index}")),
            Entry::Blank => survey.free += 1,
            Entry::Valid(extent) => match extent.state {
                ExtentState::Free => survey.free += 1,
                ExtentState::Kept => {
                    survey.kept += 1;
                    survey.held.push(held(host, index, &extent));
                }
                ExtentState::Granted => {
                    survey.granted += 1;
                    if entry(extent.process).is_some_and(|entry| entry == (extent.generation, false)) {
                        let held_for = vec![Holder::Owner];
                        survey.held.push(HeldExtent { held_for, ..held(host, index, &extent) });
                    }
                    if !may_write(extent.process, extent.generation) {
                        problem(format!(
                            "extent {index} is granted to process {}, whose number is another's by now",
                            extent.process
                        ));
                    }
                }
            },
        }
    }
    // An agent writes one record at a time, so it leaves no more than one half written.
    let is_killed = matches!(presence, Presence::Silent | Presence::Damaged);
    if is_killed && unreadable.len() == 1 {
        survey.unfinished = unreadable.pop();
    }
    for what in unreadable {
        problem(format!("{what} can't be read: its memory is damaged, or somebody else writes there"));
    }
    survey
}

fn held(host: usize, extent: usize, entry: &ExtentEntry) -> HeldExtent {
    let ExtentEntry { process, generation, payloads, .. } = *entry;
    let owner = ProcessId { host: host as u16, process, generation };
    HeldExtent { extent, owner, payloads, held_for: Vec::new() }
}

/// Looks up for whom extents are kept back: their entries name hosts, which say how far they are, and which
/// claim payloads.
fn find_holders(hosts: &mut [HostSurvey], controls: &[Control<PeerMemory>]) {
    let presences: Vec<_> = hosts.iter().map(|host| host.presence).collect();
    for (host, survey) in (0u16..).zip(hosts) {
        let incarnation = survey.record.map(|record| record.incarnation);
        // What each host says of this one.
        let said: Vec<_> = controls.iter().map(|control| control.peer(host)).collect();
        for held in &mut survey.held {
            let entry = controls[usize::from(host)].extent(held.extent).unwrap_or_default();
            if entry.state != ExtentState::Kept {
                continue;
            }
            for (reader, (presence, said)) in (0u16..).zip(presences.iter().zip(&said)) {
                let (host, presence) = (reader, *presence);
                if entry.exposed.contains(reader) {
                    let seen =
                        said.filter(|said| Some(said.known) == incarnation).map(|said| said.seen_epoch);
                    let epoch = entry.released_at_epoch;
                    held.held_for.push(Holder::Reader { host, presence, epoch, seen });
                }
                let extent = ExtentId { host: held.owner.host, extent: held.extent as u16 };
                if entry.payloads && said.is_some_and(|said| said.claims & extent.bit() != 0) {
                    held.held_for.push(Holder::Claim { host, presence });
                }
            }
        }
    }
}

/// Looks up who has marked hosts dead.
fn find_burials(hosts: &mut [HostSurvey], controls: &[Control<PeerMemory>]) {
    for (host, survey) in (0u16..).zip(hosts) {
        let Some(incarnation) = survey.record.map(|record| record.incarnation) else { continue };
        for (by, control) in (0u16..).zip(controls).filter(|(by, _)| *by != host) {
            let Some(said) = control.peer(host) else { continue };
            let before = said.dead != incarnation;
            let silent = matches!(said.ended_by, EndedBy::Silence | EndedBy::Starvation);
            if silent && (!before || said.known == incarnation) {
                survey.burials.push(Burial { by, starved: said.ended_by == EndedBy::Starvation, before });
            }
        }
    }
}

fn presence(control: &Control<PeerMemory>, before: Option<HostRecord>) -> (Presence, Option<HostRecord>) {
    let record = match lasting(control.host_entry(), || control.host_entry()) {
        Entry::Blank => return (Presence::Never, None),
        Entry::Damaged => return (Presence::Damaged, None),
        Entry::Valid(record) => record,
    };
    let presence = match record.state {
        HostState::Left => Presence::Left,
        HostState::Claiming => Presence::Claiming,
        HostState::Running if before.is_some_and(|before| before.beat != record.beat) => Presence::Running,
        HostState::Running => Presence::Silent,
    };
    (presence, Some(record))
}

/// Returns an entry, read again if it is damaged, as it may just be being written.
fn lasting<T>(found: Entry<T>, mut look: impl FnMut() -> Entry<T>) -> Entry<T> {
    let mut found = found;
    for _ in 1..LOOKS {
        if !matches!(found, Entry::Damaged) {
            break;
        }
        sleep(PAUSE);
        found = look();
    }
    found
}
