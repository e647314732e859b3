//! Latencies of calls, as a client records and reports them.

use hdrhistogram::Histogram;
use notnets_cli_common::shards::Shards;
use serde::{Deserialize, Serialize};

use crate::latencies::histogram;

/// The outcome of an order to make calls.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Sample {
    /// Calls that ended, each with the reply that it had to have.
    pub calls: u64,
    /// From the start to the end of the last one.
    pub seconds: f64,
    /// The client's processor time meanwhile, in nanoseconds.
    pub cpu: u64,
    /// Pairs of a latency in nanoseconds, to three digits, and the number of calls that took it.
    pub latencies: Vec<(u64, u64)>,
}

/// A client's latencies.
pub struct Recorder(Shards<Histogram<u64>>);

impl Recorder {
    /// Creates a recorder for a runtime with `threads` threads.
    pub fn new(threads: usize) -> Self {
        Self(Shards::new(threads, histogram))
    }

    /// Records a call of a task.
    #[inline]
    pub fn record(&self, task: usize, nanos: u64) {
        self.0.of(task).saturating_record(nanos.max(1));
    }

    /// Returns the latencies in the form in which they go to the benchmark's parent.
    pub fn latencies(&self) -> Vec<(u64, u64)> {
        let mut all = histogram();
        for shard in self.0.all() {
            all.add(&*shard).expect("the same bounds");
        }
        all.iter_recorded()
            .map(|step| (step.value_iterated_to(), step.count_since_last_iteration()))
            .collect()
    }
}

/// One histogram of many clients' latencies.
pub fn merged<'a>(samples: impl IntoIterator<Item = &'a Sample>) -> Histogram<u64> {
    let mut all = histogram();
    for (nanos, count) in samples.into_iter().flat_map(|sample| &sample.latencies) {
        all.saturating_record_n(*nanos, *count);
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn latencies_survive_the_way_to_the_parent() {
        let recorder = Recorder::new(3);
        for nanos in 1..=100_000u64 {
            recorder.record(nanos as usize, nanos);
        }
        let sample = |latencies| Sample { latencies, ..Sample::default() };
        let samples = [sample(recorder.latencies()), sample(vec![(5_000_000, 2)])];
        let all = merged(&samples);
        assert_eq!(all.len(), 100_002);
        for quantile in [0.5, 0.99, 0.999] {
            let value = all.value_at_quantile(quantile) as f64;
            assert!((value / (quantile * 1e5) - 1.0).abs() < 0.002, "{quantile}: {value}");
        }
        assert!(all.max() >= 5_000_000);
    }
}
