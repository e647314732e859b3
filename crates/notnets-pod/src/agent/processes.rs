//! The processes of this host: joining, ending, and their packets.

use std::collections::BTreeSet;

use notnets_memory::{ReadMemory, WriteMemory};

use super::own::{Owner, Purpose};
use super::peers::Peer;
use super::{Agent, AgentEvent, Phase};
use crate::packet::{FromProcess, ToProcess};
use crate::table::{Entry, ExtentId, HostIncarnation, Hosts, ProcessEntry, ProcessId, ServiceEntry};

/// Why no process is taken at first: it comes again soon.
pub(crate) const JUST_BEGUN: &str =
    "the agent has just begun, and looks whether its host's number is its alone";

/// Packets that wait for a process which has not come back since the agent's restart, at most.
const MAX_WAITING: usize = 1024;

/// The state of a process number.
#[derive(Debug, Default)]
pub(super) struct Process {
    entry: ProcessEntry,
    /// Whether it is connected.
    joined: bool,
    /// Whether it has listed the processes it knows. Only those that come back have any.
    told_all: bool,
    /// It does not count any more, but still runs and has extents, or reads others': they must not be given
    /// to others.
    pub(super) lingers: bool,
    /// Extents in which it reads payloads; and those that it has not repeated since it came back.
    pub(super) claims: BTreeSet<ExtentId>,
    pub(super) claims_before: BTreeSet<ExtentId>,
    /// It may have claims that were made before the agent began.
    pub(super) unsettled: bool,
    /// Other processes, of this host as well, with which it has exchanged anything.
    pub(super) contacts: BTreeSet<ProcessId>,
    waiting: Vec<ToProcess>,
}

impl Process {
    pub(super) fn entry(&self) -> &ProcessEntry {
        &self.entry
    }

    /// The hosts with which it has ever exchanged anything.
    pub(super) fn exposed(&self) -> Hosts {
        self.entry.exposed
    }

    /// It holds no claims any more.
    pub(super) fn take_claims(&mut self) -> BTreeSet<ExtentId> {
        let mut claims = std::mem::take(&mut self.claims);
        claims.append(&mut self.claims_before);
        claims
    }

    /// Says whether it uses memory though it does not count.
    fn set_lingers(&mut self, lingers: bool) {
        self.lingers = lingers;
        self.entry.lingers = lingers;
    }

    /// Returns `true` if it does not count any more, but still runs, and has not said that it has let go of
    /// its links: it may read what peers have written.
    fn has_links(&self) -> bool {
        !self.entry.alive && !self.entry.links_gone
    }

    /// Says whether it has links when it does not count. In the table: who has left the pod and runs on does
    /// not come back to an agent that begins later.
    pub(super) fn set_has_links(&mut self, has_links: bool) {
        self.entry.links_gone = !has_links;
    }

    /// Returns `true` if it may read what others have written.
    fn may_read(&self) -> bool {
        self.unsettled || self.has_links() || !self.claims.is_empty() || !self.claims_before.is_empty()
    }
}

/// A process's identity, vouched for by the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Its process id.
    pub pid: u32,
    /// Its effective user.
    pub uid: u32,
    /// Its effective group.
    pub gid: u32,
    /// When it started, as the kernel counts.
    pub start_time: u64,
}

