//! A place in the pod: by the agent that runs, or one for as long as the doctor does.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Instant;

use notnets_core::link::rendezvous::Directory;
use notnets_core::name::Name;
use notnets_core::pod::daemon::{Daemon, DaemonError};
use notnets_core::pod::member::Member;
use notnets_memory::region::Region;
use tempfile::TempDir;

use super::finding::Finding;

/// A place in the pod.
pub struct Host {
    pub member: Member,
    pub region: Region,
    _agent: Option<Agent>,
}

/// An agent in a thread of this process. It leaves in order.
struct Agent {
    directory: TempDir,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Host {
    /// Joins the pod as this host.
    ///
    /// # Errors
    /// With what keeps it from that.
    pub fn join(region: Region, path: &Path, host: u16, deadline: Instant) -> Result<Self, Finding> {
        let fault = |text: String| Finding::fault("host", text);
        let pod: Name = region.superblock().pod.parse().map_err(|error| fault(format!("{error}")))?;
        let (directory, agent) = match Agent::start(path, host) {
            Ok(agent) => (Directory::at(agent.directory.path()), Some(agent)),
            Err(DaemonError::Running(_)) => (Directory::from_env(), None),
            Err(error @ DaemonError::NoSuchHost { .. }) => return Err(fault(error.to_string())),
            Err(error) => return Err(fault(format!("this host can't join the pod: {error}"))),
        };
        let member = Member::of(&directory, &pod, deadline).map_err(|error| {
            fault(format!("this host can't join the pod: {error}"))
                .todo("run the doctor as the user of the host's agent, with the same NOTNETS_DIR")
        })?;
        if member.host() != host {
            let text = format!("the agent here is that of host {}, not of {host}", member.host());
            return Err(fault(text).todo("give the doctor the host id of this machine's agent"));
        }
        Ok(Self { member, region, _agent: agent })
    }
}

impl Agent {
    fn start(path: &Path, host: u16) -> Result<Self, DaemonError> {
        let failed = |source: std::io::Error| DaemonError::Io { step: "begin an agent", source };
        let directory = tempfile::tempdir().map_err(failed)?;
        let region = Region::open(path).map_err(|error| failed(std::io::Error::other(error)))?;
        let mut daemon = Daemon::start(region, host, &Directory::at(directory.path()))?;
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            if let Err(error) = daemon.run(&stopped) {
                tracing::error!("{error}");
            }
        });
        Ok(Self { directory, stop, thread: Some(thread) })
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
