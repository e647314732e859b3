//! The figures of a case: those of one round, and their medians over several.

use notnets_cli_common::number::median;
use serde::Serialize;

use notnets_core::cgroup::Throttling;

use super::case::Case;
use super::factors::Factor;
use super::recorder::{Sample, merged};
use crate::latencies::QUANTILES;
use crate::usage::Switches;

/// The resources that a round used besides the clients' processor time.
pub struct ResourceUsage {
    /// Processor time of all servers, in nanoseconds.
    pub servers_cpu: u64,
    /// Processor time of the neighbours that the case asked for, in nanoseconds.
    pub neighbours_cpu: u64,
    /// How often servers and clients used up their quota.
    pub throttling: Throttling,
    /// Context switches of servers and clients.
    pub switches: Switches,
    /// Time that all cores together were not idle, in nanoseconds.
    pub host_busy: u64,
    /// Lines that servers and clients fetched from the other host of a pod.
    pub lines: (u64, u64),
}

/// The figures of one round, or the medians of several.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Figures {
    /// Half of the calls took no longer, in microseconds.
    pub p50_us: f64,
    /// 99 of 100 took no longer.
    pub p99_us: f64,
    /// 999 of 1000 took no longer.
    pub p999_us: f64,
    /// Calls that ended in a second, of all clients together.
    pub calls_per_s: f64,
    /// Processor time for a call, of all processes.
    pub cpu_us_per_call: f64,
    /// Of that, the clients'.
    pub client_cpu_us_per_call: f64,
    /// Of that, the servers'.
    pub server_cpu_us_per_call: f64,
    /// Times that a thread waited in the kernel, for each call; each is followed by a wake-up.
    pub wake_ups_per_call: f64,
    /// Times that a thread lost its core to another, for each call.
    pub preemptions_per_call: f64,
    /// Periods of a tenth of a second, for each second, in which servers and clients used up their quota. 0
    /// without a quota.
    pub throttled_per_s: f64,
    /// Milliseconds of each second that they waited for the next period, added up over cores.
    pub throttled_ms_per_s: f64,
    /// Cores that others than the case's processes and neighbours kept busy meanwhile: above a few
    /// hundredths, the figures are disturbed.
    pub disturbance: f64,
    /// Lines of a pod's region that the servers fetched for each call, since the other host had changed them.
    /// 0 within one host.
    pub lines_to_servers_per_call: f64,
    /// Lines of a pod's region that the clients fetched for each call.
    pub lines_to_clients_per_call: f64,
    /// Calls of all rounds. The reply of each was checked.
    pub replies_checked: u64,
    /// Latencies at each of [`QUANTILES`].
    #[serde(skip)]
    pub quantiles_us: Vec<f64>,
}

impl Figures {
    /// Calculates the figures of a round.
    pub fn new(samples: &[Sample], usage: &ResourceUsage) -> Self {
        let latencies = merged(samples);
        let at = |quantile| latencies.value_at_quantile(quantile) as f64 / 1000.0;
        let calls: u64 = samples.iter().map(|sample| sample.calls).sum();
        let clients_cpu: u64 = samples.iter().map(|sample| sample.cpu).sum();
        let seconds = samples.iter().map(|sample| sample.seconds).fold(f64::MIN_POSITIVE, f64::max);
        let others = usage.host_busy.saturating_sub(clients_cpu + usage.servers_cpu + usage.neighbours_cpu);
        let each = |total: u64| total as f64 / calls.max(1) as f64;
        let client_cpu = each(clients_cpu) / 1000.0;
        let server_cpu = each(usage.servers_cpu) / 1000.0;
        Self {
            p50_us: at(0.5),
            p99_us: at(0.99),
            p999_us: at(0.999),
            calls_per_s: samples.iter().map(|sample| sample.calls as f64 / sample.seconds).sum(),
            cpu_us_per_call: client_cpu + server_cpu,
            client_cpu_us_per_call: client_cpu,
            server_cpu_us_per_call: server_cpu,
            wake_ups_per_call: each(usage.switches.voluntary),
            preemptions_per_call: each(usage.switches.involuntary),
            throttled_per_s: usage.throttling.periods as f64 / seconds,
            throttled_ms_per_s: usage.throttling.nanos as f64 / 1e6 / seconds,
            disturbance: others as f64 / 1e9 / seconds,
            lines_to_servers_per_call: each(usage.lines.0),
            lines_to_clients_per_call: each(usage.lines.1),
            replies_checked: calls,
            quantiles_us: QUANTILES.map(at).to_vec(),
        }
    }

