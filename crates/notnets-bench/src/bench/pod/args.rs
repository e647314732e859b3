//! How a user asks for a pod.

use std::path::PathBuf;
use std::time::Duration;

use notnets_cli_common::duration;

use super::{Coherence, Given, Memory, Pod};
use crate::Result;

/// The hosts between which calls are made.
#[derive(Clone, Debug, clap::Args)]
pub struct PodArgs {
    /// Between two hosts of a pod that share a region, instead of within one host. All is set up for the run.
    #[arg(long)]
    pub pod: bool,

    /// In a pod: over this region, formatted before with `notnets region format`, instead of a new one in
    /// memory.
    #[arg(long, value_name = "FILE", requires = "pod")]
    region: Option<PathBuf>,

    /// Of that region: the hosts that clients and servers are on, both of them here. They must have no
    /// agents.
    #[arg(long, value_name = "N,N", value_parser = hosts, default_value = "0,1", requires = "region")]
    hosts: [u16; 2],

    /// In a pod: how the region is kept coherent; several are measured in turns [default: hardware,software].
    #[arg(long, value_delimiter = ',', requires = "pod", conflicts_with = "region")]
    coherence: Vec<Coherence>,

    /// In a pod: what fetching a line from the other host takes beyond what it takes here, a model of far
    /// memory: 0ns, 115ns, 250ns, 400ns, 1us or others; several are measured in turns [default: 0ns, in a
    /// matrix these five].
    #[arg(long, value_delimiter = ',', value_parser = duration::parse, requires = "pod")]
    line_latency: Vec<Duration>,

    /// In a pod: what a fence behind written lines waits for under software coherence, as part of the model.
    #[arg(long, value_parser = duration::parse, default_value = "0ns", requires = "pod")]
    write_latency: Duration,

    /// In a pod: gigabytes that each host reads in a second, and writes meanwhile, as part of the model;
    /// lines that are read one behind the other come at this rate [default: each in a tenth of the
    /// latency].
    #[arg(long, value_name = "GB/S", value_parser = bandwidth, requires = "pod")]
    bandwidth: Option<f64>,

    /// In a pod: gigabytes that all hosts together read in a second, and write meanwhile, as part of the
    /// model.
    #[arg(long, value_name = "GB/S", value_parser = bandwidth, requires = "pod")]
    device_bandwidth: Option<f64>,

    /// In a pod: kibibytes of the cache of each process, as part of the model: what was read longer ago is
    /// fetched again [default: 4096, and no more].
    #[arg(long, value_name = "KIB", value_parser = clap::value_parser!(u32).range(1..=4096), requires = "pod")]
    cache: Option<u32>,
}

impl PodArgs {
    /// Returns the pods that are asked for, in all combinations, those of the same latency together. Returns
    /// an empty list if calls are to stay within one host.
    ///
    /// # Errors
    /// When the region can't be used.
    pub fn pods(&self, latencies: &[u64]) -> Result<Vec<Pod>> {
        let (given, coherences) = match &self.region {
            _ if !self.pod => return Ok(Vec::new()),
            Some(file) => {
                let (given, coherence) = Given::begin(file, self.hosts)?;
                (Some(given), vec![coherence])
            }
            None if self.coherence.is_empty() => (None, Coherence::ALL.to_vec()),
            None => (None, self.coherence.clone()),
        };
        let asked: Vec<_> = self.line_latency.iter().map(|latency| latency.as_nanos() as u64).collect();
        let latencies = if asked.is_empty() { latencies } else { &asked };
        let of = |line_ns: u64| {
            let given = given.clone();
            coherences.iter().map(move |coherence| Pod {
                coherence: *coherence,
                memory: Memory { line_ns, ..self.memory() },
                given: given.clone(),
            })
        };
        Ok(latencies.iter().flat_map(|latency| of(*latency)).collect())
    }
}

impl PodArgs {
    /// The model but for the latency of a line.
    fn memory(&self) -> Memory {
        Memory {
            line_ns: 0,
            write_ns: self.write_latency.as_nanos() as u64,
            host_gb_per_s: self.bandwidth,
            device_gb_per_s: self.device_bandwidth,
            cache_kib: self.cache.map(|kib| kib as usize),
            uncounted: false,
        }
    }
}

fn bandwidth(text: &str) -> std::result::Result<f64, String> {
    match text.trim_end_matches("GB/s").parse() {
        Ok(gigabytes) if (0.001..=10_000.0).contains(&gigabytes) => Ok(gigabytes),
        _ => Err("gigabytes in a second are needed, as 20".to_owned()),
    }
}

/// Two different numbers.
fn hosts(text: &str) -> std::result::Result<[u16; 2], String> {
    let numbers: Vec<u16> = text.split(',').filter_map(|number| number.parse().ok()).collect();
    match *numbers {
        [a, b] if a != b => Ok([a, b]),
        _ => Err("two numbers of hosts are needed, as 0,1".to_owned()),
    }
}
