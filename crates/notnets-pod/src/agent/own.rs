//! The host's own tables: its record, the names that it serves, and its extents.
//!
//! Each change is written to the control area before it takes effect.

use std::collections::BTreeSet;

use notnets_core::name::Name;
use notnets_memory::WriteMemory;

use crate::table::{
    CLAIMABLE, Control, Entry, ExtentEntry, ExtentState, HostIncarnation, HostRecord, HostState, Hosts,
    ServiceEntry,
};

/// One extent in this many is kept for links to begin with.
const RESERVED: usize = 4;

/// This host, as its control area shows it.
#[derive(Debug)]
pub(super) struct OwnHost<W> {
    pub(super) number: u16,
    /// The number of hosts in the region.
    hosts: u16,
    pub(super) control: Control<W>,
    record: HostRecord,
    extents: Vec<ExtentEntry>,
    services: Vec<Option<ServiceEntry>>,
}

impl<W: WriteMemory> OwnHost<W> {
    /// A host whose tables are still to be recovered.
    pub(super) fn new(number: u16, hosts: u16, control: Control<W>, record: HostRecord) -> Self {
        Self { number, hosts, control, record, extents: Vec::new(), services: Vec::new() }
    }

    /// The host's record.
    pub(super) fn record(&self) -> &HostRecord {
        &self.record
    }

    /// The record that others see in this host's place, if it is another host's.
    pub(super) fn seen_by_others(&self) -> Option<HostRecord> {
        self.control.host_as_seen().filter(|record| record.incarnation != self.record.incarnation)
    }

    /// One more heartbeat.
    pub(super) fn beat(&mut self, now: u64) {
        self.record.beat += 1;
        self.record.beat_at = now;
        self.publish();
    }

    /// Says what the host is doing, with the next heartbeat.
    pub(super) fn set_state(&mut self, state: HostState) {
        self.record.state = state;
    }

    /// Counts processes whose entries show that they have ended. [`publish`](Self::publish) it.
    pub(super) fn count_ended(&mut self) {
        self.record.process_epoch += 1;
    }

    /// Publishes the record.
    pub(super) fn publish(&self) {
        self.control.set_host(&self.record);
    }

    /// The names that are served here.
    pub(super) fn services(&self) -> impl Iterator<Item = &ServiceEntry> {
        self.services.iter().flatten()
    }

    /// Serves one more name.
    ///
    /// # Errors
    /// With a sentence when there is no room.
    pub(super) fn serve(&mut self, entry: ServiceEntry) -> Result<(), String> {
        if self.services().any(|served| *served == entry) {
            return Ok(());
        }
        let free = self.services.iter().position(Option::is_none).ok_or_else(|| {
            let names = self.services.len();
            format!("host {} serves {names} names in the pod, and has no room for more", self.number)
        })?;
        self.set_service(free, Some(entry));
        Ok(())
    }

    /// Gives up one name of a process.
    pub(super) fn unserve(&mut self, process: u16, name: &Name) {
        self.remove_services(|served| served.process == process && served.name == *name);
    }

    /// Gives up all names of a process, which has ended.
    pub(super) fn drop_services(&mut self, process: u16) {
        self.remove_services(|served| served.process == process);
    }

    fn remove_services(&mut self, ends: impl Fn(&ServiceEntry) -> bool) {
        for index in 0..self.services.len() {
            if self.services[index].as_ref().is_some_and(&ends) {
                self.set_service(index, None);
            }
        }
    }

    fn set_service(&mut self, index: usize, entry: Option<ServiceEntry>) {
        self.control.set_service(index, entry.as_ref());
        self.services[index] = entry;
        self.record.service_epoch += 1;
        self.publish();
    }

    /// Reads the table of services when the agent begins. Services without a living process are removed.
    pub(super) fn recover_services(&mut self, is_alive: impl Fn(&ServiceEntry) -> bool) {
        let found: Vec<_> = self.control.services().collect();
        for (index, found) in found.into_iter().enumerate() {
            let is_blank = found == Entry::Blank;
            let served = found.valid().flatten().filter(&is_alive);
            let is_served = served.is_some();
            self.services.push(served);
            if !is_served && !is_blank {
                self.set_service(index, None);
            }
        }
    }

    /// Grants an extent to a process, if one is free. To make a link faster is not worth keeping others from
    /// beginning, nor is to share payloads: the last extents are for beginnings alone.
    pub(super) fn grant(&mut self, process: u16, generation: u32, purpose: Purpose) -> Option<u32> {
        let is_free = |extent: &ExtentEntry| extent.state == ExtentState::Free;
        let reserve = if purpose == Purpose::Beginning { 0 } else { self.extents.len().div_ceil(RESERVED) };
        if self.extents.iter().filter(|extent| is_free(extent)).count() <= reserve {
            return None;
        }
        let payloads = purpose == Purpose::Payloads;
        let most = if payloads { CLAIMABLE } else { self.extents.len() };
        let extent = self.extents.iter().take(most).position(is_free)?;
        let granted =
            ExtentEntry { state: ExtentState::Granted, process, generation, payloads, ..Default::default() };
        self.set_extent(extent, granted);
        notnets_core::failpoint!("agent granted");
        Some(extent as u32)
    }

    /// Returns the process and its generation to which an extent is granted.
    pub(super) fn granted_to(&self, extent: u32) -> Option<(u16, u32)> {
        self.extents.get(extent as usize)?.owner()
    }

