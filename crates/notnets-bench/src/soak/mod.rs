//! `notnets soak`: calls of all kinds while processes are killed, stopped and replaced.
//!
//! Servers and clients are processes. Some are killed, stopped for a while, and replaced, at random; one
//! server and one client live as long as the soak. Clients check each call: it has one outcome, its answers
//! are its own, and its status is one that a death explains. Payloads that are shared are kept, and looked at
//! again when their owner may be dead. Servers note each call that they execute, and clients each that was
//! surely not executed: in the end no call was executed twice, and none of which the opposite was said. What
//! the two that live hold has to stay flat.

mod client;
mod content;
mod deaths;
mod ended;
mod extents;
mod failpoints;
mod footprint;
mod hosts;
mod plain_deaths;
mod replacements;
mod replicas;
mod server;

use std::collections::{HashSet, VecDeque};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use notnets::Endpoint;
use notnets::rpc::{Method, Request};
use notnets_cli_common::agent_thread::AgentThread;
use notnets_cli_common::duration;
use notnets_cli_common::random::Random;
use notnets_core::random;
use notnets_memory::region::file::RegionFile;
use notnets_memory::region::format::{Plan, format};
use rustix::fs::{FallocateFlags, fallocate};
use rustix::process::{Pid, Signal, kill_process};

pub use client::{ClientArgs, call};
pub use server::{ServerArgs, serve};

use crate::Result;
use crate::child::{Child, PATIENCE};
use crate::runtime::runtime;
use client::Tally;
use content::{Head, message};
use failpoints::OF_TAKE_OVER;
use footprint::Footprint;
use replicas::Fate;

/// Let calls go on while processes are killed, stopped and replaced, and check each
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "\
It fails with the first call that has a wrong outcome or another's answer, and in the end if a call was
executed twice or although it was said that it was not, and if a process grows. The seed decides what is done
to which process; when exactly it happens depends on the machine.")]
pub struct Args {
    /// How long
    #[arg(long = "for", value_name = "DURATION", default_value = "1m", value_parser = duration::parse)]
    duration: Duration,
    /// What decides all that is done; random if left out
    #[arg(long)]
    seed: Option<u64>,
    /// Let processes die, stop and lose their links at steps of the protocol, until this number has died:
    /// only in debug builds with the feature `failpoints`
    #[arg(long, value_name = "KILLS", conflicts_with = "duration")]
    at_failpoints: Option<u64>,
    /// Replace a server this often under the load of 8 clients, by a process that takes its name over each
    /// time: no call may fail
    #[arg(long, value_name = "TIMES", conflicts_with_all = ["duration", "at_failpoints"])]
    replace: Option<u64>,
    /// Kill the server or its successor each time, while both are there: no call is executed twice, and the
    /// name is served again
    #[arg(long, requires = "replace")]
    kill_either: bool,
    /// Kill one of three replicas this often, while clients call them through memory and over HTTP/2: no call
    /// that may be made again fails, and no other is executed twice
    #[arg(long, value_name = "TIMES", conflicts_with_all = ["duration", "at_failpoints", "replace"])]
    kill: Option<u64>,
    /// Let replicas come and go this often, by chance in memory, over HTTP/2, or both: as with --kill
    #[arg(long, value_name = "TIMES", conflicts_with_all = ["duration", "at_failpoints", "replace", "kill"])]
    move_replicas: Option<u64>,
    /// Kill a server this often, while one call of a client is open and nothing else runs: how soon does the
    /// caller know?
    #[arg(long, value_name = "TIMES", conflicts_with_all = ["duration", "at_failpoints", "replace", "kill", "move_replicas"])]
    deaths: Option<u64>,
    /// Have so many hosts in one pod: one joins while others call each other, some die at once and return
    #[arg(long, value_name = "HOSTS", value_parser = clap::value_parser!(u16).range(4..=256),
        conflicts_with_all = ["duration", "at_failpoints", "replace", "kill", "move_replicas", "deaths", "no_pod"])]
    hosts: Option<u16>,
    /// Without a pod of two hosts
    #[arg(long)]
    no_pod: bool,
}

