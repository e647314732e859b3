//! Agents of three simulated hosts without coherence: they find each other, carry mail, bury the dead and
//! keep extents back, for every seed; and leaving out any one publish or observe is noticed.

mod support;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};

use notnets_memory::incoherent::{Incoherent, Site, World};
use notnets_memory::region::layout::Layout;
use notnets_memory::region::superblock::Superblock;
use notnets_memory::{WORD, WriteMemory};
use notnets_pod::agent::{Agent, AgentError, AgentEvent, HostEnd, Identity, Lapse, Phase, Start};
use notnets_pod::packet::{FromProcess, ToProcess};
use notnets_pod::table::{Control, EndedBy, ExtentId, ExtentState, HostIncarnation, ProcessId};

use support::LEASE;

const HOSTS: usize = 3;
const PATIENCE: usize = 4_000;

fn superblock() -> Superblock {
    let hosts = HOSTS as u32;
    Superblock { partition_bytes: 24 << 10, hosts, processes: 3, services: 3, ..support::superblock() }
}

/// A process: what it has been told, and what it holds.
#[derive(Default)]
struct Process {
    number: Option<u16>,
    id: Option<ProcessId>,
    incarnation: Option<HostIncarnation>,
    extents: Vec<u32>,
    payloads: Vec<u32>,
    /// Extents in which it reads payloads, and those that its agent has published.
    claims: BTreeSet<ExtentId>,
    claimed: BTreeSet<ExtentId>,
    known: BTreeSet<ProcessId>,
    gone: Vec<ProcessId>,
    instances: BTreeMap<u32, Vec<ProcessId>>,
    sent: BTreeMap<ProcessId, u64>,
    received: BTreeMap<ProcessId, u64>,
    inbox: VecDeque<(ProcessId, u64)>,
    /// Its links go on.
    hears: bool,
}

struct Host {
    agent: Option<Agent<Incoherent, Incoherent>>,
    processes: Vec<Process>,
}

struct Pod {
    world: World,
    layout: Layout,
    hosts: Vec<Host>,
    now: u64,
    /// How far each host's clock is behind.
    behind: [u64; HOSTS],
    lives: u64,
}

type Outcome<T = ()> = Result<T, String>;

impl Pod {
    fn new(world: World) -> Self {
        let layout = superblock().layout().unwrap();
        let host = || Host { agent: None, processes: Vec::new() };
        let pod = Self {
            world,
            layout,
            hosts: (0..HOSTS).map(|_| host()).collect(),
            now: 1_000_000_000,
            behind: [0; HOSTS],
            lives: 0,
        };
        for host in 0..HOSTS {
            let control = pod.control(host, host);
            for word in 0..layout.control(host).len() / WORD {
                control.store(word, 0);
            }
            // The format's own publishing is not what is looked at here.
            for word in 0..layout.control(host).len() / WORD {
                pod.world.flush(host, word + layout.control(host).start().0 as usize / WORD);
            }
        }
        pod
    }

    fn control(&self, seer: usize, host: usize) -> Incoherent {
        let range = self.layout.control(host);
        self.world.memory(seer).part(range.start().0 as usize / WORD, range.len() / WORD)
    }

    fn start(&mut self, host: usize) {
        self.lives += 1;
        let start = Start {
            now: self.now - self.behind[host],
            boot: 1,
            incarnation: HostIncarnation([self.lives, 77]),
        };
        let other = |peer: usize| (peer != host).then(|| self.control(host, peer));
        let peers = (0..HOSTS).map(other).collect();
        let (own, layout) = (self.control(host, host), self.layout);
        let agent = Agent::start(&superblock(), layout, host as u16, own, peers, start, |_| false);
        self.hosts[host].agent = Some(agent);
    }

    /// Some host does something.
    fn step(&mut self) -> Outcome {
        self.now += 1_000_000;
        let host = self.world.draw(HOSTS as u64) as usize;
        self.step_of(host)
    }

