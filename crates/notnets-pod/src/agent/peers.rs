//! Other hosts: whether they are up, which of their processes are left, and mail.

use std::collections::BTreeSet;

use notnets_memory::seal::Seal;
use notnets_memory::{LINE, Part, ReadMemory, WORD, WriteMemory};

use super::{Agent, AgentError, AgentEvent, HostEnd, Lapse};
use crate::mailbox::{MAIL_HEADER, MailReader, MailWriter};
use crate::packet::ToProcess;
use crate::table::{
    Control, EndedBy, Entry, HostIncarnation, HostRecord, HostState, PeerRecord, ProcessEntry, ProcessId,
    ServiceEntry,
};

/// A message.
const MESSAGE: u8 = 0;
/// Delivery failed: the sender writes to nobody.
const NOBODY: u8 = 1;
/// Into so many parts the lease is divided for looks at a silent host's processes.
const LISTENS: u64 = 4;
/// Packets taken of a host before others get their turn.
const BATCH: usize = 64;

/// The state of another host.
#[derive(Debug)]
pub(super) struct Peer<R> {
    pub(super) control: Control<R>,
    /// Its record in our control area.
    published: PeerRecord,
    /// Its record, and since when its heart has not beaten.
    seen: HostRecord,
    seen_at: u64,
    /// How often our processes were asked for signs of its own since then, and whether there were any.
    listened: u64,
    heard: bool,
    state: State,
    mail: Option<(MailWriter, MailReader)>,
    /// The epochs at which its tables were read; unknown if they have to be read again.
    seen_process_epoch: Option<u64>,
    seen_service_epoch: Option<u64>,
    /// Its processes as they were read last.
    seen_processes: Vec<SeenProcess>,
    pub(super) services: Vec<ServiceEntry>,
    /// Local processes that have not acknowledged yet that one of its processes is gone.
    pending: BTreeSet<(u16, ProcessId)>,
}

/// What another host's table says of a process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct SeenProcess {
    generation: u32,
    alive: bool,
    /// It does not count any more, and may still read what it could.
    lingers: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Considered down.
    Absent,
    /// Believed before our restart; its heart has not been seen to beat since.
    Expected,
    /// Its heart beats.
    Up,
}

impl<R: ReadMemory> Peer<R> {
    pub(super) fn new(control: Control<R>, published: PeerRecord, now: u64) -> Self {
        let expected = published.known != HostIncarnation::default() && published.known != published.dead;
        Self {
            control,
            published,
            seen: HostRecord::default(),
            seen_at: now,
            listened: 0,
            heard: false,
            state: if expected { State::Expected } else { State::Absent },
            mail: None,
            seen_process_epoch: Some(published.seen_epoch),
            seen_service_epoch: None,
            seen_processes: Vec::new(),
            services: Vec::new(),
            pending: BTreeSet::new(),
        }
    }

    /// Returns `true` if a process of it is known to have ended: that may have been acknowledged.
    fn has_ended(&self, id: ProcessId) -> bool {
        self.seen_processes.get(usize::from(id.process)).is_some_and(|seen| {
            id.generation < seen.generation || id.generation == seen.generation && !seen.alive
        })
    }

    /// Returns `true` if a process of it is known to have ended, and to read nothing more.
    fn has_let_go(&self, id: ProcessId) -> bool {
        let lingers = |seen: &SeenProcess| seen.generation == id.generation && seen.lingers;
        self.has_ended(id) && !self.seen_processes.get(usize::from(id.process)).is_some_and(lingers)
    }

    pub(super) fn is_up(&self) -> bool {
        self.state == State::Up
    }

    /// This host's record about it, to be written to its control area.
    pub(super) fn published_mut(&mut self) -> &mut PeerRecord {
        &mut self.published
    }
}

/// All other hosts, by their numbers.
#[derive(Debug)]
pub(super) struct Peers<R>(Vec<Option<Peer<R>>>);

impl<R> Peers<R> {
    /// The hosts of a region. The entry of this host is empty.
    pub(super) fn new(peers: impl Iterator<Item = Option<Peer<R>>>) -> Self {
        Self(peers.collect())
    }

    /// How many hosts the region is for, with this one.
    pub(super) fn hosts(&self) -> u16 {
        self.0.len() as u16
    }