/// How often the processes that live are looked at.
const LOOK: Duration = Duration::from_millis(500);
/// Servers that may end their calls at once; the oldest is killed.
const LEAVING: usize = 8;
/// What names on one host begin with.
const ON_HOST: &str = "notnets:///";
/// The pod, whose second host has a server.
const POD: &str = "soak";
/// Memory of the pod's region.
const REGION: u64 = 256 << 20;

/// Runs the soak.
///
/// # Errors
/// When anything was wrong.
pub fn run(args: &Args) -> Result {
    let seed = args.seed.unwrap_or_else(random::word);
    if let Some(kills) = args.at_failpoints {
        println!("--seed {seed} --at-failpoints {kills}");
        return runtime(0)?.block_on(failpoints::run(args, seed, kills));
    }
    if let Some(times) = args.replace {
        let and = if args.kill_either { " --kill-either" } else { "" };
        println!("--seed {seed} --replace {times}{and}");
        return runtime(0)?.block_on(async {
            match args.kill_either {
                false => replacements::run(seed, times).await,
                true => replacements::run_with_deaths(seed, times).await,
            }
        });
    }
    if let Some(times) = args.kill {
        println!("--seed {seed} --kill {times}");
        return runtime(0)?.block_on(replicas::run(seed, Fate::Killed, times));
    }
    if let Some(times) = args.move_replicas {
        println!("--seed {seed} --move-replicas {times}");
        return runtime(0)?.block_on(replicas::run(seed, Fate::Moved, times));
    }
    if let Some(hosts) = args.hosts {
        println!("--seed {seed} --hosts {hosts}");
        return runtime(0)?.block_on(hosts::run(seed, hosts));
    }
    if let Some(times) = args.deaths {
        return runtime(0)?.block_on(plain_deaths::run(times));
    }
    println!("--seed {seed} --for {:?}", args.duration);
    runtime(0)?.block_on(async {
        let mut soak = Soak::start(args, seed).await?;
        soak.go_on(args.duration).await?;
        soak.end().await
    })
}

/// A process that may be killed, and how to start another.
struct Place {
    child: Child,
    kind: Kind,
}

#[derive(Clone, Debug)]
enum Kind {
    /// Serves a name in a directory.
    Server {
        uri: String,
        directory: PathBuf,
    },
    Client,
    /// The agent of a host.
    Agent {
        host: u16,
        region: PathBuf,
        directory: PathBuf,
    },
}

struct Soak {
    random: Random,
    work: tempfile::TempDir,
    /// The pod's.
    region: Option<PathBuf>,
    /// The names that clients call.
    uris: Vec<String>,
    clients: u64,
    mortal: Vec<Place>,
    /// Servers that end their calls while others have taken their names.
    leaving: VecDeque<Child>,
    /// A server and a client that live as long as the soak.
    steady: Vec<Child>,
    samples: [Vec<Footprint>; 2],
    done: Done,
    _agents: Vec<AgentThread>,
}

#[derive(Debug, Default)]
struct Done {
    kills: u64,
    stops: u64,
    replacements: u64,
}

