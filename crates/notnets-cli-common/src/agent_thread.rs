//! An agent in a thread of this process, for commands that need hosts of their own.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use notnets_core::link::rendezvous::Directory;
use notnets_memory::descriptors;
use notnets_memory::region::Region;
use notnets_pod::daemon::{Daemon, DaemonError};

/// The name of its thread.
pub const NAME: &str = "notnets-agent";

/// An agent that runs until this is dropped. It leaves the pod in order.
#[derive(Debug)]
pub struct AgentThread {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl AgentThread {
    /// Starts the agent of a host for processes that use this directory.
    ///
    /// # Errors
    /// When the host already has an agent, or does not exist.
    pub fn start(region: &Path, host: u16, directory: &Path) -> Result<Self, DaemonError> {
        // One for each link that it watches. Without them processes watch their own.
        let _ = descriptors::raise_limit();
        let open = |error| DaemonError::Io { step: "open the region", cause: std::io::Error::other(error) };
        let region = Region::open(region).map_err(open)?;
        let mut daemon = Daemon::start(region, host, &Directory::at(directory))?;
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let run = move || {
            if let Err(error) = daemon.run(&stopped) {
                tracing::error!("{error}");
            }
        };
        let thread = std::thread::Builder::new().name(NAME.into()).spawn(run);
        let thread = thread.map_err(|cause| DaemonError::Io { step: "start a thread", cause })?;
        Ok(Self { stop, thread: Some(thread) })
    }
}

impl Drop for AgentThread {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
