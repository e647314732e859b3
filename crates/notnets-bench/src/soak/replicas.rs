//! Replicas of a name that are killed, or come, go and move, while clients call them through memory and over
//! HTTP/2.
//!
//! Calls of one method may be made again, by a policy: of these none may fail. Calls of another may not: each
//! has one outcome, and is executed at most once.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use notnets::names::{Address, Fixed};
use notnets::rpc::{Code, Method, Request};
use notnets::{Channel, ServiceConfig};
use notnets_cli_common::random::Random;
use rustix::process::Signal;
use tokio::task::JoinSet;

use super::content::{Head, check, message};
use super::{noted, signal};
use crate::Result;
use crate::child::{Child, PATIENCE};

const URI: &str = "notnets:///replicas";
/// Calls at once on each channel.
const TASKS: u64 = 4;
/// A call without an outcome by then hangs.
const HANGS: Duration = Duration::from_secs(60);

/// The method whose calls may be made again.
const AGAIN: &str = "/soak.Soak/Unary";
/// The method whose calls may be executed once at most.
const ONCE: &str = "/soak.Soak/Once";

const CONFIG: &str = r#"{"methodConfig": [{
    "name": [{"service": "soak.Soak", "method": "Unary"}],
    "retryPolicy": {
        "maxAttempts": 5, "initialBackoff": "0.02s", "maxBackoff": "0.5s", "backoffMultiplier": 3,
        "retryableStatusCodes": ["UNAVAILABLE"]
    }
}]}"#;

/// What becomes of the replicas.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// One of three is killed, and started again, each with a name and an address.
    Killed,
    /// They are killed or stopped, and come back with a name, an address, or both. One stays.
    Moved,
}

/// Does that so many times.
///
/// # Errors
/// When a call had a wrong outcome.
pub async fn run(seed: u64, fate: Fate, times: u64) -> Result {
    let work = tempfile::tempdir()?;
    fs::create_dir(work.path().join("notes"))?;
    let mut random = Random::new(seed);
    let mut places = Vec::new();
    for number in 0..if fate == Fate::Killed { 3 } else { 4 } {
        let mut place = Place { work: work.path().to_owned(), number, child: None };
        place.start(URI.to_owned() + "," + &place.address()).await?;
        places.push(place);
    }
    let addresses: Vec<_> = places.iter().map(Place::address).collect();
    let calls = Arc::new(Calls::default());
    let mut tasks = JoinSet::new();
    for (way, channel) in channels(work.path(), &addresses, fate)?.into_iter().enumerate() {
        for task in 0..TASKS {
            let number = way as u64 * TASKS + task;
            let caller = Caller { number, channel: channel.clone(), random: Random::new(random.bits()) };
            tasks.spawn(caller.call_on(Arc::clone(&calls)));
        }
    }
    let begin = Instant::now();
    let mut kills = 0;
    for turn in 0..times {
        tokio::time::sleep(Duration::from_millis(random.below(20))).await;
        if let Some(ended) = tasks.try_join_next() {
            return Err(format!("turn {turn}: {}", ended?.err().unwrap_or_default()).into());
        }
        let is_killed = fate == Fate::Killed || random.once_in(2);
        kills += u64::from(is_killed);
        let mortal = if fate == Fate::Killed { &mut places[..] } else { &mut places[1..] };
        let place = &mut mortal[random.below(mortal.len() as u64) as usize];
        let serves = match fate {
            Fate::Killed => URI.to_owned() + "," + &place.address(),
            Fate::Moved => match random.below(3) {
                0 => URI.to_owned(),
                1 => place.address(),
                _ => URI.to_owned() + "," + &place.address(),
            },
        };
        place.end(is_killed).await?;
        place.start(serves).await?;
    }
    let took = begin.elapsed();
    calls.are_over.store(true, Ordering::Relaxed);
    let mut once = HashMap::new();
    while let Some(ended) = tasks.join_next().await {
        once.extend(ended??);
    }
    let again = calls.again.load(Ordering::Relaxed);
    for place in places {
        place.child.ok_or("a replica is missing")?.end().await?;
    }
    let what =
        if fate == Fate::Killed { "kills".to_owned() } else { format!("moves, {kills} of them kills") };
    println!("{times} {what}, in {took:.1?}: of {again} calls that may be made again none failed");
    check_once(&work.path().join("notes"), &once)
}

/// One channel for each way, or one for both.
fn channels(work: &Path, addresses: &[String], fate: Fate) -> Result<Vec<Channel>> {
    let config = ServiceConfig::from_json(CONFIG)?;
    let servers = addresses.iter().map(Address::new).collect::<std::result::Result<Vec<_>, _>>()?;
    let servers = Fixed::new(servers);
    let named = || {
        let (directory, config) = (work.to_owned(), config.clone());
        Channel::named("replicas").settings(move |it| it.directory(directory).service_config(config))
    };
    let built = match fate {
        Fate::Killed => vec![named().local(URI), named().or_resolved("the sockets", servers)],
        Fate::Moved => vec![named().local(URI).or_resolved("the sockets", servers)],
    };
    Ok(built.into_iter().map(|builder| builder.connect_lazy()).collect::<std::result::Result<_, _>>()?)
}

