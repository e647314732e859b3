//! What is wrong or remarkable about a process, in sentences.

use std::collections::BTreeMap;
use std::time::Duration;

use notnets_core::stats::{Count, LinkSnapshot, Snapshot, WaitsFor};

use super::processes::Process;

/// Of a method that fails as often, it is said.
const MANY_FAILURES: f64 = 0.01;
/// From so many calls on, shares of them say something.
const ENOUGH: u64 = 100;

/// What there is to say about a process, and of calls that are open for `long`. `look` looks at another
/// process.
pub fn findings(process: &Process, long: Duration, look: &dyn Fn(u32) -> Option<Process>) -> Vec<String> {
    let mut found = Vec::new();
    if process.is_stopped {
        found.push("the process is stopped: its calls wait until it gets SIGCONT".to_owned());
    }
    for counters in &process.counters {
        refusals(counters, &mut found);
        for link in &counters.links {
            calls(link, counters.serves, long, look, &mut found);
        }
        waits(counters, &mut found);
        failures(counters, &mut found);
    }
    found
}

fn refusals(counters: &Snapshot, found: &mut Vec<String>) {
    for (reason, times) in counters.refused.present() {
        let what = if times == 1 { "connection was" } else { "connections were" };
        found.push(format!("{times} {what} refused by {}: {}", counters.names, reason.replace('_', " ")));
    }
    let counts = counters.counts();
    let over = [
        (Count::OverCallRate, "calls were refused", "calls"),
        (Count::OverByteRate, "calls were refused", "bytes"),
        (Count::ReadLater, "reads were put off", "bytes"),
    ];
    for (count, what, of) in over {
        let times = counts.of(count);
        if times > 0 {
            let names = &counters.names;
            found.push(format!(
                "{times} {what} by {names}: users reached the {of} that each may have in a second"
            ));
        }
    }
    if counters.broken > 0 {
        found.push(format!("{} links were closed because their peers broke the protocol", counters.broken));
    }
}