    fn step_of(&mut self, host: usize) -> Outcome {
        let now = self.now - self.behind[host];
        let Host { agent: Some(agent), processes } = &mut self.hosts[host] else { return Ok(()) };
        agent.tick(now).map_err(|over| over.to_string())?;
        while let Some((number, packet)) = agent.poll() {
            let process = processes.iter_mut().find(|process| process.number == Some(number));
            let Some(process) = process else { continue };
            process.hear(agent, packet)?;
        }
        Ok(())
    }

    fn until(&mut self, what: &str, mut done: impl FnMut(&mut Self) -> bool) -> Outcome {
        for _ in 0..PATIENCE {
            if done(self) {
                return Ok(());
            }
            self.step().map_err(|error| format!("before {what}: {error}"))?;
        }
        Err(format!("it never came to: {what}"))
    }

    fn all_up(&mut self) -> Outcome {
        self.until("all hosts see each other", |pod| {
            let up =
                |host: &Host| host.agent.as_ref().is_some_and(|agent| agent.hosts_up().len() == HOSTS - 1);
            pod.hosts.iter().all(up)
        })
    }

    fn join(&mut self, host: usize) -> Outcome<usize> {
        let Host { agent: Some(agent), processes } = &mut self.hosts[host] else { panic!() };
        assert_eq!(agent.phase(), Phase::Running);
        let number = agent.join(identity(processes.len()), [processes.len() as u64; 2], None)?;
        // A number that is used again is not its former owner's.
        processes.iter_mut().filter(|process| process.number == Some(number)).for_each(|process| {
            process.number = None;
        });
        processes.push(Process { number: Some(number), ..Process::default() });
        let index = processes.len() - 1;
        self.until("a process has joined", |pod| pod.hosts[host].processes[index].id.is_some())?;
        Ok(index)
    }

    fn say(&mut self, host: usize, process: usize, packet: FromProcess) {
        let Host { agent: Some(agent), processes } = &mut self.hosts[host] else { panic!() };
        agent.handle(processes[process].number.expect("joined"), packet);
    }

    fn claim(&mut self, host: usize, extent: ExtentId) -> Outcome {
        let process = &mut self.hosts[host].processes[0];
        process.claims.insert(extent);
        process.claimed.clear();
        self.say(host, 0, FromProcess::Claim(extent));
        self.until("a claim is published", |pod| pod.hosts[host].processes[0].claimed.contains(&extent))
    }

    fn unclaim(&mut self, host: usize, extent: ExtentId) {
        self.hosts[host].processes[0].claims.remove(&extent);
        self.say(host, 0, FromProcess::Unclaim(extent));
    }

    fn id(&self, host: usize, process: usize) -> ProcessId {
        self.hosts[host].processes[process].id.expect("joined")
    }

    fn send(&mut self, host: usize, process: usize, to: ProcessId) {
        let number = self.hosts[host].processes[process].sent.entry(to).or_default();
        *number += 1;
        let mut body = number.to_le_bytes().to_vec();
        body.resize(8 + (*number as usize * 53) % 700, *number as u8);
        self.hosts[host].processes[process].known.insert(to);
        self.say(host, process, FromProcess::Send { to, body });
    }

    /// The agent stops and is back at once; its processes come back to it.
    fn restart(&mut self, host: usize) -> Outcome {
        self.hosts[host].agent = None;
        self.start(host);
        let Host { agent: Some(agent), processes } = &mut self.hosts[host] else { panic!() };
        assert_eq!(agent.phase(), Phase::Running, "it goes on where it was");
        for (index, process) in processes.iter_mut().enumerate() {
            let Some(number) = process.number else { continue };
            let before = process.incarnation.zip(process.id);
            let again = agent.join(identity(index), [index as u64; 2], before)?;
            assert_eq!(again, number, "it is who it was");
            for id in &process.known {
                agent.handle(number, FromProcess::Knows(*id));
            }
            for extent in &process.claims {
                agent.handle(number, FromProcess::Claim(*extent));
            }
            agent.handle(number, FromProcess::Ready);
        }
        Ok(())
    }

