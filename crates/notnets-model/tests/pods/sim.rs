//! A whole simulated pod: hosts without coherence, their agents, and processes; and all that befalls them.

use std::collections::BTreeSet;

use notnets_memory::incoherent::{Incoherent, World};
use notnets_memory::region::layout::Layout;
use notnets_memory::region::superblock::{Superblock, Uuid};
use notnets_memory::{Coherence, ReadMemory, WORD, WriteMemory};
use notnets_model::pod::{Action, Mail, Offer};
use notnets_pod::agent::{Agent, AgentError, AgentEvent, HostEnd, Phase, Start};
use notnets_pod::packet::{FromProcess, ToProcess};
use notnets_pod::table::{Control, ExtentId, ExtentState, HostIncarnation, ProcessId};

use crate::process::{Extent, Message, Payload, Process, answer, mark};
use crate::trace::{Trace, extent_word, id};

/// Milliseconds.
const LEASE: u64 = 300;
const HEARTBEAT: u64 = 10;
/// Steps of a millisecond within which all comes to rest, for each host.
const PATIENCE: u64 = 3000;
/// Processes of a host at most.
const PROCESSES: usize = 3;

pub type Outcome<T = ()> = Result<T, String>;

pub fn superblock(hosts: usize) -> Superblock {
    Superblock {
        coherence: Coherence::Software,
        uuid: Uuid(*b"sixteen byte id."),
        unit: 4096,
        // A mailbox of 64 lines for each host, and 8 extents.
        partition_bytes: ((hosts as u64 * 4160 + 4096).next_multiple_of(4096)) + (8 << 12),
        extent_bytes: 4096,
        hosts: hosts as u32,
        processes: 12,
        services: 1,
        mailbox_slots: 64,
        heartbeat_ms: HEARTBEAT as u32,
        lease_ms: LEASE as u32,
        pod: "pod0".into(),
    }
}

struct Host {
    agent: Option<Agent<Incoherent, Incoherent>>,
    /// Its agent is there again then; if it has no power, the host is.
    back_at: u64,
    has_power: bool,
    /// Its agent is stopped until then, alone or with its clock, as that of a virtual machine is.
    stopped_until: u64,
    frozen_at: Option<u64>,
    /// It can't reach the memory until then.
    cut_until: u64,
    cut_at: u64,
    boot: u32,
    /// How far its clock is behind.
    behind: u64,
    /// When others could last see its heart beat.
    seen_at: u64,
}

/// What has happened, so that a test can tell that it was not idle.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counts {
    pub steps: u64,
    pub mails: u64,
    pub answers: u64,
    pub reads: u64,
    pub claims: u64,
    pub crashes: u64,
    pub restarts: u64,
    pub lapses: u64,
    pub cuts: u64,
    pub kills: u64,
    pub model_steps: u64,
}

pub struct Sim {
    world: World,
    superblock: Superblock,
    layout: Layout,
    hosts: Vec<Host>,
    processes: Vec<Process>,
    /// Connections that were closed before the answer came, of hosts by their numbers, and by whom.
    closed: Vec<(usize, u16, u32)>,
    trace: Trace,
    /// Milliseconds since the hosts booted.
    now: u64,
    lives: u64,
    pids: u32,
    mails: u64,
    /// Nothing befalls anybody any more.
    quiet: bool,
    pub counts: Counts,
}

impl Sim {
    pub fn new(hosts: usize, seed: u64) -> Outcome<Self> {
        let superblock = superblock(hosts);
        let layout = superblock.layout().expect("it fits");
        let world = World::new(layout.partition(hosts - 1).end().0 as usize / WORD, hosts, seed);
        let trace = Trace::new(layout, superblock.uuid);
        let host = |_| Host {
            agent: None,
            back_at: 0,
            has_power: true,
            stopped_until: 0,
            frozen_at: None,
            cut_until: 0,
            cut_at: 0,
            boot: 1,
            behind: 0,
            seen_at: 0,
        };
        let mut sim = Self {
            world,
            superblock,
            layout,
            hosts: (0..hosts).map(host).collect(),
            processes: Vec::new(),
            closed: Vec::new(),
            trace,
            now: 1000,
            lives: 0,
            pids: 0,
            mails: 0,
            quiet: true,
            counts: Counts::default(),
        };
        for host in 0..hosts {
            let (control, range) = (sim.control(host, host), layout.control(host));
            for word in 0..range.len() / WORD {
                control.store(word, 0);
                sim.world.flush(host, word + range.start().0 as usize / WORD);
            }
        }
        sim.world.keep_journal();
        (0..hosts).try_for_each(|host| sim.start(host))?;
        sim.until("all agents run", Self::all_run)?;
        Ok(sim)
    }

