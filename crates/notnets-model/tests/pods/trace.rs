//! What real agents publish, as steps of the model: each must be one that the model allows.

use std::collections::{HashMap, VecDeque};

use notnets_memory::heap::Heap;
use notnets_memory::incoherent::Published;
use notnets_memory::region::layout::Layout;
use notnets_memory::region::superblock::Uuid;
use notnets_memory::{LINE, LINE_WORDS, WORD, WriteMemory};
use notnets_model::pod::{Action, Extent, Id, Mail, Offer, Pod};
use notnets_pod::table::{
    CLAIMABLE, Control, Entry, ExtentEntry, ExtentState, HostIncarnation, HostRecord, HostState, PeerRecord,
    ProcessEntry, ProcessId,
};

/// Steps that are shown with one that is not allowed.
const LAST: usize = 40;

/// The model's process of that id.
pub fn id(of: ProcessId) -> Id {
    Id { host: of.host, process: of.process, generation: of.generation }
}

/// A pod by the model, and by what the agents have published.
pub struct Trace {
    pub pod: Pod,
    layout: Layout,
    shadows: Vec<Shadow>,
    lives: HashMap<HostIncarnation, (u16, u32)>,
    /// Processes by their kernel's numbers, and what they were in the pod.
    pub numbers: HashMap<u32, Vec<Id>>,
    /// What each host says that its processes claim, of each other's extents.
    pub claims: Vec<Vec<u64>>,
    /// Extents of payloads that have just become free.
    pub freed: Vec<(u16, usize)>,
    /// Steps that were looked at, and the last of them.
    pub steps: u64,
    last: VecDeque<Action>,
}

/// A host's control area as it was published.
struct Shadow {
    control: Control<Heap>,
    host: HostRecord,
    peers: Vec<PeerRecord>,
    processes: Vec<ProcessEntry>,
    extents: Vec<ExtentEntry>,
}

impl Trace {
    pub fn new(layout: Layout, uuid: Uuid) -> Self {
        let [hosts, processes, extents] = [layout.hosts(), layout.processes(), layout.extents()];
        let shadow = |host: usize| Shadow {
            control: Control::of_own(Heap::new(layout.control(host).len() / WORD), layout, uuid, host as u16),
            host: HostRecord::default(),
            peers: vec![PeerRecord::default(); hosts],
            processes: vec![ProcessEntry::default(); processes],
            extents: vec![ExtentEntry::default(); extents],
        };
        Self {
            pod: Pod::new(hosts as u16, processes as u16, extents as u16, None),
            layout,
            shadows: (0..hosts).map(shadow).collect(),
            lives: HashMap::new(),
            numbers: HashMap::new(),
            claims: vec![vec![0; hosts]; hosts],
            freed: Vec::new(),
            steps: 0,
            last: VecDeque::new(),
        }
    }

    /// Takes a step of the model.
    pub fn step(&mut self, action: Action) -> Result<(), String> {
        self.steps += 1;
        self.pod
            .apply(action)
            .map_err(|refusal| format!("{refusal}: {action:?}; before: {}", self.history()))?;
        if self.last.len() == LAST {
            self.last.pop_front();
        }
        self.last.push_back(action);
        Ok(())
    }

    fn history(&self) -> String {
        self.last.iter().map(|action| format!("\n  {action:?}")).collect()
    }

    /// How often a host's heart has beaten.
    pub fn beat(&self, host: usize) -> u64 {
        self.shadows[host].host.beat
    }

    /// The lives that seal mail from one host to another, as the sender knows them.
    pub fn lives(&self, from: u16, to: u16) -> (u32, u32) {
        (self.pod.host(from).life, self.pod.host(from).about[usize::from(to)].known)
    }

    pub fn mail(&self, number: u64) -> Option<Mail> {
        self.pod.mail.iter().find(|mail| mail.number == number).copied()
    }

    /// Follows a line that was published.
    pub fn follow(&mut self, published: &Published) -> Result<(), String> {
        let Published { host, word, words } = *published;
        let control = self.layout.control(host);
        let start = control.start().0 as usize;
        let Some(at) = (word * WORD).checked_sub(start).filter(|at| *at < control.len()) else {
            return Ok(());
        };
        for (i, value) in words.into_iter().enumerate() {
            self.shadows[host].control.memory().store(at / WORD + i, value);
        }
        let layout = self.layout;
        let number = host as u16;
        let within = |first: usize, count: usize, bytes: usize| {
            let index = at.checked_sub(first)? / bytes;
            (index < count).then_some(index)
        };
        if at == layout.host_record() {
            return self.host(number);
        }
        if let Some(peer) = within(layout.peer(0), layout.hosts(), LINE) {
            return self.peer(number, peer as u16);
        }
        if let Some(process) = within(layout.process(0), layout.processes(), 2 * LINE) {
            return self.process(number, process);
        }
        if let Some(extent) = within(layout.extent_entry(0), layout.extents(), LINE) {
            return self.extent(number, extent);
        }
        Ok(())
    }

