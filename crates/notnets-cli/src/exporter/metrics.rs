//! Which metrics the counters of processes become.
//!
//! A series has the labels `pid`, `command`, `role` (`server` or `client`) and `name` (what is served; empty
//! for a client), so that all links of an end are one series. How many there are is bounded: of ends, and of
//! the methods of each.

use std::collections::BTreeMap;
use std::time::Duration;

use notnets_core::stats::{Count, Counts, MethodSnapshot, Snapshot};

use super::exposition::{Exposition, Kind, Labels};
use crate::observe::processes::Process;

/// Servers, and processes that are clients, that have series; what goes beyond is only counted.
const ENDS: usize = 500;
/// Methods of an end that have series of their own: those that were called most. The others are together one
/// method more.
const METHODS: usize = 50;
/// Methods of all ends that have series of their own: fewer of each, then. A method has about 30 series.
const METHODS_IN_ALL: usize = 2000;
/// What they are called, and those to which a process gives no counters of their own.
const OTHERS: &str = "other";

/// The upper ends of the buckets of durations, in seconds.
const BOUNDS: [f64; 22] = [
    1e-6, 2.5e-6, 5e-6, 1e-5, 2.5e-5, 5e-5, 1e-4, 2.5e-4, 5e-4, 1e-3, 2.5e-3, 5e-3, 0.01, 0.025, 0.05, 0.1,
    0.25, 0.5, 1.0, 2.5, 10.0, 60.0,
];

/// All metrics of these processes.
pub fn of(processes: &[Process]) -> String {
    let (ends, omitted) = ends(processes);
    let mut out = Exposition::default();
    links(&ends, &mut out);
    counts(&ends, &mut out);
    segments(&ends, &mut out);
    payloads(&ends, &mut out);
    memory(processes, &mut out);
    calls(&ends, &mut out);
    open_calls(&ends, &mut out);
    out.metric("notnets_processes", Kind::Gauge, "Processes whose counters could be read.");
    out.bare("notnets_processes", processes.len());
    let name = "notnets_exporter_omitted_ends";
    out.metric(name, Kind::Gauge, "Servers and clients without series, because there are too many.");
    out.bare(name, omitted);
    out.into_text()
}

/// A server, or all links on which a process is the client.
struct End {
    labels: Labels,
    is_stopped: bool,
    /// More than one where servers of a process have the same names: series must differ.
    counters: Vec<Snapshot>,
    counts: Counts,
    methods: BTreeMap<String, Method>,
}

/// A method, and its calls that are open.
#[derive(Default)]
struct Method {
    counts: MethodSnapshot,
    oldest: Duration,
}

/// Also returns how many had no room.
fn ends(processes: &[Process]) -> (Vec<End>, usize) {
    let mut by_labels = BTreeMap::<(u32, Labels), End>::new();
    let mut omitted = 0;
    for process in processes {
        for counters in &process.counters {
            let labels = labels(process, counters);
            let key = (process.pid, labels.clone());
            if by_labels.len() == ENDS && !by_labels.contains_key(&key) {
                omitted += 1;
                continue;
            }
            let end = by_labels.entry(key).or_insert_with(|| End::new(labels, process.is_stopped));
            end.counts.add(&counters.counts());
            end.counters.push(counters.clone());
        }
    }
    let mut ends: Vec<_> = by_labels.into_values().collect();
    let room = (METHODS_IN_ALL / ends.len().max(1)).min(METHODS);
    ends.iter_mut().for_each(|end| end.sum_methods(room));
    (ends, omitted)
}

fn labels(process: &Process, counters: &Snapshot) -> Labels {
    let role = if counters.serves { "server" } else { "client" };
    let pid = process.pid.to_string();
    Labels::new([("pid", &pid), ("command", &process.command), ("role", role), ("name", &counters.names)])
}

impl End {
    fn new(labels: Labels, is_stopped: bool) -> Self {
        let (counts, methods) = (Counts::default(), BTreeMap::new());
        Self { labels, is_stopped, counters: Vec::new(), counts, methods }
    }