    fn crash(&mut self, host: usize) {
        self.world.crash(host);
        self.hosts[host] = Host { agent: None, processes: Vec::new() };
    }

    fn table(&self, seer: usize, host: usize) -> Control<Incoherent> {
        let (memory, uuid) = (self.control(seer, host), superblock().uuid);
        match seer == host {
            true => Control::of_own(memory, self.layout, uuid, host as u16),
            false => Control::of_peer(memory, self.layout, uuid, host as u16),
        }
    }

    /// What a host's own table says of its extents.
    fn extents(&self, host: usize) -> Vec<ExtentState> {
        let control = self.table(host, host);
        (0..self.layout.extents()).map(|extent| control.extent(extent).unwrap_or_default().state).collect()
    }
}

impl Process {
    fn hear(&mut self, agent: &mut Agent<Incoherent, Incoherent>, packet: ToProcess) -> Outcome {
        match packet {
            ToProcess::Joined { incarnation, id, .. } => {
                (self.incarnation, self.id) = (Some(incarnation), Some(id));
            }
            ToProcess::Granted(extent) => self.extents.push(extent),
            ToProcess::GrantedPayloads(extent) => self.payloads.push(extent),
            ToProcess::Claimed(extent) => {
                self.claimed.insert(extent);
            }
            ToProcess::Resolved { query, instances } => {
                self.instances.insert(query, instances);
            }
            ToProcess::Mail { from, body } => {
                let (number, rest) = body.split_first_chunk().ok_or("a mail that nobody wrote")?;
                let number = u64::from_le_bytes(*number);
                if rest.iter().any(|byte| *byte != number as u8) {
                    return Err(format!("mail {number} is not what was written"));
                }
                let before = self.received.insert(from, number).unwrap_or(0);
                if number != before + 1 {
                    return Err(format!("mail {number} came from {from:?} after mail {before}"));
                }
                self.known.insert(from);
                self.inbox.push_back((from, number));
            }
            ToProcess::Gone { id, .. } => {
                self.known.remove(&id);
                self.gone.push(id);
                agent.handle(self.number.expect("joined"), FromProcess::Done(id));
            }
            ToProcess::Listen { host, again: true } if self.hears => {
                agent.handle(self.number.expect("joined"), FromProcess::Heard { host });
            }
            ToProcess::Serving(_) | ToProcess::Listen { .. } => {}
            other => return Err(format!("{other:?}")),
        }
        Ok(())
    }
}

fn identity(index: usize) -> Identity {
    Identity { pid: index as u32 + 1, uid: 1, gid: 1, start_time: 1 }
}

fn story(pod: &mut Pod) -> Outcome {
    (0..HOSTS).for_each(|host| pod.start(host));
    pod.all_up()?;
    for host in 0..HOSTS {
        pod.join(host)?;
        pod.say(host, 0, FromProcess::Serve(format!("service-{host}").parse().unwrap()));
        pod.say(host, 0, FromProcess::Grant { more: false });
    }
    // Everyone finds everyone by name.
    for host in 0..HOSTS {
        for other in 0..HOSTS {
            let (query, expected) = (other as u32, vec![pod.id(other, 0)]);
            pod.until("a name is found", |pod| {
                let name = format!("service-{other}").parse().unwrap();
                pod.say(host, 0, FromProcess::Resolve { query, name });
                pod.hosts[host].processes[0].instances.get(&query) == Some(&expected)
            })?;
        }
    }
    exchange(pod, 10, true)?;
    process_ends(pod)?;
    host_dies(pod)?;
    host_sleeps(pod)?;
    payloads_are_claimed(pod)
}

