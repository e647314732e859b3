//! The content of a control area: the records of a host, as `docs/pod.md` has them.
//!
//! Every record is validated when it is read. A bad checksum means *not written yet*; a valid checksum with
//! impossible contents is ignored.

use notnets_memory::record;
use notnets_memory::region::layout::Layout;
use notnets_memory::region::superblock::Uuid;
use notnets_memory::seal::Seal;
use notnets_memory::{ReadMemory, WORD, WriteMemory};

use notnets_core::name::{MAX_NAME_LENGTH, Name};

/// Words of a record of one line, and of one of two lines, without their checks.
const LINE_FIELDS: usize = 7;
const ENTRY_FIELDS: usize = 15;
const NAME_WORDS: usize = MAX_NAME_LENGTH / WORD;

/// States of a process in its entry.
const ALIVE: u32 = 1;
const LINGERS: u32 = 2;

/// A random number for each life of a host, from one start to the end of its lease.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct HostIncarnation(pub [u64; 2]);

impl std::fmt::Display for HostIncarnation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:016x}{:016x}", self.0[0], self.0[1])
    }
}

/// Which process of a pod. Numbers of processes are used again, with the next generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProcessId {
    /// The host.
    pub host: u16,
    /// The process on it.
    pub process: u16,
    /// How often that number has been given, so that a later process is another.
    pub generation: u32,
}

/// Extents of a host in which payloads can lie that others claim: as many as a word has bits.
pub const CLAIMABLE: usize = 64;

/// An extent of the pod in which payloads can lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ExtentId {
    /// The host that it belongs to.
    pub host: u16,
    /// Its number there.
    pub extent: u16,
}

impl ExtentId {
    /// Its bit in [`PeerRecord::claims`].
    pub fn bit(self) -> u64 {
        1u64.checked_shl(self.extent.into()).unwrap_or_default()
    }

    /// Returns `true` if a region of this layout has it, and payloads can lie there.
    pub fn is_in(self, layout: &Layout) -> bool {
        usize::from(self.host) < layout.hosts() && usize::from(self.extent) < layout.extents().min(CLAIMABLE)
    }
}

/// A host's record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HostRecord {
    /// Tells this life of the host from others.
    pub incarnation: HostIncarnation,
    /// Counts up with each heartbeat.
    pub beat: u64,
    /// Counts up when a process ends.
    pub process_epoch: u64,
    /// Counts up when a name is served or given up.
    pub service_epoch: u64,
    /// When it last beat, by the host's own clock, in nanoseconds since it booted.
    pub beat_at: u64,
    /// Its state.
    pub state: HostState,
    /// Its agent publishes claims on extents, and respects those of others.
    pub claims: bool,
    /// Its agent watches links for its processes.
    pub watches: bool,
    /// It can be woken by a bell when it has nothing to watch.
    pub has_bell: bool,
    /// Tells this boot of the host from others, for the host itself.
    pub boot: u32,
}

/// The state of a host.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum HostState {
    /// It has left in order.
    #[default]
    Left = 0,
    /// It looks whether its number is its alone.
    Claiming = 1,
    /// It is there.
    Running = 2,
}

/// One host's record about another.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PeerRecord {
    /// The incarnation that it accepts, or accepted last.
    pub known: HostIncarnation,
    /// The incarnation that it will never accept again.
    pub dead: HostIncarnation,
    /// The process epoch of the other up to which our processes have let go of those that ended.
    pub seen_epoch: u64,
    /// A bit for each extent of the other that processes of ours read.
    pub claims: u64,
    /// Counts up when these bits change.
    pub claim_changes: u64,
    /// Why `dead` is not accepted any more.
    pub ended_by: EndedBy,
}

/// What has shown a host that a life of another was over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum EndedBy {
    /// It does not say so.
    #[default]
    Unsaid = 0,
    /// Its heart did not beat.
    Silence = 1,
    /// Its heart did not beat, though its processes were seen to go on.
    Starvation = 2,
    /// It left in order.
    Leave = 3,
    /// It began another life.
    Replacement = 4,
}

