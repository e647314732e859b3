//! The machine that figures were measured on.

use std::fs;
use std::thread::available_parallelism;

/// The machine, as far as it matters for the figures.
pub struct Machine {
    /// The processor's name for itself.
    pub processor: String,
    /// How many threads can run at once.
    pub cores: usize,
    /// The kernel's release.
    pub kernel: String,
}

impl Machine {
    /// Describes this machine.
    pub fn look() -> Self {
        let read = |path| fs::read_to_string(path).unwrap_or_default();
        let info = read("/proc/cpuinfo");
        let model = info.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
        Self {
            processor: model.map_or("unknown processor", |(_, name)| name).to_owned(),
            cores: available_parallelism().map_or(1, usize::from),
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
        }
    }
}

impl std::fmt::Display for Machine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { processor, cores, kernel } = self;
        write!(f, "{cores} × {processor}, Linux {kernel}")
    }
}
