//! Agents of this host that do not run: other hosts take theirs for dead.

use std::fs;
use std::thread::sleep;
use std::time::Duration;

use notnets_core::stats::Transport;

use super::processes::{Process, command, pids};

/// For so long agents are looked at. One that gets its turn runs several times meanwhile, as its heart beats.
const LOOK: Duration = Duration::from_millis(300);

/// What there is to say of agents, to a process that is in a pod.
pub fn findings() -> Vec<String> {
    let agents: Vec<_> = pids().filter(|pid| is_agent(*pid)).collect();
    let before: Vec<_> = agents.iter().map(|pid| Turns::of(*pid)).collect();
    if !agents.is_empty() {
        sleep(LOOK);
    }
    let found = agents.into_iter().zip(before).filter_map(|(pid, before)| {
        let why = before?.why_it_does_not_run(Turns::of(pid)?)?;
        Some(format!("an agent of this host, process {pid}, {why}"))
    });
    found.collect()
}

/// Returns `true` if the process has links of a pod, or serves a name there.
pub fn is_in_a_pod(process: &Process) -> bool {
    process.counters.iter().any(|counters| {
        let is_of_a_pod = |name: &str| name.starts_with("notnets://") && !name.starts_with("notnets:///");
        let names = counters.names.split([',', ' ']);
        names.chain(counters.links.iter().map(|link| link.target.as_str())).any(is_of_a_pod)
            || counters.links.iter().any(|link| matches!(link.transport, Transport::Pod { .. }))
    })
}

fn is_agent(pid: u32) -> bool {
    let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    command(pid) == "notnets" && line.split(|byte| *byte == 0).nth(1) == Some(b"agent")
}

/// What a process's first thread did so far, and whether it could do more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Turns {
    /// As `/proc` has it: `R` if it runs or waits for a processor, `T` or `t` if it is stopped.
    state: char,
    /// For how long it has run, in nanoseconds.
    ran: u64,
}

impl Turns {
    fn of(pid: u32) -> Option<Self> {
        let read = |file| fs::read_to_string(format!("/proc/{pid}/task/{pid}/{file}")).ok();
        Self::parse(&read("stat")?, &read("schedstat")?)
    }

    fn parse(stat: &str, schedstat: &str) -> Option<Self> {
        // The command's name stands in brackets, and may have some of its own.
        let state = stat.rsplit_once(") ")?.1.chars().next()?;
        Some(Self { state, ran: schedstat.split_whitespace().next()?.parse().ok()? })
    }

    fn why_it_does_not_run(self, after: Self) -> Option<&'static str> {
        if self.ran != after.ran {
            return None;
        }
        match after.state {
            'T' | 't' => Some(
                "is stopped: after the lease other hosts take its host for dead, and links end. It needs \
                 SIGCONT",
            ),
            'R' => Some(
                "waits for a processor: after the lease other hosts take its host for dead, and links end. \
                 Give it a processor of its own (AllowedCPUs=), or a larger share (CPUWeight=)",
            ),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use notnets_core::stats::Snapshot;

    use super::*;

    #[test]
    fn why_an_agent_does_not_run_is_seen() {
        let at = |state, ran| Turns::parse(&format!("7 (a) b) {state} 1 7"), &format!("{ran} 5 9")).unwrap();
        for (state, ran, begins) in
            [('T', 100, "is stopped"), ('R', 100, "waits for a processor"), ('S', 100, ""), ('R', 101, "")]
        {
            let why = at('R', 100).why_it_does_not_run(at(state, ran)).unwrap_or_default();
            assert!(why.starts_with(begins) && why.is_empty() == begins.is_empty(), "{state}: {why}");
        }
    }

    #[test]
    fn who_is_in_a_pod_is_seen_by_its_names() {
        for (names, is) in [("notnets:///a", false), ("notnets:///a, notnets://pod0/a", true), ("", false)] {
            let counters = vec![Snapshot { names: names.to_owned(), ..Snapshot::default() }];
            assert_eq!(is_in_a_pod(&Process { counters, ..Process::default() }), is, "{names}");
        }
    }
}