    fn draw(&self, below: u64) -> u64 {
        self.world.draw(below)
    }

    /// Returns `true` once in so many times.
    fn chance(&self, times: u64) -> bool {
        self.draw(times) == 0
    }

    fn control(&self, seer: usize, host: usize) -> Incoherent {
        let range = self.layout.control(host);
        self.world.memory(seer).part(range.start().0 as usize / WORD, range.len() / WORD)
    }

    fn table(&self, host: usize) -> Control<Incoherent> {
        Control::of_own(self.control(host, host), self.layout, self.superblock.uuid, host as u16)
    }

    fn all_run(&self) -> bool {
        let others = self.hosts.len() - 1;
        self.hosts.iter().all(|host| {
            let agent = host.agent.as_ref();
            agent.is_some_and(|agent| agent.phase() == Phase::Running && agent.hosts_up().len() == others)
        })
    }

    /// What agents have published is what the model allows.
    fn follow(&mut self) -> Outcome {
        for published in self.world.take_journal() {
            let before = self.trace.beat(published.host);
            self.trace.follow(&published)?;
            if self.trace.beat(published.host) != before {
                self.hosts[published.host].seen_at = self.now;
            }
        }
        for (host, extent) in std::mem::take(&mut self.trace.freed) {
            let extent = ExtentId { host, extent: extent as u16 };
            let reads =
                |process: &&Process| process.payloads.get(&extent).is_some_and(|payload| payload.reads);
            if let Some(reader) = self.processes.iter().find(reads) {
                return Err(format!("{extent:?} is free, and process {} reads there", reader.pid));
            }
        }
        Ok(())
    }

    /// Milliseconds since a host booted, by its own clock.
    fn clock(&self, host: usize) -> u64 {
        let Host { behind, frozen_at, .. } = self.hosts[host];
        frozen_at.unwrap_or(self.now) - behind
    }

    fn start(&mut self, host: usize) -> Outcome {
        self.lives += 1;
        let start = Start {
            now: self.clock(host) * 1_000_000,
            boot: self.hosts[host].boot,
            incarnation: HostIncarnation([self.lives, 77]),
        };
        let other = |peer: usize| (peer != host).then(|| self.control(host, peer));
        let peers = (0..self.hosts.len()).map(other).collect();
        let runs = |pid: u32| self.processes.iter().any(|process| process.pid == pid);
        let agent = Agent::start(
            &self.superblock,
            self.layout,
            host as u16,
            self.control(host, host),
            peers,
            start,
            |entry| runs(entry.pid),
        );
        self.hosts[host].agent = Some(agent);
        self.follow()
    }

    /// The agent of some host does what is due, and one of its processes as well.
    pub fn step(&mut self) -> Outcome {
        self.counts.steps += 1;
        self.now += 1;
        let host = self.draw(self.hosts.len() as u64) as usize;
        self.weather(host)?;
        self.tick(host)?;
        self.see_closed(host)?;
        let own: Vec<_> = (0..self.processes.len()).filter(|n| self.processes[*n].host == host).collect();
        if !own.is_empty() {
            let process = own[self.draw(own.len() as u64) as usize];
            self.live(process)?;
        }
        Ok(())
    }

