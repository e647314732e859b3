//! The control group that shares out processors to this process, of version 1 or 2 of the kernel's interface:
//! whichever has the CPU controller.

use std::fs;
use std::path::{Path, PathBuf};

/// A version of the kernel's interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// A hierarchy for each controller.
    V1,
    /// One hierarchy for all.
    V2,
}

/// A group of processes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// Of which version.
    pub version: Version,
    /// The directory that stands for it.
    pub directory: PathBuf,
    /// Where its hierarchy is mounted: what is above is not seen.
    pub mount: PathBuf,
}

/// A CPU quota: all processes of a group and of those below it may not use more.
#[derive(Clone, Debug, PartialEq)]
pub struct Quota {
    /// The number of cores that may be busy, on average over a period.
    pub cores: f64,
    /// The directory of its group.
    pub directory: PathBuf,
}

/// How often a quota was used up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Throttling {
    /// Periods in which it was.
    pub periods: u64,
    /// The time that processes waited for the next period, in nanoseconds, added up over cores.
    pub nanos: u64,
}

impl Throttling {
    /// Returns that of a directory's group so far: none where that can't be read.
    pub fn of(directory: &Path) -> Self {
        Self::parse(&read(&directory.join("cpu.stat")))
    }

    /// Returns what has come since an earlier look.
    pub fn since(self, earlier: Self) -> Self {
        Self {
            periods: self.periods.saturating_sub(earlier.periods),
            nanos: self.nanos.saturating_sub(earlier.nanos),
        }
    }

    fn parse(stat: &str) -> Self {
        let mut throttling = Self::default();
        for line in stat.lines() {
            let Some((name, value)) = line.split_once(' ') else { continue };
            let value: u64 = value.trim().parse().unwrap_or(0);
            match name {
                "nr_throttled" => throttling.periods = value,
                "throttled_time" => throttling.nanos = value,
                "throttled_usec" => throttling.nanos = value.saturating_mul(1000),
                _ => {}
            }
        }
        throttling
    }
}

impl Group {
    /// Finds the group of this process. `None` where none is to be seen.
    pub fn own() -> Option<Self> {
        Self::find(&read(Path::new("/proc/self/cgroup")), &read(Path::new("/proc/self/mountinfo")))
    }

    /// Returns the strictest quota of this group and of those above it.
    pub fn quota(&self) -> Option<Quota> {
        let above = self.directory.ancestors().take_while(|directory| directory.starts_with(&self.mount));
        let quotas = above.filter_map(|directory| {
            let cores = cores(self.version, directory)?;
            Some(Quota { cores, directory: directory.to_owned() })
        });
        quotas.min_by(|a, b| a.cores.total_cmp(&b.cores))
    }

    /// Finds it in the texts of `/proc/self/cgroup` and `/proc/self/mountinfo`.
    fn find(groups: &str, mounts: &str) -> Option<Self> {
        // A line is "number:controllers:path". Version 2 has the number 0 and names no controllers; it has
        // those that version 1 does not.
        let lines = || groups.lines().filter_map(|line| line.split_once(':')?.1.split_once(':'));
        let first = lines().find(|(controllers, _)| controllers.split(',').any(|name| name == "cpu"));
        let (version, path) = match first {
            Some((_, path)) => (Version::V1, path),
            None => (Version::V2, lines().find(|(controllers, _)| controllers.is_empty())?.1),
        };
        mounts.lines().find_map(|line| Self::mounted_by(line, version, path))
    }

    /// Returns the group of a path, if this line of `mountinfo` mounts its hierarchy.
    fn mounted_by(mount: &str, version: Version, path: &str) -> Option<Self> {
        // "… root mount-point options [more fields] - type source super-options"
        let (place, kind) = mount.split_once(" - ")?;
        let mut place = place.split(' ').skip(3);
        let root = place.next()?;
        let mount = Path::new(place.next()?);
        let mut kind = kind.split(' ');
        let mounted = match version {
            Version::V1 => kind.next()? == "cgroup" && kind.nth(1)?.split(',').any(|option| option == "cpu"),
            Version::V2 => kind.next()? == "cgroup2",
        };
        let below = Path::new(path).strip_prefix(root).ok()?;
        mounted.then(|| Self { version, directory: mount.join(below), mount: mount.to_owned() })
    }
}