    fn host(&mut self, host: u16) -> Result<(), String> {
        let shadow = &mut self.shadows[usize::from(host)];
        let Entry::Valid(record) = shadow.control.host_entry() else { return Ok(()) };
        let before = std::mem::replace(&mut shadow.host, record);
        if before.incarnation != record.incarnation {
            self.step(Action::Begin { host })?;
            self.lives.insert(record.incarnation, (host, self.pod.host(host).life));
        }
        if self.pod.host(host).epoch > record.process_epoch {
            return Err(format!("the process epoch of host {host} goes back to {}", record.process_epoch));
        }
        while self.pod.host(host).epoch < record.process_epoch {
            self.step(Action::Count { host })?;
        }
        let begins = before.state != HostState::Running || before.incarnation != record.incarnation;
        match record.state {
            HostState::Running if begins => self.step(Action::Run { host }),
            HostState::Left if before.state != HostState::Left => self.step(Action::Leave { host }),
            _ => Ok(()),
        }
    }

    fn peer(&mut self, host: u16, peer: u16) -> Result<(), String> {
        let shadow = &mut self.shadows[usize::from(host)];
        let Entry::Valid(record) = shadow.control.peer_entry(peer) else { return Ok(()) };
        let before = std::mem::replace(&mut shadow.peers[usize::from(peer)], record);
        self.claims[usize::from(host)][usize::from(peer)] = record.claims;
        if record.dead != before.dead {
            self.step(Action::MarkDead { host, peer })?;
        }
        if record.known != before.known {
            let life = self.lives.get(&record.known).filter(|(of, _)| *of == peer);
            let (_, life) =
                *life.ok_or_else(|| format!("host {host} accepts a life of {peer} that is none"))?;
            self.step(Action::Accept { host, peer, life, epoch: record.seen_epoch })
        } else if record.seen_epoch != before.seen_epoch {
            self.step(Action::Acknowledge { host, peer, epoch: record.seen_epoch })
        } else {
            Ok(())
        }
    }

    fn process(&mut self, host: u16, process: usize) -> Result<(), String> {
        let shadow = &mut self.shadows[usize::from(host)];
        let Entry::Valid(entry) = shadow.control.process_entry(process) else { return Ok(()) };
        let before = std::mem::replace(&mut shadow.processes[process], entry);
        let of = |entry: &ProcessEntry| Id { host, process: process as u16, generation: entry.generation };
        let is_other = before.generation != entry.generation;
        if before.alive && (!entry.alive || is_other) {
            self.step(Action::RecordEnd(of(&before)))?;
        }
        if entry.alive && (!before.alive || is_other) {
            self.step(Action::Admit(of(&entry)))?;
            self.numbers.entry(entry.pid).or_default().push(of(&entry));
        }
        for peer in (0..self.layout.hosts() as u16).filter(|peer| entry.exposed.contains(*peer)) {
            if is_other || !before.exposed.contains(peer) {
                self.step(Action::Expose(of(&entry), peer))?;
            }
        }
        Ok(())
    }

    fn extent(&mut self, host: u16, extent: usize) -> Result<(), String> {
        let shadow = &mut self.shadows[usize::from(host)];
        let Entry::Valid(entry) = shadow.control.extent_entry(extent) else { return Ok(()) };
        let before = std::mem::replace(&mut shadow.extents[extent], entry);
        let is_free = entry.state == ExtentState::Free;
        if before.payloads || entry.payloads {
            // The claims on it are another matter.
            if is_free && before.state != ExtentState::Free && extent < CLAIMABLE {
                self.freed.push((host, extent));
            }
            return Ok(());
        }
        let of = |entry: &ExtentEntry| Offer {
            by: Id { host, process: entry.process, generation: entry.generation },
            extent: extent as u16,
        };
        if entry.state == ExtentState::Granted {
            if before.state == ExtentState::Granted && of(&before) == of(&entry) {
                return Ok(());
            }
            return self.step(Action::Grant(of(&entry)));
        }
        if before.state == ExtentState::Granted {
            let offer = of(&before);
            if is_free && self.pod.is_alive(offer.by) {
                return self.step(Action::TakeBack(offer));
            }
            self.step(Action::Keep(offer))?;
        }
        let Extent::Kept { exposed, .. } = self.pod.host(host).extents[extent].clone() else { return Ok(()) };
        for peer in exposed.into_iter().filter(|peer| !entry.exposed.contains(*peer)) {
            self.step(Action::Forget { host, extent: extent as u16, peer })?;
        }
        if is_free { self.step(Action::Free { host, extent: extent as u16 }) } else { Ok(()) }
    }
}

/// Where the first line of a host's extent lies, in words of the region.
pub fn extent_word(layout: &Layout, host: u16, extent: u32) -> usize {
    layout.extent(host.into(), extent as usize).start().0 as usize / WORD
}

const _: () = assert!(LINE == LINE_WORDS * WORD);
