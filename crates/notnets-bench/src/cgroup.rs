//! CPU quotas by control groups of the kernel, version 1 or 2: whichever has the CPU controller.
//!
//! A group is made below the one that this process is in. In version 2 processes stay in the group above it,
//! so the group below is a threaded one: only of such may a group with processes share out its processors.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use crate::Result;

/// The time after which a quota begins anew.
const PERIOD_US: u64 = 100_000;

/// What a user can do who may not make groups.
const ADVICE: &str = "run it as root, or, on a system of systemd, by `systemd-run --user --scope -p Delegate=yes`; \
                      a container needs its own groups, writable";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Version {
    V1,
    V2,
}

/// The group that this process is in, where processors are shared out.
#[derive(Debug, PartialEq)]
struct Own {
    version: Version,
    directory: PathBuf,
}

/// A group of processes that have a CPU quota together. It is there until it is removed.
#[derive(Debug)]
pub struct Group {
    own: Own,
    directory: PathBuf,
    /// The CPU controller was enabled for this group, and is disabled with it.
    enabled: bool,
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
    /// Returns what has come since an earlier look.
    pub fn since(self, earlier: Self) -> Self {
        Self {
            periods: self.periods.saturating_sub(earlier.periods),
            nanos: self.nanos.saturating_sub(earlier.nanos),
        }
    }
}

impl Group {
    /// Makes a group of that name, whose processes may keep that number of cores busy on average.
    ///
    /// # Errors
    /// When it can't be made, with what a user can do. Nothing is left behind then.
    pub fn create(name: &str, cores: f64) -> Result<Self> {
        let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let own = own(&groups, &mounts).ok_or_else(|| {
            format!(
                "no CPU quota can be set: /proc/self/cgroup and /proc/self/mountinfo show no group with the CPU \
                 controller; {ADVICE}"
            )
        })?;
        Self::create_below(own, name, cores)
    }

    fn create_below(own: Own, name: &str, cores: f64) -> Result<Self> {
        let directory = own.directory.join(name);
        let failed = |error: io::Error, path: &Path| {
            format!("no CPU quota can be set: {}: {error}; {ADVICE}", path.display())
        };
        fs::create_dir(&directory).map_err(|error| failed(error, &directory))?;
        let mut group = Self { own, directory, enabled: false };
        if let Err((path, error)) = group.limit(cores) {
            // The first error is the one to tell.
            let _ = group.remove();
            return Err(failed(error, &path).into());
        }
        Ok(group)
    }

    fn limit(&mut self, cores: f64) -> std::result::Result<(), (PathBuf, io::Error)> {
        let quota_us = (cores * PERIOD_US as f64) as u64;
        match self.own.version {
            Version::V1 => {
                write(&self.directory.join("cpu.cfs_period_us"), &PERIOD_US.to_string())?;
                write(&self.directory.join("cpu.cfs_quota_us"), &quota_us.to_string())
            }
            Version::V2 => {
                self.enable_controller()?;
                write(&self.directory.join("cpu.max"), &format!("{quota_us} {PERIOD_US}"))
            }
        }
    }

    /// Makes the own group share out its processors to those below.
    fn enable_controller(&mut self) -> std::result::Result<(), (PathBuf, io::Error)> {
        let shared = self.own.directory.join("cgroup.subtree_control");
        if !read(&shared).split_whitespace().any(|controller| controller == "cpu") {
            write(&shared, "+cpu")?;
            self.enabled = true;
        }
        let kind = self.directory.join("cgroup.type");
        if read(&kind).trim() != "domain" {
            write(&kind, "threaded")?;
        }
        Ok(())
    }

    /// Returns the directory that stands for the group.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Removes the group.
    ///
    /// # Errors
    /// When there are processes in it.
    pub fn remove(&self) -> io::Result<()> {
        fs::remove_dir(&self.directory)?;
        // A group that another has made meanwhile relies on the controller.
        if self.enabled && !has_groups(&self.own.directory) {
            // There is no harm in a controller that nothing needs.
            let _ = write(&self.own.directory.join("cgroup.subtree_control"), "-cpu");
        }
        Ok(())
    }
}

/// Moves a process into the group of a directory.
///
/// # Errors
/// When that is not allowed.
pub fn add(directory: &Path, pid: u32) -> Result {
    write(&directory.join("cgroup.procs"), &pid.to_string())
        .map_err(|(path, error)| format!("no process can be moved to {}: {error}", path.display()).into())
}

