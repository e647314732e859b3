//! Which extents the processes of this host read payloads in, and which of its own are free of readers.
//!
//! A host's record about another has a bit for each of that one's extents in which its processes read
//! payloads, and a count of how often these bits changed. The agent sets a bit before it answers the process,
//! so whoever has shared a payload, and has seen it taken, can let go of it: the bits keep it.
//!
//! A claim moves: whoever has claimed an extent passes a payload on, the next host claims it, and the first
//! lets go. So one look at all records proves nothing; the claim may have moved meanwhile from a record that
//! was not read yet to one that was. Two looks, a heartbeat apart, in which no count has changed, prove that
//! the bits stood still between them.
//!
//! The claims of a process that has ended stay until each host to which it has ever sent anything has let go
//! of it: somebody there may be about to claim what it passed on. After a restart of the agent all bits stay
//! until each process that may have set them has come back and repeated its own, or has ended.

use notnets_memory::{ReadMemory, WriteMemory};

use super::Agent;
use crate::packet::ToProcess;
use crate::table::{CLAIMABLE, Entry, ExtentId, Hosts, PeerRecord};

/// The claims of this host that no process of now stands for, and what was seen of others'.
#[derive(Debug, Default)]
pub(super) struct Claims {
    /// This host's record about itself, which has the claims on its own extents.
    own: PeerRecord,
    kept: Vec<Kept>,
    /// Bits that were there when the agent began, by host.
    inherited: Vec<(u16, u64)>,
    /// The records of all hosts about this one at the last heartbeat, if all could be read.
    seen: Option<Vec<(u64, u64)>>,
}

/// Claims of what has ended.
#[derive(Debug)]
struct Kept {
    /// By host.
    bits: Vec<(u16, u64)>,
    /// Until these have seen …
    exposed: Hosts,
    /// … this process epoch of ours.
    epoch: u64,
}

impl Kept {
    fn of(&self, host: u16) -> u64 {
        bits_of(&self.bits, host)
    }
}

fn bits_of(bits: &[(u16, u64)], host: u16) -> u64 {
    bits.iter().filter(|(of, _)| *of == host).fold(0, |all, (_, bits)| all | bits)
}

impl<W: WriteMemory, R: ReadMemory> Agent<W, R> {
    /// A process reads payloads in an extent from now on.
    pub(super) fn on_claim(&mut self, process: u16, extent: ExtentId) {
        if !extent.is_in(self.own.control.layout()) {
            return;
        }
        self.processes[usize::from(process)].claims.insert(extent);
        self.publish_claims(extent.host);
        notnets_core::failpoint!("agent claimed an extent");
        self.tell(process, ToProcess::Claimed(extent));
    }

    /// It does not any more.
    pub(super) fn on_unclaim(&mut self, process: u16, extent: ExtentId) {
        if self.processes[usize::from(process)].claims.remove(&extent) {
            self.publish_claims(extent.host);
        }
    }

    /// The claims of a process that has ended, or does not count any more, are kept for those to which it may
    /// have passed payloads on.
    pub(super) fn keep_claims(&mut self, process: u16) {
        let known = &mut self.processes[usize::from(process)];
        let claims = known.take_claims();
        let exposed = known.exposed();
        let bits: Vec<_> = claims.iter().map(|extent| (extent.host, extent.bit())).collect();
        self.keep(bits, exposed);
        self.settle_inherited();
    }

    /// A process that is back has repeated all of its claims. Under former numbers it holds nothing, and has
    /// let go of its links.
    pub(super) fn settle_claims(&mut self, process: u16) {
        let known = &mut self.processes[usize::from(process)];
        known.claims_before.clear();
        known.unsettled = false;
        let entry = *known.entry();
        for former in 0..self.processes.len() as u16 {
            let known = &mut self.processes[usize::from(former)];
            if former != process && known.lingers && known.entry().is_of(entry.pid, entry.token) {
                known.unsettled = false;
                known.set_has_links(false);
                self.keep_claims(former);
                self.review_lingering(former);
            }
        }
        self.publish_all_claims();
        self.settle_inherited();
    }

    /// Nobody is left who may have set the bits that were there when the agent began: only those that were
    /// passed payloads on may be about to set their own.
    fn settle_inherited(&mut self) {
        if self.claims.inherited.is_empty() || self.processes.iter().any(|known| known.unsettled) {
            return;
        }
        let bits = std::mem::take(&mut self.claims.inherited);
        // Whoever has let go of all that ended up to now has let go of those.
        self.own.count_ended();
        self.own.publish();
        let others = self.own.others();
        self.keep(bits, others);
    }

