//! A pod of many hosts on this machine: each has an agent and a server, and calls some others. One joins
//! while the others call each other; then some die at once, and return.
//!
//! A call between two hosts that live never fails. One to a host that dies ends, and once that is back it is
//! called again.

use std::collections::BTreeSet;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use notnets::rpc::{Method, Request};
use notnets::{Channel, Endpoint};
use notnets_cli_common::random::Random;
use notnets_memory::region::file::RegionFile;
use notnets_memory::region::format::{Plan, format};
use rustix::fs::{FallocateFlags, MemfdFlags, fallocate, memfd_create};
use rustix::process::Signal;
use tempfile::TempDir;
use tokio::task::JoinSet;

use super::content::{Head, message};
use super::footprint::Footprint;
use super::{POD, signal};
use crate::child::{Child, PATIENCE};
use crate::{Result, usage};

/// Memory that a process is granted at once, and how often a host has that much: for its server, for the
/// links that it makes, and as much again that is kept back for a while, or for links to begin with.
const EXTENT: u64 = 2 << 20;
const EXTENTS: u64 = 6;
/// Others are missed after this time, and more for each host: a busy machine keeps an agent of many waiting.
const LEASE: Duration = Duration::from_secs(4);
const LEASE_EACH: Duration = Duration::from_millis(40);
/// How long a call may take until it has ended, whatever has died: one was seen to take 59 s where the lease
/// was 4.6 s, on a busy machine.
const HANGS: Duration = Duration::from_secs(120);
/// How long agents are looked at while nothing else happens.
const REST: Duration = Duration::from_secs(2);
/// One in so many hosts dies.
const MORTAL: u64 = 16;

/// Runs a pod of so many hosts.
///
/// # Errors
/// When a call had a wrong outcome, or a host can't do its part.
pub async fn run(seed: u64, count: u16) -> Result {
    let mut random = Random::new(seed);
    let mut pod = Pod::new(count)?;
    let last = count - 1;
    pod.start(0..last).await?;
    println!("{last} hosts run after {:.1?}", pod.begin.elapsed());
    let pairs = pod.pairs(|host| host < last)?;
    let reached = call_all(&pairs, Until::Answered).await?;
    println!("{reached} pairs of hosts call each other after {:.1?}", pod.begin.elapsed());

    let calls = calls_go_on(&pairs);
    pod.start([last]).await?;
    let with_last = pod.pairs(|host| host == last)?;
    call_all(&with_last, Until::Answered).await?;
    let answered = calls.end().await?;
    println!("host {last} has joined and is called; meanwhile {answered} calls of others were answered");

    let dead: BTreeSet<u16> =
        (0..u64::from(count).div_ceil(MORTAL)).map(|_| random.below(count.into()) as u16).collect();
    let is_dead = |pair: &&Pair| dead.contains(&pair.from) || dead.contains(&pair.to);
    let all: Vec<Pair> = pairs.into_iter().chain(with_last).collect();
    let alive: Vec<Pair> = all.iter().filter(|pair| !is_dead(pair)).cloned().collect();
    let to_dead: Vec<Pair> =
        all.iter().filter(|pair| dead.contains(&pair.to) && !dead.contains(&pair.from)).cloned().collect();
    let calls = calls_go_on(&alive);
    for host in &dead {
        pod.kill(*host)?;
    }
    let begin = Instant::now();
    call_all(&to_dead, Until::Failed).await?;
    println!("hosts {dead:?} are dead, and calls to them fail after {:.1?}", begin.elapsed());
    let begin = Instant::now();
    pod.start(dead.clone()).await?;
    call_all(&to_dead, Until::Answered).await?;
    let answered = calls.end().await?;
    println!(
        "they are back and called again after {:.1?}; meanwhile {answered} calls of others were answered",
        begin.elapsed()
    );
    pod.rest().await
}

/// What is waited for, by calling again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Until {
    Answered,
    Failed,
}

/// A host that calls another.
#[derive(Clone)]
struct Pair {
    from: u16,
    to: u16,
    channel: Channel,
}

