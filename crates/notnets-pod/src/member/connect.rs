//! From a name in a pod to a link: which of the processes that serve it is asked first, how, and for how
//! long.
//!
//! | order | process | way |
//! | --- | --- | --- |
//! | 1 | on this host, listening in the same directory | its socket there, as for any server of the host |
//! | 2 | on this host, but not to be reached there | the region |
//! | 3 | on another host, nearest first | the region |
//!
//! Each gets its share of the time that is left, so that one that hangs leaves time for the next.

use std::time::{Duration, Instant};

use notnets_core::clock;
use notnets_core::limits::Limits;
use notnets_core::link::Established;
use notnets_core::link::candidate::Candidate;
use notnets_core::link::connect::{ConnectError, Connecting};
use notnets_core::link::expected::ExpectedServer;
use notnets_core::link::handshake::Config;
use notnets_core::link::rendezvous::Directory;
use notnets_core::name::Name;
use notnets_memory::TrustPeerMemory;
use notnets_memory::lane::Geometry;

use super::{Member, PodError};
use crate::table::ProcessId;

/// How long a name that begins to be served takes at most to get around: agents look at other hosts at least
/// every ten milliseconds.
const GETS_AROUND: Duration = Duration::from_millis(50);
const LOOK_AGAIN: Duration = Duration::from_millis(2);

/// A client's parameters for connecting, and for how long it tries.
#[derive(Clone, Debug)]
pub struct Dial {
    /// Where the pod's agent, and servers of this host, are found.
    pub directory: Directory,
    /// The pod.
    pub pod: Name,
    /// The service.
    pub name: Name,
    /// Whom it takes for the server.
    pub expected: ExpectedServer,
    /// The client's limits.
    pub limits: Limits,
    /// The sizes of its first segment on this host, and …
    pub geometry: Geometry,
    /// … between hosts.
    pub geometry_between_hosts: Geometry,
    /// Bytes of a server's payloads that it reads in place at a time …
    pub shared_bytes: u64,
    /// … and on whose word between hosts, if it does.
    pub places: Option<TrustPeerMemory>,
    /// Its user agent.
    pub user_agent: String,
    /// For how long a message may wait while this process is parked, unless that is left to the agent.
    pub wake_latency: Option<Duration>,
    /// When it gives up.
    pub deadline: Instant,
}

impl Dial {
    /// Connects to the nearest process that serves the name, or to the next one if that is gone or refuses.
    /// Makes the calling thread wait.
    ///
    /// # Errors
    /// When nobody serves it, or none of them gives us a link.
    pub fn block(self) -> Result<Established, PodError> {
        let member = Member::of(&self.directory, &self.pod, self.deadline)?;
        if let Some(latency) = self.wake_latency {
            member.wake_within(latency);
        }
        let mut processes = self.resolve(&member)?.into_iter();
        let mut failed = None;
        while let Some(process) = processes.next() {
            let until = share(self.deadline, processes.len());
            match self.process(&member, process, until) {
                Ok(established) => return Ok(established),
                Err(error) => failed = Some(error),
            }
        }
        Err(failed.unwrap_or_else(|| member.no_service(&self.name)))
    }

    /// The processes that serve the name. One that serves it since just now is not known on all hosts yet.
    fn resolve(&self, member: &Member) -> Result<Vec<ProcessId>, PodError> {
        let patience = self.deadline.min(Instant::now() + GETS_AROUND);
        loop {
            let processes = member.resolve(&self.name, self.deadline)?;
            if !processes.is_empty() || Instant::now() >= patience {
                return Ok(processes);
            }
            std::thread::sleep(LOOK_AGAIN);
        }
    }

    fn process(&self, member: &Member, process: ProcessId, until: Instant) -> Result<Established, PodError> {
        if let Some(address) = member.local_socket_of(process, &self.name) {
            let deadline = clock::after(until.saturating_duration_since(Instant::now()));
            let (limits, geometry, shared_bytes) = (self.limits, self.geometry, self.shared_bytes);
            let config = Config { limits, geometry, shared_bytes, places: None };
            let connecting = Connecting::new(
                self.directory.clone(),
                self.name.clone(),
                config,
                &self.user_agent,
                deadline,
            );
            match connecting.expect(self.expected.clone()).at(address).block() {
                // The next link is looked for in the same pod.
                Ok(link) => return Ok(Established { guard: Some(member.guard()), ..*link }),
                Err(ConnectError::Link(error)) => return Err(error.into()),
                Err(ConnectError::Unexpected(error)) => return Err(error.into()),
                // It does not listen in our directory.
                Err(ConnectError::Rendezvous(_)) => {}
                Err(_) => return Err(PodError::TimedOut),
            }
        }
        if self.expected != ExpectedServer::Trusted {
            let server = member.credentials(process).ok_or(PodError::Gone(process.host))?;
            self.expected.check_in_pod(&Candidate::known_by(server))?;
        }
        let (limits, geometry) = (self.limits, self.geometry_between_hosts);
        let config = Config { limits, geometry, shared_bytes: self.shared_bytes, places: self.places };
        member.dial_at(process, &self.name, config, &self.user_agent, until)
    }
}

/// Until when to wait for the first of several processes, of which `after` come after it.
fn share(deadline: Instant, after: usize) -> Instant {
    let now = Instant::now();
    now + deadline.saturating_duration_since(now) / u32::try_from(after + 1).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_of_several_gets_an_equal_share_of_what_is_left() {
        let deadline = Instant::now() + Duration::from_secs(9);
        let first = share(deadline, 2).saturating_duration_since(Instant::now());
        assert!(first <= Duration::from_secs(3) && first > Duration::from_secs(2));
        assert!(share(deadline, 0) <= deadline);
    }
}