    fn keep(&mut self, bits: Vec<(u16, u64)>, exposed: Hosts) {
        let hosts: Vec<u16> = bits.iter().map(|(host, _)| *host).collect();
        if !bits.is_empty() && !exposed.is_empty() {
            let epoch = self.own.record().process_epoch;
            self.claims.kept.push(Kept { bits, exposed, epoch });
        }
        for host in hosts {
            self.publish_claims(host);
        }
    }

    /// A host has let go of all of ours that ended up to this process epoch.
    pub(super) fn forget_exposed_claims(&mut self, host: u16, epoch: u64) {
        if self.claims.kept.is_empty() {
            return;
        }
        for kept in &mut self.claims.kept {
            if kept.epoch <= epoch {
                kept.exposed.remove(host);
            }
        }
        let before = self.claims.kept.len();
        self.claims.kept.retain(|kept| !kept.exposed.is_empty());
        if self.claims.kept.len() < before {
            self.publish_all_claims();
        }
    }

    fn publish_all_claims(&mut self) {
        for host in 0..self.peers.hosts() {
            self.publish_claims(host);
        }
    }

    /// Writes which extents of a host are claimed here, if that has changed.
    fn publish_claims(&mut self, host: u16) {
        let held = self.processes.iter().flat_map(|known| known.claims.iter().chain(&known.claims_before));
        let held = held.filter(|extent| extent.host == host).fold(0, |bits, extent| bits | extent.bit());
        let kept = self.claims.kept.iter().fold(0, |bits, kept| bits | kept.of(host));
        let claims = held | kept | bits_of(&self.claims.inherited, host);
        let record = match self.peers.get_mut(host) {
            Some(peer) => peer.published_mut(),
            None => &mut self.claims.own,
        };
        if record.claims != claims {
            record.claims = claims;
            record.claim_changes += 1;
            let record = *record;
            self.own.control.set_peer(host, &record);
        }
    }

    /// Reads the bits of before, when the agent begins. Returns whether there are any.
    pub(super) fn inherit_claims(&mut self) -> bool {
        for host in 0..self.peers.hosts() {
            let found = self.own.control.peer_entry(host);
            let record = match self.peers.get_mut(host) {
                Some(peer) => peer.published_mut(),
                None => {
                    self.claims.own = found.valid().unwrap_or_default();
                    &mut self.claims.own
                }
            };
            if found == Entry::Damaged {
                // Others see it when it is written again.
                record.claims = u64::MAX;
                record.claim_changes += 1;
                let record = *record;
                self.own.control.set_peer(host, &record);
            }
            let bits = match self.peers.get_mut(host) {
                Some(peer) => peer.published_mut().claims,
                None => self.claims.own.claims,
            };
            if bits != 0 {
                self.claims.inherited.push((host, bits));
            }
        }
        !self.claims.inherited.is_empty()
    }

    /// What nobody waits for is settled at once.
    pub(super) fn begin_claims(&mut self) {
        self.settle_inherited();
    }

    /// With each heartbeat: frees own extents that nobody claims any more.
    pub(super) fn free_unclaimed(&mut self) {
        if !self.own.waits_for_claims() {
            self.claims.seen = None;
            return;
        }
        let look = |host: u16| {
            let Some(peer) = self.peers.get(host) else {
                return Some((self.claims.own.claims, self.claims.own.claim_changes));
            };
            match peer.control.peer_entry(self.own.number) {
                Entry::Blank => Some((0, 0)),
                Entry::Valid(record) => Some((record.claims, record.claim_changes)),
                Entry::Damaged => None,
            }
        };
        let seen: Option<Vec<_>> = (0..self.peers.hosts()).map(look).collect();
        let stood_still = seen.is_some() && seen == self.claims.seen;
        if let Some(seen) = seen.as_ref().filter(|_| stood_still) {
            let claimed = seen.iter().fold(0, |all, (claims, _)| all | claims);
            let is_claimed = |extent: usize| extent >= CLAIMABLE || claimed >> extent & 1 == 1;
            self.own.free_payloads(is_claimed);
        }
        self.claims.seen = seen;
    }
}