/// Returns the quota of a directory's group alone, in cores.
fn cores(version: Version, directory: &Path) -> Option<f64> {
    let read = |name: &str| read(&directory.join(name));
    let texts = match version {
        Version::V1 => read("cpu.cfs_quota_us") + " " + &read("cpu.cfs_period_us"),
        Version::V2 => read("cpu.max"),
    };
    // Without a quota the first is "max" or "-1".
    let mut micros =
        texts.split_whitespace().map(|word| word.parse().ok().filter(|micros: &f64| *micros > 0.0));
    Some(micros.next()?? / micros.next()??)
}

/// Reads one of a group's files. One that can't be read is empty.
fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TWO: &str = "28 23 0:25 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate\n";

    fn found(groups: &str, mounts: &str) -> Option<(Version, String)> {
        Group::find(groups, mounts).map(|own| (own.version, own.directory.display().to_string()))
    }

    #[test]
    fn the_own_group_is_found_in_both_versions() {
        let one = "31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755\n\
                   33 31 0:30 / /sys/fs/cgroup/cpuset rw - cgroup cgroup rw,cpuset\n\
                   32 31 0:29 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu,cpuacct\n\
                   41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n";
        let groups = "9:name=systemd:/\n3:cpuset:/\n1:cpu,cpuacct:/a/b\n0::/elsewhere\n";
        assert_eq!(found(groups, one), Some((Version::V1, "/sys/fs/cgroup/cpu/a/b".into())));
        let scope = "/sys/fs/cgroup/user.slice/run-1:2.scope";
        assert_eq!(found("0::/user.slice/run-1:2.scope\n", TWO), Some((Version::V2, scope.into())));
        // The controllers of version 1 are not those of version 2.
        assert_eq!(found("4:memory:/\n0::/\n", TWO), Some((Version::V2, "/sys/fs/cgroup/".into())));
    }

    #[test]
    fn a_container_sees_a_part_of_the_groups() {
        let mount = "32 31 0:29 /docker/c1 /sys/fs/cgroup/cpu ro master:9 - cgroup cgroup rw,cpu\n";
        let below = found("1:cpu:/docker/c1/job\n", mount);
        assert_eq!(below, Some((Version::V1, "/sys/fs/cgroup/cpu/job".into())));
        assert_eq!(found("1:cpu:/docker/c2\n", mount), None);
    }

    #[test]
    fn without_groups_there_is_no_own_one() {
        assert_eq!(found("", TWO), None);
        assert_eq!(found("0::/\n", ""), None);
        assert_eq!(found("1:cpu:/\nnonsense\n", "nonsense - \n"), None);
    }

    #[test]
    fn the_strictest_quota_of_all_groups_above_counts() {
        let mount = tempfile::tempdir().unwrap();
        let directory = mount.path().join("pod/container");
        fs::create_dir_all(&directory).unwrap();
        let write = |path: &str, text: &str| fs::write(mount.path().join(path), text).unwrap();
        let mut group = Group { version: Version::V2, directory, mount: mount.path().to_owned() };
        assert_eq!(group.quota(), None);
        write("pod/container/cpu.max", "max 100000\n");
        assert_eq!(group.quota(), None);
        write("pod/cpu.max", "150000 100000\n");
        assert_eq!(group.quota(), Some(Quota { cores: 1.5, directory: mount.path().join("pod") }));
        write("pod/container/cpu.max", "30000 50000\n");
        assert_eq!(group.quota().unwrap().cores, 0.6);
        group.version = Version::V1;
        write("pod/container/cpu.cfs_quota_us", "-1\n");
        write("pod/container/cpu.cfs_period_us", "100000\n");
        assert_eq!(group.quota(), None);
        write("pod/container/cpu.cfs_quota_us", "60000\n");
        assert_eq!(group.quota().unwrap().cores, 0.6);
        for nonsense in ["", "x", "60000", "0 0", "1 0", "-5 100000"] {
            write("pod/container/cpu.cfs_quota_us", nonsense);
            write("pod/container/cpu.cfs_period_us", "");
            assert_eq!(group.quota(), None, "{nonsense}");
        }
    }

    #[test]
    fn throttling_is_read_in_both_versions() {
        let one = "nr_periods 9\nnr_throttled 4\nthrottled_time 81000000\nnr_bursts 0\n";
        let two = "usage_usec 7\nnr_periods 9\nnr_throttled 4\nthrottled_usec 81000\n";
        let expected = Throttling { periods: 4, nanos: 81_000_000 };
        assert_eq!((Throttling::parse(one), Throttling::parse(two)), (expected, expected));
        assert_eq!(Throttling::parse("usage_usec 7\n"), Throttling::default());
    }
}