impl<W: WriteMemory, R: ReadMemory> Agent<W, R> {
    /// Handles a process that connects, and answers it. One that was here before is who it was, also if its
    /// connection before has not been seen to end.
    ///
    /// # Errors
    /// With a sentence when it can't be in the pod now.
    pub fn join(
        &mut self,
        identity: Identity,
        token: [u64; 2],
        before: Option<(HostIncarnation, ProcessId)>,
    ) -> Result<u16, String> {
        if self.phase != Phase::Running {
            return Err(JUST_BEGUN.into());
        }
        let returns = before.filter(|(incarnation, id)| {
            let known = self.processes.get(usize::from(id.process));
            *incarnation == self.own.record().incarnation
                && self.is_alive(*id)
                && known.is_some_and(|known| known.entry.is_of(identity.pid, token))
        });
        self.end_former(returns.map(|(_, id)| id.process), identity.pid, token);
        let process = match returns {
            Some((_, id)) => id.process,
            None => self.admit(identity, token)?,
        };
        // What its connection before had not taken is lost. Until it is ready, nothing is acknowledged.
        self.outbox.retain(|(to, _)| *to != process);
        self.forget_pending(process);
        let known = &mut self.processes[usize::from(process)];
        known.joined = true;
        known.told_all = returns.is_none();
        // It repeats those that it still has.
        known.claims_before.append(&mut known.claims);
        let mut waiting = std::mem::take(&mut known.waiting);
        // Of an end that came meanwhile it was not told, and it would not know of whom to ask.
        waiting.retain(|packet| match packet {
            ToProcess::Mail { from, .. } => known.contacts.contains(from),
            _ => true,
        });
        let id = self.id_of(process);
        self.outbox.push_back((
            process,
            ToProcess::Joined { incarnation: self.own.record().incarnation, id, wake_us: self.wake_us },
        ));
        self.outbox.extend(waiting.into_iter().map(|packet| (process, packet)));
        let Identity { pid, uid, .. } = identity;
        self.report(AgentEvent::ProcessJoined { pid, uid, returned: returns.is_some() });
        Ok(process)
    }

    /// A process has one number at a time. Others that it was given will not be claimed: an agent stopped, or
    /// an answer came too late.
    fn end_former(&mut self, present: Option<u16>, pid: u32, token: [u64; 2]) {
        for process in 0..self.processes.len() as u16 {
            let entry = self.processes[usize::from(process)].entry;
            if entry.alive && entry.is_of(pid, token) && Some(process) != present {
                self.end(process, true);
            }
        }
    }

    fn admit(&mut self, identity: Identity, token: [u64; 2]) -> Result<u16, String> {
        let free = self.processes.iter().position(|known| !known.entry.alive && !known.lingers);
        let process = free.ok_or_else(|| {
            format!(
                "host {} has {} processes in the pod, and no room for more",
                self.own.number,
                self.processes.len()
            )
        })?;
        let Identity { pid, uid, gid, start_time } = identity;
        let known = &mut self.processes[process];
        // More than any that was given before, also if the entry was lost.
        let generation = (known.entry.generation + 1).max(self.own.record().beat as u32);
        known.entry = ProcessEntry {
            alive: true,
            generation,
            pid,
            uid,
            gid,
            start_time,
            token,
            lingers: false,
            links_gone: false,
            exposed: Hosts::default(),
        };
        self.own.control.set_process(process, &known.entry);
        notnets_core::failpoint!("agent admitted");
        Ok(process as u16)
    }

    /// A process has ended, or does not count any more though it still `runs`: then call
    /// [`reap`](Self::reap) when it has ended.
    pub fn end(&mut self, process: u16, runs: bool) {
        let Some(known) = self.processes.get_mut(usize::from(process)) else { return };
        if !known.entry.alive {
            return;
        }
        known.entry.alive = false;
        known.joined = false;
        // One that was back, and had told all, leaves the pod when it closes its connection.
        known.set_has_links(runs && !known.told_all);
        known.contacts.clear();
        known.waiting.clear();
        let uses_memory = self.own.is_granted_any(process, known.entry.generation) || known.may_read();
        let lingers = runs && uses_memory;
        known.set_lingers(lingers);
        let entry = known.entry;
        self.own.control.set_process(process.into(), &entry);
        self.own.drop_services(process);
        self.own.count_ended();
        self.own.publish();
        if !lingers {
            self.release_memory(process);
        }
        self.on_done_all(process);
        self.report(AgentEvent::ProcessEnded { pid: entry.pid, uid: entry.uid, runs });
        let ended = self.id_of(process);
        self.report_all_gone(ended.host, !runs, |met| met != ended);
    }

