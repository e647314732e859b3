//! What is said of calls that were made.

use std::collections::BTreeMap;
use std::fmt::Write;

use hdrhistogram::Histogram;
use notnets::rpc;
use notnets_core::text::shown;
use serde::Serialize;
use tonic::Code;

use super::pace::{Outcome, Pace, Plan};
use crate::failure::{Failure, code_name};
use crate::table::aligned;
use crate::units::{bytes, micros};

/// The quantiles that are reported, by their names.
const QUANTILES: [(&str, f64); 9] = [
    ("min", 0.0),
    ("p50", 0.5),
    ("p75", 0.75),
    ("p90", 0.9),
    ("p95", 0.95),
    ("p99", 0.99),
    ("p99.9", 0.999),
    ("p99.99", 0.9999),
    ("max", 1.0),
];

/// The longest bar of the histogram.
const BAR: usize = 40;

/// All that was found.
#[derive(Debug, Serialize)]
pub struct Report {
    server: String,
    method: String,
    connections: u32,
    /// Calls open at once, or at most.
    concurrency: u32,
    /// Calls that were to begin in each second.
    rate: Option<f64>,
    /// From the first call that counted to the end of the last.
    seconds: f64,
    calls: u64,
    ok: u64,
    failed: u64,
    /// Calls that had not ended some time after the last had begun; they are in no other number.
    unfinished: u64,
    calls_per_second: f64,
    sent_bytes: u64,
    received_bytes: u64,
    received_messages: u64,
    /// Calls by how they ended.
    statuses: BTreeMap<String, u64>,
    failures: Vec<Failures>,
    /// Microseconds; with a rate from when calls had to begin.
    latency_us: Quantiles,
    /// Microseconds from when calls began.
    #[serde(skip_serializing_if = "Option::is_none")]
    service_time_us: Option<Quantiles>,
    /// Calls by latency, in steps of a quarter of a power of two nanoseconds.
    histogram: Vec<Bucket>,
    #[serde(skip)]
    latencies: Histogram<u64>,
}

/// Calls that failed in the same way.
#[derive(Debug, Serialize)]
struct Failures {
    code: u32,
    status: String,
    message: String,
    calls: u64,
}

#[derive(Debug, Serialize)]
struct Quantiles {
    mean: f64,
    #[serde(flatten)]
    at: BTreeMap<&'static str, f64>,
}

#[derive(Debug, Serialize)]
struct Bucket {
    /// Microseconds; calls of this bucket took less.
    below_us: f64,
    calls: u64,
}

impl Report {
    pub fn new(server: String, method: &str, connections: u32, plan: &Plan, outcome: &Outcome) -> Self {
        let record = &outcome.record;
        let (rate, concurrency) = match plan.pace {
            Pace::Open(calls) => (None, calls),
            Pace::Rate { per_second, most_open } => (Some(per_second), most_open),
        };
        let mut statuses = BTreeMap::new();
        if record.ok > 0 {
            statuses.insert(code_name(Code::Ok).to_owned(), record.ok);
        }
        let mut failures = Vec::new();
        for ((code, message), calls) in &record.failed {
            let status = rpc::Code(*code).to_string();
            *statuses.entry(status.clone()).or_default() += calls;
            failures.push(Failures { code: *code, status, message: message.clone(), calls: *calls });
        }
        failures.sort_by_key(|failures| std::cmp::Reverse(failures.calls));
        let seconds = outcome.elapsed.as_secs_f64();
        let calls = record.calls();
        Self {
            server,
            method: method.to_owned(),
            connections,
            concurrency,
            rate,
            seconds,
            calls,
            ok: record.ok,
            failed: calls - record.ok,
            unfinished: outcome.unfinished,
            calls_per_second: if seconds > 0.0 { calls as f64 / seconds } else { 0.0 },
            sent_bytes: record.volume.sent_bytes,
            received_bytes: record.volume.received_bytes,
            received_messages: record.volume.received_messages,
            statuses,
            failures,
            latency_us: Quantiles::new(&record.latencies),
            service_time_us: rate.map(|_| Quantiles::new(&record.service_times)),
            histogram: buckets(&record.latencies, fine()),
            latencies: record.latencies.clone(),
        }
    }

    /// One object.
    pub fn json(&self) -> String {
        serde_json::to_string(self).expect("plain structs always serialise") + "\n"
    }

    /// Tables.
    pub fn text(&self) -> String {
        let mut text = self.heading() + &self.of_statuses();
        if self.calls > 0 {
            text += &self.of_times();
            text += &self.bars();
        }
        text
    }