    fn tick(&mut self, host: usize) -> Outcome {
        let Host { behind, stopped_until, .. } = self.hosts[host];
        if stopped_until > self.now {
            return Ok(());
        }
        let behind = behind + self.hosts[host].frozen_at.take().map_or(0, |since| self.now - since);
        self.hosts[host].behind = behind;
        let Some(agent) = &mut self.hosts[host].agent else { return Ok(()) };
        match agent.tick((self.now - behind) * 1_000_000) {
            Ok(()) => {}
            Err(AgentError::Lapsed(_)) => {
                // As the daemon does.
                self.follow()?;
                self.counts.lapses += 1;
                self.stop(host);
                return self.start(host);
            }
            Err(error) => return Err(error.to_string()),
        }
        for (number, entry) in agent.away() {
            if !self.processes.iter().any(|process| process.pid == entry.pid) {
                agent.end(number, false);
                agent.reap(number);
            }
        }
        let events: Vec<_> = std::iter::from_fn(|| agent.poll_event()).collect();
        for event in events {
            if let AgentEvent::HostDown { host: of, why: HostEnd::Silent(_), .. } = event
                && self.hosts[host].cut_until == 0
                && self.hosts[usize::from(of)].cut_until == 0
                && self.now - self.hosts[usize::from(of)].seen_at < LEASE
            {
                return Err(format!("host {host} marks {of} dead, whose heart beats"));
            }
        }
        self.follow()?;
        self.collect(host)
    }

    /// What the agent says goes to its processes.
    fn collect(&mut self, host: usize) -> Outcome {
        while let Some((number, packet)) = self.hosts[host].agent.as_mut().and_then(Agent::poll) {
            let at_number = |process: &Process| (process.host, process.number) == (host, Some(number));
            let Some(process) = self.processes.iter().position(at_number) else { continue };
            if let ToProcess::Joined { incarnation, id, .. } = packet {
                self.joined(process, incarnation, id)?;
                continue;
            }
            let Some(to) = self.processes[process].id() else { continue };
            if let ToProcess::Mail { from, body } = &packet {
                self.delivered(to, *from, body)?;
            }
            self.processes[process].inbox.push_back((to, packet));
        }
        Ok(())
    }

    /// A mail is in a process's hands: it may read from now on what it was offered.
    fn delivered(&mut self, to: ProcessId, from: ProcessId, body: &[u8]) -> Outcome {
        let Some((number, _)) = Message::decode(body) else {
            return Err(format!("a mail that nobody wrote came from {from:?}"));
        };
        if from.host == to.host {
            return Ok(());
        }
        let mail =
            self.trace.mail(number).ok_or_else(|| format!("mail {number} comes again, or from nowhere"))?;
        if (mail.from, mail.to) != (id(from), id(to)) {
            return Err(format!(
                "mail {number} from {:?} to {:?} came from {from:?} to {to:?}",
                mail.from, mail.to
            ));
        }
        self.counts.mails += 1;
        self.trace.step(Action::Deliver(mail))
    }

    /// A process has the answer to its JOIN.
    fn joined(&mut self, process: usize, incarnation: HostIncarnation, now: ProcessId) -> Outcome {
        let before = self.processes[process].before.replace((incarnation, now));
        if before.is_some_and(|before| before != (incarnation, now)) {
            self.let_go_of_all(process)?;
            self.processes[process].inbox.clear();
        }
        Ok(())
    }

    fn let_go(&mut self, process: usize, of: ProcessId) -> Outcome {
        self.processes[process].reads.retain(|(by, _)| *by != of);
        self.processes[process].knows.remove(&of);
        for known in self.trace.numbers.get(&self.processes[process].pid).cloned().unwrap_or_default() {
            if self.trace.pod.host(known.host).running.contains_key(&(known.process, known.generation)) {
                self.trace.step(Action::LetGo(known, id(of)))?;
            }
        }
        Ok(())
    }

    /// It ends all of its links.
    fn let_go_of_all(&mut self, process: usize) -> Outcome {
        let of: BTreeSet<_> = self.processes[process].reads.iter().map(|(by, _)| *by).collect();
        of.into_iter().try_for_each(|of| self.let_go(process, of))?;
        // What was delivered and not read.
        for (_, packet) in std::mem::take(&mut self.processes[process].inbox) {
            if let ToProcess::Mail { from, .. } = packet {
                self.let_go(process, from)?;
            }
        }
        self.processes[process].knows.clear();
        self.processes[process].asked.clear();
        Ok(())
    }