    fn sum_methods(&mut self, room: usize) {
        let mut all = BTreeMap::<&str, Method>::new();
        for counters in &self.counters {
            for (path, method) in counters.methods() {
                all.entry(path).or_default().counts.add(&method);
            }
            for call in counters.links.iter().flat_map(|link| &link.open) {
                let method = all.entry(&call.method).or_default();
                method.oldest = method.oldest.max(call.age);
            }
        }
        let mut all: Vec<_> = all.into_iter().collect();
        all.sort_by_key(|(_, method)| std::cmp::Reverse(method.counts.started));
        for (place, (path, method)) in all.into_iter().enumerate() {
            let is_listed = place < room && !path.is_empty();
            let sum = self.methods.entry(if is_listed { path } else { OTHERS }.to_owned()).or_default();
            sum.counts.add(&method.counts);
            sum.oldest = sum.oldest.max(method.oldest);
        }
    }

    /// A number of all its counters together.
    fn sum(&self, of: impl Fn(&Snapshot) -> u64) -> u64 {
        self.counters.iter().map(of).fold(0, u64::wrapping_add)
    }

    fn methods(&self) -> impl Iterator<Item = (Labels, &Method)> {
        self.methods.iter().map(|(path, method)| (self.labels.with("method", path), method))
    }
}

fn links(ends: &[End], out: &mut Exposition) {
    let gauge = Kind::Gauge;
    numbers(ends, out, "notnets_links_open", gauge, "Links that are open.", |end| {
        end.sum(|counters| counters.links_open)
    });
    numbers(
        ends,
        out,
        "notnets_links_parked",
        gauge,
        "Open links that sleep until a doorbell wakes them.",
        |end| end.sum(Snapshot::links_parked),
    );
    let counter = Kind::Counter;
    numbers(ends, out, "notnets_links_total", counter, "Links there have been.", |end| {
        end.sum(|counters| counters.links_total)
    });
    let help = "Links that were closed because the peer broke the protocol.";
    numbers(ends, out, "notnets_links_broken_total", counter, help, |end| {
        end.sum(|counters| counters.broken)
    });
    let help = "Links that had no room among the counters: only the metrics of links count them.";
    numbers(ends, out, "notnets_links_unlisted_total", counter, help, |end| {
        end.sum(|counters| counters.unlisted)
    });
    let name = "notnets_connections_refused_total";
    out.metric(name, counter, "Connections that got no link, by reason.");
    for end in ends {
        let mut by_reason = BTreeMap::<_, u64>::new();
        for (reason, times) in end.counters.iter().flat_map(|counters| counters.refused.present()) {
            let sum = by_reason.entry(reason).or_default();
            *sum = sum.wrapping_add(times);
        }
        for (reason, times) in by_reason {
            out.value(name, &end.labels.with("reason", reason), times);
        }
    }
    numbers(
        ends,
        out,
        "notnets_process_stopped",
        gauge,
        "1 if the process was stopped by a signal.",
        |end| end.is_stopped.into(),
    );
    let help = "When it began to count, in seconds since 1970.";
    numbers(ends, out, "notnets_start_time_seconds", gauge, help, |end| {
        end.counters.iter().map(|counters| counters.since).min().unwrap_or(0)
    });
}

/// What links count, as metrics of their own.
const COUNTED: [(Count, &str, &str); 13] = [
    (Count::MessagesSent, "notnets_sent_messages_total", "Messages that were sent."),
    (Count::MessagesReceived, "notnets_received_messages_total", "Messages that have come."),
    (Count::BytesSent, "notnets_sent_bytes_total", "Bytes of data that were sent."),
    (Count::FramesSent, "notnets_sent_frames_total", "Frames with data that were sent."),
    (Count::BytesReceived, "notnets_received_bytes_total", "Bytes of data that have come."),
    (Count::FramesReceived, "notnets_received_frames_total", "Frames with data that have come."),
    (Count::DoorbellsRung, "notnets_doorbells_rung_total", "Times that peers were rung."),
    (
        Count::DoorbellsReceived,
        "notnets_doorbells_received_total",
        "Packets that came through the links' sockets: doorbells, mostly.",
    ),
    (Count::Parks, "notnets_parks_total", "Times that links went to sleep."),
    (
        Count::PollsInVain,
        "notnets_polls_in_vain_total",
        "Times that links were polled for as long as that may pay off, and nothing came.",
    ),
    (
        Count::Unanswered,
        "notnets_calls_unanswered_total",
        "Calls that ended without an answer of the server's application.",
    ),
    (
        Count::Refused,
        "notnets_requests_refused_total",
        "Requests that were refused before any application saw them.",
    ),
    (
        Count::ReadLater,
        "notnets_reads_put_off_total",
        "Times that more of a request was read later, as its user had sent as many bytes as it may.",
    ),
];

