//! Joining a pod, and joining it again.

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::{Duration, Instant};

use notnets_memory::region::Region;
use notnets_memory::region::file::RegionFile;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};

use super::PodError;
use crate::daemon::socket_path;
use crate::packet::{FromProcess, ToProcess};
use crate::table::{HostIncarnation, ProcessId};
use crate::wire::{self, Received};
use notnets_core::clock::timespec;
use notnets_core::link::rendezvous::Directory;
use notnets_core::name::Name;

/// The agent's answer to joining.
pub(super) struct Joined {
    pub(super) socket: OwnedFd,
    pub(super) region: Option<Region>,
    pub(super) incarnation: HostIncarnation,
    pub(super) id: ProcessId,
    pub(super) wake_latency: Duration,
}

/// Why it did not.
pub(super) enum Failed {
    Io(io::Error),
    Refused(String),
    Region(String),
}

impl Failed {
    /// Turns it into the error that users see, with the names of directory and pod.
    pub(super) fn named(self, path: &Path, pod: &Name) -> PodError {
        match self {
            Self::Io(cause) => {
                PodError::NoAgent { pod: pod.clone(), path: path.display().to_string(), cause }
            }
            Self::Refused(text) => PodError::Refused(text),
            Self::Region(text) => PodError::Refused(format!("its region can't be used: {text}")),
        }
    }
}

/// Connects to the agent, and waits for its answer.
pub(super) fn join(
    path: &Path,
    token: [u64; 2],
    before: Option<(HostIncarnation, ProcessId)>,
    deadline: Instant,
) -> Result<Joined, Failed> {
    match ask(path, &FromProcess::Join { token, before }, deadline)? {
        (socket, ToProcess::Joined { incarnation, id, wake_us }, region) => {
            let wake_latency = Duration::from_micros(wake_us.into());
            notnets_core::failpoint!("pod joined");
            Ok(Joined { socket, region, incarnation, id, wake_latency })
        }
        (_, ToProcess::Refused(text), _) => Err(Failed::Refused(text)),
        _ => Err(closed()),
    }
}

/// The region of a pod, by the agent in this directory, and the number of this host: to look at it without
/// joining.
///
/// # Errors
/// When there is no agent, or it does not answer before `deadline`.
pub fn region_of(directory: &Directory, pod: &Name, deadline: Instant) -> Result<(Region, u16), PodError> {
    let path = socket_path(directory, pod);
    match ask(&path, &FromProcess::Look, deadline).map_err(|error| error.named(&path, pod))? {
        (_, ToProcess::Region { host }, Some(region)) => Ok((region, host)),
        (_, ToProcess::Refused(text), _) => Err(PodError::Refused(text)),
        _ => Err(PodError::Unexpected),
    }
}

/// Asks the agent of a pod in this directory to have its host leave, for good, and to end. Returns the number
/// of the host that has left.
///
/// # Errors
/// When there is no agent, or it does not answer before `deadline`.
pub fn leave_host(directory: &Directory, pod: &Name, deadline: Instant) -> Result<u16, PodError> {
    let path = socket_path(directory, pod);
    match ask(&path, &FromProcess::LeaveHost, deadline).map_err(|error| error.named(&path, pod))? {
        (_, ToProcess::HostLeft { host }, _) => Ok(host),
        (_, ToProcess::Refused(text), _) => Err(PodError::Refused(text)),
        _ => Err(PodError::Unexpected),
    }
}

fn closed() -> Failed {
    Failed::Io(io::Error::from(io::ErrorKind::ConnectionReset))
}

fn ask(
    path: &Path,
    packet: &FromProcess,
    deadline: Instant,
) -> Result<(OwnedFd, ToProcess, Option<Region>), Failed> {
    let os = |errno: rustix::io::Errno| Failed::Io(errno.into());
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None).map_err(os)?;
    connect(&socket, &SocketAddrUnix::new(path).map_err(os)?).map_err(os)?;
    match wire::send(&socket, &packet.encode(), None) {
        // An agent that rejects before it reads has sent its reason: read that.
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => return Err(Failed::Io(error)),
        _ => {}
    }
    notnets_core::failpoint!("pod asked to join");
    loop {
        match wire::receive(&socket) {
            Received::Packet(bytes, descriptor) => {
                let answer = ToProcess::decode(&bytes).map_err(|_| closed())?;
                let region = descriptor.map(|descriptor| {
                    let file = RegionFile::of(descriptor).map_err(|error| error.to_string());
                    file.and_then(|file| Region::of(file).map_err(|error| error.to_string()))
                });
                return Ok((socket, answer, region.transpose().map_err(Failed::Region)?));
            }
            Received::Closed => return Err(closed()),
            Received::Nothing => {
                let left = deadline.saturating_duration_since(Instant::now());
                if left == Duration::ZERO {
                    return Err(Failed::Io(io::ErrorKind::TimedOut.into()));
                }
                let mut fds = [PollFd::new(&socket, PollFlags::IN)];
                let _ = poll(&mut fds, Some(&timespec(left)));
            }
        }
    }
}
