//! A host of which every word is hostile: the agent of another goes on, holds no more for that, and serves
//! its own processes.

mod support;

use notnets_memory::heap::Heap;
use notnets_memory::region::layout::Layout;
use notnets_memory::region::superblock::Superblock;
use notnets_memory::seal::Seal;
use notnets_memory::{Coherence, LINE_WORDS, Part, ReadMemory, WORD, WriteMemory, record};
use notnets_pod::agent::{Agent, Identity, Phase, Start};
use notnets_pod::packet::{FromProcess, ToProcess};
use notnets_pod::table::{
    Control, EndedBy, ExtentEntry, ExtentState, HostIncarnation, HostRecord, HostState, Hosts, PeerRecord,
    ProcessEntry, ProcessId, ServiceEntry,
};

const ROUNDS: u64 = 3000;
/// Packets that a process is sent in a round at most: what came in one look at a mailbox, and who is gone.
const MOST: usize = 200;

/// Random values by a seed.
struct Random(u64);

impl Random {
    /// Any bits (SplitMix64).
    fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    /// Often a value at an edge.
    fn word(&mut self) -> u64 {
        match self.below(6) {
            0 => 0,
            1 => u64::MAX,
            2 => u64::from(u32::MAX),
            3 => self.below(300),
            4 => u64::MAX - self.below(300),
            _ => self.bits(),
        }
    }

    fn below(&mut self, end: u64) -> u64 {
        self.bits() % end
    }
}

fn superblock() -> Superblock {
    Superblock { coherence: Coherence::Hardware, ..support::superblock() }
}

/// The partition of the hostile host, and what it reads of the other.
struct Villain<'a> {
    random: Random,
    layout: Layout,
    memory: &'a Heap,
    victim: &'a Heap,
    beat: u64,
    incarnation: HostIncarnation,
}

impl Villain<'_> {
    fn control(&self) -> Control<Part<'_, Heap>> {
        let all = Part::new(self.memory, 0, self.memory.words());
        Control::of_own(all, self.layout, superblock().uuid, 1)
    }

    /// It lives, and otherwise does anything.
    fn act(&mut self) {
        self.beat += 1;
        let random = &mut self.random;
        if random.below(200) == 0 {
            self.incarnation = HostIncarnation([random.word(), random.word()]);
        }
        let record = HostRecord {
            incarnation: self.incarnation,
            beat: self.beat,
            process_epoch: random.word(),
            service_epoch: random.word(),
            beat_at: random.word(),
            state: HostState::Running,
            claims: random.below(2) == 0,
            watches: true,
            has_bell: true,
            boot: random.word() as u32,
        };
        self.control().set_host(&record);
        match self.random.below(8) {
            0 => self.overwrite(),
            1 => self.processes(),
            2 => self.services(),
            3 => self.verdict(),
            4 => self.extents(),
            5 => self.taken(),
            _ => self.mail(),
        }
    }

    fn overwrite(&mut self) {
        for _ in 0..64 {
            let word = self.random.below(self.memory.words() as u64) as usize;
            let value = self.random.word();
            self.memory.store(word, value);
        }
    }

    fn processes(&mut self) {
        let random = &mut self.random;
        let entry = ProcessEntry {
            alive: random.below(2) == 0,
            generation: random.word() as u32,
            pid: random.word() as u32,
            token: [random.word(), random.word()],
            exposed: Hosts([random.word(), random.word(), random.word(), random.word()]),
            ..ProcessEntry::default()
        };
        let process = random.below(4) as usize;
        self.control().set_process(process, &entry);
    }

    fn services(&mut self) {
        let random = &mut self.random;
        let [process, generation] = [random.word(), random.word()].map(|word| word as u32);
        let name = format!("name-{}", random.below(3)).parse().unwrap();
        let entry = ServiceEntry { process: process as u16, generation, name };
        let place = random.below(4) as usize;
        self.control().set_service(place, Some(&entry));
    }

    /// Its record about the victim.
    fn verdict(&mut self) {
        let random = &mut self.random;
        let record = PeerRecord {
            known: HostIncarnation([random.word(), random.word()]),
            dead: HostIncarnation([random.word(), random.word()]),
            seen_epoch: random.word(),
            claims: random.word(),
            claim_changes: random.below(2),
            ended_by: EndedBy::default(),
        };
        self.control().set_peer(0, &record);
    }

    fn extents(&mut self) {
        let random = &mut self.random;
        let entry = ExtentEntry {
            state: ExtentState::Kept,
            process: random.word() as u16,
            generation: random.word() as u32,
            payloads: random.below(2) == 0,
            exposed: Hosts([random.word(); 4]),
            released_at_epoch: random.word(),
        };
        let extent = random.below(self.layout.extents() as u64) as usize;
        self.control().set_extent(extent, &entry);
    }

    /// How much it has read of the victim's mail.
    fn taken(&mut self) {
        let seal = self.seal(true);
        let word = self.layout.taken(0) / WORD;
        let fields = std::array::from_fn(|_| self.random.word());
        record::publish::<7>(self.memory, word, seal, fields);
    }

    /// Slots of its mailbox as they should be, but for what is in them.
    fn mail(&mut self) {
        let seal = self.seal(false);
        let slots = self.layout.mailbox(0);
        let count = (slots.len() / WORD / LINE_WORDS) as u64;
        let taken = record::read::<7>(self.victim, self.layout.taken(1) / WORD, seal);
        let mut mails = taken.map_or(0, |[taken, ..]| taken);
        let generations: Vec<_> = self.victim_control().processes().collect();
        for _ in 0..self.random.below(count) {
            mails += 1;
            let random = &mut self.random;
            let mut fields: [u64; 7] = std::array::from_fn(|_| random.word());
            if random.below(20) > 0 {
                // A packet of one part, to a process that lives there.
                fields[0] = (13 + random.below(30)) << 32;
                let to = random.below(2) as u16;
                let lives = generations[usize::from(to)].valid().unwrap_or_default().generation;
                let from = random.below(6) as u16;
                let mut packet = vec![random.below(3) as u8];
                packet.extend(to.to_le_bytes());
                packet.extend(lives.to_le_bytes());
                packet.extend(from.to_le_bytes());
                packet.extend((random.word() as u32).to_le_bytes());
                packet.resize(16, 7);
                fields[1] = u64::from_le_bytes(packet[..8].try_into().unwrap());
                fields[2] = u64::from_le_bytes(packet[8..].try_into().unwrap());
            }
            let slot = slots.start / WORD + ((mails - 1) % count) as usize * LINE_WORDS;
            record::publish(self.memory, slot, seal.at(mails), fields);
        }
    }

    /// The tables of the victim.
    fn victim_control(&self) -> Control<Part<'_, Heap>> {
        let all = Part::new(self.victim, 0, self.victim.words());
        Control::of_own(all, self.layout, superblock().uuid, 0)
    }

    /// The seal of the mailbox from the victim, or of that to it.
    fn seal(&self, from_victim: bool) -> Seal {
        let uuid = superblock().uuid;
        let own = self.victim_control().host().unwrap_or_default().incarnation;
        let (hosts, first, second) =
            if from_victim { (1, own, self.incarnation) } else { (1 << 16, self.incarnation, own) };
        Seal::new(uuid.words().into_iter().chain([hosts]).chain(first.0).chain(second.0))
    }
}