    /// Returns `true` if a process has been granted any extent.
    pub(super) fn is_granted_any(&self, process: u16, generation: u32) -> bool {
        self.extents.iter().any(|extent| extent.owner() == Some((process, generation)))
    }

    /// Frees a granted extent on its process's word. The process, not the agent, tracks which peers it was
    /// offered to; but not who claims payloads there.
    pub(super) fn take_back(&mut self, extent: u32) {
        self.keep_extent(extent as usize, Hosts::default());
        notnets_core::failpoint!("agent took back");
    }

    /// Keeps one extent that a process wrote until no host that it is `exposed` to reads it any more.
    pub(super) fn release_extent(&mut self, extent: u32, exposed: Hosts) {
        self.keep_extent(extent as usize, exposed);
        notnets_core::failpoint!("agent released");
    }

    /// Keeps what a process wrote until no host that it is `exposed` to reads it any more.
    pub(super) fn release_extents(&mut self, process: u16, generation: u32, exposed: Hosts) {
        for index in 0..self.extents.len() {
            let extent = self.extents[index];
            if extent.state == ExtentState::Granted && extent.process == process {
                // Of an earlier generation nothing is known.
                let exposed = if extent.generation == generation { exposed } else { self.others() };
                self.keep_extent(index, exposed);
                notnets_core::failpoint!("agent released");
            }
        }
    }

    /// Frees what was kept for a host that has let go of all that ended up to this process epoch.
    pub(super) fn forget_exposure(&mut self, host: u16, epoch: u64) {
        for index in 0..self.extents.len() {
            let mut extent = self.extents[index];
            let kept = extent.state == ExtentState::Kept && extent.exposed.contains(host);
            if kept && extent.released_at_epoch <= epoch {
                extent.exposed.remove(host);
                let free = extent.exposed.is_empty() && !extent.payloads;
                self.set_extent(index, if free { ExtentEntry::default() } else { extent });
            }
        }
    }

    /// Returns `true` if an extent is kept for nothing but the claims that there may be on it.
    pub(super) fn waits_for_claims(&self) -> bool {
        self.extents.iter().any(ExtentEntry::is_kept_for_claims)
    }

    /// Frees those that are not claimed.
    pub(super) fn free_payloads(&mut self, is_claimed: impl Fn(usize) -> bool) {
        for index in 0..self.extents.len() {
            if self.extents[index].is_kept_for_claims() && !is_claimed(index) {
                self.set_extent(index, ExtentEntry::default());
                notnets_core::failpoint!("agent freed payloads");
            }
        }
    }

    /// Reads which processes have extents, when the agent begins.
    pub(super) fn holders(&self) -> BTreeSet<(u16, u32)> {
        self.control.extents().filter_map(|extent| extent.valid()?.owner()).collect()
    }

    /// Reads the table of extents when the agent begins. `owner` finds the process that may still write one,
    /// or the hosts that it was exposed to.
    pub(super) fn recover_extents(&mut self, owner: impl Fn(&ExtentEntry) -> Owner) {
        let found: Vec<_> = self.control.extents().collect();
        for (index, found) in found.into_iter().enumerate() {
            let found = match found {
                // The count has begun anew if the host's record was lost. Whoever has seen this incarnation
                // has seen the end of all before.
                Entry::Valid(entry) => ExtentEntry {
                    released_at_epoch: entry.released_at_epoch.min(self.record.process_epoch),
                    ..entry
                },
                Entry::Blank => ExtentEntry::default(),
                // Its writer may still be alive.
                Entry::Damaged => {
                    let (state, payloads) = (ExtentState::Granted, index < CLAIMABLE);
                    ExtentEntry { state, payloads, process: u16::MAX, ..Default::default() }
                }
            };
            self.extents.push(found);
            if found.state == ExtentState::Granted {
                match owner(&found) {
                    Owner::Writes => {}
                    Owner::Ended { exposed } => self.keep_extent(index, exposed),
                    Owner::Unknown => self.keep_extent(index, self.others()),
                }
            }
        }
    }

    fn keep_extent(&mut self, index: usize, exposed: Hosts) {
        let released_at_epoch = self.record.process_epoch;
        let kept =
            ExtentEntry { state: ExtentState::Kept, exposed, released_at_epoch, ..self.extents[index] };
        let free = exposed.is_empty() && !kept.payloads;
        self.set_extent(index, if free { ExtentEntry::default() } else { kept });
    }

    fn set_extent(&mut self, index: usize, entry: ExtentEntry) {
        self.extents[index] = entry;
        self.control.set_extent(index, &entry);
    }

    /// All hosts that this one has ever accepted. No other one was sent anything.
    pub(super) fn others(&self) -> Hosts {
        let mut hosts = Hosts::default();
        for host in (0..self.hosts).filter(|host| *host != self.number) {
            let was_there = match self.control.peer_entry(host) {
                Entry::Blank => false,
                Entry::Valid(record) => record.known != HostIncarnation::default(),
                Entry::Damaged => true,
            };
            if was_there {
                hosts.insert(host);
            }
        }
        hosts
    }
}

/// What an extent is wanted for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// The first memory of a link.
    Beginning,
    /// More memory for one.
    More,
    /// Payloads that others read.
    Payloads,
}

/// The fate of the process that an extent was granted to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Owner {
    /// It may still write it.
    Writes,
    /// It has ended, and these hosts may still read what it wrote.
    Ended { exposed: Hosts },
    /// Its number is another's by now.
    Unknown,
}
