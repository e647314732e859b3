//! Agents that are started anew again and again, while processes live and die: what was granted comes back,
//! on hosts without coherence.

mod support;

use std::collections::BTreeSet;

use notnets_memory::incoherent::{Incoherent, World};
use notnets_memory::region::layout::Layout;
use notnets_memory::region::superblock::Superblock;
use notnets_memory::{WORD, WriteMemory};
use notnets_pod::agent::{Agent, Identity, Phase, Start};
use notnets_pod::packet::{FromProcess, ToProcess};
use notnets_pod::table::{Control, ExtentState, HostIncarnation, ProcessId};

use support::LEASE;

const HOSTS: usize = 2;
/// Steps of a millisecond within which all comes to rest.
const PATIENCE: usize = 3000;
const RESTARTS: u64 = 200;
/// Processes of a host at most.
const PROCESSES: usize = 4;
/// Processes that have left and run on, at most.
const LEFT: usize = 3;

fn superblock() -> Superblock {
    let hosts = HOSTS as u32;
    Superblock { partition_bytes: 80 << 10, hosts, processes: 32, services: 1, ..support::superblock() }
}

/// A process, as a member does it: what it knows survives its agent.
struct Process {
    host: usize,
    pid: u32,
    /// Its number with the present agent.
    number: Option<u16>,
    before: Option<(HostIncarnation, ProcessId)>,
    extents: BTreeSet<u32>,
    knows: BTreeSet<ProcessId>,
    /// It got no answer, and does not ask again.
    gave_up: bool,
}

impl Process {
    fn token(&self) -> [u64; 2] {
        [self.pid.into(), 1]
    }

    fn identity(&self) -> Identity {
        Identity { pid: self.pid, uid: 1, gid: 1, start_time: 1 }
    }
}

/// A process that has left the pod and runs on. Peers may still read its extents.
struct Left {
    host: usize,
    pid: u32,
    extents: usize,
}

struct Pod {
    world: World,
    layout: Layout,
    agents: Vec<Option<Agent<Incoherent, Incoherent>>>,
    processes: Vec<Process>,
    left: Vec<Left>,
    /// Connections that were closed before the answer came, of hosts by their numbers, and by whom.
    closed: Vec<(usize, u16, u32)>,
    /// Milliseconds since the hosts booted.
    now: u64,
    lives: u64,
    pids: u32,
}

impl Pod {
    fn new(seed: u64) -> Self {
        let layout = superblock().layout().unwrap();
        let world = World::new(layout.partition(HOSTS - 1).end().0 as usize / WORD, HOSTS, seed);
        let agents = (0..HOSTS).map(|_| None).collect();
        let (processes, left, closed) = (Vec::new(), Vec::new(), Vec::new());
        let mut pod = Self { world, layout, agents, processes, left, closed, now: 1000, lives: 0, pids: 0 };
        for host in 0..HOSTS {
            let (control, range) = (pod.control(host, host), layout.control(host));
            for word in 0..range.len() / WORD {
                control.store(word, 0);
                pod.world.flush(host, word + range.start().0 as usize / WORD);
            }
            pod.start(host);
        }
        pod.until("all agents run", Pod::all_run);
        pod
    }

    fn control(&self, seer: usize, host: usize) -> Incoherent {
        let range = self.layout.control(host);
        self.world.memory(seer).part(range.start().0 as usize / WORD, range.len() / WORD)
    }

    fn start(&mut self, host: usize) {
        self.lives += 1;
        let start =
            Start { now: self.now * 1_000_000, boot: 1, incarnation: HostIncarnation([self.lives, 77]) };
        let peers = (0..HOSTS).map(|peer| (peer != host).then(|| self.control(host, peer))).collect();
        let (own, layout) = (self.control(host, host), self.layout);
        let agent =
            Agent::start(&superblock(), layout, host as u16, own, peers, start, |entry| self.runs(entry.pid));
        self.agents[host] = Some(agent);
    }

    fn runs(&self, pid: u32) -> bool {
        self.processes.iter().any(|process| process.pid == pid)
            || self.left.iter().any(|left| left.pid == pid)
    }

    fn all_run(&self) -> bool {
        let is_up = |agent: &Option<Agent<_, _>>| {
            agent.as_ref().is_some_and(|agent: &Agent<Incoherent, Incoherent>| {
                agent.phase() == Phase::Running && agent.hosts_up().len() == HOSTS - 1
            })
        };
        self.agents.iter().all(is_up)
    }

