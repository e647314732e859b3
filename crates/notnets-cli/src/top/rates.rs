//! What happened between two looks at the processes of this host.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use notnets_core::stats::{Count, Counts, Histogram, LinkSnapshot, MethodSnapshot, Snapshot};
use serde::Serialize;

use crate::observe::findings::findings;
use crate::observe::processes::{self, Process, command};
use crate::observe::report::{method_name, transport};

/// The counters of all processes at one time.
#[derive(Debug)]
pub struct Look {
    at: Instant,
    processes: Vec<Process>,
}

/// What happened between two looks.
#[derive(Debug, Default, Serialize)]
pub struct Interval {
    /// How long it was.
    pub seconds: f64,
    /// What each process did.
    pub processes: Vec<ProcessRates>,
}

/// What a process did.
#[derive(Debug, Default, Serialize)]
pub struct ProcessRates {
    pub pid: u32,
    pub command: String,
    pub uid: Option<u32>,
    pub stopped: bool,
    /// What its servers serve.
    pub names: Vec<String>,
    /// What is wrong or remarkable, in sentences.
    pub findings: Vec<String>,
    /// Bytes of shared memory that it has mapped for links and payloads.
    pub mapped_bytes: u64,
    /// Bytes of all its shared memory, by kind.
    pub memory: BTreeMap<&'static str, u64>,
    /// What its servers did, together.
    pub served: Activity,
    /// What it did as a client.
    pub called: Activity,
    pub links: Vec<LinkRates>,
    pub methods: Vec<MethodRates>,
}

/// What a link did.
#[derive(Debug, Default, Serialize)]
pub struct LinkRates {
    /// Its number in its process, of that role and name.
    pub link: u64,
    /// `server` or `client`.
    pub role: &'static str,
    /// What is served; empty for clients.
    pub name: String,
    pub peer_pid: Option<u32>,
    pub peer_command: String,
    pub transport: String,
    pub target: String,
    /// It sleeps until a doorbell wakes it. Else it is polled.
    pub parked: bool,
    /// The last failure of a call; empty without one.
    pub last_failure: String,
    #[serde(flatten)]
    pub activity: Activity,
    pub methods: Vec<MethodRates>,
    pub open_calls: Vec<OpenCall>,
}

/// What happened to a method's calls.
#[derive(Debug, Default, Serialize)]
pub struct MethodRates {
    /// Its path; `(others)` for those that have no counters of their own.
    pub method: String,
    pub role: &'static str,
    pub name: String,
    #[serde(flatten)]
    pub calls: Calls,
}

/// A call that is open.
#[derive(Debug, Serialize)]
pub struct OpenCall {
    pub method: String,
    pub age_seconds: f64,
    /// `peer`, `application`, `room` or `credit`.
    pub waits_for: &'static str,
}

/// What links did.
#[derive(Debug, Default, Serialize)]
pub struct Activity {
    /// Links that are open now, and those of them that sleep.
    pub links: u64,
    pub links_parked: u64,
    #[serde(flatten)]
    pub calls: Calls,
    pub sent_messages_per_second: f64,
    pub received_messages_per_second: f64,
    pub sent_bytes_per_second: f64,
    pub received_bytes_per_second: f64,
    /// Times that something could not be sent at once.
    pub waits_per_second: f64,
    pub doorbells_per_second: f64,
    pub parks_per_second: f64,
    /// Times that polling found nothing for as long as it may take.
    pub polls_in_vain_per_second: f64,
    /// Bytes of further segments that are open now, of both sides.
    pub memory_bytes: u64,
}

/// Calls of an interval.
#[derive(Debug, Default, Serialize)]
pub struct Calls {
    /// Calls that ended.
    pub calls_per_second: f64,
    /// Those of them that ended with another status than OK.
    pub failed_per_second: f64,
    /// How long those took that ended, in microseconds. `None` without any.
    pub p50_us: Option<f64>,
    pub p99_us: Option<f64>,
    /// Calls that are open now.
    pub open: u64,
    #[serde(skip)]
    times: Histogram,
}

impl Look {
    /// Looks at all processes.
    pub fn now() -> Self {
        Self { at: Instant::now(), processes: processes::all() }
    }

    fn process(&self, pid: u32) -> Option<&Process> {
        self.processes.iter().find(|process| process.pid == pid)
    }
}