    /// Returns a host, unless it is this one or the number does not exist.
    pub(super) fn get(&self, host: u16) -> Option<&Peer<R>> {
        self.0.get(usize::from(host))?.as_ref()
    }

    /// Returns a host to change it; see [`get`](Self::get).
    pub(super) fn get_mut(&mut self, host: u16) -> Option<&mut Peer<R>> {
        self.0.get_mut(usize::from(host))?.as_mut()
    }
}

impl<W: WriteMemory, R: ReadMemory> Agent<W, R> {
    /// Looks at another host.
    pub(super) fn poll_peer(&mut self, host: u16, now: u64, thoroughly: bool) -> Result<(), AgentError> {
        let Some(peer) = self.peers.get_mut(host) else { return Ok(()) };
        let record = peer.control.host();
        // A record that can't be read does not count as a heartbeat.
        if let Some(record) = record {
            let beats = record.incarnation == peer.seen.incarnation && record.beat != peer.seen.beat;
            let changed = beats || record.incarnation != peer.seen.incarnation;
            peer.seen = record;
            if changed {
                peer.seen_at = now;
                peer.listened = 0;
                peer.heard = false;
            }
            self.update_liveness(host, record, beats);
        }
        let lease = self.lease;
        let silence = self.peers.get(host).map_or(0, |peer| now.saturating_sub(peer.seen_at));
        if silence >= lease && self.peers.get(host).is_some_and(|peer| peer.state != State::Absent) {
            let heard = self.peers.get(host).is_some_and(|peer| peer.heard);
            let why = if heard { HostEnd::Starved(silence) } else { HostEnd::Silent(silence) };
            self.mark_dead(host, why);
        }
        if self.peers.get(host).is_some_and(Peer::is_up) {
            self.listen(host, silence);
            self.read_processes(host);
            self.read_services(host);
            self.read_mail(host);
            self.write_mail(host);
        }
        // Also of one that does not count here: if each has marked the other dead, neither comes up before
        // both have begun anew.
        let lives = |peer: &Peer<R>| peer.seen.state == HostState::Running && silence < lease;
        if thoroughly && self.peers.get(host).is_some_and(lives) {
            self.read_own_fate(host)?;
        }
        Ok(())
    }

    /// Has our processes look for signs of life of a silent host's: after a half of the lease how far their
    /// links are, after three quarters whether they are farther.
    fn listen(&mut self, host: u16, silence: u64) {
        let due = (silence / (self.lease / LISTENS).max(1)).saturating_sub(LISTENS / 2 - 1);
        let Some(peer) = self.peers.get_mut(host).filter(|peer| peer.listened < due) else { return };
        peer.listened += 1;
        let again = peer.listened > 1;
        for process in 0..self.processes.len() as u16 {
            let known = &self.processes[usize::from(process)];
            if self.is_joined(process) && known.contacts.iter().any(|met| met.host == host) {
                self.tell(process, ToProcess::Listen { host, again });
            }
        }
    }

    /// A process of ours has seen those of a host go on. It does not keep the host alive: whoever is told
    /// there of ends, gets mail or memory is told by its agent.
    pub(super) fn on_heard(&mut self, host: u16) {
        if let Some(peer) = self.peers.get_mut(host) {
            // Else this is of a silence before.
            peer.heard |= peer.listened > 1;
        }
    }

    /// Applies a host's record: the host goes, or it comes.
    fn update_liveness(&mut self, host: u16, record: HostRecord, beats: bool) {
        let Some(peer) = self.peers.get(host) else { return };
        let runs = record.state == HostState::Running;
        let is_other = record.incarnation != peer.published.known;
        if peer.state != State::Absent && (!runs || is_other) {
            self.mark_dead(host, if is_other { HostEnd::Replaced } else { HostEnd::Left });
        }
        let Some(peer) = self.peers.get(host) else { return };
        let let_go = peer.pending.is_empty() && !self.is_incomplete();
        let known = record.incarnation == peer.published.known;
        let believable = runs && beats && record.incarnation != peer.published.dead && (known || let_go);
        if believable && peer.state != State::Up {
            self.mark_up(host, record);
        }
    }