    fn step(&mut self) {
        self.now += 1;
        for host in 0..HOSTS {
            let Some(agent) = &mut self.agents[host] else { continue };
            if agent.tick(self.now * 1_000_000).is_err() {
                // As the daemon does when it was away for too long.
                self.stop(host);
                self.start(host);
                continue;
            }
            for (number, entry) in agent.away() {
                if !self.runs(entry.pid) {
                    let agent = self.agents[host].as_mut().expect("it is there");
                    agent.end(number, false);
                    agent.reap(number);
                }
            }
            self.hear(host);
        }
        for process in 0..self.processes.len() {
            self.come_back(process);
        }
        self.see_closed();
    }

    /// An agent sees that a connection was closed.
    fn see_closed(&mut self) {
        let Some((host, number, pid)) = self.closed.first().copied() else { return };
        let runs = self.runs(pid);
        if self.chance(5)
            && let Some(agent) = &mut self.agents[host]
        {
            self.closed.remove(0);
            agent.end(number, runs);
        }
    }

    /// Processes take what their agent has for them.
    fn hear(&mut self, host: usize) {
        while let Some((number, packet)) = self.agents[host].as_mut().and_then(Agent::poll) {
            let at_number = |process: &&mut Process| (process.host, process.number) == (host, Some(number));
            let Some(process) = self.processes.iter_mut().find(at_number) else { continue };
            let agent = self.agents[host].as_mut().expect("it has spoken");
            match packet {
                ToProcess::Joined { incarnation, id, .. } => process.before = Some((incarnation, id)),
                ToProcess::Granted(extent) => {
                    assert!(process.extents.insert(extent), "an extent is granted twice");
                }
                ToProcess::Mail { from, .. } => {
                    process.knows.insert(from);
                }
                ToProcess::Gone { id, .. } => {
                    process.knows.remove(&id);
                    agent.handle(number, FromProcess::Done(id));
                }
                _ => {}
            }
        }
    }

    /// A process that has no agent looks for it. Now and then it does not get the answer, and tries again.
    fn come_back(&mut self, process: usize) {
        let Process { host, number, gave_up, .. } = self.processes[process];
        if gave_up || number.is_some() || self.agents[host].is_none() || self.chance(3) {
            return;
        }
        let before = self.processes[process].before;
        let agent = self.agents[host].as_mut().expect("it is there");
        let (identity, token) = (self.processes[process].identity(), self.processes[process].token());
        let Ok(number) = agent.join(identity, token, before) else { return };
        self.closed.retain(|(at, closed, _)| (*at, *closed) != (host, number));
        if self.chance(4) {
            self.closed.push((host, number, identity.pid));
            self.processes[process].gave_up = before.is_none() && self.chance(2);
            return;
        }
        self.processes[process].number = Some(number);
        self.hear(host);
        let agent = self.agents[host].as_mut().expect("it is there");
        let known = &mut self.processes[process];
        let is_same = before.is_some() && before == known.before;
        if is_same {
            known.knows.iter().for_each(|id| agent.handle(number, FromProcess::Knows(*id)));
        } else {
            known.knows.clear();
            known.extents.clear();
        }
        agent.handle(number, FromProcess::Ready);
        for extent in self.unclaimed(process) {
            self.say(process, FromProcess::Return(extent));
        }
    }

    /// Extents that are granted to a process, under any of its numbers, and that it does not use.
    fn unclaimed(&self, process: usize) -> Vec<u32> {
        let process = &self.processes[process];
        let control = self.table(process.host);
        let is_unclaimed = |extent: &usize| {
            let owner = control.extent(*extent).and_then(|extent| extent.owner());
            let entry = owner.and_then(|(number, _)| control.process(number.into()));
            entry.is_some_and(|entry| entry.token == process.token())
                && !process.extents.contains(&(*extent as u32))
        };
        (0..self.layout.extents()).filter(is_unclaimed).map(|extent| extent as u32).collect()
    }

    fn table(&self, host: usize) -> Control<Incoherent> {
        Control::of_own(self.control(host, host), self.layout, superblock().uuid, host as u16)
    }

    fn say(&mut self, process: usize, packet: FromProcess) {
        let Process { host, number, .. } = self.processes[process];
        if let (Some(agent), Some(number)) = (&mut self.agents[host], number) {
            agent.handle(number, packet);
        }
    }

    /// Returns `true` once in so many times.
    fn chance(&self, times: u64) -> bool {
        self.world.draw(times) == 0
    }