    /// An agent sees that a connection was closed.
    fn see_closed(&mut self, host: usize) -> Outcome {
        let closed = self.closed.iter().position(|(at, ..)| *at == host);
        if let Some(closed) = closed
            && let Some(agent) = &mut self.hosts[host].agent
            && self.world.draw(5) == 0
        {
            let (_, number, pid) = self.closed.remove(closed);
            agent.end(number, self.processes.iter().any(|process| process.pid == pid));
            self.follow()?;
            self.collect(host)?;
        }
        Ok(())
    }

    /// A process does something, unless it is stopped.
    fn live(&mut self, process: usize) -> Outcome {
        let Process { stopped_until, number, lost_at, .. } = self.processes[process];
        if stopped_until > self.now {
            return Ok(());
        }
        self.check_reads(process)?;
        while let Some((to, packet)) = self.processes[process].inbox.pop_front() {
            if Some(to) == self.processes[process].id() {
                self.hear(process, packet)?;
            }
        }
        if number.is_none() {
            if self.now - lost_at >= LEASE && self.processes[process].before.is_some() {
                self.let_go_of_all(process)?;
            }
            if self.quiet || self.draw(3) > 0 {
                self.come_back(process)?;
            }
        } else if self.quiet {
            if self.processes[process].asked.is_empty() {
                self.ask(process)?;
            }
        } else if self.chance(4) {
            self.act(process)?;
        }
        Ok(())
    }

    /// What a process reads is still its owner's.
    fn check_reads(&mut self, process: usize) -> Outcome {
        let Process { host, .. } = self.processes[process];
        if self.hosts[host].cut_until > 0 {
            return Ok(());
        }
        let reads = self.processes[process].reads.iter().copied();
        let payloads = self.processes[process].payloads.iter().filter(|(_, payload)| payload.reads);
        let payloads =
            payloads.map(|(extent, payload)| (payload.owner, extent.host, u32::from(extent.extent)));
        let all: Vec<_> = reads.map(|(by, extent)| (by, by.host, extent)).chain(payloads).collect();
        for (by, of, extent) in all {
            let memory = self.world.memory(host).part(extent_word(&self.layout, of, extent), 8);
            if usize::from(of) != host {
                memory.observe(0, 8);
            }
            self.counts.reads += 1;
            let is_late = self.hosts[usize::from(of)].cut_until > 0;
            if memory.load(0) != mark(by, extent) && !is_late {
                let own = self.processes[process].id();
                let place = ExtentId { host: of, extent: extent as u16 };
                let payload = self.processes[process].payloads.contains_key(&place);
                return Err(format!(
                    "{own:?} reads in extent {extent} of {by:?} what is another's (payload: {payload})"
                ));
            }
        }
        Ok(())
    }

    fn hear(&mut self, process: usize, packet: ToProcess) -> Outcome {
        let own = self.processes[process].id().expect("it has joined");
        match packet {
            ToProcess::Granted(extent) => {
                let by = Extent { by: Some(own), offered: BTreeSet::new() };
                if self.processes[process].extents.insert(extent, by).is_some() {
                    return Err(format!("extent {extent} is granted twice to {own:?}"));
                }
                self.trace.step(Action::Hold(Offer { by: id(own), extent: extent as u16 }))?;
                self.write_mark(process, extent, own);
            }
            ToProcess::GrantedPayloads(extent) => {
                let place = ExtentId { host: own.host, extent: extent as u16 };
                let payload = Payload { owner: own, passed: BTreeSet::new(), reads: true, from: None };
                self.processes[process].payloads.insert(place, payload);
                self.write_mark(process, extent, own);
            }
            ToProcess::Claimed(extent) => {
                self.counts.claims += 1;
                let Some(payload) = self.processes[process].payloads.get_mut(&extent) else { return Ok(()) };
                payload.reads = true;
                if let Some(from) = payload.from.take() {
                    self.send(process, from, Message::Taken(extent))?;
                }
            }
            ToProcess::Mail { from, body } => {
                let Some((number, message)) = Message::decode(&body) else { return Err("no mail".into()) };
                let before = self.processes[process].heard.insert(from, number).unwrap_or(0);
                if number <= before {
                    return Err(format!("mail {number} of {from:?} comes after {before}"));
                }
                self.processes[process].knows.insert(from);
                self.receive(process, own, from, message)?;
            }
            ToProcess::Gone { id: of, ended } => {
                self.let_go(process, of)?;
                let known = &mut self.processes[process];
                known.asked.retain(|_, asked| *asked != of);
                // One that may only be silent can still take what it was sent.
                if ended {
                    known.extents.values_mut().for_each(|extent| {
                        extent.offered.remove(&of);
                    });
                    known.payloads.values_mut().for_each(|payload| {
                        payload.passed.remove(&of);
                    });
                }
                self.say(process, FromProcess::Done(of))?;
            }
            _ => {}
        }
        Ok(())
    }