    /// A host is there, in an incarnation that was not marked dead.
    fn mark_up(&mut self, host: u16, record: HostRecord) {
        let Some(peer) = self.peers.get_mut(host) else { return };
        if peer.published.known != record.incarnation {
            peer.published.known = record.incarnation;
            // None of our processes has met any of its own. What processes of its incarnation before may
            // still read it acknowledges itself, once they have let go.
            peer.published.seen_epoch = record.process_epoch;
            self.publish_peer(host);
        }
        let own = self.mail_seal(self.own.number, self.own.record().incarnation, host, record.incarnation);
        let theirs = self.mail_seal(host, record.incarnation, self.own.number, self.own.record().incarnation);
        let layout = *self.own.control.layout();
        let our_mail = layout.mailbox(host.into());
        let our_taken = layout.taken(host.into());
        let their_mail = layout.mailbox(self.own.number.into());
        let their_taken = layout.taken(self.own.number.into());
        let Some(peer) = self.peers.get_mut(host) else { return };
        let writer = MailWriter::open(
            &part(self.own.control.memory(), our_mail.start, our_mail.len()),
            &part(peer.control.memory(), their_taken, LINE),
            own,
        );
        let reader = MailReader::open(
            &part(peer.control.memory(), their_mail.start, their_mail.len()),
            &part(self.own.control.memory(), our_taken, LINE),
            theirs,
        );
        peer.mail = Some((writer, reader));
        peer.seen_service_epoch = None;
        // Before any mail is read, which may be of a process that has ended.
        peer.seen_process_epoch = None;
        peer.seen_processes.clear();
        peer.state = State::Up;
        self.report(AgentEvent::HostUp { host, incarnation: record.incarnation });
    }

    /// Publishes this host's record about another.
    fn publish_peer(&self, host: u16) {
        if let Some(peer) = self.peers.get(host) {
            self.own.control.set_peer(host, &peer.published);
        }
    }

    /// Ends a host's incarnation: nothing of it is valid from now on.
    fn mark_dead(&mut self, host: u16, why: HostEnd) {
        let Some(peer) = self.peers.get_mut(host) else { return };
        let incarnation = peer.published.known;
        peer.state = State::Absent;
        peer.mail = None;
        peer.services.clear();
        peer.published.dead = peer.published.known;
        peer.published.ended_by = match why {
            HostEnd::Silent(_) => EndedBy::Silence,
            HostEnd::Starved(_) => EndedBy::Starvation,
            HostEnd::Left => EndedBy::Leave,
            HostEnd::Replaced => EndedBy::Replacement,
        };
        self.own.control.set_peer(host, &peer.published);
        self.report(AgentEvent::HostDown { host, incarnation, why });
        self.report_all_gone(host, false, |_| false);
    }

    /// Processes of this host that met one which does not live have to let go of it.
    pub(super) fn report_all_gone(&mut self, host: u16, ended: bool, lives: impl Fn(ProcessId) -> bool) {
        for process in 0..self.processes.len() as u16 {
            let contacts = &self.processes[usize::from(process)].contacts;
            let gone: Vec<_> =
                contacts.iter().copied().filter(|met| met.host == host && !lives(*met)).collect();
            for id in gone {
                self.processes[usize::from(process)].contacts.remove(&id);
                self.report_gone(process, id, ended);
            }
        }
    }

    /// Tells one process that another is gone, and waits for its answer. One that has not come back since our
    /// restart is told when it says whom it knows.
    pub(super) fn report_gone(&mut self, process: u16, id: ProcessId, ended: bool) {
        if !self.is_joined(process) {
            return;
        }
        if let Some(peer) = self.peers.get_mut(id.host) {
            peer.pending.insert((process, id));
        }
        self.tell(process, ToProcess::Gone { id, ended });
    }

    /// A local process reads nothing of that one any more.
    pub(super) fn on_done(&mut self, process: u16, id: ProcessId) {
        if let Some(peer) = self.peers.get_mut(id.host) {
            peer.pending.remove(&(process, id));
        }
        self.publish_ack(id.host);
    }

    /// A local process has ended: it reads nothing at all.
    pub(super) fn on_done_all(&mut self, process: u16) {
        self.forget_pending(process);
        self.publish_all_acks();
    }

