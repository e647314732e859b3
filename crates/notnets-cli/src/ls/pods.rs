//! The pods that this host is in: their hosts, what they serve, and which processes they have.

use std::fmt::Write;
use std::time::Instant;

use notnets_core::link::rendezvous::Directory;
use notnets_core::name::Name;
use notnets_pod::daemon::pods;
use notnets_pod::member::region_of;
use notnets_pod::survey::{HostSurvey, Presence, survey};
use serde::Serialize;

use super::PATIENCE;
use crate::failure::Failure;
use crate::region::presence;

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
    let hosts = hosts.map(|(host, found)| of_host(host as u16, found)).collect();
    Some(Pod { pod: pod.to_string(), uuid: region.superblock().uuid.to_string(), host, hosts })
}

fn of_host(host: u16, found: HostSurvey) -> Host {
    let processes = found.processes.into_iter().map(|process| Process {
        process: process.id.process,
        life: process.id.generation,
        pid: process.pid,
        uid: process.uid,
    });
    let served = |served: notnets_pod::table::ServiceEntry| Served {
        name: served.name.to_string(),
        process: served.process,
    };
    Host {
        host,
        state: presence(found.presence),
        incarnation: found.record.map(|record| record.incarnation.to_string()),
        beats: found.record.map(|record| record.beat),
        processes: processes.collect(),
        names: found.services.into_iter().map(served).collect(),
    }
}

/// One table for each pod: a row for each process of each host.
pub fn table(pods: &[Pod]) -> String {
    let mut text = String::new();
    for pod in pods {
        writeln!(text, "\nPOD {}  (this is host {})", pod.pod, pod.host).expect("a string");
        writeln!(text, "HOST  STATE     INCARNATION  PROCESS  LIFE     PID   UID  SERVES").expect("a string");
        for host in &pod.hosts {
            // The beginning distinguishes incarnations.
            let incarnation = host.incarnation.as_deref().and_then(|all| all.get(..8)).unwrap_or("?");
            let first = format!("{:<4}  {:<8}  {incarnation:<11}", host.host, host.state);
            if host.processes.is_empty() {
                writeln!(text, "{first}  {:>7}", "-").expect("a string");
            }
            for (nth, Process { process, life, pid, uid }) in host.processes.iter().enumerate() {
                let first = if nth == 0 { &*first } else { "" };
                let names = host.names.iter().filter(|served| served.process == *process);
                let names: Vec<_> = names.map(|served| served.name.as_str()).collect();
                let row =
                    format!("{first:<27}  {process:>7}  {life:>4}  {pid:>6}  {uid:>4}  {}", names.join(" "));
                writeln!(text, "{}", row.trim_end()).expect("a string");
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_process_has_a_row() {
        let process = |process, pid| Process { process, life: 1, pid, uid: 1000 };
        let served = |name: &str, process| Served { name: name.to_owned(), process };
        let host = |host, state, processes, names| Host {
            host,
            state,
            incarnation: Some("89abcdef01234567".repeat(2)),
            beats: Some(7),
            processes,
            names,
        };
        let hosts = vec![
            host(0, "running", vec![process(0, 4711), process(3, 99)], vec![served("a", 0), served("b", 0)]),
            host(2, "left", vec![], vec![]),
        ];
        let pod = Pod { pod: "pod0".to_owned(), uuid: String::new(), host: 0, hosts };
        let expected = "
POD pod0  (this is host 0)
HOST  STATE     INCARNATION  PROCESS  LIFE     PID   UID  SERVES
0     running   89abcdef           0     1    4711  1000  a b
                                   3     1      99  1000
2     left      89abcdef           -
";
        assert_eq!(table(&[pod]), expected);
    }
}
