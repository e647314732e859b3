//! A CPU quota that processes of a case have together.
//!
//! Its group is made by a process of its own, `notnets bench-quota`, which is not in it and removes it when
//! its input ends. So no group outlives the benchmark, however that ends.

use std::io::{self, ErrorKind};
use std::path::PathBuf;
use std::thread::sleep;
use std::time::{Duration, Instant};

use notnets_core::cgroup::Throttling;

use super::control::{Answer, Ask, Limit};
use super::process::{PATIENCE, Process};
use crate::Result;
use crate::cgroup::{self, Group};
use crate::orders::{answer, first, wait_for_end};

/// How often it is tried to remove a group whose processes are ending.
const TRY_AGAIN: Duration = Duration::from_millis(2);

/// A quota, from the parent's side. It is gone when this has been dropped, if the processes in it have ended.
pub struct Quota {
    /// Until the quota is closed.
    keeper: Option<Process>,
    directory: PathBuf,
}

impl Quota {
    /// Makes the quota: a number of cores. `name` is of nothing else on this host.
    ///
    /// # Errors
    /// When it can't be made, with what a user can do.
    pub async fn open(name: String, cores: f64) -> Result<Self> {
        let mut keeper = Process::start("bench-quota")?;
        let directory = keeper.be(&Ask::Limit(Limit { name, cores })).await?.into();
        Ok(Self { keeper: Some(keeper), directory })
    }

    /// Puts a process under it.
    ///
    /// # Errors
    /// When that is not allowed.
    pub fn add(&self, pid: u32) -> Result {
        cgroup::add(&self.directory, pid)
    }

    /// Returns how often it was used up so far.
    pub fn throttling(&self) -> Throttling {
        Throttling::of(&self.directory)
    }

    /// Removes it when the processes under it have ended.
    ///
    /// # Errors
    /// When they don't end.
    pub async fn close(mut self) -> Result {
        match self.keeper.take() {
            Some(keeper) => keeper.end().await,
            None => Ok(()),
        }
    }
}

impl Drop for Quota {
    fn drop(&mut self) {
        if let Some(mut keeper) = self.keeper.take() {
            keeper.wait_for_end();
        }
    }
}

/// Finds out whether such a quota can be made.
///
/// # Errors
/// When it can't, with what a user can do.
pub async fn check(cores: f64) -> Result {
    Quota::open(format!("notnets-bench-check-{}", std::process::id()), cores).await?.close().await
}

/// `notnets bench-quota`: keeps a group until its input ends.
pub fn run() -> Result {
    let Limit { name, cores } = match first() {
        Some(Ask::Limit(limit)) => limit,
        None => return Ok(()),
        Some(other) => return Err(format!("a quota is told its limit, not {other:?}").into()),
    };
    let group = match Group::create(&name, cores) {
        Ok(group) => group,
        Err(error) => {
            answer(&Answer::Failed(error.to_string()));
            return Ok(());
        }
    };
    answer(&Answer::Ready(group.directory().display().to_string()));
    wait_for_end();
    remove(&group)
        .map_err(|error| format!("{} can't be removed: {error}", group.directory().display()).into())
}

/// Removes a group as soon as its processes have ended, as those of a benchmark do when that does.
fn remove(group: &Group) -> io::Result<()> {
    let until = Instant::now() + PATIENCE;
    loop {
        match group.remove() {
            Err(error) if error.kind() == ErrorKind::ResourceBusy && Instant::now() < until => {
                sleep(TRY_AGAIN)
            }
            removed => return removed,
        }
    }
}