    /// No answers of a local process are waited for.
    pub(super) fn forget_pending(&mut self, process: u16) {
        for host in 0..self.peers.hosts() {
            if let Some(peer) = self.peers.get_mut(host) {
                peer.pending.retain(|(waiting, _)| *waiting != process);
            }
        }
    }

    pub(super) fn publish_all_acks(&mut self) {
        for host in 0..self.peers.hosts() {
            self.publish_ack(host);
        }
    }

    /// Reads which of a host's processes live, when some have ended.
    fn read_processes(&mut self, host: u16) {
        let Some(peer) = self.peers.get(host) else { return };
        let epoch = peer.seen.process_epoch;
        if peer.seen_process_epoch == Some(epoch) {
            return;
        }
        let mut seen = Vec::with_capacity(peer.control.layout().processes());
        for entry in peer.control.processes() {
            match entry {
                Entry::Valid(ProcessEntry { generation, alive, lingers, .. }) => {
                    seen.push(SeenProcess { generation, alive, lingers });
                }
                Entry::Blank => seen.push(SeenProcess::default()),
                // It is being written: next time.
                Entry::Damaged => return,
            }
        }
        let lives = |met: ProcessId, lingers: bool| {
            let is_same = |seen: &&SeenProcess| seen.generation == met.generation;
            let seen = seen.get(usize::from(met.process)).filter(is_same);
            seen.is_some_and(|seen| seen.alive || lingers && seen.lingers)
        };
        self.report_all_gone(host, true, |met| lives(met, true));
        self.report_all_gone(host, false, |met| lives(met, false));
        if let Some(peer) = self.peers.get_mut(host) {
            peer.seen_process_epoch = Some(epoch);
            peer.seen_processes = seen;
        }
        self.publish_ack(host);
    }

    /// A local process had met one of a host's before our restart: finds out whether that still lives.
    pub(super) fn read_processes_again(&mut self, host: u16) {
        let Some(peer) = self.peers.get_mut(host) else { return };
        match peer.state {
            State::Up => {
                peer.seen_process_epoch = None;
                self.read_processes(host);
            }
            // It comes up, or is marked dead.
            State::Expected => peer.seen_process_epoch = None,
            State::Absent => self.report_all_gone(host, false, |_| false),
        }
    }

    /// Says up to where all of our processes have let go of those of a host that ended.
    fn publish_ack(&mut self, host: u16) {
        if self.is_incomplete() {
            return;
        }
        let Some(peer) = self.peers.get_mut(host) else { return };
        if peer.state == State::Up
            && peer.pending.is_empty()
            && let Some(epoch) = peer.seen_process_epoch
            && epoch != peer.published.seen_epoch
        {
            peer.published.seen_epoch = epoch;
            self.own.control.set_peer(host, &peer.published);
        }
    }

    /// Reads what a host serves, when that has changed.
    fn read_services(&mut self, host: u16) {
        let Some(peer) = self.peers.get_mut(host) else { return };
        let epoch = peer.seen.service_epoch;
        if peer.seen_service_epoch == Some(epoch) {
            return;
        }
        let mut services = Vec::new();
        for entry in peer.control.services() {
            match entry {
                Entry::Valid(entry) => services.extend(entry),
                Entry::Blank => {}
                // It is being written: next time.
                Entry::Damaged => return,
            }
        }
        peer.services = services;
        peer.seen_service_epoch = Some(epoch);
    }

    /// Reads another host's record about this one: that this one is dead, or the process epoch up to which it
    /// has let go.
    fn read_own_fate(&mut self, host: u16) -> Result<(), AgentError> {
        let own = self.own.record().incarnation;
        let verdict = self.peers.get(host).and_then(|peer| peer.control.peer(self.own.number));
        let Some(verdict) = verdict else { return Ok(()) };
        if verdict.dead == own {
            // So that this incarnation is never resumed.
            self.leave();
            return Err(AgentError::Lapsed(Lapse::MarkedDead { by: host }));
        }
        if verdict.known == own {
            self.own.forget_exposure(host, verdict.seen_epoch);
            self.forget_exposed_claims(host, verdict.seen_epoch);
        }
        Ok(())
    }

