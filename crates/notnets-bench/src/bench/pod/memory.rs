//! The memory of a pod: what this machine's is taken for.

use std::fmt;
use std::fs::OpenOptions;
use std::path::Path;
use std::time::Duration;

use notnets_memory::LINE;
use notnets_memory::far_memory_model::{self, FarMemory, Queues};
use serde::{Deserialize, Serialize};

use crate::Result;

/// A model of far memory, on top of what this machine's memory takes. The default is this machine's memory,
/// of which lines are counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Memory {
    /// What fetching a line that the other host wrote takes.
    pub line_ns: u64,
    /// What a fence behind written lines waits for, under software coherence.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub write_ns: u64,
    /// Gigabytes that each host reads in a second, and writes meanwhile. `None`: as this machine does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host_gb_per_s: Option<f64>,
    /// Gigabytes that all hosts together do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device_gb_per_s: Option<f64>,
    /// Kibibytes of the cache of each process.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache_kib: Option<usize>,
    /// There is no model, and lines are not counted: that takes as long as a small look does.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub uncounted: bool,
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

impl Memory {
    /// This machine's memory, of which lines are counted.
    pub const LOCAL: Self = Self::line(0);

    /// This machine's memory, and no model of it.
    pub const UNCOUNTED: Self = Self { uncounted: true, ..Self::LOCAL };

    /// What is reported of CXL memory that is not far, by the latency of a line alone.
    pub const TYPICAL: Self = Self::line(250);

    /// Memories that there are or may be, by name. The figures are public ones (`docs/benchmarking.md` has
    /// the sources), less what this machine's memory takes itself.
    pub const KINDS: [(&str, Self); 4] = [
        ("this machine's", Self::LOCAL),
        ("expander", Self::kind(115, 115, 26.0, 26.0)),
        ("switch pod", Self::kind(400, 400, 26.0, 52.0)),
        ("first generation", Self::kind(460, 460, 12.0, 12.0)),
    ];

    const fn kind(line_ns: u64, write_ns: u64, host: f64, device: f64) -> Self {
        let (host_gb_per_s, device_gb_per_s) = (Some(host), Some(device));
        Self { write_ns, host_gb_per_s, device_gb_per_s, ..Self::line(line_ns) }
    }

    /// Memory in which fetching a line takes so many nanoseconds, and that is all.
    pub const fn line(line_ns: u64) -> Self {
        Self {
            line_ns,
            write_ns: 0,
            host_gb_per_s: None,
            device_gb_per_s: None,
            cache_kib: None,
            uncounted: false,
        }
    }

    /// The model's own time for so many bytes that are read one behind the other, in microseconds.
    pub fn read_us(&self, bytes: usize) -> f64 {
        let bandwidths = [self.host_gb_per_s, self.device_gb_per_s];
        let slowest = bandwidths.into_iter().flatten().fold(f64::INFINITY, f64::min);
        self.line_ns as f64 / 1e3 + bytes as f64 / slowest / 1e3
    }

    /// Begins the model in this process: before it opens the region. `queues` is a file that all processes of
    /// the pod have.
    ///
    /// # Errors
    /// When there are no such queues.
    pub fn begin(&self, queues: &Path, host: usize) -> Result {
        if self.uncounted {
            return Ok(());
        }
        let file = OpenOptions::new().read(true).write(true).open(queues)?;
        let bytes = |gigabytes: f64| (gigabytes * 1e9) as u64;
        let memory = FarMemory {
            latency: Duration::from_nanos(self.line_ns),
            write_latency: Duration::from_nanos(self.write_ns),
            host_bandwidth: self.host_gb_per_s.map(bytes),
            device_bandwidth: self.device_gb_per_s.map(bytes),
            cache_lines: self.cache_kib.map(|kib| (kib << 10) / LINE),
        };
        far_memory_model::begin(memory, Queues::shared(&file, host)?);
        Ok(())
    }
}

/// What distinguishes it from this machine's: `+250` for a latency, `/20` for the bandwidth of a host.
impl fmt::Display for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.line_ns > 0 {
            write!(f, "+{}", self.line_ns)?;
        }
        match self.host_gb_per_s.or(self.device_gb_per_s) {
            Some(bandwidth) => write!(f, "/{bandwidth}"),
            None => Ok(()),
        }
    }
}
