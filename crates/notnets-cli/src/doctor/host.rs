//! The doctor's membership in the pod: through the running agent, or one that lives as long as the doctor.

use std::path::Path;
use std::time::Instant;

use notnets_cli_common::agent_thread::AgentThread;
use notnets_core::link::rendezvous::Directory;
use notnets_core::name::Name;
use notnets_memory::region::Region;
use notnets_pod::daemon::DaemonError;
use notnets_pod::member::Member;
use tempfile::TempDir;

use super::finding::Finding;

/// A member of the pod.
pub struct Host {
    pub member: Member,
    pub region: Region,
    _agent: Option<(AgentThread, TempDir)>,
}

impl Host {
    /// Joins the pod as this host.
    ///
    /// # Errors
    /// With what keeps it from that.
    pub fn join(
        region: Region,
        path: &Path,
        host: u16,
        directory: Directory,
        deadline: Instant,
    ) -> Result<Self, Finding> {
        let fault = |text: String| Finding::fault("host", text);
        let pod: Name = region.superblock().pod.parse().map_err(|error| fault(format!("{error}")))?;
        let own =
            tempfile::tempdir().map_err(|error| fault(format!("no directory for an agent: {error}")))?;
        let (directory, agent) = match AgentThread::start(path, host, own.path()) {
            Ok(agent) => (Directory::at(own.path()), Some((agent, own))),
            Err(DaemonError::Running(_)) => (directory, None),
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