/// A set of hosts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Hosts(pub [u64; 4]);

/// A process of a host.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ProcessEntry {
    /// Whether it is alive.
    pub alive: bool,
    /// It does not count any more, but it runs, and may use memory of the pod.
    pub lingers: bool,
    /// Then: it has let go of its links, and reads nothing by them.
    pub links_gone: bool,
    /// How often its number has been given.
    pub generation: u32,
    /// Its process id on its host.
    pub pid: u32,
    /// Its user there.
    pub uid: u32,
    /// Its group there.
    pub gid: u32,
    /// When it started, as its kernel counts: with the pid it is the process, on its host.
    pub start_time: u64,
    /// A random number of its own, with which it finds its entry again.
    pub token: [u64; 2],
    /// The hosts with which it has ever exchanged anything: their processes may read its extents, and it
    /// theirs.
    pub exposed: Hosts,
}

/// A name that is served on a host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceEntry {
    /// The process that serves it.
    pub process: u16,
    /// Its generation.
    pub generation: u32,
    /// The name.
    pub name: Name,
}

/// An extent of a host.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ExtentEntry {
    /// Its use.
    pub state: ExtentState,
    /// By which process, or by which it was.
    pub process: u16,
    /// Its generation.
    pub generation: u32,
    /// Payloads lie in it, and hosts may claim it.
    pub payloads: bool,
    /// Kept back until these hosts …
    pub exposed: Hosts,
    /// … have seen this process epoch of ours.
    pub released_at_epoch: u64,
}

/// The use of an extent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum ExtentState {
    /// For nothing.
    #[default]
    Free = 0,
    /// A process writes it.
    Granted = 1,
    /// Its process has ended, and others may still read it.
    Kept = 2,
}

impl Hosts {
    /// Adds one. Returns whether it is new.
    pub fn insert(&mut self, host: u16) -> bool {
        let new = !self.contains(host);
        self.0[usize::from(host) / 64] |= 1 << (host % 64);
        new
    }

    /// Takes one out.
    pub fn remove(&mut self, host: u16) {
        self.0[usize::from(host) / 64] &= !(1 << (host % 64));
    }

    /// Returns `true` if the host is in the set.
    pub fn contains(&self, host: u16) -> bool {
        self.0[usize::from(host) / 64] >> (host % 64) & 1 == 1
    }

    /// Returns `true` if the set is empty.
    pub fn is_empty(&self) -> bool {
        self.0 == [0; 4]
    }
}

impl HostRecord {
    fn encode(&self) -> [u64; LINE_FIELDS] {
        let abilities = u64::from(self.claims) | u64::from(self.watches) << 1 | u64::from(self.has_bell) << 2;
        let state = self.state as u64 | abilities << 8 | u64::from(self.boot) << 32;
        [
            self.incarnation.0[0],
            self.incarnation.0[1],
            self.beat,
            self.process_epoch,
            self.service_epoch,
            self.beat_at,
            state,
        ]
    }

    fn decode(fields: [u64; LINE_FIELDS]) -> Option<Self> {
        let [word0, word1, beat, process_epoch, service_epoch, beat_at, state] = fields;
        Some(Self {
            incarnation: HostIncarnation([word0, word1]),
            beat,
            process_epoch,
            service_epoch,
            beat_at,
            state: match state as u8 {
                0 => HostState::Left,
                1 => HostState::Claiming,
                2 => HostState::Running,
                _ => return None,
            },
            claims: state >> 8 & 1 == 1,
            watches: state >> 9 & 1 == 1,
            has_bell: state >> 10 & 1 == 1,
            boot: (state >> 32) as u32,
        })
    }
}

/// The bits of a peer's record that count changes of claims. Those above say what has ended a life.
const CLAIM_CHANGES: u64 = (1 << 56) - 1;