    /// Why the command fails. `None` if all calls ended well.
    pub fn failure(&self) -> Option<Failure> {
        let mut by_code = BTreeMap::<u32, u64>::new();
        for failures in &self.failures {
            *by_code.entry(failures.code).or_default() += failures.calls;
        }
        if let Some((code, calls)) = by_code.into_iter().max_by_key(|(_, calls)| *calls) {
            let code = Code::from(code.cast_signed());
            let with = if calls == self.failed { String::new() } else { format!(", {calls} of these") };
            let sentence =
                format!("{} of {} calls failed{with} with {}", self.failed, self.calls, code_name(code));
            return Some(Failure::of_call(code, sentence));
        }
        (self.unfinished > 0).then(|| Failure::new(format!("{} calls had not ended", self.unfinished)))
    }

    fn heading(&self) -> String {
        let connections = match self.connections {
            1 => "1 connection".to_owned(),
            connections => format!("{connections} connections"),
        };
        let pace = match self.rate {
            Some(rate) => format!("{rate} calls to begin in each second, at most {} open", self.concurrency),
            None => format!("{} calls open at once", self.concurrency),
        };
        let mut text = format!(
            "{} at {}: {connections}, {pace}\n{} calls in {:.2} s: {:.1} calls/s",
            self.method, self.server, self.calls, self.seconds, self.calls_per_second
        );
        let per_second = |volume: u64| bytes((volume as f64 / self.seconds.max(1e-9)) as u64);
        if self.calls > 0 {
            let (sent, received) = (per_second(self.sent_bytes), per_second(self.received_bytes));
            write!(text, ", {sent}/s sent, {received}/s received").expect("a string");
        }
        text + "\n"
    }

    fn of_statuses(&self) -> String {
        let share = |calls: u64| format!("{:.2} %", calls as f64 * 100.0 / self.calls.max(1) as f64);
        let rows = self.statuses.iter();
        let rows = rows.map(|(status, calls)| [status.clone(), calls.to_string(), share(*calls)]);
        let mut text = format!("\n{}", aligned(["STATUS", "CALLS", "SHARE"], rows));
        if self.unfinished > 0 {
            writeln!(text, "{} more calls had not ended", self.unfinished).expect("a string");
        }
        if !self.failures.is_empty() {
            text.push('\n');
        }
        for Failures { status, message, calls, .. } in &self.failures {
            writeln!(text, "{calls} × {status}: {}", shown(message)).expect("a string");
        }
        text
    }

    fn of_times(&self) -> String {
        let mean = ("mean", self.latency_us.mean, self.service_time_us.as_ref().map(|times| times.mean));
        let quantiles = QUANTILES.iter().map(|(name, _)| {
            (*name, self.latency_us.at[name], self.service_time_us.as_ref().map(|times| times.at[name]))
        });
        let rows = quantiles.chain([mean]);
        let table = if self.rate.is_some() {
            let rows = rows.map(|(name, latency, service)| {
                [name.to_owned(), micros(latency), micros(service.unwrap_or_default())]
            });
            aligned(["LATENCY", "FROM WHEN IT HAD TO BEGIN", "FROM WHEN IT BEGAN"], rows)
        } else {
            aligned(["LATENCY", ""], rows.map(|(name, latency, _)| [name.to_owned(), micros(latency)]))
        };
        format!("\n{table}")
    }

    fn bars(&self) -> String {
        let buckets = buckets(&self.latencies, coarse());
        let most = buckets.iter().map(|bucket| bucket.calls).max().unwrap_or(1);
        let width = buckets.iter().map(|bucket| bucket.calls.to_string().len()).max().unwrap_or(0);
        let mut text = "\n".to_owned();
        for Bucket { below_us, calls } in buckets {
            let bar = (calls as f64 / most as f64 * BAR as f64).ceil() as usize;
            let line = format!("< {:>7}  {calls:>width$}  {}", edge(below_us), "█".repeat(bar));
            writeln!(text, "{}", line.trim_end()).expect("a string");
        }
        text
    }
}

impl Quantiles {
    fn new(times: &Histogram<u64>) -> Self {
        let at = |(name, quantile): &(&'static str, f64)| {
            let nanos = if *quantile == 0.0 { times.min() } else { times.value_at_quantile(*quantile) };
            (*name, nanos as f64 / 1e3)
        };
        Self { mean: times.mean() / 1e3, at: QUANTILES.iter().map(at).collect() }
    }
}

/// A round number of microseconds.
fn edge(us: f64) -> String {
    match us {
        ..1.0 => format!("{:.0} ns", us * 1e3),
        ..1e3 => format!("{us:.0} µs"),
        ..1e6 => format!("{:.0} ms", us / 1e3),
        _ => format!("{:.0} s", us / 1e6),
    }
}

/// Nanoseconds: 1, 2, 5, 10 and so on.
fn coarse() -> impl Iterator<Item = u64> {
    (0..13).flat_map(|power| [1, 2, 5].map(|step| step * 10_u64.pow(power)))
}