/// A replica, and where it is.
struct Place {
    work: PathBuf,
    number: u64,
    child: Option<Child>,
}

impl Place {
    fn address(&self) -> String {
        format!("unix:{}", self.work.join(format!("{}.sock", self.number)).display())
    }

    async fn start(&mut self, serves: String) -> Result {
        let (work, notes) = (self.work.clone(), self.work.join("notes"));
        let mut child = Child::start(|command| {
            command.args(["soak-server", "--replica", &serves]).arg(notes).arg(URI).env("NOTNETS_DIR", work);
        })?;
        let ready: Result<String> = child.answer(PATIENCE).await;
        ready.map_err(|error| format!("a replica does not become ready: {error}"))?;
        self.child = Some(child);
        Ok(())
    }

    async fn end(&mut self, is_killed: bool) -> Result {
        let mut child = self.child.take().ok_or("a replica is missing")?;
        signal(&child, if is_killed { Signal::KILL } else { Signal::TERM })?;
        if !is_killed && child.ends().await.is_none() {
            return Err("a replica that was asked to stop runs on".into());
        }
        Ok(())
    }
}

#[derive(Default)]
struct Calls {
    again: AtomicU64,
    are_over: AtomicBool,
}

/// What is known of a call that may be executed once at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Answered,
    /// It was surely not executed.
    Unseen,
    Unknown,
}

struct Caller {
    number: u64,
    channel: Channel,
    random: Random,
}

impl Caller {
    /// Calls until all is over. Returns what has become of the calls that may be executed once at most; or
    /// what was wrong with one.
    async fn call_on(mut self, calls: Arc<Calls>) -> std::result::Result<Vec<(u64, Outcome)>, String> {
        let mut once = Vec::new();
        for count in 0.. {
            if calls.are_over.load(Ordering::Relaxed) {
                break;
            }
            let id = self.number << 40 | count;
            let may_be_again = self.random.once_in(2);
            let head = Head { id, number: 0, answers: 0, size: 0 };
            // What comes in pieces may have begun to come: then the call is not made again.
            let sizes = if may_be_again { &[0, 20, 1000][..] } else { &[0, 20, 1000, 40_000, 300_000] };
            let size = self.random.one_of(sizes);
            let sent = Bytes::from(message(head, size));
            let request = Request::new(Method::from_static(if may_be_again { AGAIN } else { ONCE }));
            let answered = tokio::time::timeout(HANGS, self.channel.unary_call(request, sent.clone())).await;
            let outcome =
                match answered.map_err(|_| format!("call {id:#x} has no outcome after {HANGS:?}"))? {
                    Ok(answer) => {
                        let answer = answer.message.into_bytes();
                        if answer != sent {
                            return Err(format!("call {id:#x} got {:?}", check(&answer)));
                        }
                        Outcome::Answered
                    }
                    Err(status) if may_be_again => {
                        return Err(format!("call {id:#x}, which may be made again, failed: {status}"));
                    }
                    Err(status) if status.code() != Code::UNAVAILABLE => {
                        return Err(format!("call {id:#x} ended with {status}"));
                    }
                    Err(status) if status.is_retry_safe() => Outcome::Unseen,
                    Err(_) => Outcome::Unknown,
                };
            if may_be_again {
                calls.again.fetch_add(1, Ordering::Relaxed);
            } else {
                once.push((id, outcome));
            }
        }
        Ok(once)
    }
}

/// # Errors
/// When a call was executed more often than it may be, or not though it was answered.
fn check_once(notes: &Path, once: &HashMap<u64, Outcome>) -> Result {
    let mut executed = HashMap::new();
    for id in noted(notes, "executed")? {
        *executed.entry(id).or_insert(0) += 1;
    }
    let mut counts = [0; 3];
    for (id, outcome) in once {
        let times = executed.get(id).copied().unwrap_or(0);
        let allowed = match outcome {
            Outcome::Answered => 1..=1,
            Outcome::Unseen => 0..=0,
            Outcome::Unknown => 0..=1,
        };
        counts[*outcome as usize] += 1;
        if !allowed.contains(&times) {
            return Err(format!("call {id:#x} was executed {times} times, and was {outcome:?}").into());
        }
    }
    let [answered, unseen, unknown] = counts;
    println!("of those that may not, {answered} were executed once, {unseen} not at all, {unknown} failed");
    if answered == 0 { Err("no call was answered".into()) } else { Ok(()) }
}