impl Pair {
    /// A call, whose answer has to be its own. Returns `false` if it failed.
    async fn call(&self, number: u64) -> Result<bool> {
        let id = u64::from(self.from) << 48 | u64::from(self.to) << 32 | number;
        let sent = message(Head { id, number: 0, answers: 0, size: 0 }, 20);
        let request = Request::new(Method::from_static("/soak.Soak/Unary"));
        let called = tokio::time::timeout(HANGS, self.channel.unary_call(request, sent.clone())).await;
        let Self { from, to, .. } = self;
        match called.map_err(|_| format!("a call from host {from} to {to} has no outcome after {HANGS:?}"))? {
            Ok(answer) if answer.message == *sent => Ok(true),
            Ok(_) => Err(format!("a call from host {from} to {to} got another's answer").into()),
            Err(_) => Ok(false),
        }
    }
}

/// Calls in all pairs at once, again and again until that is as it should be. Returns how many pairs there
/// are.
async fn call_all(pairs: &[Pair], until: Until) -> Result<usize> {
    let mut tasks = JoinSet::new();
    for pair in pairs.iter().cloned() {
        tasks.spawn(async move {
            let begin = Instant::now();
            let mut number = 0;
            while pair.call(number).await? != (until == Until::Answered) {
                number += 1;
                if begin.elapsed() > HANGS {
                    return Err(format!(
                        "{until:?} is not so of calls from host {} to {}",
                        pair.from, pair.to
                    )
                    .into());
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            Result::Ok(())
        });
    }
    while let Some(ended) = tasks.join_next().await {
        ended??;
    }
    Ok(pairs.len())
}

/// Calls that go on, none of which may fail.
struct Calls {
    tasks: JoinSet<Result<u64>>,
    end: tokio::sync::watch::Sender<bool>,
}

fn calls_go_on(pairs: &[Pair]) -> Calls {
    let (end, is_over) = tokio::sync::watch::channel(false);
    let mut tasks = JoinSet::new();
    for pair in pairs.iter().cloned() {
        let is_over = is_over.clone();
        tasks.spawn(async move {
            let mut answered = 0;
            while !*is_over.borrow() {
                if !pair.call(answered).await? {
                    return Err(format!(
                        "a call from host {} to {} failed, and both live",
                        pair.from, pair.to
                    )
                    .into());
                }
                answered += 1;
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            Ok(answered)
        });
    }
    Calls { tasks, end }
}

impl Calls {
    /// Ends them. Returns how many were answered.
    async fn end(mut self) -> Result<u64> {
        self.end.send_replace(true);
        let mut answered = 0;
        while let Some(ended) = self.tasks.join_next().await {
            answered += ended??;
        }
        Ok(answered)
    }
}

struct Pod {
    begin: Instant,
    count: u16,
    work: TempDir,
    /// The agent and the server of each host that runs.
    hosts: Vec<Option<[Child; 2]>>,
    region: OwnedFd,
}

impl Pod {
    fn new(count: u16) -> Result<Self> {
        let begin = Instant::now();
        let work = tempfile::tempdir()?;
        std::fs::create_dir(work.path().join("notes"))?;
        let plan = Plan {
            extent_bytes: Some(EXTENT),
            processes: 8,
            services: 8,
            heartbeat_ms: 200,
            lease_ms: (LEASE + LEASE_EACH * count.into()).as_millis() as u32,
            ..Plan::new(POD, count.into())
        };
        let region = memfd_create("notnets-soak-region", MemfdFlags::CLOEXEC)?;
        // More than the mailboxes and all else of a control area take.
        let control = u64::from(count) * 6 * 1024 + (64 << 10);
        fallocate(
            &region,
            FallocateFlags::empty(),
            0,
            EXTENT + u64::from(count) * (control + EXTENTS * EXTENT),
        )?;
        let hosts = (0..count).map(|_| None).collect();
        let pod = Self { begin, count, work, hosts, region };
        format(&RegionFile::open(&pod.path())?, &plan)?;
        Ok(pod)
    }

    /// Where its processes find the region.
    fn path(&self) -> PathBuf {
        PathBuf::from(format!("/proc/{}/fd/{}", std::process::id(), self.region.as_raw_fd()))
    }

    fn directory(&self, host: u16) -> PathBuf {
        self.work.path().join(host.to_string())
    }

    /// Starts hosts that do not run, all at once.
    async fn start(&mut self, hosts: impl IntoIterator<Item = u16>) -> Result {
        let mut tasks = JoinSet::new();
        for host in hosts {
            let (region, directory, notes) =
                (self.path(), self.directory(host), self.work.path().join("notes"));
            tasks.spawn(
                async move { Result::Ok((host, start_host(host, &region, &directory, &notes).await?)) },
            );
        }
        while let Some(started) = tasks.join_next().await {
            let (host, processes) = started??;
            self.hosts[usize::from(host)] = Some(processes);
        }
        Ok(())
    }

    /// Kills all processes of a host.
    fn kill(&mut self, host: u16) -> Result {
        let processes = self.hosts[usize::from(host)].take().into_iter().flatten();
        processes.into_iter().try_for_each(|process| signal(&process, Signal::KILL))
    }

    /// Each host calls its neighbour, the one behind it, and one far away. Returns the pairs to or from some
    /// hosts; with all of them, those among these.
    fn pairs(&self, of: impl Fn(u16) -> bool) -> Result<Vec<Pair>> {
        let count = self.count;
        let is_all = (0..count).filter(|host| of(*host)).count() > 1;
        let mut pairs = Vec::new();
        for from in 0..count {
            let mut steps = [1, 2, count / 2];
            steps.sort_unstable();
            for step in steps.into_iter().filter(|step| step % count != 0) {
                let to = (from + step) % count;
                let has = if is_all { of(from) && of(to) } else { of(from) || of(to) };
                if has && !pairs.iter().any(|pair: &Pair| (pair.from, pair.to) == (from, to)) {
                    pairs.push(Pair { from, to, channel: channel(&self.directory(from), to)? });
                }
            }
        }
        Ok(pairs)
    }

    /// Tells what agents take while nothing happens, and ends.
    async fn rest(mut self) -> Result {
        let agents = || self.hosts.iter().flatten().filter_map(|[agent, _]| agent.id());
        let used = || agents().filter_map(usage::time_on_core).sum::<u64>();
        let before = used();
        tokio::time::sleep(REST).await;
        let share = 100.0 * used().saturating_sub(before) as f64 / REST.as_nanos() as f64;
        let memory = agents().next().and_then(Footprint::of);
        println!(
            "at rest the {} agents take {share:.0} % of a processor, each {:.2} %; the first has {memory:?}",
            self.count,
            share / f64::from(self.count)
        );
        // In order each would wait for links to hosts that have just gone.
        self.hosts.clear();
        Ok(())
    }
}

/// The agent and the server of a host.
async fn start_host(host: u16, region: &Path, directory: &Path, notes: &Path) -> Result<[Child; 2]> {
    let mut agent = Child::start(|command| {
        command.arg("soak-agent").arg(host.to_string()).arg(region).arg(directory);
    })?;
    ready(&mut agent, "agent", host).await?;
    let name = format!("notnets://{POD}/host-{host}");
    let mut server = Child::start(|command| {
        command.arg("soak-server").arg(&name).arg(notes).arg(&name).env("NOTNETS_DIR", directory);
    })?;
    ready(&mut server, "server", host).await?;
    Ok([agent, server])
}

async fn ready(process: &mut Child, what: &str, host: u16) -> Result {
    let ready: Result<String> = process.answer(PATIENCE).await;
    ready.map_err(|error| format!("the {what} of host {host} does not become ready: {error}"))?;
    Ok(())
}

fn channel(directory: &Path, to: u16) -> Result<Channel> {
    let endpoint = Endpoint::new(format!("notnets://{POD}/host-{to}"))?;
    Ok(endpoint.directory(directory).connect_lazy())
}
