//! Processes of the same host: they are reached as any other server of the host, and not through the region.
//!
//! A process that serves a name in a pod also listens in the rendezvous directory, at a name that follows
//! from the number by which it is known in the agent's table and from what it serves. A process that finds it
//! in the pod and shares the directory with it gets a link whose peers the kernel vouches for.

use super::Member;
use crate::table::ProcessId;
use notnets_core::link::rendezvous::{Directory, Listener, RendezvousError};
use notnets_core::name::Name;

impl Member {
    /// Listens for processes of this host that look for what this process serves in the pod.
    ///
    /// # Errors
    /// When the directory doesn't permit it: then they come through the region.
    pub fn listen_local(&self, directory: &Directory, name: &Name) -> Result<Listener, RendezvousError> {
        directory.listen(&local_socket_name(self.0.shared.token, name))
    }

    /// Where a process listens for others of its host that look for what it serves. `None` when it is not one
    /// of this host.
    pub(super) fn local_socket_of(&self, process: ProcessId, name: &Name) -> Option<Name> {
        if process.host != self.host() {
            return None;
        }
        Some(local_socket_name(self.process(process)?.token, name))
    }
}

/// The name of the socket at which a process is reached for a service by others of its host. It is hidden,
/// and as long for each service.
fn local_socket_name(token: [u64; 2], name: &Name) -> Name {
    let token = token.into_iter().flat_map(u64::to_le_bytes);
    // FNV-1a: the token can't be derived from it; that is for its process and the agent only.
    let hash = token.chain(name.as_str().bytes()).fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    Name::hidden(hash)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processes_and_names_are_met_in_places_of_their_own() {
        let name = |text: &str| text.parse::<Name>().unwrap();
        let all = [
            local_socket_name([1, 2], &name("a")),
            local_socket_name([2, 1], &name("a")),
            local_socket_name([1, 2], &name("b")),
            local_socket_name([1, 3], &name("a")),
        ];
        for (nth, place) in all.iter().enumerate() {
            assert!(place.is_hidden() && place.as_str().len() == ".at-".len() + 16);
            assert!(!all[..nth].contains(place));
            assert!(place.as_str().parse::<Name>().is_err(), "nobody can ask for it");
        }
        assert_eq!(local_socket_name([1, 2], &name("a")), all[0]);
    }
}