/// Calls that were refused, together as one metric: which limit of their user was reached.
const OVER: [(Count, &str); 2] = [(Count::OverCallRate, "calls"), (Count::OverByteRate, "bytes")];

/// What links count, together as one metric: what something waited for that could not be sent yet.
const WAITS: [(Count, &str); 4] = [
    (Count::NoRoom, "room"),
    (Count::NoStreamCredit, "stream_credit"),
    (Count::NoLinkCredit, "link_credit"),
    (Count::NoStream, "stream"),
];

fn counts(ends: &[End], out: &mut Exposition) {
    for (count, name, help) in COUNTED {
        numbers(ends, out, name, Kind::Counter, help, |end| end.counts.of(count));
    }
    let name = "notnets_send_waits_total";
    let help = "Times that something could not be sent yet, by what it waited for.";
    out.metric(name, Kind::Counter, help);
    for end in ends {
        for (count, what) in WAITS {
            out.value(name, &end.labels.with("for", what), end.counts.of(count));
        }
    }
    let name = "notnets_calls_over_rate_total";
    let help = "Calls that were refused, by the limit of their user that was reached.";
    out.metric(name, Kind::Counter, help);
    for end in ends {
        for (count, what) in OVER {
            out.value(name, &end.labels.with("limit", what), end.counts.of(count));
        }
    }
    let name = "notnets_parked_seconds_total";
    out.metric(name, Kind::Counter, "How long links slept.");
    for end in ends {
        out.value(name, &end.labels, end.counts.parked_seconds);
    }
}

fn segments(ends: &[End], out: &mut Exposition) {
    let help = "Bytes of this side's further segments that peers may have mapped.";
    numbers(ends, out, "notnets_segments_offered_bytes", Kind::Gauge, help, |end| {
        end.sum(|counters| counters.segment_bytes().0)
    });
    let help = "Bytes of peers' further segments that are mapped.";
    numbers(ends, out, "notnets_segments_mapped_bytes", Kind::Gauge, help, |end| {
        end.sum(|counters| counters.segment_bytes().1)
    });
}

fn payloads(ends: &[End], out: &mut Exposition) {
    let frames = "notnets_payload_frames_total";
    out.metric(frames, Kind::Counter, "Frames of payloads of 16 KiB and more, by how they went or came.");
    for end in ends {
        for (kind, tally) in end.counts.payloads.present() {
            out.value(frames, &end.labels.with("kind", kind.name()), tally.frames);
        }
    }
    let bytes = "notnets_payload_bytes_total";
    out.metric(bytes, Kind::Counter, "Bytes of payloads of 16 KiB and more, by how they went or came.");
    for end in ends {
        for (kind, tally) in end.counts.payloads.present() {
            out.value(bytes, &end.labels.with("kind", kind.name()), tally.bytes);
        }
    }
}

/// Of processes, and not of their ends.
fn memory(processes: &[Process], out: &mut Exposition) {
    let name = "notnets_memory_bytes";
    out.metric(name, Kind::Gauge, "Bytes of shared memory that the process has mapped, by kind.");
    for process in processes.iter().take(ENDS) {
        let pid = process.pid.to_string();
        let labels = Labels::new([("pid", &pid), ("command", &process.command)]);
        for (kind, bytes) in process.memory() {
            out.value(name, &labels.with("kind", kind), bytes);
        }
    }
}