/// Mail from each host to each other, with agents that restart meanwhile.
fn exchange(pod: &mut Pod, mails: u64, restarts: bool) -> Outcome {
    let pairs: Vec<_> = (0..HOSTS).flat_map(|from| (0..HOSTS).map(move |to| (from, to))).collect();
    let pairs: Vec<_> = pairs.into_iter().filter(|(from, to)| from != to).collect();
    let goal: Vec<u64> = pairs
        .iter()
        .map(|(from, to)| pod.hosts[*from].processes[0].sent.get(&pod.id(*to, 0)).unwrap_or(&0) + mails)
        .collect();
    for n in 0..mails {
        for (from, to) in &pairs {
            let to = pod.id(*to, 0);
            pod.send(*from, 0, to);
        }
        let steps = pod.world.draw(60);
        (0..steps).try_for_each(|_| pod.step())?;
        if restarts && n % 4 == 1 {
            let host = pod.world.draw(HOSTS as u64) as usize;
            pod.restart(host)?;
            // Its peers are there as soon as their hearts are seen to beat.
            pod.all_up()?;
        }
    }
    pod.until("all mail has arrived", |pod| {
        pairs.iter().zip(&goal).all(|((from, to), goal)| {
            pod.hosts[*to].processes[0].received.get(&pod.id(*from, 0)) == Some(goal)
        })
    })
}

/// What a process wrote is kept until those that could read it have let go.
fn process_ends(pod: &mut Pod) -> Outcome {
    let ended = pod.id(0, 0);
    let other = pod.join(0)?;
    let living = pod.id(0, other);
    pod.send(1, 0, living);
    pod.send(0, other, ended);
    if pod.extents(0)[0] != ExtentState::Granted {
        return Err("the extent is not granted".into());
    }
    let number = pod.hosts[0].processes[0].number.take().unwrap();
    pod.hosts[0].agent.as_mut().unwrap().end(number, false);
    if pod.extents(0)[0] != ExtentState::Kept {
        return Err("the extent is not kept back".into());
    }
    let as_seen = |pod: &Pod| pod.table(2, 0).extent(0).unwrap_or_default().state;
    if as_seen(pod) != ExtentState::Kept {
        return Err("that the extent is kept back would not outlive a crash".into());
    }
    pod.until("others hear of the end, and the extent is free", |pod| {
        let told = |host: usize| pod.hosts[host].processes[0].gone.contains(&ended);
        let free = pod.extents(0)[0] == ExtentState::Free;
        assert!(!free || told(1) && told(2), "free before all have let go");
        told(1) && told(2) && free
    })?;
    if pod.hosts[1].processes[0].gone.contains(&living) {
        return Err("one that lives is told to be gone".into());
    }
    // What it had not read will never be answered.
    pod.until("one of the same host hears of the end", |pod| {
        pod.hosts[0].processes[other].gone.contains(&ended)
    })?;
    if as_seen(pod) != ExtentState::Free {
        return Err("that the extent is free would not outlive a crash".into());
    }
    // Its successor is another, and mail to the dead does not reach it.
    let index = pod.join(0)?;
    let successor = pod.id(0, index);
    assert!(successor != ended);
    pod.send(1, 0, ended);
    let gone = pod.hosts[1].processes[0].gone.len();
    pod.until("that nobody is there is told", |pod| pod.hosts[1].processes[0].gone.len() > gone)?;
    pod.hosts[0].processes.swap(0, index);
    assert!(pod.hosts[0].processes[0].received.is_empty());
    Ok(())
}