    /// A process that did not count any more has ended.
    pub fn reap(&mut self, process: u16) {
        if let Some(known) = self.processes.get_mut(usize::from(process)).filter(|known| known.lingers) {
            known.set_lingers(false);
            known.set_has_links(false);
            let entry = known.entry;
            self.own.control.set_process(process.into(), &entry);
            self.release_memory(process);
            self.publish_all_acks();
        }
    }

    /// A process's connection ends that it has not closed itself: its links go on until it hears of that.
    pub fn cut_off(&mut self, process: u16) {
        if let Some(known) = self.processes.get_mut(usize::from(process)) {
            known.told_all = known.entry.exposed.is_empty();
        }
    }

    /// One that lingers may use no memory any more.
    pub(super) fn review_lingering(&mut self, process: u16) {
        let known = &mut self.processes[usize::from(process)];
        known.set_lingers(self.own.is_granted_any(process, known.entry.generation) || known.may_read());
        self.own.control.set_process(process.into(), &known.entry);
    }

    /// Processes that are not connected: those that have to come back after the agent's restart, and those
    /// that only linger.
    pub fn away(&self) -> Vec<(u16, ProcessEntry)> {
        let away = |known: &Process| known.lingers || known.entry.alive && !known.joined;
        let all = self.processes.iter().enumerate().filter(|(_, known)| away(known));
        all.map(|(process, known)| (process as u16, known.entry)).collect()
    }

    /// Returns `true` while a process has not come back since our restart, or has a number of before, and
    /// may read what any other wrote.
    pub(super) fn is_incomplete(&self) -> bool {
        self.processes.iter().any(|known| known.entry.alive && !known.told_all || known.has_links())
    }

    /// Returns `true` if a process with that number and generation lives here.
    pub(super) fn is_alive(&self, id: ProcessId) -> bool {
        let known = self.processes.get(usize::from(id.process));
        id.host == self.own.number
            && known.is_some_and(|known| known.entry.alive && known.entry.generation == id.generation)
    }

    pub(super) fn id_of(&self, process: u16) -> ProcessId {
        let generation = self.processes[usize::from(process)].entry.generation;
        ProcessId { host: self.own.number, process, generation }
    }

    /// Handles a packet from a process.
    pub fn handle(&mut self, process: u16, packet: FromProcess) {
        if !self.processes.get(usize::from(process)).is_some_and(|known| known.joined) {
            return;
        }
        match packet {
            FromProcess::Join { .. } | FromProcess::Look | FromProcess::LeaveHost => {
                self.tell(process, ToProcess::Refused("it has joined already".into()))
            }
            FromProcess::Knows(id) => self.on_knows(process, id),
            FromProcess::Ready => {
                self.processes[usize::from(process)].told_all = true;
                self.settle_claims(process);
                self.publish_all_acks();
            }
            FromProcess::Grant { more } => {
                let generation = self.id_of(process).generation;
                let purpose = if more { Purpose::More } else { Purpose::Beginning };
                let granted = self.own.grant(process, generation, purpose);
                let answer = granted.map_or(ToProcess::NoExtent { more }, ToProcess::Granted);
                self.tell(process, answer);
            }
            FromProcess::GrantPayloads => {
                let generation = self.id_of(process).generation;
                let granted = self.own.grant(process, generation, Purpose::Payloads);
                self.tell(process, granted.map_or(ToProcess::NoPayloads, ToProcess::GrantedPayloads));
            }
            FromProcess::Claim(extent) => self.on_claim(process, extent),
            FromProcess::Unclaim(extent) => self.on_unclaim(process, extent),
            FromProcess::Return(extent) => self.take_back(process, extent),
            FromProcess::Serve(name) => {
                let ProcessId { generation, .. } = self.id_of(process);
                let answer = match self.own.serve(ServiceEntry { process, generation, name: name.clone() }) {
                    Ok(()) => ToProcess::Serving(name),
                    Err(text) => ToProcess::NotServing(name, text),
                };
                self.tell(process, answer);
            }
            FromProcess::Unserve(name) => self.own.unserve(process, &name),
            FromProcess::Resolve { query, name } => {
                let instances = self.resolve(&name);
                self.tell(process, ToProcess::Resolved { query, instances });
            }
            FromProcess::Send { to, body } => self.send(process, to, &body),
            FromProcess::Done(id) => self.on_done(process, id),
            FromProcess::Heard { host } => self.on_heard(host),
            FromProcess::Leave => self.end(process, false),
            // They are for the thread that watches.
            FromProcess::Watch { .. }
            | FromProcess::Unwatch { .. }
            | FromProcess::WakeWithin { .. }
            | FromProcess::WantBell => {}
        }
    }