    fn write_mark(&mut self, process: usize, extent: u32, own: ProcessId) {
        let host = self.processes[process].host;
        let memory = self.world.memory(host).part(extent_word(&self.layout, own.host, extent), 8);
        memory.store(0, mark(own, extent));
        memory.publish(0, 8);
    }

    fn receive(&mut self, process: usize, own: ProcessId, from: ProcessId, message: Message) -> Outcome {
        match message {
            Message::Ask(question) => {
                self.send(process, from, Message::Answer(question, answer(own, question)))
            }
            Message::Answer(question, said) => {
                let known = &mut self.processes[process];
                if known.asked.remove(&question).is_some_and(|asked| asked == from) {
                    known.answered += 1;
                    self.counts.answers += 1;
                    if said != answer(from, question) {
                        return Err(format!("{from:?} answers {question} wrongly"));
                    }
                }
                Ok(())
            }
            Message::Offer(extent) => {
                self.processes[process].reads.insert((from, extent));
                Ok(())
            }
            Message::Close(extent) => {
                if let Some(extent) = self.processes[process].extents.get_mut(&extent) {
                    extent.offered.remove(&from);
                }
                Ok(())
            }
            Message::Pass(extent, owner) => {
                let known = &mut self.processes[process].payloads;
                if known.get(&extent).is_some_and(|payload| payload.reads && payload.owner == owner) {
                    return self.send(process, from, Message::Taken(extent));
                }
                if !known.contains_key(&extent) && extent.host != own.host {
                    let passed = BTreeSet::new();
                    known.insert(extent, Payload { owner, passed, reads: false, from: Some(from) });
                    return self.say(process, FromProcess::Claim(extent));
                }
                Ok(())
            }
            Message::Taken(extent) => {
                if let Some(payload) = self.processes[process].payloads.get_mut(&extent) {
                    payload.passed.remove(&from);
                }
                Ok(())
            }
        }
    }

    /// A process says something to its agent.
    fn say(&mut self, process: usize, packet: FromProcess) -> Outcome {
        let Process { host, number, .. } = self.processes[process];
        if let (Some(agent), Some(number)) = (&mut self.hosts[host].agent, number) {
            agent.handle(number, packet);
            self.follow()?;
            self.collect(host)?;
        }
        Ok(())
    }

    fn send(&mut self, process: usize, to: ProcessId, message: Message) -> Outcome {
        let Process { host, number, .. } = self.processes[process];
        let (Some(agent), Some(_), Some(own)) =
            (&self.hosts[host].agent, number, self.processes[process].id())
        else {
            return Ok(());
        };
        self.mails += 1;
        let number = self.mails;
        let goes = to.host != own.host && agent.hosts_up().contains(&to.host);
        let lives = self.trace.lives(own.host, to.host);
        let extent = if let Message::Offer(extent) = message { Some(extent as u16) } else { None };
        self.processes[process].knows.insert(to);
        if let (Message::Offer(extent), true) = (message, goes)
            && let Some(extent) = self.processes[process].extents.get_mut(&extent)
        {
            extent.offered.insert(to);
        }
        self.say(process, FromProcess::Send { to, body: message.encode(number) })?;
        if goes && self.trace.pod.is_alive(id(own)) {
            let mail = Mail { from: id(own), to: id(to), extent, lives, number };
            self.trace.step(Action::Post(mail))?;
        }
        Ok(())
    }