impl PeerRecord {
    fn encode(&self) -> [u64; LINE_FIELDS] {
        let known = self.known.0;
        let dead = self.dead.0;
        let changes =
            self.claim_changes & CLAIM_CHANGES | (self.ended_by as u64) << CLAIM_CHANGES.count_ones();
        [known[0], known[1], dead[0], dead[1], self.seen_epoch, self.claims, changes]
    }

    fn decode(fields: [u64; LINE_FIELDS]) -> Self {
        let [known0, known1, dead0, dead1, seen_epoch, claims, changes] = fields;
        let [known, dead] = [[known0, known1], [dead0, dead1]].map(HostIncarnation);
        let said = changes >> CLAIM_CHANGES.count_ones();
        let all = [EndedBy::Silence, EndedBy::Starvation, EndedBy::Leave, EndedBy::Replacement];
        let ended_by = all.into_iter().find(|ended_by| *ended_by as u64 == said).unwrap_or_default();
        Self { known, dead, seen_epoch, claims, claim_changes: changes & CLAIM_CHANGES, ended_by }
    }
}

impl ProcessEntry {
    fn encode(&self) -> [u64; ENTRY_FIELDS] {
        let pair = |low: u32, high: u32| u64::from(low) | u64::from(high) << 32;
        let mut fields = [0; ENTRY_FIELDS];
        let state = if self.alive {
            ALIVE
        } else if self.lingers {
            LINGERS
        } else {
            0
        };
        fields[0] = pair(state, self.generation);
        fields[1] = pair(self.pid, self.uid);
        fields[2] = pair(self.gid, self.links_gone.into());
        fields[3] = self.start_time;
        fields[4..6].copy_from_slice(&self.token);
        fields[6..10].copy_from_slice(&self.exposed.0);
        fields
    }

    fn decode(fields: [u64; ENTRY_FIELDS]) -> Self {
        let low = |word: u64| word as u32;
        let high = |word: u64| (word >> 32) as u32;
        Self {
            alive: low(fields[0]) == ALIVE,
            lingers: low(fields[0]) == LINGERS,
            generation: high(fields[0]),
            pid: low(fields[1]),
            uid: high(fields[1]),
            gid: low(fields[2]),
            links_gone: high(fields[2]) != 0,
            start_time: fields[3],
            token: [fields[4], fields[5]],
            exposed: Hosts([fields[6], fields[7], fields[8], fields[9]]),
        }
    }
}

impl ProcessEntry {
    /// Returns `true` if it is that of the process with this id, which goes by this random number.
    pub fn is_of(&self, pid: u32, token: [u64; 2]) -> bool {
        (self.pid, self.token) == (pid, token)
    }
}

impl ExtentEntry {
    /// Returns the process and its generation to which it is granted, if it is.
    pub fn owner(&self) -> Option<(u16, u32)> {
        (self.state == ExtentState::Granted).then_some((self.process, self.generation))
    }
}

impl ExtentEntry {
    /// Returns `true` if nobody but readers of payloads can keep it from being free.
    pub fn is_kept_for_claims(&self) -> bool {
        self.state == ExtentState::Kept && self.payloads && self.exposed.is_empty()
    }
}

impl ServiceEntry {
    fn encode(entry: Option<&Self>) -> [u64; ENTRY_FIELDS] {
        let mut fields = [0; ENTRY_FIELDS];
        let Some(Self { process, generation, name }) = entry else { return fields };
        let bytes = name.as_str().as_bytes();
        fields[0] = 1 | (bytes.len() as u64) << 8 | u64::from(*process) << 16 | u64::from(*generation) << 32;
        let mut padded = [0; MAX_NAME_LENGTH];
        padded[..bytes.len()].copy_from_slice(bytes);
        for (word, chunk) in fields[1..].iter_mut().zip(padded.chunks_exact(WORD)) {
            *word = u64::from_le_bytes(chunk.try_into().expect("a word"));
        }
        fields
    }