/// Nanoseconds, four for each power of two.
fn fine() -> impl Iterator<Item = u64> {
    (2..43).flat_map(|power| [4, 5, 6, 7].map(|quarter| quarter << (power - 2)))
}

/// The buckets between these edges, from the first to the last that has a call.
fn buckets(latencies: &Histogram<u64>, edges: impl Iterator<Item = u64>) -> Vec<Bucket> {
    let mut steps = latencies.iter_recorded().peekable();
    let mut buckets = Vec::new();
    for edge in edges {
        let mut calls = 0;
        while let Some(step) = steps.next_if(|step| step.value_iterated_to() < edge) {
            calls += step.count_since_last_iteration();
        }
        if calls > 0 || !buckets.is_empty() {
            buckets.push(Bucket { below_us: edge as f64 / 1e3, calls });
        }
        if steps.peek().is_none() {
            break;
        }
    }
    buckets
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use notnets::rpc::Status;

    use super::super::recorder::{Recorder, Times};
    use super::super::work::Volume;
    use super::*;

    /// 90 calls that took 3 µs, 9 that took 40 µs, and one that failed after 1.5 ms, all one second late.
    fn report(pace: Pace) -> Report {
        let recorder = Recorder::new(3);
        let began = Instant::now() + Duration::from_secs(1);
        let times = Times { intended: began - Duration::from_secs(1), began };
        let volume = Volume { sent_bytes: 10, received_messages: 1, received_bytes: 20 };
        for n in 0..99 {
            let took = Duration::from_micros(if n < 90 { 3 } else { 40 });
            recorder.record(n, times, began + took, &Ok(volume));
        }
        let failed = Err(Status::new(rpc::Code::UNAVAILABLE, "gone\n"));
        recorder.record(99, times, began + Duration::from_micros(1500), &failed);
        let times = match pace {
            Pace::Open(_) => {
                let mut record = recorder.total();
                record.latencies = record.service_times.clone();
                record
            }
            Pace::Rate { .. } => recorder.total(),
        };
        let outcome = Outcome { record: times, elapsed: Duration::from_secs(2), unfinished: 0 };
        let plan = Plan { pace, warm_up: Duration::ZERO, duration: None, count: None };
        Report::new("shop".to_owned(), "a.B/C", 1, &plan, &outcome)
    }

    #[test]
    fn all_is_said_of_a_closed_loop() {
        let report = report(Pace::Open(4));
        let expected = "\
a.B/C at shop: 1 connection, 4 calls open at once
100 calls in 2.00 s: 50.0 calls/s, 495 B/s sent, 990 B/s received

STATUS       CALLS    SHARE
OK              99  99.00 %
UNAVAILABLE      1   1.00 %

1 × UNAVAILABLE: gone\\n

LATENCY         \n\
min      3.00 µs
p50      3.00 µs
p75      3.00 µs
p90      3.00 µs
p95      40.0 µs
p99      40.0 µs
p99.9    1.50 ms
p99.99   1.50 ms
max      1.50 ms
mean     21.3 µs

<    5 µs  90  ████████████████████████████████████████
<   10 µs   0
<   20 µs   0
<   50 µs   9  ████
<  100 µs   0
<  200 µs   0
<  500 µs   0
<    1 ms   0
<    2 ms   1  █
";
        let lines = |text: &str| text.lines().map(|line| line.trim_end().to_owned()).collect::<Vec<_>>();
        assert_eq!(lines(&report.text()), lines(expected));
        let failure = report.failure().expect("a call failed");
        assert_eq!(failure.exit_code(), 64 + 14);
        assert_eq!(failure.to_string(), "1 of 100 calls failed with UNAVAILABLE");
    }

    #[test]
    fn with_a_rate_the_time_that_calls_were_late_counts() {
        let report = report(Pace::Rate { per_second: 50.0, most_open: 7 });
        let json: serde_json::Value = serde_json::from_str(&report.json()).expect("valid JSON");
        assert_eq!(json["rate"], 50.0);
        let at = |times: &str, name: &str| json[times][name].as_f64().expect("a time");
        assert!((at("latency_us", "p50") / 1e6 - 1.0).abs() < 0.01, "{json}");
        assert!((at("service_time_us", "p50") / 3.0 - 1.0).abs() < 0.01, "{json}");
        let buckets = json["histogram"].as_array().expect("a list");
        let calls: u64 = buckets.iter().filter_map(|bucket| bucket["calls"].as_u64()).sum();
        assert_eq!(calls, 100);
        assert!(
            report.text().contains("p50                          1.0 s             3.00 µs"),
            "{}",
            report.text()
        );
    }
}