impl Soak {
    async fn start(args: &Args, seed: u64) -> Result<Self> {
        let work = tempfile::tempdir()?;
        for directory in ["notes", "host-a", "host-b"] {
            fs::create_dir(work.path().join(directory))?;
        }
        let region = work.path().join("region");
        let has_mortal_agents = args.at_failpoints.is_some() && !args.no_pod;
        let agents = if args.no_pod { Vec::new() } else { pod(&region, work.path(), !has_mortal_agents)? };
        let mut servers =
            vec![("notnets:///first".to_owned(), "host-a"), ("notnets:///second".to_owned(), "host-a")];
        if !args.no_pod {
            servers.push((format!("notnets://{POD}/third"), "host-b"));
        }
        let steady = "notnets:///steady".to_owned();
        let uris: Vec<_> = servers.iter().map(|(uri, _)| uri.clone()).chain([steady.clone()]).collect();
        let mut starting =
            Starting { work: work.path().to_owned(), uris: uris.clone(), clients: 0, seed, fault: None };
        let mut mortal = Vec::new();
        for (host, directory) in [(0, "host-a"), (1, "host-b")].into_iter().filter(|_| has_mortal_agents) {
            let kind = Kind::Agent { host, region: region.clone(), directory: work.path().join(directory) };
            mortal.push(Place { child: starting.start(&kind).await?, kind });
        }
        let steady_server = Kind::Server { uri: steady, directory: work.path().join("host-a") };
        let steady_server = starting.start(&steady_server).await?;
        for (uri, directory) in servers {
            let kind = Kind::Server { uri, directory: work.path().join(directory) };
            mortal.push(Place { child: starting.start(&kind).await?, kind });
        }
        let steady = vec![steady_server, starting.start(&Kind::Client).await?];
        mortal.push(Place { child: starting.start(&Kind::Client).await?, kind: Kind::Client });
        Ok(Self {
            random: Random::new(seed),
            clients: starting.clients,
            region: (!args.no_pod).then_some(region),
            work,
            uris,
            mortal,
            leaving: VecDeque::new(),
            steady,
            samples: Default::default(),
            done: Done::default(),
            _agents: agents,
        })
    }

    async fn go_on(&mut self, duration: Duration) -> Result {
        let begin = Instant::now();
        let mut looked = begin;
        while begin.elapsed() < duration {
            let pause = self.random.one_of(&[5, 20, 50, 150]);
            tokio::time::sleep(Duration::from_millis(pause)).await;
            let index = self.random.below(self.mortal.len() as u64) as usize;
            match self.random.below(4) {
                0 | 1 => self.kill(index).await?,
                2 => self.stop(index).await?,
                _ => self.replace(index).await?,
            }
            // Those of the first fifth are of processes that still grow up.
            if looked.elapsed() > LOOK {
                looked = Instant::now();
                self.look(begin.elapsed() > duration / 5)?;
            }
        }
        Ok(())
    }

    /// Kills a process, and starts another at once or after a while.
    async fn kill(&mut self, index: usize) -> Result {
        self.done.kills += 1;
        signal(&self.mortal[index].child, Signal::KILL)?;
        let pause = self.random.one_of(&[0, 0, 10, 100]);
        tokio::time::sleep(Duration::from_millis(pause)).await;
        self.start_again(index).await.map(drop)
    }

    /// Stops a process for a while.
    async fn stop(&mut self, index: usize) -> Result {
        self.done.stops += 1;
        signal(&self.mortal[index].child, Signal::STOP)?;
        let pause = self.random.one_of(&[1, 10, 50, 200]);
        tokio::time::sleep(Duration::from_millis(pause)).await;
        signal(&self.mortal[index].child, Signal::CONT)
    }

    /// Lets a server end its calls, and another take its name. A client is killed.
    async fn replace(&mut self, index: usize) -> Result {
        if let Kind::Client = self.mortal[index].kind {
            return self.kill(index).await;
        }
        self.done.replacements += 1;
        signal(&self.mortal[index].child, Signal::TERM)?;
        let old = self.start_again(index).await?;
        self.leaving.push_back(old);
        if self.leaving.len() > LEAVING {
            self.leaving.pop_front();
        }
        Ok(())
    }

    /// Starts a process in the place of another, which is returned.
    async fn start_again(&mut self, index: usize) -> Result<Child> {
        let seed = self.random.bits();
        let mut starting = Starting {
            work: self.work.path().to_owned(),
            uris: self.uris.clone(),
            clients: self.clients,
            seed,
            fault: None,
        };
        let kind = self.mortal[index].kind.clone();
        let started = starting.start(&kind).await;
        self.clients = starting.clients;
        Ok(std::mem::replace(&mut self.mortal[index].child, started?))
    }