    /// A process that has no agent looks for it. Now and then it does not get the answer, and tries again.
    fn come_back(&mut self, process: usize) -> Outcome {
        let Process { host, pid, before, .. } = self.processes[process];
        if self.hosts[host].stopped_until > self.now {
            return Ok(());
        }
        let (identity, token) = (self.processes[process].identity(), self.processes[process].token());
        let Some(agent) = &mut self.hosts[host].agent else { return Ok(()) };
        let Ok(number) = agent.join(identity, token, before) else { return Ok(()) };
        self.closed.retain(|(at, closed, _)| (*at, *closed) != (host, number));
        self.follow()?;
        if !self.quiet && self.chance(6) {
            self.closed.push((host, number, pid));
            return self.collect(host);
        }
        self.processes[process].number = Some(number);
        self.collect(host)?;
        let known = &mut self.processes[process];
        known.lost_at = self.now;
        let is_same = before.is_some() && before == known.before;
        let mut first = Vec::new();
        if is_same {
            first.extend(known.knows.iter().copied().map(FromProcess::Knows));
        }
        let own = known.id().map_or(0, |own| own.host);
        first.extend(
            known.payloads.keys().filter(|extent| extent.host != own).copied().map(FromProcess::Claim),
        );
        first.push(FromProcess::Ready);
        first.into_iter().try_for_each(|packet| self.say(process, packet))?;
        for extent in self.unclaimed(process) {
            self.say(process, FromProcess::Return(extent))?;
        }
        Ok(())
    }

    /// Extents that are granted to a process, under any of its numbers, and that it does not use.
    fn unclaimed(&self, process: usize) -> Vec<u32> {
        let process = &self.processes[process];
        let control = self.table(process.host);
        let is_unclaimed = |extent: &usize| {
            let owner = control.extent(*extent).and_then(|extent| extent.owner());
            let entry = owner.and_then(|(number, _)| control.process(number.into()));
            let place = ExtentId { host: process.host as u16, extent: *extent as u16 };
            entry.is_some_and(|entry| entry.token == process.token())
                && !process.extents.contains_key(&(*extent as u32))
                && !process.payloads.contains_key(&place)
        };
        (0..self.layout.extents()).filter(is_unclaimed).map(|extent| extent as u32).collect()
    }

    /// Somebody of another host, or `None`.
    fn other(&self, process: usize) -> Option<ProcessId> {
        let host = self.processes[process].host;
        let others: Vec<_> = self.processes.iter().filter(|other| other.host != host).collect();
        let nth = (!others.is_empty()).then(|| self.draw(others.len() as u64) as usize)?;
        others[nth].id()
    }

    fn act(&mut self, process: usize) -> Outcome {
        if self.processes[process].before.is_none() {
            return Ok(());
        }
        match self.draw(10) {
            0 => self.say(process, FromProcess::Grant { more: false }),
            1 => self.return_one(process),
            2 | 3 => {
                let Some(to) = self.other(process) else { return Ok(()) };
                let own = self.processes[process].id();
                let extents = &self.processes[process].extents;
                // Once to each: what it closes is that one.
                let offers = |extent: &Extent| extent.by == own && !extent.offered.contains(&to);
                let offer = extents.iter().find(|(_, extent)| offers(extent)).map(|(extent, _)| *extent);
                offer.map_or(Ok(()), |extent| self.send(process, to, Message::Offer(extent)))
            }
            4 => {
                // It reads nothing there any more.
                let Some((by, _)) = self.processes[process].reads.first().copied() else { return Ok(()) };
                let read: Vec<_> = self.processes[process].reads.iter().copied().collect();
                self.let_go(process, by)?;
                self.processes[process].knows.insert(by);
                let closed = read.into_iter().filter(|(of, _)| *of == by);
                closed
                    .map(|(_, extent)| extent)
                    .try_for_each(|extent| self.send(process, by, Message::Close(extent)))
            }
            5 => self.say(process, FromProcess::GrantPayloads),
            6 => self.pass(process),
            7 => self.drop_payload(process),
            _ => self.ask(process),
        }
    }

    fn ask(&mut self, process: usize) -> Outcome {
        let Some(to) = self.other(process) else { return Ok(()) };
        let question = self.mails + 1;
        self.processes[process].asked.insert(question, to);
        self.send(process, to, Message::Ask(question))
    }

