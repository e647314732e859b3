//! Processes die, stand still and lose their links at steps of the protocol, one after the other, and others
//! take their places.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::time::{Duration, Instant};

use notnets_core::clock::{self, Timestamp};
use notnets_core::failpoint;
use rustix::process::Signal;

use super::deaths::{Deaths, Process};
use super::{Args, Kind, LOOK, ON_HOST, Soak, Starting, signal};
use crate::Result;

/// How long a process may live that does not come to its failpoint, and how much longer once it was asked to
/// end: then it comes to those of ending.
const LIFE: Duration = Duration::from_millis(300);
const END: Duration = Duration::from_millis(200);
/// How often processes are looked at.
const TICK: Duration = Duration::from_millis(2);

/// What happens to a process at a failpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    Kill,
    /// It stands still for a while, and then goes on or is killed.
    Stop,
    /// Its links are cut, and those to its agent.
    Cut,
}

impl Fault {
    const ALL: [Self; 5] = [Self::Kill, Self::Kill, Self::Kill, Self::Stop, Self::Cut];

    fn word(self) -> &'static str {
        match self {
            Self::Kill => "kill",
            Self::Stop => "stop",
            Self::Cut => "cut",
        }
    }
}

/// The life of a process to which something is to happen.
struct Life {
    point: String,
    fault: Fault,
    /// Where it notes when that has happened.
    note: PathBuf,
    was_reached: bool,
    /// Since when it stands still, and until when.
    stopped: Option<(Timestamp, Instant)>,
    /// On one host.
    who: Option<Process>,
    began: Instant,
    was_asked: bool,
}

impl Life {
    /// When it came to its failpoint: the first time that it has.
    fn reached(&mut self) -> Option<Timestamp> {
        let bytes = fs::read(&self.note).ok().filter(|_| !self.was_reached)?;
        let at = u64::from_le_bytes(bytes.try_into().ok()?);
        self.was_reached = true;
        let _ = fs::remove_file(&self.note);
        Some(Timestamp::from_nanos(at))
    }
}

/// Returns `true` if a process that was asked to end has: it may have been asked before it listens for that.
fn is_end(status: ExitStatus) -> bool {
    status.success() || status.signal() == Some(Signal::TERM.as_raw())
}

/// A server in a pod ends when its agent is away for longer than the lease.
fn is_in_pod(kind: &Kind) -> bool {
    matches!(kind, Kind::Server { uri, .. } if !uri.starts_with(ON_HOST))
}

/// Returns `false` if no process of that kind comes to the point.
fn can_reach(kind: &Kind, point: &str) -> bool {
    const OF_CLIENTS: [&str; 12] = [
        "hello written",
        "hello sent",
        "welcome read",
        "pod hello posted",
        "sending request",
        "sent request",
        "taken response",
        "taken trailers",
        "taken goaway",
        "pod asked to join",
        "pod joined",
        "sending pong",
    ];
    const OF_SERVERS: [&str; 15] = [
        "name locked",
        "name bound",
        "name served",
        "name removed",
        "hello read",
        "welcome sent",
        "handler begun",
        "handler ended",
        "pod welcome posted",
        "taken request",
        "sending response",
        "sent response",
        "sending trailers",
        "sent trailers",
        "sending goaway",
    ];
    match kind {
        Kind::Agent { .. } => point.starts_with("agent"),
        Kind::Client => {
            let of_others = point.starts_with("agent") || point.starts_with(OF_TAKE_OVER);
            !of_others && !OF_SERVERS.contains(&point)
        }
        Kind::Server { uri, .. } => {
            let in_pod = !uri.starts_with(ON_HOST);
            // Names in pods are not taken over.
            let of_others = if in_pod {
                point.starts_with(OF_TAKE_OVER)
            } else {
                OF_CLIENTS.contains(&point) || point.starts_with("pod")
            };
            !point.starts_with("agent") && !of_others
        }
    }
}

/// What the failpoints of servers begin with that take a name over.
pub(super) const OF_TAKE_OVER: &str = "successor";

/// How calls know the process of that kind that was started last, if it is on one host.
fn process(soak: &Soak, kind: &Kind) -> Option<Process> {
    match kind {
        Kind::Server { uri, .. } if uri.starts_with(ON_HOST) => {
            soak.uris.iter().position(|name| name == uri).map(|name| Process::Server(name as u64))
        }
        Kind::Client => Some(Process::Client(soak.clients)),
        Kind::Server { .. } | Kind::Agent { .. } => None,
    }
}

/// Lets processes die, stand still and lose their links until this number has died at failpoints.
///
/// # Errors
/// When anything was wrong.
pub async fn run(args: &Args, seed: u64, kills: u64) -> Result {
    if !failpoint::IS_ON {
        return Err("this build has no failpoints: make a debug build with the feature `failpoints`".into());
    }
    let soak = Soak::start(args, seed).await?;
    let mut run = Run {
        points: failpoint::all().collect(),
        lives: soak.mortal.iter().map(|_| None).collect(),
        soak,
        deaths: Deaths::default(),
        counts: BTreeMap::new(),
        started: 0,
    };
    let mut looked = Instant::now();
    while run.count(Fault::Kill) < kills {
        tokio::time::sleep(TICK).await;
        for index in 0..run.lives.len() {
            if !run.goes_on(index)? {
                run.start(index)?;
            }
        }
        if looked.elapsed() > LOOK {
            looked = Instant::now();
            let is_grown_up = run.count(Fault::Kill) > kills / 5;
            run.soak.look(is_grown_up)?;
        }
    }
    run.end().await
}