    /// A process has no use for an extent that was granted to it, or to it when it had another number.
    fn take_back(&mut self, process: u16, extent: u32) {
        let ProcessEntry { generation, pid, token, .. } = self.processes[usize::from(process)].entry;
        let Some((owner, of)) = self.own.granted_to(extent) else { return };
        if (owner, of) == (process, generation) {
            self.own.take_back(extent);
            return;
        }
        let Some(former) = self.processes.get(usize::from(owner)) else { return };
        if former.lingers && former.entry.generation == of && former.entry.is_of(pid, token) {
            // Peers that it had under that number may still read it.
            self.own.release_extent(extent, former.entry.exposed);
            self.review_lingering(owner);
        }
    }

    /// It has links from before our restart.
    fn on_knows(&mut self, process: u16, id: ProcessId) {
        if id.host == self.own.number {
            self.meet_here(process, id);
            return;
        }
        if self.peers.get(id.host).is_none() {
            return;
        }
        self.processes[usize::from(process)].contacts.insert(id);
        // Whether it lives still is looked up like a death that was just announced.
        self.read_processes_again(id.host);
    }

    fn send(&mut self, process: u16, to: ProcessId, body: &[u8]) {
        let from = self.id_of(process);
        if to.host == self.own.number {
            if self.meet_here(process, to) {
                self.meet_here(to.process, from);
                self.deliver(to.process, from, body.to_vec());
            }
            return;
        }
        // In the table before anything that it writes can be read.
        if self.peers.get(to.host).is_some_and(Peer::is_up) {
            self.expose(process, to.host);
        }
        let posted = self.post(from, to, body);
        let contacts = &mut self.processes[usize::from(process)].contacts;
        if posted {
            contacts.insert(to);
        } else if contacts.remove(&to) {
            self.report_gone(process, to, false);
        } else {
            // It has no links there, so its answer is not waited for: one that tries again and again would
            // keep the host's next incarnation from being accepted.
            self.tell(process, ToProcess::Gone { id: to, ended: false });
        }
    }

    /// A process exchanges something with another host. What it shares may lie in an extent that it has
    /// from a former number.
    fn expose(&mut self, process: u16, host: u16) {
        let ProcessEntry { pid, token, exposed, .. } = self.processes[usize::from(process)].entry;
        if exposed.contains(host) {
            return;
        }
        for number in 0..self.processes.len() {
            let known = &mut self.processes[number];
            let is_former = known.lingers && known.entry.is_of(pid, token);
            if (number == usize::from(process) || is_former) && known.entry.exposed.insert(host) {
                self.own.control.set_process(number, &known.entry);
            }
        }
    }

    pub(super) fn deliver(&mut self, process: u16, from: ProcessId, body: Vec<u8>) {
        if from.host != self.own.number {
            if !self.meet(process, from) {
                return;
            }
            // In the table before it can read anything, for our successor.
            self.expose(process, from.host);
        }
        self.tell(process, ToProcess::Mail { from, body });
    }

    /// A process has to do with one of the same host, of whose end it hears. That may have come already: then
    /// `false` is returned.
    fn meet_here(&mut self, process: u16, other: ProcessId) -> bool {
        let lives = self.is_alive(other);
        if lives {
            self.processes[usize::from(process)].contacts.insert(other);
        } else {
            self.report_gone(process, other, true);
        }
        lives
    }

