//! What a process holds, over time: it has to stay flat.

use std::fs;

/// What a process holds at one time.
#[derive(Clone, Copy, Debug, Default)]
pub struct Footprint {
    /// Resident memory, in KiB.
    pub resident: u64,
    /// Open descriptors.
    pub descriptors: u64,
    /// Mappings.
    pub mappings: u64,
}

impl Footprint {
    /// Of a process now; `None` if it has ended.
    pub fn of(pid: u32) -> Option<Self> {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
        Some(Self {
            resident: resident.trim().trim_end_matches(" kB").parse().ok()?,
            descriptors: fs::read_dir(format!("/proc/{pid}/fd")).ok()?.count() as u64,
            mappings: fs::read_to_string(format!("/proc/{pid}/maps")).ok()?.lines().count() as u64,
        })
    }

    fn max(self, other: Self) -> Self {
        Self {
            resident: self.resident.max(other.resident),
            descriptors: self.descriptors.max(other.descriptors),
            mappings: self.mappings.max(other.mappings),
        }
    }
}

/// The most that a process has held in each half of its samples.
pub fn halves(samples: &[Footprint]) -> [Footprint; 2] {
    let most = |samples: &[Footprint]| samples.iter().copied().fold(Footprint::default(), Footprint::max);
    let (first, second) = samples.split_at(samples.len() / 2);
    [most(first), most(second)]
}

/// # Errors
/// When more was held in the second half than chance explains.
pub fn check([first, second]: [Footprint; 2]) -> Result<(), String> {
    let limits = Footprint {
        resident: first.resident + first.resident / 4 + (16 << 10),
        descriptors: first.descriptors + 32,
        mappings: first.mappings + first.mappings / 4 + 64,
    };
    if second.max(limits).resident > limits.resident
        || second.descriptors > limits.descriptors
        || second.mappings > limits.mappings
    {
        return Err(format!("it grows: at first {first:?}, then {second:?}"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn growth_is_noticed() {
        let flat = |resident, descriptors| Footprint { resident, descriptors, mappings: 100 };
        let samples = [flat(50_000, 40), flat(60_000, 30), flat(61_000, 50), flat(50_000, 35)];
        assert_eq!(check(halves(&samples)), Ok(()));
        let samples = [flat(50_000, 40), flat(60_000, 30), flat(160_000, 50), flat(50_000, 35)];
        assert!(check(halves(&samples)).is_err());
        let samples = [flat(50_000, 40), flat(60_000, 30), flat(61_000, 50), flat(50_000, 135)];
        assert!(check(halves(&samples)).is_err());
        assert!(Footprint::of(std::process::id()).is_some_and(|own| own.resident > 0 && own.descriptors > 2));
    }
}