fn calls(ends: &[End], out: &mut Exposition) {
    let name = "notnets_calls_started_total";
    out.metric(name, Kind::Counter, "Calls that were begun.");
    for (labels, method) in ends.iter().flat_map(End::methods) {
        out.value(name, &labels, method.counts.started);
    }
    let name = "notnets_calls_ended_total";
    out.metric(name, Kind::Counter, "Calls that have ended, by gRPC status.");
    for (labels, method) in ends.iter().flat_map(End::methods) {
        for (status, calls) in method.counts.statuses() {
            out.value(name, &labels.with("status", status), calls);
        }
    }
    let name = "notnets_call_duration_seconds";
    out.metric(name, Kind::Histogram, "How long ended calls took.");
    for (labels, method) in ends.iter().flat_map(End::methods) {
        histogram(name, &labels, &method.counts, out);
    }
}

fn histogram(name: &str, labels: &Labels, method: &MethodSnapshot, out: &mut Exposition) {
    let bucket = format!("{name}_bucket");
    for bound in BOUNDS {
        out.value(&bucket, &labels.with("le", &bound.to_string()), method.times.at_most(bound));
    }
    let count = method.times.count();
    out.value(&bucket, &labels.with("le", "+Inf"), count);
    out.value(&format!("{name}_sum"), labels, method.seconds);
    out.value(&format!("{name}_count"), labels, count);
}

fn open_calls(ends: &[End], out: &mut Exposition) {
    let name = "notnets_calls_open";
    out.metric(name, Kind::Gauge, "Calls that are open.");
    for (labels, method) in ends.iter().flat_map(End::methods) {
        out.value(name, &labels, method.counts.open());
    }
    let name = "notnets_oldest_call_age_seconds";
    out.metric(name, Kind::Gauge, "How long ago the oldest call began that is open; 0 without one.");
    for (labels, method) in ends.iter().flat_map(End::methods) {
        out.value(name, &labels, method.oldest.as_secs_f64());
    }
}

/// A metric that is one number of each end.
fn numbers(ends: &[End], out: &mut Exposition, name: &str, kind: Kind, help: &str, of: impl Fn(&End) -> u64) {
    out.metric(name, kind, help);
    for end in ends {
        out.value(name, &end.labels, of(end));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(methods: usize) -> Snapshot {
        let methods = (1..=methods).map(|n| MethodSnapshot {
            path: format!("/s.S/{n}"),
            started: n as u64,
            ..MethodSnapshot::default()
        });
        let ended_methods = methods.collect();
        Snapshot { serves: true, names: "x".to_owned(), links_total: 1, ended_methods, ..Snapshot::default() }
    }

    #[test]
    fn servers_of_one_name_are_one_series() {
        let counters = vec![server(1), server(2)];
        let text = of(&[Process { pid: 7, counters, ..Process::default() }]);
        let labels = "pid=\"7\",command=\"\",role=\"server\",name=\"x\"";
        assert!(text.contains(&format!("\nnotnets_links_total{{{labels}}} 2\n")), "{text}");
        let started = format!("\nnotnets_calls_started_total{{{labels},method=\"/s.S/1\"}} 2\n");
        assert!(text.contains(&started), "{text}");
    }

    #[test]
    fn all_that_links_count_has_a_metric() {
        let shown = COUNTED.map(|(count, ..)| count).into_iter();
        let shown = shown.chain(WAITS.map(|(count, _)| count)).chain(OVER.map(|(count, _)| count));
        let shown: Vec<_> = shown.collect();
        assert!(shown.len() == Count::ALL.len() && Count::ALL.iter().all(|count| shown.contains(count)));
    }

    #[test]
    fn series_are_bounded() {
        let process = |pid| Process { pid, counters: vec![server(60)], ..Process::default() };
        let listed = |processes| {
            let text = of(&(0..processes).map(process).collect::<Vec<_>>());
            (text.lines().filter(|line| line.starts_with("notnets_calls_started_total{")).count(), text)
        };
        let (series, text) = listed(1);
        assert_eq!(series, METHODS + 1);
        // Those that were called least: 1, 2, ... 10 times.
        assert!(text.contains(",method=\"other\"} 55\n"));
        let (series, text) = listed(ENDS as u32 + 3);
        assert_eq!(series, METHODS_IN_ALL + ENDS);
        assert!(text.contains("\nnotnets_exporter_omitted_ends 3\n"));
    }
}