impl Interval {
    /// What happened between two looks. Calls that are open for `long` are remarkable.
    pub fn between(earlier: &Look, later: &Look, long: Duration) -> Self {
        let seconds = later.at.duration_since(earlier.at).as_secs_f64().max(1e-3);
        let rates = |process: &Process| {
            let findings = findings(process, long, &|pid| later.process(pid).cloned());
            ProcessRates::new(process, earlier.process(process.pid), findings, seconds)
        };
        Self { seconds, processes: later.processes.iter().map(rates).collect() }
    }

    /// Only the processes that have this text in their command, names or number.
    #[must_use]
    pub fn filtered(mut self, text: &str) -> Self {
        let text = text.to_lowercase();
        self.processes.retain(|process| process.mentions(&text));
        self
    }
}

impl ProcessRates {
    fn new(process: &Process, before: Option<&Process>, findings: Vec<String>, seconds: f64) -> Self {
        let mut rates = Self {
            pid: process.pid,
            command: process.command.clone(),
            uid: process.uid,
            stopped: process.is_stopped,
            names: process.counters.iter().filter(|end| end.serves).map(|end| end.names.clone()).collect(),
            findings,
            mapped_bytes: process.mapped.sum(),
            memory: process.memory(),
            ..Self::default()
        };
        for counters in &process.counters {
            // What was not there before has no rates yet: it may have counted for days.
            let is_same = |of: &&Snapshot| {
                (of.serves, &of.names, of.since) == (counters.serves, &counters.names, counters.since)
            };
            let before = before.and_then(|before| before.counters.iter().find(is_same)).unwrap_or(counters);
            rates.add(counters, before, seconds);
        }
        rates.served.calls.find_quantiles();
        rates.called.calls.find_quantiles();
        rates
    }

    fn add(&mut self, counters: &Snapshot, before: &Snapshot, seconds: f64) {
        let role = if counters.serves { "server" } else { "client" };
        let sum = if counters.serves { &mut self.served } else { &mut self.called };
        sum.links += counters.links_open;
        sum.links_parked += counters.links_parked();
        sum.add_counts(&counters.counts(), &before.counts(), seconds);
        let (offered, mapped) = counters.segment_bytes();
        sum.memory_bytes = sum.memory_bytes.saturating_add(offered.saturating_add(mapped));
        let before_methods = before.methods();
        for (path, method) in counters.methods() {
            let mut calls = Calls::between(&method, before_methods.get(path), seconds);
            sum.calls.add(&calls);
            calls.find_quantiles();
            self.methods.push(MethodRates {
                method: method_name(path),
                role,
                name: counters.names.clone(),
                calls,
            });
        }
        for link in &counters.links {
            let before = before.links.iter().find(|before| before.number == link.number);
            let mut rates = LinkRates::new(link, before, seconds);
            rates.role = role;
            rates.name.clone_from(&counters.names);
            self.links.push(rates);
        }
    }

    fn mentions(&self, text: &str) -> bool {
        let mut names = self.names.iter().chain([&self.command]);
        self.pid.to_string().contains(text) || names.any(|name| name.to_lowercase().contains(text))
    }
}

impl LinkRates {
    /// A link that was not there before is new.
    fn new(link: &LinkSnapshot, before: Option<&LinkSnapshot>, seconds: f64) -> Self {
        let mut rates = Self {
            link: link.number,
            peer_pid: link.peer_pid,
            peer_command: link.peer_pid.map(command).unwrap_or_default(),
            transport: transport(link.transport),
            target: link.target.clone(),
            parked: link.parked.is_some(),
            last_failure: link.failure.clone(),
            ..Self::default()
        };
        rates.activity.links = 1;
        rates.activity.links_parked = link.parked.is_some().into();
        rates.activity.memory_bytes = link.segments_offered.saturating_add(link.segments_mapped);
        let nothing = Counts::default();
        rates.activity.add_counts(&link.counts, before.map_or(&nothing, |before| &before.counts), seconds);
        for method in &link.methods {
            let same = |before: &&MethodSnapshot| before.path == method.path;
            let before = before.and_then(|before| before.methods.iter().find(same));
            let mut calls = Calls::between(method, before, seconds);
            rates.activity.calls.add(&calls);
            calls.find_quantiles();
            rates.methods.push(MethodRates {
                method: method_name(&method.path),
                calls,
                ..MethodRates::default()
            });
        }
        rates.activity.calls.find_quantiles();
        rates.open_calls = link
            .open
            .iter()
            .map(|call| OpenCall {
                method: method_name(&call.method),
                age_seconds: call.age.as_secs_f64(),
                waits_for: call.waits_for.name(),
            })
            .collect();
        rates
    }
}

