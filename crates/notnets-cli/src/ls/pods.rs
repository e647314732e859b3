//! The pods that this host is in: their hosts, what they serve, and which processes they have.

use std::fmt::Write;
use std::time::Instant;

use notnets_core::link::inspect;
use notnets_core::link::rendezvous::Directory;
use notnets_core::name::{Name, SCHEME};
use notnets_core::stats::Snapshot;
use notnets_pod::daemon::pods;
use notnets_pod::member::region_of;
use notnets_pod::survey::{HostSurvey, Presence, survey};
use serde::Serialize;

use super::PATIENCE;
use crate::failure::Failure;
use crate::region::presence;
use crate::table::{Side, known, table as aligned, width};

/// A pod, as its region describes it.
#[derive(Debug, Serialize)]
pub struct Pod {
    /// Its name.
    pub pod: String,
    /// The region's uuid.
    pub uuid: String,
    /// The number of this host.
    pub host: u16,
    /// The hosts that were ever there.
    pub hosts: Vec<Host>,
}

/// A host of a pod.
#[derive(Debug, Serialize)]
pub struct Host {
    /// Its number.
    pub host: u16,
    /// Whether it is there: running, silent, starting, left or damaged.
    pub state: &'static str,
    /// Its life: 32 hexadecimal digits. `None`, as the rest, if its record can't be read.
    pub incarnation: Option<String>,
    /// Heartbeats so far.
    pub beats: Option<u64>,
    /// Its processes.
    pub processes: Vec<Process>,
    /// The names that they serve.
    pub names: Vec<Served>,
}

/// A process of a host.
#[derive(Debug, Serialize)]
pub struct Process {
    /// Its number on the host.
    pub process: u16,
    /// How often that number has been given.
    pub life: u32,
    /// Its process id, on its host.
    pub pid: u32,
    /// Its user there.
    pub uid: u32,
}

/// A name in a pod.
#[derive(Debug, Serialize)]
pub struct Served {
    /// Without `notnets://POD/`.
    pub name: String,
    /// The process that serves it.
    pub process: u16,
    /// Links that are open now. `None`, as the next, for servers of other hosts, and of processes that may
    /// not be looked into.
    pub links: Option<u64>,
    /// Calls so far, the open ones too.
    pub calls: Option<u64>,
}

/// All pods of which an agent listens in the directory. Takes three heartbeats of each.
///
/// # Errors
/// When the directory can't be read.
pub fn look(directory: &Directory) -> Result<Vec<Pod>, Failure> {
    let found = pods(directory)
        .map_err(|error| Failure::new(format!("could not read {}: {error}", directory.path().display())))?;
    Ok(found.into_iter().filter_map(|pod| of_pod(directory, &pod)).collect())
}

fn of_pod(directory: &Directory, pod: &Name) -> Option<Pod> {
    let (region, host) = match region_of(directory, pod, Instant::now() + PATIENCE) {
        Ok(found) => found,
        Err(error) => {
            eprintln!("notnets: the pod {pod} can't be listed: {error}");
            return None;
        }
    };
    let hosts = survey(&region).hosts.into_iter().enumerate();
    let hosts = hosts.filter(|(_, found)| found.presence != Presence::Never);
    let hosts = hosts.map(|(of, found)| of_host(of as u16, found, (of == usize::from(host)).then_some(pod)));
    let hosts = hosts.collect();
    Some(Pod { pod: pod.to_string(), uuid: region.superblock().uuid.to_string(), host, hosts })
}

/// What a host has. The counters of this one's processes in the pod `own` are looked at.
fn of_host(host: u16, found: HostSurvey, own: Option<&Name>) -> Host {
    let processes = found.processes.into_iter().map(|process| Process {
        process: process.id.process,
        life: process.id.generation,
        pid: process.pid,
        uid: process.uid,
    });
    let processes: Vec<_> = processes.collect();
    let served = |served: notnets_pod::table::ServiceEntry| {
        let process = processes.iter().find(|process| process.process == served.process);
        let counters = own.zip(process).and_then(|(pod, process)| {
            inspect::in_process(process.pid, &format!("{SCHEME}://{pod}/{}", served.name))
        });
        Served {
            name: served.name.to_string(),
            process: served.process,
            links: counters.as_ref().map(|counters| counters.links_open),
            calls: counters.as_ref().map(Snapshot::calls),
        }
    };
    Host {
        host,
        state: presence(found.presence),
        incarnation: found.record.map(|record| record.incarnation.to_string()),
        beats: found.record.map(|record| record.beat),
        names: found.services.into_iter().map(served).collect(),
        processes,
    }
}