    /// Returns the median of each figure.
    pub fn median(rounds: &[Self]) -> Self {
        let of = |figure: &dyn Fn(&Self) -> f64| median(rounds.iter().map(figure).collect());
        Self {
            p50_us: of(&|round| round.p50_us),
            p99_us: of(&|round| round.p99_us),
            p999_us: of(&|round| round.p999_us),
            calls_per_s: of(&|round| round.calls_per_s),
            cpu_us_per_call: of(&|round| round.cpu_us_per_call),
            client_cpu_us_per_call: of(&|round| round.client_cpu_us_per_call),
            server_cpu_us_per_call: of(&|round| round.server_cpu_us_per_call),
            wake_ups_per_call: of(&|round| round.wake_ups_per_call),
            preemptions_per_call: of(&|round| round.preemptions_per_call),
            throttled_per_s: of(&|round| round.throttled_per_s),
            throttled_ms_per_s: of(&|round| round.throttled_ms_per_s),
            disturbance: of(&|round| round.disturbance),
            lines_to_servers_per_call: of(&|round| round.lines_to_servers_per_call),
            lines_to_clients_per_call: of(&|round| round.lines_to_clients_per_call),
            replies_checked: rounds.iter().map(|round| round.replies_checked).sum(),
            quantiles_us: (0..QUANTILES.len()).map(|nth| of(&|round| round.quantiles_us[nth])).collect(),
        }
    }
}

/// A case and its figures, as they stand in a line of JSON.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// The kind of call.
    pub case: String,
    /// All of the case.
    #[serde(flatten)]
    pub of: Case,
    /// The medians.
    #[serde(flatten)]
    pub figures: Figures,
    /// Rounds of which the figures are the medians.
    pub repeats: u32,
}

impl Row {
    /// The medians of a case's rounds.
    pub fn new(case: &Case, rounds: &[Figures]) -> Self {
        let figures = Figures::median(rounds);
        Self { case: case.work.to_string(), of: case.clone(), figures, repeats: rounds.len() as u32 }
    }
}

/// The rows of a factor, each with the level it was measured at.
pub struct Measured {
    /// The factor that was varied.
    pub factor: Factor,
    /// The index of the level, and its row.
    pub rows: Vec<(usize, Row)>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_of_all_clients() {
        let sample = |calls, cpu, nanos| Sample { calls, seconds: 2.0, cpu, latencies: vec![(nanos, calls)] };
        let usage = ResourceUsage {
            servers_cpu: 40_000,
            switches: Switches { voluntary: 20, involuntary: 5 },
            neighbours_cpu: 3_000_000_000,
            throttling: Throttling { periods: 4, nanos: 50_000_000 },
            host_busy: 4_000_100_000,
            lines: (30, 10),
        };
        let figures = Figures::new(&[sample(6, 10_000, 1000), sample(4, 50_000, 9000)], &usage);
        assert_eq!(figures.calls_per_s, 5.0);
        assert_eq!((figures.client_cpu_us_per_call, figures.server_cpu_us_per_call), (6.0, 4.0));
        assert_eq!((figures.wake_ups_per_call, figures.preemptions_per_call), (2.0, 0.5));
        assert!((figures.p50_us - 1.0).abs() < 0.01 && (figures.p99_us - 9.0).abs() < 0.01);
        assert_eq!((figures.lines_to_servers_per_call, figures.lines_to_clients_per_call), (3.0, 1.0));
        assert_eq!((figures.throttled_per_s, figures.throttled_ms_per_s), (2.0, 25.0));
        assert_eq!((figures.replies_checked, figures.disturbance), (10, 0.5));
    }
}