/// Returns how often the quota of a directory's group was used up so far.
pub fn throttling(directory: &Path) -> Throttling {
    parse_throttling(&read(&directory.join("cpu.stat")))
}

fn parse_throttling(stat: &str) -> Throttling {
    let mut throttling = Throttling::default();
    for line in stat.lines() {
        let Some((name, value)) = line.split_once(' ') else { continue };
        let value = value.trim().parse().unwrap_or(0);
        match name {
            "nr_throttled" => throttling.periods = value,
            "throttled_time" => throttling.nanos = value,
            "throttled_usec" => throttling.nanos = value * 1000,
            _ => {}
        }
    }
    throttling
}

/// Finds the own group, from the texts of `/proc/self/cgroup` and `/proc/self/mountinfo`.
fn own(groups: &str, mounts: &str) -> Option<Own> {
    // A line is "number:controllers:path". Version 2 has the number 0 and names no controllers; it has those
    // that version 1 does not.
    let lines = || groups.lines().filter_map(|line| line.split_once(':')?.1.split_once(':'));
    let first = lines().find(|(controllers, _)| controllers.split(',').any(|name| name == "cpu"));
    let (version, path) = match first {
        Some((_, path)) => (Version::V1, path),
        None => (Version::V2, lines().find(|(controllers, _)| controllers.is_empty())?.1),
    };
    let directory = mounts.lines().find_map(|line| directory(line, version, path))?;
    Some(Own { version, directory })
}

/// Returns the directory of a group's path, if this line of `mountinfo` mounts its hierarchy.
fn directory(mount: &str, version: Version, path: &str) -> Option<PathBuf> {
    // "… root mount-point options [more fields] - type source super-options"
    let (place, kind) = mount.split_once(" - ")?;
    let mut place = place.split(' ').skip(3);
    let root = place.next()?;
    let point = place.next()?;
    let mut kind = kind.split(' ');
    let mounted = match version {
        Version::V1 => kind.next()? == "cgroup" && kind.nth(1)?.split(',').any(|option| option == "cpu"),
        Version::V2 => kind.next()? == "cgroup2",
    };
    let below = Path::new(path).strip_prefix(root).ok()?;
    mounted.then(|| Path::new(point).join(below))
}

/// Returns `true` if there are groups below that of a directory.
fn has_groups(directory: &Path) -> bool {
    fs::read_dir(directory).into_iter().flatten().flatten().any(|entry| entry.path().is_dir())
}

/// Reads one of a group's files. One that is not there is empty.
fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

/// Writes to one of a group's files, which is there.
fn write(path: &Path, text: &str) -> std::result::Result<(), (PathBuf, io::Error)> {
    let written =
        OpenOptions::new().write(true).open(path).and_then(|mut file| file.write_all(text.as_bytes()));
    written.map_err(|error| (path.to_owned(), error))
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;

    const TWO: &str = "28 23 0:25 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate\n";

    fn found(groups: &str, mounts: &str) -> Option<(Version, String)> {
        own(groups, mounts).map(|own| (own.version, own.directory.display().to_string()))
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
    fn throttling_is_read_in_both_versions() {
        let one = "nr_periods 9\nnr_throttled 4\nthrottled_time 81000000\nnr_bursts 0\n";
        let two = "usage_usec 7\nnr_periods 9\nnr_throttled 4\nthrottled_usec 81000\n";
        let expected = Throttling { periods: 4, nanos: 81_000_000 };
        assert_eq!((parse_throttling(one), parse_throttling(two)), (expected, expected));
        assert_eq!(parse_throttling("usage_usec 7\n"), Throttling::default());
    }

    #[test]
    fn a_group_without_quota_is_not_left_behind() {
        let directory = TempDir::new().unwrap();
        for version in [Version::V1, Version::V2] {
            let own = Own { version, directory: directory.path().to_owned() };
            // The files of a group are missing here.
            let error = Group::create_below(own, "mine", 0.5).unwrap_err().to_string();
            assert!(error.contains("/mine/cpu.cfs") || error.contains("/cgroup.subtree"), "{error}");
            assert!(error.ends_with(ADVICE), "{error}");
            assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
        }
    }

    #[test]
    fn a_name_that_is_taken_is_not_touched() {
        let directory = TempDir::new().unwrap();
        fs::create_dir(directory.path().join("mine")).unwrap();
        let own = Own { version: Version::V1, directory: directory.path().to_owned() };
        assert!(Group::create_below(own, "mine", 0.5).is_err());
        assert!(directory.path().join("mine").exists());
    }
}