impl Pod {
    /// Leaves only names with this text, and processes that serve one.
    pub fn filter(&mut self, text: &str) {
        if text.is_empty() {
            return;
        }
        for host in &mut self.hosts {
            host.names.retain(|served| served.name.contains(text));
            let serves =
                |process: &Process| host.names.iter().any(|served| served.process == process.process);
            host.processes.retain(serves);
        }
    }
}

/// One table for each pod: a row for each name and each process without one, and for hosts without either.
pub fn table(pods: &[Pod]) -> String {
    use Side::{Left, Right};

    let headings = ["HOST", "STATE", "LIFE", "PROCESS", "PID", "UID", "NAME", "LINKS", "CALLS"];
    let sides = [Left, Left, Left, Right, Right, Right, Left, Right, Right];
    let mut text = String::new();
    for pod in pods {
        writeln!(text, "\nPOD {}  (this is host {})", pod.pod, pod.host).expect("a string");
        let rows: Vec<_> = pod.hosts.iter().flat_map(rows).collect();
        text += &aligned(&headings, &sides, &rows, width());
    }
    text
}

fn rows(host: &Host) -> Vec<Vec<String>> {
    // The beginning distinguishes incarnations.
    let life = host.incarnation.as_deref().and_then(|all| all.get(..8)).unwrap_or("?");
    let of_host = || vec![host.host.to_string(), host.state.to_owned(), life.to_owned()];
    let row = |rest: [String; 6]| of_host().into_iter().chain(rest).collect();
    let mut rows = Vec::new();
    for process in &host.processes {
        let ids = [process.process.to_string(), process.pid.to_string(), process.uid.to_string()];
        let mut names = host.names.iter().filter(|served| served.process == process.process).peekable();
        if names.peek().is_none() {
            let [number, pid, uid] = ids.clone();
            rows.push(row([number, pid, uid, "-".to_owned(), String::new(), String::new()]));
        }
        for Served { name, links, calls, .. } in names {
            let [number, pid, uid] = ids.clone();
            rows.push(row([number, pid, uid, name.clone(), known(*links), known(*calls)]));
        }
    }
    if rows.is_empty() {
        rows.push(row(["-"; 6].map(str::to_owned)));
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_name_has_a_row() {
        let process = |process, pid| Process { process, life: 1, pid, uid: 1000 };
        let served = |name: &str, process, calls: Option<u64>| Served {
            name: name.to_owned(),
            process,
            links: calls.map(|_| 2),
            calls,
        };
        let host = |host, state, processes, names| Host {
            host,
            state,
            incarnation: Some("89abcdef01234567".repeat(2)),
            beats: Some(7),
            processes,
            names,
        };
        let names = vec![served("cart", 0, Some(12_345)), served("fraud", 0, None)];
        let hosts = vec![
            host(0, "running", vec![process(0, 4711), process(3, 99)], names),
            host(2, "left", vec![], vec![]),
        ];
        let mut pod = Pod { pod: "pod0".to_owned(), uuid: String::new(), host: 0, hosts };
        let expected = "
POD pod0  (this is host 0)
HOST  STATE    LIFE      PROCESS   PID   UID  NAME   LINKS  CALLS
0     running  89abcdef        0  4711  1000  cart       2  12345
0     running  89abcdef        0  4711  1000  fraud      ?      ?
0     running  89abcdef        3    99  1000  -
2     left     89abcdef        -     -     -  -          -      -
";
        assert_eq!(table(std::slice::from_ref(&pod)), expected);
        pod.filter("art");
        let left = table(&[pod]);
        assert!(left.contains("cart") && !left.contains("fraud") && !left.contains("99"), "{left}");
    }
}