/// What calls that are open for long wait for.
fn calls(
    link: &LinkSnapshot,
    serves: bool,
    long: Duration,
    look: &dyn Fn(u32) -> Option<Process>,
    found: &mut Vec<String>,
) {
    let mut waiting = BTreeMap::<(&str, &'static str), (WaitsFor, usize, Duration)>::new();
    for call in link.open.iter().filter(|call| call.age >= long) {
        let key = (call.method.as_str(), call.waits_for.name());
        let (_, calls, oldest) = waiting.entry(key).or_insert((call.waits_for, 0, Duration::ZERO));
        *calls += 1;
        *oldest = call.age.max(*oldest);
    }
    let peer = peer(link);
    for ((method, _), (waits_for, calls, oldest)) in waiting {
        let method = if method.is_empty() { "other methods" } else { method };
        let calls = if calls == 1 { "1 call".to_owned() } else { format!("{calls} calls") };
        let open = format!("{calls} open, the oldest for {}", seconds(oldest));
        found.push(match waits_for {
            WaitsFor::Application if serves => format!("the handler of {method} has {open}"),
            WaitsFor::Application => {
                format!("{method} has {open}: this process's application has yet to go on")
            }
            WaitsFor::Peer if serves => format!("{method} has {open}: {peer} has yet to send more"),
            WaitsFor::Peer => format!("{method} has {open}, which wait for {peer}"),
            WaitsFor::Room => format!("{method} has {open}: {}", room(link, &peer)),
            WaitsFor::Credit => {
                format!("{method} has {open}: {peer} does not take what was sent, so that no more may be")
            }
        });
    }
    let others = link.open.iter().any(|call| call.age >= long && call.waits_for != WaitsFor::Application);
    if others && let Some(peer) = link.peer_pid.and_then(look) {
        why_the_peer_is_late(&peer, found);
    }
}

fn room(link: &LinkSnapshot, peer: &str) -> String {
    match link.blocks_out {
        0 => format!("the link waits until {peer} takes what is in the ring"),
        1 => format!("the link waits for a block that {peer} holds"),
        blocks => format!("the link waits for {blocks} blocks that {peer} holds"),
    }
}

fn why_the_peer_is_late(peer: &Process, found: &mut Vec<String>) {
    if peer.is_stopped {
        let who = format!("process {} ({})", peer.pid, peer.command);
        let stopped = format!("{who} is stopped: what waits for it goes on when it gets SIGCONT");
        if !found.contains(&stopped) {
            found.push(stopped);
        }
    }
}

/// Who is at the other end.
fn peer(link: &LinkSnapshot) -> String {
    match link.peer_pid {
        Some(pid) => format!("process {pid}"),
        None if link.target.is_empty() => "the peer".to_owned(),
        None => link.target.clone(),
    }
}

/// What cost time over all links so far.
fn waits(counters: &Snapshot, found: &mut Vec<String>) {
    let counts = counters.counts();
    let calls = counters.calls();
    let of = if counters.serves { &counters.names } else { "its client links" };
    if calls < ENOUGH {
        return;
    }
    let no_room = counts.of(Count::NoRoom);
    if no_room > calls {
        found.push(format!(
            "{of} had no room {no_room} times in {calls} calls: peers are slow to take and to release"
        ));
    }
    let credit = counts.of(Count::NoStreamCredit).saturating_add(counts.of(Count::NoLinkCredit));
    if credit > calls {
        found.push(format!(
            "{of} had no credit {credit} times in {calls} calls: what is sent is not taken as fast"
        ));
    }
    let streams = counts.of(Count::NoStream);
    if streams > calls / 10 {
        found.push(format!(
            "{of} had as many calls open as the servers permit {streams} times in {calls} calls: see \
             max_concurrent_streams"
        ));
    }
    let parks = counts.of(Count::Parks);
    if parks > calls / 2 {
        found.push(format!(
            "{of} went to sleep {parks} times in {calls} calls: to be woken takes tens of microseconds, which \
             Wait::Spin or more calls at once avoid"
        ));
    }
}

fn failures(counters: &Snapshot, found: &mut Vec<String>) {
    for method in counters.methods().values() {
        let (ended, failed) = (method.ended(), method.failed());
        if ended >= ENOUGH && failed as f64 > MANY_FAILURES * ended as f64 {
            let path = if method.path.is_empty() { "other methods" } else { &method.path };
            let failures = method.statuses().filter(|(status, _)| *status != "OK");
            let most = failures.max_by_key(|(_, calls)| *calls).map_or("", |(status, _)| status);
            found.push(format!("of {path}, {failed} of {ended} calls failed, most with {most}"));
        }
    }
}

/// A time in seconds, as a person says it.
pub fn seconds(time: Duration) -> String {
    match time.as_secs() {
        0 => format!("{} ms", time.as_millis()),
        1..10 => format!("{:.1} s", time.as_secs_f64()),
        10..120 => format!("{} s", time.as_secs()),
        120..7200 => format!("{} min", time.as_secs() / 60),
        more => format!("{} h", more / 3600),
    }
}

#[cfg(test)]
mod tests {
    use notnets_core::stats::{Counts, Histogram, MethodSnapshot, OpenCall, Transport};

    use super::*;

    fn link(open: &[(WaitsFor, u64)]) -> LinkSnapshot {
        let call = |&(waits_for, seconds): &(WaitsFor, u64)| OpenCall {
            stream: 1,
            method: "/a.B/C".to_owned(),
            age: Duration::from_secs(seconds),
            deadline: None,
            waits_for,
        };
        LinkSnapshot {
            number: 1,
            since: 0,
            peer_pid: Some(7),
            peer_uid: 0,
            transport: Transport::Memory,
            target: String::new(),
            parked: None,
            blocks_out: 3,
            bytes_out: 3072,
            segments_offered: 0,
            segments_mapped: 0,
            failure: String::new(),
            counts: Counts::default(),
            methods: Vec::new(),
            open: open.iter().map(call).collect(),
        }
    }

    fn of(counters: Snapshot) -> Vec<String> {
        let process = Process { pid: 5, counters: vec![counters], ..Process::default() };
        let stopped =
            |pid| Some(Process { pid, command: "db".to_owned(), is_stopped: true, ..Process::default() });
        findings(&process, Duration::from_secs(1), &stopped)
    }

    #[test]
    fn what_calls_wait_for_is_told() {
        let open = [
            (WaitsFor::Application, 0),
            (WaitsFor::Application, 8),
            (WaitsFor::Application, 3),
            (WaitsFor::Room, 200),
        ];
        let server = Snapshot { serves: true, links: vec![link(&open)], ..Snapshot::default() };
        let expected = [
            "the handler of /a.B/C has 2 calls open, the oldest for 8.0 s",
            "/a.B/C has 1 call open, the oldest for 3 min: the link waits for 3 blocks that process 7 holds",
            "process 7 (db) is stopped: what waits for it goes on when it gets SIGCONT",
        ];
        assert_eq!(of(server), expected);
        let open = [(WaitsFor::Peer, 2), (WaitsFor::Credit, 2)];
        let client = Snapshot { links: vec![link(&open), link(&open)], ..Snapshot::default() };
        let found = of(client);
        assert_eq!(found[1], "/a.B/C has 1 call open, the oldest for 2.0 s, which wait for process 7");
        assert!(
            found[0].ends_with("process 7 does not take what was sent, so that no more may be"),
            "{found:?}"
        );
        let stopped = found.iter().filter(|found| found.contains("stopped")).count();
        assert_eq!(stopped, 1, "it is said once: {found:?}");
    }

    fn counted(parks: u64, no_room: u64, no_link_credit: u64) -> Counts {
        Counts::of_each(|count| match count {
            Count::Parks => parks,
            Count::NoRoom => no_room,
            Count::NoLinkCredit => no_link_credit,
            _ => 0,
        })
    }

    #[test]
    fn where_all_is_well_nothing_is_said() {
        let mut by_status = [0; 18];
        by_status[0] = 995;
        by_status[5] = 5;
        let method = MethodSnapshot {
            path: "/a.B/C".to_owned(),
            started: 1000,
            by_status,
            seconds: 0.1,
            times: Histogram::default(),
        };
        let counts = counted(400, 900, 0);
        let well = Snapshot { ended: counts, ended_methods: vec![method.clone()], ..Snapshot::default() };
        assert_eq!(of(well), Vec::<String>::new());
        let counts = counted(600, 1001, 1001);
        by_status[0] = 900;
        by_status[5] = 40;
        by_status[14] = 60;
        let method = MethodSnapshot { by_status, ..method };
        let found = of(Snapshot { ended: counts, ended_methods: vec![method], ..Snapshot::default() });
        assert_eq!(found.len(), 4);
        assert_eq!(found[3], "of /a.B/C, 100 of 1000 calls failed, most with UNAVAILABLE");
    }
}
