//! The pods that this process is in.
//!
//! One thread joins a pod at a time, without a lock: the others that want to be in it wait for how that ends,
//! and each for no longer than it may.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use notnets_core::link::rendezvous::Directory;
use notnets_core::name::Name;
use notnets_core::per_process::PerProcess;
use notnets_core::random;
use notnets_memory::process::ForkGuard;
use once_cell::race::OnceBox;

use super::{Membership, PodError, watcher};
use crate::daemon::socket_path;

/// By the sockets of their agents. A forked child joins for itself.
static MEMBERS: OnceBox<PerProcess<Members>> = OnceBox::new();

#[derive(Debug, Default)]
struct Members {
    memberships: HashMap<PathBuf, Weak<Membership>>,
    /// Those that a thread is about to join.
    joining: HashSet<PathBuf>,
    /// Why an agent has refused the last that asked.
    refused: HashMap<PathBuf, String>,
    /// Tokens that got no answer: the agent may have admitted them, and knows them again.
    unanswered: HashMap<PathBuf, [u64; 2]>,
    /// A thread has joined, or could not.
    ended: Arc<Condvar>,
}

fn lock() -> MutexGuard<'static, Members> {
    MEMBERS.get_or_init(|| PerProcess::new(Members::default()).into()).lock(Members::default)
}

/// The membership in the pod of that name, by the agent in this directory. Joins if there is none.
///
/// # Errors
/// When there is no agent, or it does not want us before `deadline`.
pub(super) fn membership(
    directory: &Directory,
    pod: &Name,
    deadline: Instant,
) -> Result<Arc<Membership>, PodError> {
    let path = socket_path(directory, pod);
    let mut members = lock();
    loop {
        if let Some(membership) = members.memberships.get(&path).and_then(Weak::upgrade) {
            return Ok(membership);
        }
        if !members.joining.contains(&path) {
            break;
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if left == Duration::ZERO {
            let refused = members.refused.get(&path).cloned();
            return Err(refused.map_or(PodError::TimedOut, PodError::Refused));
        }
        let ended = Arc::clone(&members.ended);
        members = ended.wait_timeout(members, left).unwrap_or_else(PoisonError::into_inner).0;
    }
    let token = *members.unanswered.entry(path.clone()).or_insert_with(random::words);
    members.joining.insert(path.clone());
    drop(members);
    let joined = join(&path, pod, token, deadline);
    let mut members = lock();
    members.joining.remove(&path);
    members.refused.remove(&path);
    match &joined {
        Ok(membership) => {
            members.unanswered.remove(&path);
            members.memberships.insert(path, Arc::downgrade(membership));
        }
        Err(PodError::Refused(text)) => {
            members.refused.insert(path, text.clone());
        }
        Err(_) => {}
    }
    members.ended.notify_all();
    joined
}

fn join(path: &Path, pod: &Name, token: [u64; 2], deadline: Instant) -> Result<Arc<Membership>, PodError> {
    let fork = ForkGuard::new().map_err(|cause| PodError::Io { step: "tell forks by a page", cause })?;
    let shared = watcher::start(path, pod, token, deadline)?;
    Ok(Arc::new(Membership { shared, fork }))
}
