//! A look at the servers of a rendezvous directory: the names that are served, and the servers' counters.

use std::time::{Duration, Instant};

use notnets_memory::process::{PeerCredentials, peer_credentials};
use rustix::event::{PollFd, PollFlags, poll};

use super::packet::Packet;
use super::rendezvous::{Directory, RendezvousError};
use super::socket::{Incoming, Socket};
use crate::clock::timespec;
use crate::name::{Name, SCHEME};
use crate::stats::{Snapshot, find};
use crate::text::shown;

/// A name that is served, and its server's counters.
#[derive(Clone, Debug)]
pub struct Served {
    /// The name.
    pub name: Name,
    /// Where it is served: the name itself, or the address of one of its replicas.
    pub address: Name,
    /// The process that serves it.
    pub server: PeerCredentials,
    /// Its counters, or why they could not be read.
    pub counters: Result<Snapshot, String>,
    /// Why the server gave no counters itself, where they were read in its process.
    pub silent: Option<String>,
}

/// Looks at all names of a directory. The counters of a server that does not answer within `patience` are
/// read in its process, if this one may look into it; one that ends meanwhile is not listed.
///
/// # Errors
/// When the directory can't be read.
pub fn look(directory: &Directory, patience: Duration) -> Result<Vec<Served>, RendezvousError> {
    let mut served = Vec::new();
    for name in directory.names()? {
        for address in directory.addresses(&name)? {
            let Ok(socket) = directory.connect(&address).map(Socket::from) else { continue };
            let Ok(server) = peer_credentials(&socket) else { continue };
            let mut counters = ask(&socket, patience);
            let mut silent = None;
            if let Err(why) = &counters
                && let Some(found) =
                    server.pid.and_then(|pid| in_process(pid, &format!("{SCHEME}:///{name}")))
            {
                silent = Some(why.clone());
                counters = Ok(found);
            }
            served.push(Served { name: name.clone(), address, server, counters, silent });
        }
    }
    Ok(served)
}

/// Looks at the counters of the server of a URI in its process. `None` if there is none, or if this process
/// may not look into that one.
pub fn in_process(pid: u32, uri: &str) -> Option<Snapshot> {
    let of_name = |snapshot: &Snapshot| snapshot.names.split(", ").any(|served| served == uri);
    find::of_process(pid).into_iter().find(of_name)
}

fn ask(socket: &Socket, patience: Duration) -> Result<Snapshot, String> {
    match socket.send(&Packet::Inspect, None) {
        // A server that rejects before it reads has sent its reason: read that.
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => return Err(error.to_string()),
        _ => {}
    }
    let until = Instant::now() + patience;
    loop {
        match socket.receive() {
            Ok(Incoming::Packet(Packet::Stats, Some(descriptor))) => {
                return Snapshot::read(&descriptor)
                    .ok_or_else(|| "its counters have another layout".to_owned());
            }
            Ok(Incoming::Packet(Packet::Refused { text, .. }, _)) => return Err(shown(&text)),
            Ok(_) => return Err("it gives no counters".to_owned()),
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error.to_string()),
        }
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(format!("it did not answer within {patience:?}"));
        }
        let _ = poll(&mut [PollFd::new(socket, PollFlags::IN)], Some(&timespec(left)));
    }
}