impl Activity {
    fn add_counts(&mut self, now: &Counts, before: &Counts, seconds: f64) {
        let rate = |count| now.of(count).saturating_sub(before.of(count)) as f64 / seconds;
        self.sent_messages_per_second += rate(Count::MessagesSent);
        self.received_messages_per_second += rate(Count::MessagesReceived);
        self.sent_bytes_per_second += rate(Count::BytesSent);
        self.received_bytes_per_second += rate(Count::BytesReceived);
        self.waits_per_second += [Count::NoRoom, Count::NoStreamCredit, Count::NoLinkCredit, Count::NoStream]
            .map(rate)
            .iter()
            .sum::<f64>();
        self.doorbells_per_second += rate(Count::DoorbellsRung);
        self.parks_per_second += rate(Count::Parks);
        self.polls_in_vain_per_second += rate(Count::PollsInVain);
    }
}

impl Calls {
    /// A method of which nothing was counted before has begun since.
    fn between(now: &MethodSnapshot, before: Option<&MethodSnapshot>, seconds: f64) -> Self {
        let nothing = MethodSnapshot::default();
        let before = before.unwrap_or(&nothing);
        let rate = |of: fn(&MethodSnapshot) -> u64| of(now).saturating_sub(of(before)) as f64 / seconds;
        Self {
            calls_per_second: rate(MethodSnapshot::ended),
            failed_per_second: rate(MethodSnapshot::failed),
            open: now.open(),
            times: now.times.since(&before.times),
            ..Self::default()
        }
    }

    fn add(&mut self, other: &Self) {
        self.calls_per_second += other.calls_per_second;
        self.failed_per_second += other.failed_per_second;
        self.open = self.open.saturating_add(other.open);
        self.times.add(&other.times);
    }

    fn find_quantiles(&mut self) {
        let at = |part| Some(self.times.quantile(part)? * 1e6);
        (self.p50_us, self.p99_us) = (at(0.5), at(0.99));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn look(at: Instant, since: u64, calls: u64) -> Look {
        let mut method = MethodSnapshot { path: "/s.S/M".to_owned(), ..MethodSnapshot::default() };
        method.started = calls + 1;
        method.by_status[0] = calls - calls / 10;
        method.by_status[14] = calls / 10;
        let ended = Counts::of_each(|count| if count == Count::BytesSent { 1000 * calls } else { 0 });
        let counters = Snapshot {
            serves: true,
            names: "x".to_owned(),
            since,
            ended,
            ended_methods: vec![method],
            ..Snapshot::default()
        };
        Look { at, processes: vec![Process { pid: 7, counters: vec![counters], ..Process::default() }] }
    }

    #[test]
    fn rates_are_what_was_counted_in_between() {
        let began = Instant::now();
        let later = look(began + Duration::from_secs(2), 1, 300);
        let interval = Interval::between(&look(began, 1, 100), &later, Duration::MAX);
        let process = &interval.processes[0];
        let calls = &process.served.calls;
        assert_eq!((calls.calls_per_second, calls.failed_per_second, calls.open), (100.0, 10.0, 1));
        assert_eq!(process.served.sent_bytes_per_second, 100_000.0);
        assert_eq!(process.methods[0].calls.calls_per_second, 100.0);
        assert_eq!((interval.seconds, process.called.calls.calls_per_second), (2.0, 0.0));
    }

    #[test]
    fn a_successor_of_the_same_number_has_no_rates_yet() {
        let began = Instant::now();
        let later = look(began + Duration::from_secs(2), 2, 300);
        let interval = Interval::between(&look(began, 1, 100), &later, Duration::MAX);
        assert_eq!(interval.processes[0].served.calls.calls_per_second, 0.0);
    }

    #[test]
    fn the_filter_looks_at_names_and_numbers() {
        let began = Instant::now();
        for (text, left) in [("", 1), ("X", 1), ("7", 1), ("y", 0)] {
            let interval = Interval::between(&look(began, 1, 1), &look(began, 1, 2), Duration::MAX);
            assert_eq!(interval.filtered(text).processes.len(), left, "{text}");
        }
    }
}