    fn decode(fields: [u64; ENTRY_FIELDS]) -> Option<Self> {
        if fields[0] as u8 != 1 {
            return None;
        }
        let len = usize::from((fields[0] >> 8) as u8);
        let bytes: Vec<u8> = fields[1..=NAME_WORDS].iter().flat_map(|word| word.to_le_bytes()).collect();
        let name = str::from_utf8(bytes.get(..len)?).ok()?.parse().ok()?;
        Some(Self { process: (fields[0] >> 16) as u16, generation: (fields[0] >> 32) as u32, name })
    }
}

impl ExtentEntry {
    fn encode(&self) -> [u64; LINE_FIELDS] {
        let [a, b, c, d] = self.exposed.0;
        let state = self.state as u64
            | u64::from(self.payloads) << 8
            | u64::from(self.process) << 16
            | u64::from(self.generation) << 32;
        [state, self.released_at_epoch, a, b, c, d, 0]
    }

    fn decode(fields: [u64; LINE_FIELDS]) -> Option<Self> {
        let [state, released_at_epoch, a, b, c, d, _] = fields;
        Some(Self {
            state: match state as u8 {
                0 => ExtentState::Free,
                1 => ExtentState::Granted,
                2 => ExtentState::Kept,
                _ => return None,
            },
            payloads: state >> 8 & 1 == 1,
            process: (state >> 16) as u16,
            generation: (state >> 32) as u32,
            exposed: Hosts([a, b, c, d]),
            released_at_epoch,
        })
    }
}

/// The content of an entry of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entry<T> {
    /// Nothing was ever written there.
    Blank,
    /// A record.
    Valid(T),
    /// No record: it is being written, or something is wrong.
    Damaged,
}

impl<T> Entry<T> {
    /// The record, if there is one.
    pub fn valid(self) -> Option<T> {
        match self {
            Self::Valid(record) => Some(record),
            Self::Blank | Self::Damaged => None,
        }
    }
}

/// A host's control area, its own or another's.
#[derive(Debug)]
pub struct Control<M> {
    memory: M,
    layout: Layout,
    seal: Seal,
    /// Nobody else writes it, so what is read here is what was written here.
    own: bool,
}

impl<M: ReadMemory> Control<M> {
    /// The control area of another host of this region.
    pub fn of_peer(memory: M, layout: Layout, uuid: Uuid, host: u16) -> Self {
        let [a, b] = uuid.words();
        Self { memory, layout, seal: Seal::new([a, b, host.into()]), own: false }
    }

    /// That of this host.
    pub fn of_own(memory: M, layout: Layout, uuid: Uuid, host: u16) -> Self {
        Self { own: true, ..Self::of_peer(memory, layout, uuid, host) }
    }

    /// Its memory.
    pub fn memory(&self) -> &M {
        &self.memory
    }

    /// Where what lies in it.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// The host's record.
    #[track_caller]
    pub fn host(&self) -> Option<HostRecord> {
        HostRecord::decode(self.observe(self.layout.host_record())?)
    }

    /// The host's record as others see it, also its own: another could have written there.
    #[track_caller]
    pub fn host_as_seen(&self) -> Option<HostRecord> {
        let offset = self.layout.host_record();
        let fields = record::observe(&self.memory, offset / WORD, self.seal.at(offset as u64))?;
        HostRecord::decode(fields)
    }

    /// Returns the host's record about another.
    #[track_caller]
    pub fn peer(&self, host: u16) -> Option<PeerRecord> {
        self.observe(self.layout.peer(host.into())).map(PeerRecord::decode)
    }

    /// Reads the host's record about another.
    pub fn peer_entry(&self, host: u16) -> Entry<PeerRecord> {
        self.entry(self.layout.peer(host.into()), |fields| Some(PeerRecord::decode(fields)))
    }

    /// All process entries, by their numbers. Each is read when it is asked for.
    pub fn processes(&self) -> impl Iterator<Item = Entry<ProcessEntry>> {
        (0..self.layout.processes()).map(|process| self.process_entry(process))
    }

