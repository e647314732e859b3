//! Names: which processes of the pod serve them.

use notnets_memory::{ReadMemory, WriteMemory};

use super::Agent;
use crate::packet::MAX_INSTANCES;
use crate::table::{ProcessId, ServiceEntry};
use notnets_core::name::Name;

impl<W: WriteMemory, R: ReadMemory> Agent<W, R> {
    /// Returns the processes that serve a name: this host's first, then the others in the order of their
    /// numbers from ours on.
    pub(super) fn resolve(&self, name: &Name) -> Vec<ProcessId> {
        let hosts = self.peers.hosts();
        let mut instances = Vec::new();
        for step in 0..hosts {
            let host = (self.own.number + step) % hosts;
            let of = |entry: &ServiceEntry| ProcessId {
                host,
                process: entry.process,
                generation: entry.generation,
            };
            match self.peers.get(host) {
                None if host == self.own.number => {
                    let own = self.own.services().filter(|entry| entry.name == *name);
                    instances.extend(own.map(of));
                }
                Some(peer) if peer.is_up() => {
                    instances.extend(peer.services.iter().filter(|entry| entry.name == *name).map(of));
                }
                _ => {}
            }
        }
        instances.truncate(MAX_INSTANCES);
        instances
    }
}