    /// A process has heard of one elsewhere. Returns `false` if that can't be: a number's earlier owners have
    /// ended. So there are no more contacts than numbers.
    fn meet(&mut self, process: u16, from: ProcessId) -> bool {
        let contacts = &mut self.processes[usize::from(process)].contacts;
        let number = |generation| ProcessId { generation, ..from };
        let before = contacts.range(number(0)..=number(u32::MAX)).next_back().copied();
        if before.is_some_and(|before| before.generation > from.generation) {
            return false;
        }
        contacts.insert(from);
        if let Some(before) = before.filter(|before| *before != from) {
            contacts.remove(&before);
            self.report_gone(process, before, true);
        }
        true
    }

    /// Returns `true` while a process is connected.
    pub(super) fn is_joined(&self, process: u16) -> bool {
        self.processes.get(usize::from(process)).is_some_and(|known| known.joined)
    }

    pub(super) fn tell(&mut self, process: u16, packet: ToProcess) {
        let Some(known) = self.processes.get_mut(usize::from(process)) else { return };
        if known.joined {
            self.outbox.push_back((process, packet));
        } else if known.entry.alive && known.waiting.len() < MAX_WAITING {
            known.waiting.push(packet);
        }
    }

    /// Releases a process's extents, once nobody reads them any more, and its claims on others'.
    fn release_memory(&mut self, process: u16) {
        let known = &mut self.processes[usize::from(process)];
        known.unsettled = false;
        let ProcessEntry { generation, exposed, .. } = known.entry;
        self.own.release_extents(process, generation, exposed);
        self.keep_claims(process);
    }

    /// Reads our own tables when the agent begins, and puts in order what a stop left half-done. In a new
    /// incarnation nobody of the old one counts.
    pub(super) fn recover(&mut self, resumes: bool, runs: impl Fn(&ProcessEntry) -> bool) {
        let holders = self.own.holders();
        let inherits = self.inherit_claims();
        let processes: Vec<_> = self.own.control.processes().collect();
        for (process, found) in processes.into_iter().enumerate() {
            let mut known = Process::default();
            if let Entry::Valid(entry) = found {
                known.entry = entry;
            }
            // One that has never exchanged anything has no links: it may not even know that it was
            // admitted.
            known.told_all = known.entry.exposed.is_empty();
            let ends = known.entry.alive && !resumes;
            let was_there = known.entry.alive || known.entry.lingers;
            known.unsettled = inherits && was_there && (!ends || runs(&known.entry));
            if ends || found == Entry::Damaged {
                known.entry.alive = false;
                self.own.count_ended();
            }
            // It may have been let go of by the agent before us.
            let holds = holders.contains(&(process as u16, known.entry.generation)) || known.unsettled;
            let lingered = known.entry.lingers;
            let runs_on = !known.entry.alive && runs(&known.entry);
            let had_links = ends || lingered && !known.entry.links_gone;
            known.set_has_links(runs_on && had_links && !known.entry.exposed.is_empty());
            known.set_lingers(runs_on && (holds || known.has_links()));
            known.unsettled &= known.entry.alive || known.lingers;
            if ends || found == Entry::Damaged || lingered != known.lingers {
                self.own.control.set_process(process, &known.entry);
            }
            self.processes.push(known);
        }
        self.own.publish();
        let processes = &self.processes;
        self.own.recover_extents(|extent| match processes.get(usize::from(extent.process)) {
            Some(known) if known.entry.generation == extent.generation => {
                if known.entry.alive || known.lingers {
                    Owner::Writes
                } else {
                    Owner::Ended { exposed: known.entry.exposed }
                }
            }
            _ => Owner::Unknown,
        });
        self.own.recover_services(|served| {
            let known = processes.get(usize::from(served.process));
            known.is_some_and(|known| known.entry.alive && known.entry.generation == served.generation)
        });
        self.begin_claims();
    }
}