    /// A process returns an extent that nobody reads.
    fn return_one(&mut self, process: usize) -> Outcome {
        let unused = |(extent, of): (&u32, &Extent)| of.offered.is_empty().then_some((*extent, of.by));
        let Some((extent, Some(by))) = self.processes[process].extents.iter().find_map(unused) else {
            return Ok(());
        };
        if self.processes[process].number.is_none() {
            return Ok(());
        }
        self.processes[process].extents.remove(&extent);
        self.trace.step(Action::Drop(Offer { by: id(by), extent: extent as u16 }))?;
        self.say(process, FromProcess::Return(extent))
    }

    fn pass(&mut self, process: usize) -> Outcome {
        let Some(to) = self.other(process) else { return Ok(()) };
        let mut held = self.processes[process].payloads.iter_mut().filter(|(_, payload)| payload.reads);
        let Some((extent, payload)) = held.next() else { return Ok(()) };
        if extent.host == to.host {
            return Ok(());
        }
        let (extent, owner) = (*extent, payload.owner);
        payload.passed.insert(to);
        self.send(process, to, Message::Pass(extent, owner))
    }

    /// It lets go of a payload that all have taken over to whom it has passed it.
    fn drop_payload(&mut self, process: usize) -> Outcome {
        let Process { number: Some(_), ref payloads, .. } = self.processes[process] else { return Ok(()) };
        let is_done = |payload: &Payload| payload.reads && payload.passed.is_empty();
        let done = payloads.iter().find(|(_, payload)| is_done(payload)).map(|(extent, _)| *extent);
        let Some(extent) = done else { return Ok(()) };
        self.processes[process].payloads.remove(&extent);
        let packet = if usize::from(extent.host) == self.processes[process].host {
            FromProcess::Return(extent.extent.into())
        } else {
            FromProcess::Unclaim(extent)
        };
        self.say(process, packet)
    }

    fn kill(&mut self, process: usize) -> Outcome {
        let Process { host, number, pid, .. } = self.processes.swap_remove(process);
        for known in self.trace.numbers.remove(&pid).unwrap_or_default() {
            if self.trace.pod.host(known.host).running.contains_key(&(known.process, known.generation)) {
                self.trace.step(Action::End(known))?;
            }
        }
        if let (Some(agent), Some(number)) = (&mut self.hosts[host].agent, number) {
            agent.end(number, false);
            self.follow()?;
            self.collect(host)?;
        }
        Ok(())
    }

    /// A host has no agent any more.
    fn stop(&mut self, host: usize) {
        self.hosts[host].agent = None;
        self.closed.retain(|(at, ..)| *at != host);
        for process in self.processes.iter_mut().filter(|process| process.host == host) {
            if process.number.take().is_some() {
                process.lost_at = self.now;
            }
        }
    }

    /// What befalls a host, and what is over.
    fn weather(&mut self, host: usize) -> Outcome {
        let now = self.now;
        let of = &mut self.hosts[host];
        if of.cut_until > 0 && of.cut_until <= now {
            of.cut_until = 0;
            if of.seen_at >= of.cut_at {
                of.seen_at = now;
            }
            self.world.reconnect(host);
        }
        let of = &self.hosts[host];
        if of.agent.is_none() && of.back_at <= now {
            self.hosts[host].has_power = true;
            self.start(host)?;
        }
        if self.quiet {
            return Ok(());
        }
        let own: Vec<_> = (0..self.processes.len()).filter(|n| self.processes[*n].host == host).collect();
        if self.hosts[host].has_power && own.len() < PROCESSES && self.chance(40) {
            self.pids += 1;
            self.processes.push(Process::new(host, self.pids));
        }
        let some = own.get(self.draw(PROCESSES as u64) as usize).copied();
        match self.draw(3000) {
            0..10 => {
                if let Some(process) = some {
                    self.counts.kills += 1;
                    self.kill(process)?;
                }
            }
            10..16 => {
                if let Some(process) = some {
                    self.processes[process].stopped_until = now + self.draw(3 * LEASE);
                }
            }
            16..24 if self.hosts[host].agent.is_some() => {
                self.counts.restarts += 1;
                self.stop(host);
                let away = if self.chance(8) { LEASE + 50 } else { self.draw(30) };
                self.hosts[host].back_at = now + away;
            }
            24..28 => {
                let time = self.draw(2 * LEASE);
                self.hosts[host].stopped_until = now + time;
                if self.hosts[host].frozen_at.is_none() && self.chance(3) {
                    self.hosts[host].frozen_at = Some(now);
                }
            }
            28..30 if self.hosts[host].has_power => self.crash(host)?,
            30..32 if self.hosts[host].cut_until == 0 && self.hosts[host].has_power => {
                self.counts.cuts += 1;
                (self.hosts[host].cut_at, self.hosts[host].cut_until) = (now, now + 1 + self.draw(2 * LEASE));
                self.world.cut_off(host);
            }
            _ => {}
        }
        Ok(())
    }

