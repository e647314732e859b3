//! What is kept of calls that have ended.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use notnets::rpc::{Code, Status};
use notnets_cli_common::shards::Shards;

use super::work::Volume;

/// The longest time that is told from longer ones.
const LONGEST: Duration = Duration::from_secs(3600);
/// Messages of statuses that are kept apart.
const MESSAGES: usize = 20;

/// Records calls.
pub struct Recorder(Shards<Record>);

/// Calls that have ended.
#[derive(Clone)]
pub struct Record {
    /// Nanoseconds from when calls had to begin.
    pub latencies: Histogram<u64>,
    /// Nanoseconds from when they began.
    pub service_times: Histogram<u64>,
    pub volume: Volume,
    pub ok: u64,
    /// Those that did not end well, by code and message.
    pub failed: BTreeMap<(u32, String), u64>,
    /// When the last one ended.
    pub last: Option<Instant>,
}

/// The times of a call.
#[derive(Clone, Copy, Debug)]
pub struct Times {
    /// When it had to begin.
    pub intended: Instant,
    /// When it began.
    pub began: Instant,
}

impl Record {
    pub fn new() -> Self {
        let histogram = || {
            let longest = LONGEST.as_nanos() as u64;
            Histogram::new_with_bounds(1, longest, 3).expect("constant bounds that are in order")
        };
        Self {
            latencies: histogram(),
            service_times: histogram(),
            volume: Volume::default(),
            ok: 0,
            failed: BTreeMap::new(),
            last: None,
        }
    }

    fn add_call(&mut self, times: Times, ended: Instant, result: &Result<Volume, Status>) {
        let nanos = |since: Instant| (ended.saturating_duration_since(since).as_nanos() as u64).max(1);
        self.latencies.saturating_record(nanos(times.intended));
        self.service_times.saturating_record(nanos(times.began));
        self.last = self.last.max(Some(ended));
        match result {
            Ok(volume) => {
                self.ok += 1;
                self.volume.add(*volume);
            }
            Err(status) => self.add_failures(status.code(), status.message(), 1),
        }
    }

    fn add_failures(&mut self, code: Code, message: &str, calls: u64) {
        let message = if self.failed.len() < MESSAGES { message } else { "" };
        *self.failed.entry((code.0, message.to_owned())).or_default() += calls;
    }

    fn add(&mut self, other: &Self) {
        self.latencies.add(&other.latencies).expect("the same bounds");
        self.service_times.add(&other.service_times).expect("the same bounds");
        self.volume.add(other.volume);
        self.ok += other.ok;
        self.last = self.last.max(other.last);
        for ((code, message), calls) in &other.failed {
            self.add_failures(Code(*code), message, *calls);
        }
    }

    /// All calls.
    pub fn calls(&self) -> u64 {
        self.ok + self.failed.values().sum::<u64>()
    }
}

impl Volume {
    fn add(&mut self, other: Self) {
        self.sent_bytes += other.sent_bytes;
        self.received_messages += other.received_messages;
        self.received_bytes += other.received_bytes;
    }
}

impl Recorder {
    /// Records calls of so many threads.
    pub fn new(threads: usize) -> Self {
        Self(Shards::new(threads, Record::new))
    }

    /// Records the `n`th call.
    pub fn record(&self, n: u64, times: Times, ended: Instant, result: &Result<Volume, Status>) {
        self.0.of(n as usize).add_call(times, ended, result);
    }

    /// All calls so far.
    pub fn total(&self) -> Record {
        let mut all = Record::new();
        for record in self.0.all() {
            all.add(&record);
        }
        all
    }
}