    /// Something happens to some process.
    fn act(&mut self) {
        let host = self.world.draw(HOSTS as u64) as usize;
        let own: Vec<_> = (0..self.processes.len()).filter(|n| self.processes[*n].host == host).collect();
        if own.len() < PROCESSES && self.chance(3) {
            self.pids += 1;
            self.processes.push(Process {
                host,
                pid: self.pids,
                number: None,
                before: None,
                extents: BTreeSet::new(),
                knows: BTreeSet::new(),
                gave_up: false,
            });
            return;
        }
        let Some(process) = own.get(self.world.draw(PROCESSES as u64) as usize).copied() else { return };
        match self.world.draw(7) {
            0 => self.kill(process),
            6 => self.leave(process),
            1 | 2 => self.say(process, FromProcess::Grant { more: false }),
            3 => {
                // It has used it, or has never heard of it.
                if let Some(extent) = self.processes[process].extents.pop_first() {
                    self.say(process, FromProcess::Return(extent));
                }
            }
            _ => self.write(process),
        }
    }

    /// A process writes to one of another host.
    fn write(&mut self, process: usize) {
        let host = self.processes[process].host;
        let others = self.processes.iter().filter(|other| other.host != host);
        let ids: Vec<_> = others.filter_map(|other| Some(other.before?.1)).collect();
        let Some(to) = ids.get(self.world.draw(PROCESSES as u64) as usize).copied() else { return };
        if self.processes[process].number.is_some() {
            self.processes[process].knows.insert(to);
        }
        self.say(process, FromProcess::Send { to, body: vec![7; 20] });
    }

    /// A process is killed. Its agent sees that at once, or later, or is away itself.
    fn kill(&mut self, process: usize) {
        let Process { host, number, .. } = self.processes.remove(process);
        if let (Some(agent), Some(number)) = (&mut self.agents[host], number) {
            agent.end(number, false);
        }
    }

    /// A process leaves the pod, and runs on: it has let go of its links, and claims nothing.
    fn leave(&mut self, process: usize) {
        if self.processes[process].number.is_none() || self.left.len() >= LEFT {
            return;
        }
        self.say(process, FromProcess::Ready);
        let Process { host, number, pid, extents, .. } = self.processes.remove(process);
        self.left.push(Left { host, pid, extents: extents.len() });
        if let (Some(agent), Some(number)) = (&mut self.agents[host], number) {
            agent.end(number, true);
        }
    }

    /// A host has no agent any more.
    fn stop(&mut self, host: usize) {
        self.agents[host] = None;
        self.closed.retain(|(at, ..)| *at != host);
        for process in self.processes.iter_mut().filter(|process| process.host == host) {
            process.number = None;
        }
    }

    /// An agent is killed, and another is started: mostly at once, now and then after the lease.
    fn restart(&mut self, host: usize) {
        self.stop(host);
        let away = if self.chance(10) { LEASE + 50 } else { self.world.draw(20) };
        for _ in 0..away {
            if self.chance(3) {
                self.act();
            }
            self.step();
        }
        self.start(host);
    }

    fn until(&mut self, what: &str, is_so: impl Fn(&Self) -> bool) {
        for _ in 0..PATIENCE {
            if is_so(self) {
                return;
            }
            self.step();
        }
        let states: Vec<_> = (0..HOSTS).map(|host| self.states(host)).collect();
        panic!("it never comes to this: {what}; {states:?}");
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

    fn is_at_rest(&self) -> bool {
        let in_use = |host: usize| {
            let own = self.processes.iter().filter(|process| process.host == host);
            let left = self.left.iter().filter(|left| left.host == host).map(|left| left.extents);
            own.map(|process| process.extents.len()).chain(left).sum()
        };
        self.processes.iter().all(|process| process.number.is_some() || process.gave_up)
            && (0..HOSTS).all(|host| self.states(host) == (in_use(host), 0))
    }
}

#[test]
fn what_was_granted_comes_back_however_often_agents_are_started_anew() {
    for seed in 0..8 {
        println!("seed {seed}");
        let mut pod = Pod::new(seed);
        for restart in 0..RESTARTS {
            for _ in 0..pod.world.draw(30) {
                pod.act();
                pod.step();
            }
            let host = pod.world.draw(HOSTS as u64) as usize;
            pod.restart(host);
            if restart % 20 == 19 {
                pod.until("only what living processes use is granted", Pod::is_at_rest);
            }
        }
        while !pod.processes.is_empty() {
            pod.kill(0);
        }
        pod.left.clear();
        pod.until("nothing is granted or kept back", |pod| (0..HOSTS).all(|host| pod.states(host) == (0, 0)));
    }
}