    fn crash(&mut self, host: usize) -> Outcome {
        self.counts.crashes += 1;
        self.stop(host);
        // What it could not write would be lost, and so would be what this test knows of it.
        self.world.reconnect(host);
        self.world.crash(host);
        while let Some(process) = self.processes.iter().position(|process| process.host == host) {
            self.kill(process)?;
        }
        let away = self.draw(2 * LEASE);
        let of = &mut self.hosts[host];
        (of.has_power, of.back_at, of.boot) = (false, self.now + away, of.boot + 1);
        (of.cut_until, of.stopped_until, of.frozen_at) = (0, 0, None);
        Ok(())
    }

    fn until(&mut self, what: &str, is_so: impl Fn(&Self) -> bool) -> Outcome {
        for _ in 0..PATIENCE * self.hosts.len() as u64 {
            if is_so(self) {
                return Ok(());
            }
            self.step()?;
        }
        let states: Vec<_> = (0..self.hosts.len()).map(|host| self.states(host)).collect();
        Err(format!("it never comes to this: {what}; granted and kept by host: {states:?}"))
    }

    /// Extents of a host that are granted, and that are kept back.
    fn states(&self, host: usize) -> (usize, usize) {
        let control = self.table(host);
        let count = |state| {
            let extents = (0..self.layout.extents()).filter_map(|extent| control.extent(extent));
            extents.filter(|extent| extent.state == state).count()
        };
        (count(ExtentState::Granted), count(ExtentState::Kept))
    }

    /// Something befalls them for so many steps.
    pub fn live_through(&mut self, steps: u64) -> Outcome {
        self.quiet = false;
        (0..steps).try_for_each(|_| self.step())?;
        self.calm();
        Ok(())
    }

    /// From now on nothing befalls anybody.
    fn calm(&mut self) {
        self.quiet = true;
        self.processes.iter_mut().for_each(|process| process.stopped_until = 0);
        self.hosts.iter_mut().for_each(|host| host.stopped_until = 0);
    }

    /// All come back, and what is asked from now on is answered.
    pub fn recover(&mut self) -> Outcome {
        self.until("all hosts run, and all processes are back", |sim| {
            sim.all_run() && sim.processes.iter().all(|process| process.number.is_some())
        })?;
        // What was asked before, an agent may have lost when it was killed.
        self.processes.iter_mut().for_each(|process| process.asked.clear());
        let before: Vec<_> = self.processes.iter().map(|process| (process.pid, process.answered)).collect();
        if self.processes.iter().any(|process| process.host != self.processes[0].host) {
            self.until("each process gets an answer", |sim| {
                let answered = |process: &Process| {
                    before.contains(&(process.pid, process.answered)) && process.before.is_some()
                };
                !sim.processes.iter().any(answered)
            })?;
        }
        Ok(())
    }

    /// All processes end, and nothing is left of them.
    pub fn end(&mut self) -> Outcome {
        while !self.processes.is_empty() {
            self.kill(0)?;
        }
        self.until("nothing is granted or kept back", |sim| {
            sim.all_run() && (0..sim.hosts.len()).all(|host| sim.states(host) == (0, 0))
        })?;
        self.until("nothing is claimed", |sim| sim.trace.claims.iter().flatten().all(|claims| *claims == 0))?;
        self.counts.model_steps = self.trace.steps;
        Ok(())
    }
}
