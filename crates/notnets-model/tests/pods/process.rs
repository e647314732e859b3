//! A process of a simulated pod: it does what a member does, and knows what is true of it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use notnets_pod::agent::Identity;
use notnets_pod::packet::ToProcess;
use notnets_pod::table::{ExtentId, HostIncarnation, ProcessId};

/// What it has read from another, and where that lies.
pub type Offered = (ProcessId, u32);

/// A process. What it knows survives its agent.
pub struct Process {
    pub host: usize,
    pub pid: u32,
    /// Its number with the present agent.
    pub number: Option<u16>,
    pub before: Option<(HostIncarnation, ProcessId)>,
    /// What the agent has sent, and it has not read.
    pub inbox: VecDeque<(ProcessId, ToProcess)>,
    /// It is stopped until then.
    pub stopped_until: u64,
    /// Since when it has no agent.
    pub lost_at: u64,
    /// Its extents: under which number it has them, and who may read there.
    pub extents: BTreeMap<u32, Extent>,
    pub reads: BTreeSet<Offered>,
    pub knows: BTreeSet<ProcessId>,
    /// Its questions that are not answered.
    pub asked: BTreeMap<u64, ProcessId>,
    pub answered: u64,
    /// The last mail of each other process.
    pub heard: BTreeMap<ProcessId, u64>,
    /// Extents of payloads: its own, and others' that it reads.
    pub payloads: BTreeMap<ExtentId, Payload>,
}

#[derive(Default)]
pub struct Extent {
    pub by: Option<ProcessId>,
    pub offered: BTreeSet<ProcessId>,
}

/// A payload that it holds.
pub struct Payload {
    pub owner: ProcessId,
    /// Who was sent it, and has not taken over.
    pub passed: BTreeSet<ProcessId>,
    /// It reads there: its claim is answered, or it is the owner.
    pub reads: bool,
    /// Who is told when it does.
    pub from: Option<ProcessId>,
}

impl Process {
    pub fn new(host: usize, pid: u32) -> Self {
        Self {
            host,
            pid,
            number: None,
            before: None,
            inbox: VecDeque::new(),
            stopped_until: 0,
            lost_at: 0,
            extents: BTreeMap::new(),
            reads: BTreeSet::new(),
            knows: BTreeSet::new(),
            asked: BTreeMap::new(),
            answered: 0,
            heard: BTreeMap::new(),
            payloads: BTreeMap::new(),
        }
    }

    pub fn token(&self) -> [u64; 2] {
        [self.pid.into(), 1]
    }

    pub fn identity(&self) -> Identity {
        Identity { pid: self.pid, uid: 1, gid: 1, start_time: 1 }
    }

    pub fn id(&self) -> Option<ProcessId> {
        self.before.map(|(_, id)| id)
    }
}

/// What a mail says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Message {
    /// A question, which is answered with a number that follows from it.
    Ask(u64),
    Answer(u64, u64),
    /// The receiver may read in this extent.
    Offer(u32),
    /// It does not any more.
    Close(u32),
    /// A payload of that process, in this extent.
    Pass(ExtentId, ProcessId),
    /// It is held by the sender now.
    Taken(ExtentId),
}

impl Message {
    /// A mail with this number, of any length.
    pub fn encode(self, number: u64) -> Vec<u8> {
        let none = ProcessId { host: 0, process: 0, generation: 0 };
        let place = |extent: ExtentId| u64::from(extent.host) << 32 | u64::from(extent.extent);
        let (kind, a, b, id) = match self {
            Self::Ask(a) => (0, a, 0, none),
            Self::Answer(a, b) => (1, a, b, none),
            Self::Offer(a) => (2, a.into(), 0, none),
            Self::Close(a) => (3, a.into(), 0, none),
            Self::Pass(extent, owner) => (4, place(extent), 0, owner),
            Self::Taken(extent) => (5, place(extent), 0, none),
        };
        let id = u64::from(id.host) << 48 | u64::from(id.process) << 32 | u64::from(id.generation);
        let mut mail: Vec<u8> = [number, kind, a, b, id].iter().flat_map(|word| word.to_le_bytes()).collect();
        mail.resize(mail.len() + (number as usize * 53) % 500, number as u8);
        mail
    }

    /// Its number, and what it says, if it is what somebody wrote.
    pub fn decode(mail: &[u8]) -> Option<(u64, Self)> {
        let (words, rest) = mail.split_at_checked(40)?;
        let words = words.chunks_exact(8).map(|word| u64::from_le_bytes(word.try_into().expect("a word")));
        let [number, kind, a, b, id] = words.collect::<Vec<_>>().try_into().ok()?;
        if rest.len() != (number as usize * 53) % 500 || rest.iter().any(|byte| *byte != number as u8) {
            return None;
        }
        let extent = ExtentId { host: (a >> 32) as u16, extent: a as u16 };
        let id = ProcessId { host: (id >> 48) as u16, process: (id >> 32) as u16, generation: id as u32 };
        let message = match kind {
            0 => Self::Ask(a),
            1 => Self::Answer(a, b),
            2 => Self::Offer(a as u32),
            3 => Self::Close(a as u32),
            4 => Self::Pass(extent, id),
            5 => Self::Taken(extent),
            _ => return None,
        };
        Some((number, message))
    }
}

/// The answer to a question, by that process.
pub fn answer(of: ProcessId, question: u64) -> u64 {
    mark(of, u32::MAX).wrapping_mul(question | 1)
}

/// What a process writes into an extent of its own.
pub fn mark(of: ProcessId, extent: u32) -> u64 {
    let id = u64::from(of.host) << 48 | u64::from(of.process) << 32 | u64::from(of.generation);
    (id ^ u64::from(extent) << 24).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1
}