    /// All service entries. One that is valid and empty was given up.
    pub fn services(&self) -> impl Iterator<Item = Entry<Option<ServiceEntry>>> {
        (0..self.layout.services()).map(|service| self.service_entry(service))
    }

    /// The entries of all extents.
    pub fn extents(&self) -> impl Iterator<Item = Entry<ExtentEntry>> {
        (0..self.layout.extents()).map(|extent| self.extent_entry(extent))
    }

    /// Reads a process entry.
    pub fn process_entry(&self, process: usize) -> Entry<ProcessEntry> {
        self.entry(self.layout.process(process), |fields| Some(ProcessEntry::decode(fields)))
    }

    /// Reads a service entry.
    pub fn service_entry(&self, service: usize) -> Entry<Option<ServiceEntry>> {
        self.entry(self.layout.service(service), |fields| Some(ServiceEntry::decode(fields)))
    }

    /// Reads an extent's entry.
    pub fn extent_entry(&self, extent: usize) -> Entry<ExtentEntry> {
        self.entry(self.layout.extent_entry(extent), ExtentEntry::decode)
    }

    /// Reads the host's record.
    pub fn host_entry(&self) -> Entry<HostRecord> {
        self.entry(self.layout.host_record(), HostRecord::decode)
    }

    /// A process entry.
    #[track_caller]
    pub fn process(&self, process: usize) -> Option<ProcessEntry> {
        self.observe(self.layout.process(process)).map(ProcessEntry::decode)
    }

    /// An extent's entry.
    #[track_caller]
    pub fn extent(&self, extent: usize) -> Option<ExtentEntry> {
        ExtentEntry::decode(self.observe(self.layout.extent_entry(extent))?)
    }

    fn entry<const N: usize, T>(
        &self,
        offset: usize,
        decode: impl FnOnce([u64; N]) -> Option<T>,
    ) -> Entry<T> {
        match self.observe(offset).map(decode) {
            Some(Some(valid)) => Entry::Valid(valid),
            None if self.is_blank(offset, (N + 1) * WORD) => Entry::Blank,
            _ => Entry::Damaged,
        }
    }

    /// Returns `true` if a part that was looked at just now was never written. Then it is all zeros.
    fn is_blank(&self, offset: usize, bytes: usize) -> bool {
        let words = offset / WORD..(offset + bytes) / WORD;
        words.into_iter().all(|word| self.memory.load(word) == 0)
    }

    #[track_caller]
    fn observe<const N: usize>(&self, offset: usize) -> Option<[u64; N]> {
        let word = offset / WORD;
        let seal = self.seal.at(offset as u64);
        if self.own {
            record::read(&self.memory, word, seal)
        } else {
            record::observe(&self.memory, word, seal)
        }
    }
}

impl<M: WriteMemory> Control<M> {
    /// Publishes the host's record.
    #[track_caller]
    pub fn set_host(&self, record: &HostRecord) {
        self.publish(self.layout.host_record(), record.encode());
    }

    /// Publishes the host's record about another.
    #[track_caller]
    pub fn set_peer(&self, host: u16, record: &PeerRecord) {
        self.publish(self.layout.peer(host.into()), record.encode());
    }

    /// Publishes a process entry.
    #[track_caller]
    pub fn set_process(&self, process: usize, entry: &ProcessEntry) {
        self.publish(self.layout.process(process), entry.encode());
    }

    /// Publishes a service entry, or clears it.
    #[track_caller]
    pub fn set_service(&self, service: usize, entry: Option<&ServiceEntry>) {
        self.publish(self.layout.service(service), ServiceEntry::encode(entry));
    }

    /// Publishes an extent's entry.
    #[track_caller]
    pub fn set_extent(&self, extent: usize, entry: &ExtentEntry) {
        self.publish(self.layout.extent_entry(extent), entry.encode());
    }

    #[track_caller]
    fn publish<const N: usize>(&self, offset: usize, fields: [u64; N]) {
        record::publish(&self.memory, offset / WORD, self.seal.at(offset as u64), fields);
    }
}

#[cfg(test)]
mod tests;
