//! The memory limits of control groups, of both versions of the interface.

use std::path::{Component, Path, PathBuf};

use super::kernel_file::{field, read};
use super::limit::{Limit, Source};

/// Limits at least this high mean "no limit": version 1 writes the largest number of whole pages then.
const UNLIMITED: u64 = 1 << 62;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Version {
    V1,
    V2,
}

/// The names of a version's files.
struct Files {
    limit: &'static str,
    usage: &'static str,
    /// The key in `memory.stat` for page cache that wasn't used lately, in the group and all below.
    inactive: &'static str,
}

impl Version {
    fn files(self) -> Files {
        match self {
            Version::V1 => Files {
                limit: "memory.limit_in_bytes",
                usage: "memory.usage_in_bytes",
                inactive: "total_inactive_file",
            },
            Version::V2 => Files { limit: "memory.max", usage: "memory.current", inactive: "inactive_file" },
        }
    }
}

/// A control group, by its directory.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Group {
    version: Version,
    directory: PathBuf,
}

impl Group {
    /// The group's limit, if it has one. Reclaimable memory is only looked up where less than `enough` is
    /// free without: the kernel has to add up a lot for that file.
    pub(super) fn limit(&self, enough: u64) -> Option<Limit> {
        let files = self.version.files();
        let read = |file| read(&self.directory.join(file));
        let number = |file| read(file)?.trim().parse::<u64>().ok();
        // Version 2 writes "max" when there is no limit.
        let limit = number(files.limit).filter(|&limit| limit < UNLIMITED)?;
        let usage = number(files.usage)?;
        let reclaimable = match limit.saturating_sub(usage) {
            free if free >= enough => 0,
            _ => read("memory.stat").and_then(|stat| field(&stat, files.inactive)).unwrap_or(0),
        };
        let source = Source::ControlGroup { path: self.directory.clone(), file: files.limit };
        Some(Limit { source, limit, usage, reclaimable })
    }
}

/// Where the hierarchies are mounted that can limit memory.
#[derive(Debug)]
pub(super) struct Mounts(Vec<Mount>);

#[derive(Debug)]
struct Mount {
    version: Version,
    /// The group that is seen at `point`: in a container often its own.
    group: PathBuf,
    point: PathBuf,
}

impl Mounts {
    /// Reads them from `/proc/self/mountinfo`. Empty when it can't be read.
    pub(super) fn read(root: &Path) -> Mounts {
        let mountinfo = read(&root.join("proc/self/mountinfo")).unwrap_or_default();
        Mounts(mountinfo.lines().filter_map(|line| parse_mount(line, root)).collect())
    }

    /// The groups of this process, from its own to the topmost that is visible.
    pub(super) fn groups_of_this_process(&self, root: &Path) -> Vec<Group> {
        let memberships = read(&root.join("proc/self/cgroup")).unwrap_or_default();
        let memberships: Vec<_> = memberships.lines().filter_map(parse_membership).collect();
        // Memory is controlled in one hierarchy only, and version 2's is there even when it isn't that one.
        let one = memberships.iter().find(|(version, _)| *version == Version::V1).or(memberships.first());
        one.map_or_else(Vec::new, |(version, group)| self.upwards(*version, group))
    }

    fn upwards(&self, version: Version, group: &Path) -> Vec<Group> {
        let mut of_version = self.0.iter().filter(|mount| mount.version == version);
        let below = |mount: &Mount| group.strip_prefix(&mount.group).map(Path::to_path_buf).ok();
        let found = of_version.clone().find_map(|mount| Some((mount, below(mount)?)));
        // A group that isn't below any mount is hidden by a namespace: the best that can be seen is the mount
        // itself.
        let found = found.or_else(|| Some((of_version.next()?, PathBuf::new())));
        let Some((mount, below)) = found.filter(|(_, below)| only_names(below)) else { return Vec::new() };
        let directories = below.ancestors().map(|below| mount.point.join(below));
        directories.map(|directory| Group { version, directory }).collect()
    }
}

fn only_names(path: &Path) -> bool {
    path.components().all(|component| matches!(component, Component::Normal(_)))
}

/// One line of `/proc/self/mountinfo`:
/// `32 31 0:29 /group /sys/fs/cgroup/memory rw,relatime shared:9 - cgroup cgroup rw,memory`.
fn parse_mount(line: &str, root: &Path) -> Option<Mount> {
    let (mount, file_system) = line.split_once(" - ")?;
    let mut file_system = file_system.split(' ');
    let version = match file_system.next()? {
        "cgroup2" => Version::V2,
        "cgroup" if file_system.nth(1)?.split(',').any(|option| option == "memory") => Version::V1,
        _ => return None,
    };
    let mut mount = mount.split(' ').skip(3).map(unescaped);
    let group = PathBuf::from(mount.next()?);
    let point = mount.next()?;
    Some(Mount { version, group, point: root.join(point.trim_start_matches('/')) })
}

/// One line of `/proc/self/cgroup`: `4:memory:/group` of version 1, `0::/group` of version 2.
fn parse_membership(line: &str) -> Option<(Version, &Path)> {
    let mut parts = line.splitn(3, ':');
    let hierarchy = parts.next()?;
    let controllers = parts.next()?;
    let group = parts.next()?;
    let version = match (hierarchy, controllers) {
        ("0", "") => Version::V2,
        (_, controllers) if controllers.split(',').any(|controller| controller == "memory") => Version::V1,
        _ => return None,
    };
    Some((version, Path::new(group)))
}

/// Space, tab, newline and backslash are octal escapes in mountinfo.
fn unescaped(text: &str) -> String {
    let replace = |text: String, (escape, character)| text.replace(escape, character);
    [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")].into_iter().fold(text.into(), replace)
}
