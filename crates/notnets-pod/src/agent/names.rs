//! Names: what this host serves, and who serves what.

use notnets_memory::{ReadMemory, WriteMemory};

use super::Agent;
use crate::packet::MAX_INSTANCES;
use crate::table::{Entry, ProcessId, ServiceEntry};
use notnets_core::name::Name;

impl<W: WriteMemory, R: ReadMemory> Agent<W, R> {
    pub(super) fn serve(&mut self, process: u16, name: &Name) -> Result<(), String> {
        let generation = self.id_of(process).generation;
        let entry = ServiceEntry { process, generation, name: name.clone() };
        if self.services.iter().flatten().any(|served| *served == entry) {
            return Ok(());
        }
        let free = self.services.iter().position(Option::is_none);
        let free = free.ok_or_else(|| {
            format!(
                "host {} serves {} names in the pod, and has no room for more",
                self.host,
                self.services.len()
            )
        })?;
        self.set_name(free, Some(entry));
        Ok(())
    }

    pub(super) fn unserve(&mut self, process: u16, name: &Name) {
        for index in 0..self.services.len() {
            let served = self.services[index].as_ref();
            if served.is_some_and(|served| served.process == process && served.name == *name) {
                self.set_name(index, None);
            }
        }
    }

    /// A process has ended, and serves nothing any more.
    pub(super) fn drop_names(&mut self, process: u16) {
        for index in 0..self.services.len() {
            if self.services[index].as_ref().is_some_and(|served| served.process == process) {
                self.set_name(index, None);
            }
        }
    }

    /// Who serves a name: this host first, then the others in the order of their numbers from ours on.
    pub(super) fn resolve(&self, name: &Name) -> Vec<ProcessId> {
        let hosts = self.peers.hosts();
        let mut instances = Vec::new();
        for step in 0..hosts {
            let host = (self.host + step) % hosts;
            let of = |entry: &ServiceEntry| ProcessId {
                host,
                process: entry.process,
                generation: entry.generation,
            };
            match self.peers.get(host) {
                None if host == self.host => {
                    let own = self.services.iter().flatten().filter(|entry| entry.name == *name);
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

    fn set_name(&mut self, index: usize, entry: Option<ServiceEntry>) {
        self.own.set_service(index, entry.as_ref());
        self.services[index] = entry;
        self.record.service_epoch += 1;
        self.own.set_host(&self.record);
    }

    /// Reads our own table when the agent begins. What nobody serves any more is taken out.
    pub(super) fn recover_services(&mut self) {
        let services: Vec<_> = self.own.services().collect();
        for (index, found) in services.into_iter().enumerate() {
            let is_blank = found == Entry::Blank;
            let served = if let Entry::Valid(entry) = found { entry } else { None };
            let served = served.filter(|entry| self.is_alive(self.instance(entry)));
            let is_served = served.is_some();
            self.services.push(served);
            if !is_served && !is_blank {
                self.set_name(index, None);
            }
        }
    }

    /// The process of this host that serves a name.
    fn instance(&self, entry: &ServiceEntry) -> ProcessId {
        ProcessId { host: self.host, process: entry.process, generation: entry.generation }
    }
}