    fn look(&mut self, counts: bool) -> Result {
        for (child, samples) in self.steady.iter().zip(&mut self.samples) {
            let held = child.id().and_then(Footprint::of).ok_or("a process that was left alone has ended")?;
            if counts {
                samples.push(held);
            }
        }
        Ok(())
    }

    /// Calls each name until it is answered.
    async fn reach_all(&self) -> Result {
        for (number, uri) in self.uris.iter().enumerate() {
            let endpoint = Endpoint::new(uri.as_str())?.directory(self.work.path().join("host-a"));
            let begin = Instant::now();
            loop {
                let head = Head { id: u64::MAX - number as u64, number: 0, answers: 0, size: 0 };
                let request = Request::new(Method::from_static("/soak.Soak/Unary")).timeout(PATIENCE);
                match endpoint.connect_lazy().unary_call(request, message(head, 10)).await {
                    Ok(_) => break,
                    Err(_) if begin.elapsed() < PATIENCE => tokio::time::sleep(LOOK).await,
                    Err(status) => {
                        return Err(format!("{uri} can't be called after {PATIENCE:?}: {status}").into());
                    }
                }
            }
            println!("{uri} is reached after {:.1?}", begin.elapsed());
        }
        Ok(())
    }

    async fn end(&mut self) -> Result {
        let client = &mut self.steady[1];
        client.tell(&()).await?;
        let tally: Tally =
            client.answer(PATIENCE).await.map_err(|error| format!("the client that lives: {error}"))?;
        let Done { kills, stops, replacements } = self.done;
        println!(
            "{kills} kills, {stops} stops, {replacements} replacements; the client that lived: {tally:?}"
        );
        for (child, samples) in ["server", "client"].into_iter().zip(&self.samples) {
            let halves = footprint::halves(samples);
            println!("the {child} that lived: at first {:?}, then {:?}", halves[0], halves[1]);
            footprint::check(halves).map_err(|error| format!("the {child}: {error}"))?;
        }
        if tally.ok == 0 || tally.shared == 0 {
            return Err("no call has ended well, or nothing was shared".into());
        }
        // Clients first: what they note is not to be of the end. Agents last: they take the memory back.
        while let Some(child) = self.steady.pop() {
            child.end().await?;
            while self.mortal.pop_if(|place| !matches!(place.kind, Kind::Agent { .. })).is_some() {}
        }
        self.leaving.clear();
        if let Some(region) = &self.region {
            extents::wait_until_all_are_free(region)?;
        }
        self.mortal.clear();
        executions(&self.work.path().join("notes"))
    }
}

/// What a process is started with.
struct Starting {
    work: PathBuf,
    uris: Vec<String>,
    clients: u64,
    seed: u64,
    /// What is to happen to it where, and the file in which it notes when.
    fault: Option<(String, PathBuf)>,
}

impl Starting {
    async fn start(&mut self, kind: &Kind) -> Result<Child> {
        let mut child = self.spawn(kind)?;
        let ready: Result<String> = child.answer(PATIENCE).await;
        ready.map_err(|error| format!("{kind:?} does not become ready: {error}"))?;
        Ok(child)
    }

