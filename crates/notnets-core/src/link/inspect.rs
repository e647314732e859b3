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

/// Looks at all names of a directory. All servers have `patience` together to answer; the counters of one
/// that does not are read in its process, if this one may look into it. One that ends meanwhile is not
/// listed.
///
/// # Errors
/// When the directory can't be read.
pub fn look(directory: &Directory, patience: Duration) -> Result<Vec<Served>, RendezvousError> {
    let mut asked = Vec::new();
    for name in directory.names()? {
        for address in directory.addresses(&name)? {
            let Ok(socket) = directory.connect(&address).map(Socket::from) else { continue };
            let Ok(server) = peer_credentials(&socket) else { continue };
            let sent = ask(&socket);
            asked.push((name.clone(), address, server, socket, sent));
        }
    }
    let until = Instant::now() + patience;
    let listed = asked.into_iter().map(|(name, address, server, socket, sent)| {
        let mut counters = sent.and_then(|()| answer(&socket, until, patience));
        let mut silent = None;
        if let Err(why) = &counters
            && let Some(found) = server.pid.and_then(|pid| in_process(pid, &format!("{SCHEME}:///{name}")))
        {
            silent = Some(why.clone());
            counters = Ok(found);
        }
        Served { name, address, server, counters, silent }
    });
    Ok(listed.collect())
}

/// Looks at the counters of the server of a URI in its process. `None` if there is none, or if this process
/// may not look into that one.
pub fn in_process(pid: u32, uri: &str) -> Option<Snapshot> {
    let of_name = |snapshot: &Snapshot| snapshot.names.split(", ").any(|served| served == uri);
    find::of_process(pid).into_iter().find(of_name)
}

fn ask(socket: &Socket) -> Result<(), String> {
    match socket.send(&Packet::Inspect, None) {
        // A server that rejects before it reads has sent its reason: read that.
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(error.to_string()),
        _ => Ok(()),
    }
}

/// Waits for the answer until then, which is `patience` after it was asked for.
fn answer(socket: &Socket, until: Instant, patience: Duration) -> Result<Snapshot, String> {
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

#[cfg(test)]
mod tests {
    use super::*;

    /// They would take two seconds one after the other.
    #[test]
    fn servers_that_hang_are_waited_for_together() {
        let temporary = tempfile::tempdir().unwrap();
        let directory = Directory::at(temporary.path());
        let listen = |n| directory.listen(&format!("hangs-{n}").parse().unwrap()).unwrap();
        let _listeners: Vec<_> = (0..20).map(listen).collect();
        let begin = Instant::now();
        let served = look(&directory, Duration::from_millis(100)).unwrap();
        assert!(begin.elapsed() < Duration::from_secs(2), "{:?}", begin.elapsed());
        let late =
            |served: &Served| served.counters.as_ref().is_err_and(|why| why.contains("did not answer"));
        assert!(served.len() == 20 && served.iter().all(late), "{served:?}");
    }
}