    /// From a process of ours to one elsewhere.
    pub(super) fn post(&mut self, from: ProcessId, to: ProcessId, body: &[u8]) -> bool {
        let mail = mail(MESSAGE, to, from, body);
        let Some((writer, _)) = self.peers.get_mut(to.host).and_then(|peer| peer.mail.as_mut()) else {
            return false;
        };
        let posted = writer.send(mail).is_ok();
        self.write_mail(to.host);
        posted
    }

    fn write_mail(&mut self, host: u16) {
        let layout = *self.own.control.layout();
        let Some(peer) = self.peers.get_mut(host) else { return };
        let Some((writer, _)) = peer.mail.as_mut().filter(|(writer, _)| writer.is_waiting()) else { return };
        let slots = layout.mailbox(host.into());
        let taken = part(peer.control.memory(), layout.taken(self.own.number.into()), LINE);
        writer.flush(&part(self.own.control.memory(), slots.start, slots.len()), &taken);
        notnets_core::failpoint!("agent wrote mail");
    }

    fn read_mail(&mut self, host: u16) {
        if self.peers.get(host).is_none_or(|peer| peer.seen_process_epoch.is_none()) {
            return;
        }
        let layout = *self.own.control.layout();
        for _ in 0..BATCH {
            let Some(peer) = self.peers.get_mut(host) else { return };
            let Some((_, reader)) = &mut peer.mail else { return };
            let slots = layout.mailbox(self.own.number.into());
            let slots = part(peer.control.memory(), slots.start, slots.len());
            let taken = part(self.own.control.memory(), layout.taken(host.into()), LINE);
            let Some(mail) = reader.receive(&slots, &taken) else { return };
            notnets_core::failpoint!("agent read mail");
            self.on_mail(host, &mail);
        }
    }

    fn on_mail(&mut self, host: u16, mail: &[u8]) {
        // Too short for mail.
        let Some((header, body)) = mail.split_first_chunk::<MAIL_HEADER>() else { return };
        let id = |host: u16, at: usize| ProcessId {
            host,
            process: u16::from_le_bytes([header[at], header[at + 1]]),
            generation: u32::from_le_bytes([header[at + 2], header[at + 3], header[at + 4], header[at + 5]]),
        };
        let to = id(self.own.number, 1);
        let from = id(host, 7);
        if usize::from(from.process) >= self.own.control.layout().processes() {
            return;
        }
        let has_ended = self.peers.get(host).is_some_and(|peer| peer.has_ended(from));
        match (header[0], self.is_alive(to)) {
            // What it had offered may be another's by now, and the process here would not hear of its end.
            (MESSAGE, _) if has_ended => {}
            (MESSAGE, true) => self.deliver(to.process, from, body.to_vec()),
            (MESSAGE, false) => {
                let answer = self::mail(NOBODY, from, to, &[]);
                if let Some((writer, _)) = self.peers.get_mut(host).and_then(|peer| peer.mail.as_mut()) {
                    // If that is full too, the host's own table of processes shows it.
                    let _ = writer.send(answer);
                }
            }
            (NOBODY, true) if self.processes[usize::from(to.process)].contacts.contains(&from) => {
                let reads_nothing = self.peers.get(host).is_some_and(|peer| peer.has_let_go(from));
                self.report_gone(to.process, from, reads_nothing);
            }
            _ => {}
        }
    }

    fn mail_seal(&self, from: u16, sender: HostIncarnation, to: u16, receiver: HostIncarnation) -> Seal {
        let hosts = u64::from(from) << 16 | u64::from(to);
        let incarnations = sender.0.into_iter().chain(receiver.0);
        Seal::new(self.uuid.words().into_iter().chain([hosts]).chain(incarnations))
    }
}

fn mail(kind: u8, to: ProcessId, from: ProcessId, body: &[u8]) -> Vec<u8> {
    let mut mail = Vec::with_capacity(MAIL_HEADER + body.len());
    mail.push(kind);
    for ProcessId { process, generation, .. } in [to, from] {
        mail.extend(process.to_le_bytes());
        mail.extend(generation.to_le_bytes());
    }
    mail.extend(body);
    mail
}

fn part<M: ReadMemory>(memory: &M, byte: usize, bytes: usize) -> Part<'_, M> {
    Part::new(memory, byte / WORD, bytes / WORD)
}