/// A host dies and comes back as another.
fn host_dies(pod: &mut Pod) -> Outcome {
    exchange(pod, 2, false)?;
    let dead = pod.id(1, 0);
    pod.crash(1);
    let before = pod.now;
    pod.until("the others hear of the host's death", |pod| {
        [0, 2].iter().all(|host| pod.hosts[*host].processes[0].gone.contains(&dead))
    })?;
    if pod.now - before < LEASE * 1_000_000 / 2 {
        return Err("it was marked dead early".into());
    }
    pod.start(1);
    if pod.extents(1)[0] != ExtentState::Kept {
        return Err("what the dead process wrote is not kept back".into());
    }
    pod.all_up()?;
    if pod.table(0, 1).process(0).is_none_or(|entry| entry.alive) {
        return Err("a process of an earlier incarnation still counts".into());
    }
    pod.join(1)?;
    pod.until("nothing is kept of its incarnation before", |pod| pod.extents(1)[0] == ExtentState::Free)?;
    exchange(pod, 3, false)?;
    // It leaves in order, and is not waited for.
    let (left, before) = (pod.id(2, 0), pod.now);
    pod.hosts[2].agent.take().unwrap().leave();
    pod.hosts[2].processes.clear();
    pod.until("the others hear that a host left", |pod| {
        [0, 1].iter().all(|host| pod.hosts[*host].processes[0].gone.contains(&left))
    })?;
    if pod.now - before >= LEASE * 1_000_000 {
        return Err("who leaves in order was waited for".into());
    }
    Ok(())
}

/// A host is stopped together with its clock. When it goes on it must hear that it was buried.
fn host_sleeps(pod: &mut Pod) -> Outcome {
    pod.start(2);
    pod.all_up()?;
    let sleeper = pod.join(2)?;
    let of_sleeper = pod.id(2, sleeper);
    let hears = pod.join(0)?;
    pod.send(0, hears, of_sleeper);
    pod.until("mail reaches who will sleep", |pod| !pod.hosts[2].processes[sleeper].inbox.is_empty())?;
    pod.hosts[0].processes[hears].hears = true;
    let asleep = pod.hosts[2].agent.take();
    let before = pod.now;
    pod.until("the others mark dead who sleeps", |pod| {
        [0, 1].iter().all(|host| pod.hosts[*host].agent.as_ref().unwrap().hosts_up().len() == HOSTS - 2)
    })?;
    pod.behind[2] = pod.now - before;
    pod.hosts[2].agent = asleep;
    let lapsed = (0..PATIENCE).find_map(|_| pod.step().err());
    let by = |host| AgentError::Lapsed(Lapse::MarkedDead { by: host }).to_string();
    if lapsed.as_ref().is_none_or(|lapsed| ![by(0), by(1)].contains(lapsed)) {
        return Err(format!("who was marked dead goes on: {lapsed:?}"));
    }
    // Only a host with a process that has heard of one there can tell that it was the agent alone.
    for (host, starved) in [(0, true), (1, false)] {
        let agent = pod.hosts[host].agent.as_mut().unwrap();
        let events: Vec<_> = std::iter::from_fn(|| agent.poll_event()).collect();
        let is_silence = |event: &AgentEvent| match event {
            AgentEvent::HostDown { host: 2, why: HostEnd::Silent(nanos), .. } => {
                !starved && *nanos >= LEASE * 1_000_000
            }
            AgentEvent::HostDown { host: 2, why: HostEnd::Starved(nanos), .. } => {
                starved && *nanos >= LEASE * 1_000_000
            }
            _ => false,
        };
        if !events.iter().any(is_silence) {
            return Err(format!("nothing says by which silence it was decided: {events:?}"));
        }
        let ended_by = if starved { EndedBy::Starvation } else { EndedBy::Silence };
        let published = pod.table(host, host).peer(2).map(|record| record.ended_by);
        if published != Some(ended_by) {
            return Err(format!("to others it was {published:?}, and not {ended_by:?}"));
        }
    }
    pod.hosts[2].processes.clear();
    pod.start(2);
    pod.all_up()
}