#[test]
fn an_agent_goes_on_beside_a_host_that_writes_anything() {
    let layout = superblock().layout().unwrap();
    let words = layout.control(0).len() / WORD;
    let mut delivered = 0;
    for seed in 0..4 {
        println!("seed {seed}");
        let (victim, hostile) = (Heap::new(words), Heap::new(words));
        let random = Random(seed);
        let incarnation = HostIncarnation([7, 7]);
        let memory = &hostile;
        let mut villain = Villain { random, layout, memory, victim: &victim, beat: 0, incarnation };
        let mut now = 1_000_000_000;
        let mut lives = 1;
        let start = |now, lives| {
            let start = Start { now, boot: 1, incarnation: HostIncarnation([lives, 1]) };
            let own = Part::new(&victim, 0, words);
            let peers = vec![None, Some(Part::new(&hostile, 0, words))];
            Agent::start(&superblock(), layout, 0, own, peers, start, |_| true)
        };
        let mut agent = start(now, lives);
        let mut processes = Vec::new();
        for round in 0..ROUNDS {
            now += 5_000_000;
            villain.act();
            if agent.tick(now).is_err() {
                // Others may say that this host is dead: then it begins anew.
                lives += 1;
                agent = start(now, lives);
                processes.clear();
            }
            if agent.phase() != Phase::Running {
                continue;
            }
            if processes.len() < 2 {
                let number = processes.len() as u64;
                let identity = Identity { pid: 1 + number as u32, uid: 1, gid: 1, start_time: 1 };
                processes.extend(agent.join(identity, [lives, number], None).ok());
            }
            for process in &processes {
                let to = ProcessId { host: 1, process: villain.random.below(5) as u16, generation: 1 };
                agent.handle(*process, FromProcess::Send { to, body: vec![1; 100] });
                agent.handle(*process, FromProcess::Resolve { query: 1, name: "name-1".parse().unwrap() });
                let extent = villain.random.word() as u32;
                agent.handle(*process, FromProcess::Return(extent));
            }
            let mut heard = 0;
            let mut resolved = 0;
            while let Some((process, packet)) = agent.poll() {
                heard += 1;
                match packet {
                    ToProcess::Gone { id, .. } => agent.handle(process, FromProcess::Done(id)),
                    ToProcess::Resolved { .. } => resolved += 1,
                    ToProcess::Mail { .. } => delivered += 1,
                    _ => {}
                }
            }
            assert!(heard <= MOST, "round {round}: {heard} packets");
            assert_eq!(resolved, processes.len(), "round {round}: its own processes are served");
        }
    }
    assert!(delivered > 100, "hostile mail gets through: {delivered}");
}