    fn spawn(&mut self, kind: &Kind) -> Result<Child> {
        let notes = self.work.join("notes");
        Child::start(|command| {
            if let Some((point, note)) = &self.fault {
                command.env("NOTNETS_FAILPOINT", point).env("NOTNETS_FAILPOINT_NOTE", note);
            }
            match kind {
                Kind::Server { uri, directory } => {
                    // A name after it, or itself: the next of those that the directory has.
                    let next = self.uris.iter().skip_while(|other| *other != uri).skip(1);
                    let next = next.chain(&self.uris).find(|name| name.starts_with(ON_HOST));
                    let next = next.filter(|_| uri.starts_with(ON_HOST)).unwrap_or(uri);
                    command.arg("soak-server").arg(uri).arg(&notes).arg(next).env("NOTNETS_DIR", directory);
                    if self.fault.as_ref().is_some_and(|(point, _)| point.starts_with(OF_TAKE_OVER)) {
                        command.arg("--take-over");
                    }
                }
                Kind::Client => {
                    self.clients += 1;
                    let numbers = [self.clients, self.seed].map(|number| number.to_string());
                    command.arg("soak-client").args(numbers).arg(&notes).args(&self.uris);
                    command.env("NOTNETS_DIR", self.work.join("host-a"));
                }
                Kind::Agent { host, region, directory } => {
                    command.arg("soak-agent").arg(host.to_string()).arg(region).arg(directory);
                }
            }
        })
    }
}

fn signal(child: &Child, signal: Signal) -> Result {
    let pid = child.id().and_then(|pid| Pid::from_raw(pid.cast_signed()));
    // A client ends by itself when it has found something wrong, and has said so.
    kill_process(pid.ok_or("a process has ended by itself: see above")?, signal)?;
    Ok(())
}

/// A pod of two hosts in a new region. Its agents run until they are dropped, if they are to `live` in here.
fn pod(region: &Path, work: &Path, live: bool) -> Result<Vec<AgentThread>> {
    let memory = File::create_new(region)?;
    fallocate(&memory, FallocateFlags::empty(), 0, REGION)?;
    // Those that die at failpoints are to be missed soon.
    let lease_ms = if live { 10_000 } else { 1000 };
    let plan = Plan { processes: 64, heartbeat_ms: 20, lease_ms, ..Plan::new(POD, 2) };
    format(&RegionFile::open(region)?, &plan)?;
    let start = |(host, directory)| Ok(AgentThread::start(region, host, &work.join(directory))?);
    [(0, "host-a"), (1, "host-b")].into_iter().filter(|_| live).map(start).collect()
}

/// The arguments of an agent's process.
#[derive(Clone, Debug, clap::Args)]
pub struct AgentArgs {
    host: u16,
    region: PathBuf,
    directory: PathBuf,
}

/// Is a host of the pod until the input ends.
///
/// # Errors
/// When it can't be.
pub fn agent(args: &AgentArgs) -> Result {
    server::end_with_input();
    let until = Instant::now() + PATIENCE;
    let _agent = loop {
        match AgentThread::start(&args.region, args.host, &args.directory) {
            // The one that was killed is still being cleared away.
            Err(_) if Instant::now() < until => std::thread::sleep(Duration::from_millis(5)),
            started => break started?,
        }
    };
    println!("\"ready\"");
    loop {
        std::thread::park();
    }
}

/// # Errors
/// When a call was executed twice, or although its client was told the opposite.
fn executions(notes: &Path) -> Result {
    let (executed, unseen) = (noted(notes, "executed")?, noted(notes, "unseen")?);
    let once: HashSet<_> = executed.iter().copied().collect();
    println!("{} calls executed, {} surely not", executed.len(), unseen.len());
    if once.len() < executed.len() {
        return Err(format!("{} calls were executed twice", executed.len() - once.len()).into());
    }
    match unseen.iter().find(|id| once.contains(id)) {
        Some(id) => Err(format!("call {id:#x} was executed, though it was retry safe").into()),
        None => Ok(()),
    }
}

/// The ids of calls that processes have noted in files of that kind.
///
/// # Errors
/// When a file can't be read.
fn noted(notes: &Path, kind: &str) -> Result<Vec<u64>> {
    let mut ids = Vec::new();
    for file in fs::read_dir(notes)? {
        let file = file?;
        if file.file_name().to_string_lossy().split_once('-').is_some_and(|(its, _)| its == kind) {
            let bytes = fs::read(file.path())?;
            ids.extend(bytes.chunks_exact(8).map(|id| u64::from_le_bytes(id.try_into().expect("8 bytes"))));
        }
    }
    Ok(ids)
}