/// Two hosts lose sight of each other for longer than the lease, and each marks the other dead.
fn hosts_part(pod: &mut Pod) -> Outcome {
    let lives = |pod: &Pod| [0, 1].map(|host: usize| pod.hosts[host].agent.as_ref().unwrap().incarnation());
    let before = lives(pod);
    for host in [0, 1] {
        pod.world.cut_off(host);
    }
    pod.until("each is alone", |pod| {
        [0, 1].iter().all(|host| pod.hosts[*host].agent.as_ref().unwrap().hosts_up().is_empty())
    })?;
    for host in [0, 1] {
        pod.world.reconnect(host);
    }
    // As the daemon does.
    let mut lapsed = BTreeSet::new();
    for _ in 0..PATIENCE {
        pod.now += 1_000_000;
        for host in 0..HOSTS {
            if pod.step_of(host).is_err() {
                lapsed.insert(host);
                pod.hosts[host].processes.clear();
                pod.start(host);
            }
        }
    }
    let after = lives(pod);
    if !(0..2).all(|host| lapsed.contains(&host) && after[host] != before[host]) {
        return Err(format!("of those that were marked dead only these begin anew: {lapsed:?}"));
    }
    pod.all_up()
}

/// An extent of payloads is free only when no host claims it, however claims move.
fn payloads_are_claimed(pod: &mut Pod) -> Outcome {
    pod.join(2)?;
    pod.say(0, 0, FromProcess::GrantPayloads);
    pod.until("an extent for payloads is granted", |pod| !pod.hosts[0].processes[0].payloads.is_empty())?;
    let number = pod.hosts[0].processes[0].payloads[0];
    let extent = ExtentId { host: 0, extent: number as u16 };
    let state = |pod: &Pod| pod.extents(0)[number as usize];
    pod.claim(1, extent)?;
    pod.say(0, 0, FromProcess::Return(number));
    for round in 0..6 {
        let [from, to] = if round % 2 == 0 { [1, 2] } else { [2, 1] };
        pod.claim(to, extent)?;
        pod.unclaim(from, extent);
        let steps = pod.world.draw(150);
        (0..steps).try_for_each(|_| pod.step())?;
        if round == 3 {
            pod.restart(to)?;
            pod.all_up()?;
        }
        if state(pod) != ExtentState::Kept {
            return Err(format!("in round {round} an extent is free in which a process reads"));
        }
    }
    // What a process has passed on before it ended is kept until the receiver has had its time to claim it.
    let (ended, heir) = (pod.id(1, 0), pod.id(2, 0));
    pod.send(1, 0, heir);
    pod.until("the mail is there", |pod| pod.hosts[2].processes[0].known.contains(&ended))?;
    let process = pod.hosts[1].processes[0].number.take().unwrap();
    pod.hosts[1].agent.as_mut().unwrap().end(process, false);
    pod.until("the receiver hears of the end", |pod| {
        assert_ne!(state(pod), ExtentState::Free, "free before the receiver has let go");
        pod.hosts[2].processes[0].gone.contains(&ended)
    })?;
    pod.until("the extent is free", |pod| state(pod) == ExtentState::Free)?;
    // Payloads that nobody claims are free a moment after their process has ended.
    pod.say(0, 0, FromProcess::GrantPayloads);
    pod.until("another is granted", |pod| pod.hosts[0].processes[0].payloads.len() == 2)?;
    let number = pod.hosts[0].processes[0].payloads[1] as usize;
    let process = pod.hosts[0].processes[0].number.take().unwrap();
    pod.hosts[0].agent.as_mut().unwrap().end(process, false);
    pod.until("what a dead process has shared is free", |pod| pod.extents(0)[number] == ExtentState::Free)
}