struct Run {
    soak: Soak,
    points: Vec<String>,
    lives: Vec<Option<Life>>,
    deaths: Deaths,
    /// How often something happened at each failpoint.
    counts: BTreeMap<String, [u64; 3]>,
    started: u64,
}

impl Run {
    fn count(&self, fault: Fault) -> u64 {
        self.counts.values().map(|counts| counts[fault as usize]).sum()
    }

    /// Looks at a process. Returns `false` if another has to take its place.
    fn goes_on(&mut self, index: usize) -> Result<bool> {
        let place = &mut self.soak.mortal[index];
        let Some(life) = &mut self.lives[index] else {
            signal(&place.child, Signal::KILL)?;
            let kind = place.kind.clone();
            if let Some(who) = process(&self.soak, &kind) {
                self.deaths.add(who, clock::now());
            }
            return Ok(false);
        };
        // What it has noted is there if it has ended.
        let ended = place.child.ended();
        if let Some(at) = life.reached() {
            self.counts.entry(life.point.clone()).or_default()[life.fault as usize] += 1;
            if life.fault == Fault::Stop {
                let pause = self.soak.random.one_of(&[1, 10, 50, 200]);
                life.stopped = Some((at, Instant::now() + Duration::from_millis(pause)));
            } else if let Some(who) = life.who {
                self.deaths.add(who, at);
            }
        }
        if let Some(status) = ended {
            if let Some(who) = life.who.filter(|_| life.was_reached) {
                self.deaths.is_over(who, clock::now());
            }
            let was_killed = status.signal() == Some(Signal::KILL.as_raw())
                && life.was_reached
                && life.fault != Fault::Cut;
            if was_killed || is_in_pod(&place.kind) || life.was_asked && is_end(status) {
                return Ok(false);
            }
            return Err(format!("{:?} ended with {status}: see above", place.kind).into());
        }
        if let Some((at, until)) = life.stopped {
            if Instant::now() < until {
                return Ok(true);
            }
            life.stopped = None;
            let is_killed = self.soak.random.once_in(2);
            let now = clock::now();
            if let Some(process) = place.child.id() {
                self.deaths.add_pause(process, at, now);
            }
            if is_killed {
                if let Some(who) = life.who {
                    self.deaths.add(who, now);
                }
                signal(&place.child, Signal::KILL)?;
                return Ok(false);
            }
            signal(&place.child, Signal::CONT)?;
            life.began = Instant::now();
        }
        let age = life.began.elapsed();
        if age < LIFE {
            return Ok(true);
        }
        // It may end by itself between the look and the signal.
        if !std::mem::replace(&mut life.was_asked, true) && matches!(place.kind, Kind::Server { .. }) {
            let _ = signal(&place.child, Signal::TERM);
        }
        if age < LIFE + END {
            return Ok(true);
        }
        if let Some(who) = life.who {
            self.deaths.add(who, clock::now());
        }
        let _ = signal(&place.child, Signal::KILL);
        Ok(false)
    }

    /// Starts a process in the place of another, which has ended or was killed.
    fn start(&mut self, index: usize) -> Result {
        let soak = &mut self.soak;
        let kind = soak.mortal[index].kind.clone();
        let candidates: Vec<_> = self.points.iter().filter(|point| can_reach(&kind, point)).collect();
        let point = candidates[soak.random.below(candidates.len() as u64) as usize].clone();
        let fault = soak.random.one_of(&Fault::ALL);
        let most = soak.random.one_of(&[1, 4, 40]);
        let reach = 1 + soak.random.below(most);
        self.started += 1;
        let note = soak.work.path().join(format!("reached-{}", self.started));
        let mut starting = Starting {
            work: soak.work.path().to_owned(),
            uris: soak.uris.clone(),
            clients: soak.clients,
            seed: soak.random.bits(),
            fault: Some((format!("{point}:{reach}:{}", fault.word()), note.clone())),
        };
        soak.mortal[index].child = starting.spawn(&kind)?;
        soak.clients = starting.clients;
        let who = process(soak, &kind);
        let began = Instant::now();
        let life =
            Life { point, fault, note, was_reached: false, stopped: None, who, began, was_asked: false };
        self.lives[index] = Some(life);
        Ok(())
    }

    async fn end(mut self) -> Result {
        let never: Vec<_> = self.points.iter().filter(|point| !self.counts.contains_key(*point)).collect();
        let [kills, stops, cuts] = [Fault::Kill, Fault::Stop, Fault::Cut].map(|fault| self.count(fault));
        println!(
            "{kills} processes died, {stops} stood still and {cuts} lost their links at {} of {} failpoints: {:?}",
            self.counts.len(),
            self.points.len(),
            self.counts
        );
        println!("at none of {never:?}");
        // Those that are there last are not to die any more: all are reachable.
        let soak = &mut self.soak;
        for (index, life) in self.lives.iter_mut().enumerate() {
            let now = clock::now();
            // It may have ended by itself meanwhile.
            let _ = signal(&soak.mortal[index].child, Signal::KILL);
            if let Some(life) = life
                && let Some(who) = life.who
            {
                self.deaths.add(who, now);
                // Until then it could come to its failpoint, since the last look.
                let reached = life.reached().filter(|_| life.fault != Fault::Stop);
                reached.into_iter().for_each(|at| self.deaths.add(who, at));
            }
            drop(soak.start_again(index).await?);
        }
        soak.reach_all().await?;
        let on_host = |(name, uri): (usize, &String)| uri.starts_with(ON_HOST).then_some(name as u64);
        let names: Vec<_> = soak.uris.iter().enumerate().filter_map(on_host).collect();
        soak.end().await?;
        self.deaths.report(&soak.work.path().join("notes"), &names)
    }
}
