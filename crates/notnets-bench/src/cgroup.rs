//! CPU quotas by control groups of the kernel, version 1 or 2: whichever has the CPU controller.
//!
//! A group is made below the one that this process is in. In version 2 processes stay in the group above it,
//! so the group below is a threaded one: only of such may a group with processes share out its processors.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use notnets_core::cgroup::{self, Version};

use crate::Result;

/// The time after which a quota begins anew.
const PERIOD_US: u64 = 100_000;

/// What a user can do who may not make groups.
const ADVICE: &str = "run it as root, or, on a system of systemd, by `systemd-run --user --scope -p Delegate=yes`; \
                      a container needs its own groups, writable";

/// A group of processes that have a CPU quota together. It is there until it is removed.
#[derive(Debug)]
pub struct Group {
    own: cgroup::Group,
    directory: PathBuf,
    /// The CPU controller was enabled for this group, and is disabled with it.
    enabled: bool,
}

impl Group {
    /// Makes a group of that name, whose processes may keep that number of cores busy on average.
    ///
    /// # Errors
    /// When it can't be made, with what a user can do. Nothing is left behind then.
    pub fn create(name: &str, cores: f64) -> Result<Self> {
        let own = cgroup::Group::own().ok_or_else(|| {
            format!(
                "no CPU quota can be set: /proc/self/cgroup and /proc/self/mountinfo show no group with the CPU \
                 controller; {ADVICE}"
            )
        })?;
        Self::create_below(own, name, cores)
    }

    fn create_below(own: cgroup::Group, name: &str, cores: f64) -> Result<Self> {
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

    fn own(version: Version, directory: &Path) -> cgroup::Group {
        cgroup::Group { version, directory: directory.to_owned(), mount: directory.to_owned() }
    }

    #[test]
    fn a_group_without_quota_is_not_left_behind() {
        let directory = TempDir::new().unwrap();
        for version in [Version::V1, Version::V2] {
            let own = own(version, directory.path());
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
        let own = own(Version::V1, directory.path());
        assert!(Group::create_below(own, "mine", 0.5).is_err());
        assert!(directory.path().join("mine").exists());
    }
}