/// Two hosts take themselves for host 0: one of them gives up, and never the one that was there first.
fn duplicates(world: &World) -> Outcome {
    let mut pod = Pod::new(world.clone());
    pod.start(0);
    let running = |pod: &mut Pod| pod.hosts[0].agent.as_ref().unwrap().phase() == Phase::Running;
    pod.until("a host runs", running)?;
    world.allow_many_writers();
    let layout = pod.layout;
    let memory = |host: usize| pod.control(1, host);
    let start = Start { now: pod.now, boot: 2, incarnation: HostIncarnation([99, 99]) };
    let peers = vec![None, None, Some(memory(2))];
    let mut second = Agent::start(&superblock(), layout, 0, memory(0), peers, start, |_| false);
    for _ in 0..PATIENCE {
        pod.step()?;
        match second.tick(pod.now) {
            Err(AgentError::Duplicate(0)) => return Ok(()),
            Err(other) => return Err(other.to_string()),
            Ok(()) if second.phase() == Phase::Running => return Err("both run".into()),
            Ok(()) => {}
        }
    }
    Err("nobody gives up".into())
}

fn run(seed: u64, without: Option<Site>) -> Outcome<World> {
    let layout = superblock().layout().unwrap();
    let world = World::new(layout.partition(HOSTS - 1).end().0 as usize / WORD, HOSTS, seed);
    let mut pod = Pod::new(world.clone());
    without.into_iter().for_each(|site| world.omit(site));
    let outcome = catch_unwind(AssertUnwindSafe(|| story(&mut pod)));
    let outcome = outcome.map(|told| {
        told?;
        let other = World::new(layout.partition(HOSTS - 1).end().0 as usize / WORD, HOSTS, seed);
        without.into_iter().for_each(|site| other.omit(site));
        duplicates(&other)
    });
    outcome.unwrap_or_else(|_| Err("panicked".into())).map(|()| world)
}

#[test]
fn hosts_find_each_other_carry_mail_and_bury_the_dead() {
    for seed in 0..8 {
        if let Err(error) = run(seed, None) {
            panic!("seed {seed}: {error}");
        }
    }
}

#[test]
fn hosts_that_have_marked_each_other_dead_meet_again() {
    for seed in 0..4 {
        let layout = superblock().layout().unwrap();
        let world = World::new(layout.partition(HOSTS - 1).end().0 as usize / WORD, HOSTS, seed);
        let mut pod = Pod::new(world);
        (0..HOSTS).for_each(|host| pod.start(host));
        if let Err(error) = pod.all_up().and_then(|()| hosts_part(&mut pod)) {
            panic!("seed {seed}: {error}");
        }
    }
}

/// A process that tries again and again to reach a host that is dead does not keep its next life away.
#[test]
fn a_process_that_calls_a_dead_host_does_not_keep_its_next_life_away() {
    let layout = superblock().layout().unwrap();
    let world = World::new(layout.partition(HOSTS - 1).end().0 as usize / WORD, HOSTS, 1);
    let mut pod = Pod::new(world);
    (0..HOSTS).for_each(|host| pod.start(host));
    let story = |pod: &mut Pod| {
        pod.all_up()?;
        pod.join(0)?;
        pod.join(1)?;
        let dead = pod.id(1, 0);
        pod.crash(1);
        pod.until("its death is known", |pod| pod.hosts[0].agent.as_ref().unwrap().hosts_up() == [2])?;
        pod.start(1);
        pod.until("its next life counts", |pod| {
            // Told each time that nobody is there, it answers a moment later.
            pod.hosts[0].agent.as_mut().unwrap().handle(0, FromProcess::Send { to: dead, body: vec![1] });
            pod.hosts[0].agent.as_ref().unwrap().hosts_up() == [1, 2]
        })
    };
    story(&mut pod).unwrap();
}

#[test]
fn leaving_out_any_publish_or_observe_is_noticed() {
    let mut sites = run(0, None).expect("passes").sites();
    // Looks of this test itself.
    sites.retain(|site| site.file != file!());
    assert!(sites.len() >= 16, "{sites:#?}");
    let unnoticed = |site: &Site| (0..8).all(|seed| run(seed, Some(*site)).is_ok());
    let unnoticed: Vec<_> = sites.into_iter().filter(unnoticed).collect();
    assert!(unnoticed.is_empty(), "nobody notices that these are left out: {unnoticed:#?}");
}
