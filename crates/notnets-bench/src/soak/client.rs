//! A client of the soak: calls of all kinds, sizes and ends, each of which is checked.

use std::fs::File;
use std::io::{self, BufRead};
use std::ops::AddAssign;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use notnets::rpc::{Code, Method, Request, Status};
use notnets::{Channel, Endpoint, SharedBytes};
use notnets_cli_common::random::Random;
use notnets_core::clock;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use super::content::{Head, Kept, check, message, shared};
use super::ended::Ended;
use super::server::{IN_POD, note, notes};
use crate::Result;
use crate::runtime::runtime;
use crate::trust::trust_peer_memory;

/// The arguments of the process.
#[derive(Clone, Debug, clap::Args)]
pub struct ClientArgs {
    /// Its number: no other client has it.
    number: u64,
    /// The random numbers that it begins with.
    seed: u64,
    /// Where calls are noted that were surely not executed.
    notes: PathBuf,
    /// Servers are replaced only: no unary call may fail, and no other call without the status that it may be
    /// made again.
    #[arg(long)]
    strict: bool,
    /// The names to call.
    uris: Vec<String>,
}

/// How calls have ended.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct Tally {
    /// Well.
    pub ok: u64,
    /// Since their server, or their link, had ended.
    pub unavailable: u64,
    /// Of these: with the proof that they were not executed.
    pub retry_safe: u64,
    /// Too late.
    pub late: u64,
    /// Given up by the caller.
    pub cancelled: u64,
    /// Messages received in shared memory.
    pub shared: u64,
}

impl AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.ok += other.ok;
        self.unavailable += other.unavailable;
        self.retry_safe += other.retry_safe;
        self.late += other.late;
        self.cancelled += other.cancelled;
        self.shared += other.shared;
    }
}

/// Calls at once to each name.
const TASKS: u64 = 3;
/// A call without an outcome by then hangs.
const HANGS: Duration = Duration::from_secs(60);

struct Client {
    args: ClientArgs,
    next: AtomicU64,
    unseen: File,
    /// Calls that have failed, and those that were late.
    failed: File,
    late: File,
    counts: [AtomicU64; 6],
}

/// What one task has: its place among the names, and what it keeps.
struct Task {
    name: u64,
    channel: Channel,
    random: Random,
    kept: Kept,
}

/// Calls until the input ends; answers each line of it with a `Tally`.
///
/// # Errors
/// With the first call whose outcome is wrong.
pub fn call(args: ClientArgs) -> Result {
    runtime(2)?.block_on(async {
        let [unseen, failed, late] = ["unseen", "failed", "late"].map(|kind| notes(&args.notes, kind));
        let client = Arc::new(Client {
            args,
            next: AtomicU64::new(0),
            unseen: unseen?,
            failed: failed?,
            late: late?,
            counts: Default::default(),
        });
        let mut tasks = tokio::task::JoinSet::new();
        for (index, uri) in client.args.uris.iter().enumerate() {
            let mut endpoint = Endpoint::new(uri.as_str())?;
            if uri.starts_with(IN_POD) {
                endpoint = endpoint.trust_peer_memory(trust_peer_memory());
            }
            let channel = endpoint.connect_lazy();
            for task in 0..TASKS {
                let random = Random::new(client.args.seed ^ (index as u64) << 40 ^ task << 20);
                let (name, channel) = (index as u64, channel.clone());
                let task = Task { name, channel, random, kept: Kept::default() };
                tasks.spawn(Arc::clone(&client).calls(task));
            }
        }
        println!("\"ready\"");
        let mut lines = lines();
        loop {
            tokio::select! {
                line = lines.recv() => match line {
                    None => return Ok(()),
                    Some(_) => println!("{}", serde_json::to_string(&client.tally())?),
                },
                Some(ended) = tasks.join_next() => return Err(ended?.into()),
            }
        }
    })
}

/// The lines of the input, until its end.
fn lines() -> mpsc::UnboundedReceiver<String> {
    let (send, lines) = mpsc::unbounded_channel();
    std::thread::spawn(move || {
        for line in io::stdin().lock().lines().map_while(io::Result::ok) {
            let _ = send.send(line);
        }
    });
    lines
}

impl Client {
    fn tally(&self) -> Tally {
        let [ok, unavailable, retry_safe, late, cancelled, shared] =
            std::array::from_fn(|index| self.counts[index].load(Ordering::Relaxed));
        Tally { ok, unavailable, retry_safe, late, cancelled, shared }
    }

    /// Calls one after the other; returns what was wrong with one.
    async fn calls(self: Arc<Self>, mut task: Task) -> String {
        loop {
            let id = self.args.number << 40 | self.next.fetch_add(1, Ordering::Relaxed);
            let timeout =
                (task.random.below(8) == 0 && !self.args.strict).then(|| Duration::from_millis(1 + id % 50));
            let begin = clock::now();
            let method = match METHODS[task.random.below(METHODS.len() as u64) as usize] {
                // What the first of two servers says of the second is not its own.
                "PassOn" if self.args.strict => "Unary",
                method => method,
            };
            let outcome = tokio::time::timeout(HANGS, self.call(&mut task, id, method, timeout)).await;
            let ended = Ended { id, name: task.name, begin, end: clock::now() };
            let status = match outcome {
                Err(_) => return format!("call {id:#x} has no outcome after {HANGS:?}"),
                Ok(Ok(is_whole)) => {
                    self.count(if is_whole { 0 } else { 4 });
                    continue;
                }
                Ok(Err(Outcome::Wrong(what))) => return format!("call {id:#x}: {what}"),
                Ok(Err(Outcome::Status(status))) => status,
            };
            let noted = match (status.code(), timeout) {
                (Code::UNAVAILABLE, _) if self.args.strict && !status.is_retry_safe() => {
                    return format!("call {id:#x} failed though its server was replaced in order: {status}");
                }
                (Code::UNAVAILABLE, _) => {
                    self.count(1);
                    let noted = if status.is_retry_safe() {
                        self.count(2);
                        note(&self.unseen, id)
                    } else if method == "PassOn" {
                        // Which of two servers has died, only the first of them knows.
                        Ok(())
                    } else {
                        ended.note(&self.failed)
                    };
                    // Its server is dead: others' turn.
                    tokio::time::sleep(Duration::from_millis(5)).await;
                    noted
                }
                (Code::DEADLINE_EXCEEDED, Some(timeout)) => {
                    self.count(3);
                    Ended { begin: begin + timeout, ..ended }.note(&self.late)
                }
                _ => return format!("call {id:#x} of {method} ended with {status}"),
            };
            if let Err(error) = noted {
                return error.to_string();
            }
        }
    }

    fn count(&self, which: usize) {
        self.counts[which].fetch_add(1, Ordering::Relaxed);
    }

    /// Makes a call. Returns `false` if it was given up.
    async fn call(
        &self,
        task: &mut Task,
        id: u64,
        method: &'static str,
        timeout: Option<Duration>,
    ) -> Called<bool> {
        let Task { channel, random, .. } = task;
        let size = random.one_of(&[0, 1, 20, 200, 1000, 5000, 40_000, 300_000]) as usize;
        let answers = random.below(6);
        let asked_size = random.one_of(&[0, 10, 1000, 30_000, 200_000]);
        let head = Head { id, number: 0, answers, size: asked_size };
        let request = Request::new(Method::from_static(path(method)));
        let request = match timeout {
            Some(timeout) => request.timeout(timeout),
            None => request,
        };
        let gives_up = random.once_in(16);
        let is_shared = random.once_in(2);
        let message = |head| {
            let message = message(head, size);
            if is_shared && size > 0 { shared(message) } else { Bytes::from(message) }
        };
        match method {
            "Unary" | "PassOn" => {
                let sent = message(head);
                let call = channel.unary_call(request, sent.clone());
                if gives_up {
                    return Ok(tokio::time::timeout(Duration::from_micros(id % 300), call).await.is_ok());
                }
                let answered = call.await;
                if let Err(status) = &answered
                    && self.args.strict
                    && status.code() == Code::UNAVAILABLE
                {
                    return Err(Outcome::Wrong(format!("a unary call failed: {status}")));
                }
                self.expect(&mut task.kept, answered?.message.into_bytes(), head, Some(&sent))?;
            }
            "Download" => {
                let mut stream = channel.server_streaming_call(request, message(head)).await?;
                for number in 0..answers {
                    if gives_up && number == 1 {
                        return Ok(false);
                    }
                    let Some(answer) = stream.message().await? else {
                        return Err(Outcome::Wrong(format!("{number} of {answers} answers")));
                    };
                    let answer = answer.into_bytes();
                    if answer.len() != 32 + asked_size as usize {
                        return Err(Outcome::Wrong(format!("an answer of {} bytes", answer.len())));
                    }
                    self.expect(&mut task.kept, answer, Head { number, ..head }, None)?;
                }
                ends(stream.message().await?.is_none())?;
            }
            "Upload" => {
                let (mut sender, mut stream) = channel.streaming_call(request).await?;
                let count = 1 + answers;
                for number in 0..count {
                    if sender.send(message(Head { number, ..head })).await.is_err() {
                        break;
                    }
                }
                if gives_up {
                    return Ok(false);
                }
                // Why it could not be sent, the receiver knows.
                let _ = sender.finish().await;
                let Some(answer) = stream.message().await? else {
                    return Err(Outcome::Wrong("no answer".to_owned()));
                };
                self.expect(&mut task.kept, answer.into_bytes(), Head { number: count, ..head }, None)?;
                ends(stream.message().await?.is_none())?;
            }
            _ => {
                let (mut sender, mut stream) = channel.streaming_call(request).await?;
                for number in 0..=answers {
                    let head = Head { number, ..head };
                    let sent = message(head);
                    let is_sent = sender.send(sent.clone()).await.is_ok();
                    if gives_up && number == 1 {
                        return Ok(false);
                    }
                    let Some(answer) = stream.message().await? else {
                        return Err(Outcome::Wrong(format!("{number} answers of a chat")));
                    };
                    if !is_sent {
                        return Err(Outcome::Wrong("an answer to what could not be sent".to_owned()));
                    }
                    self.expect(&mut task.kept, answer.into_bytes(), head, Some(&sent))?;
                }
                let _ = sender.finish().await;
                ends(stream.message().await?.is_none())?;
            }
        }
        Ok(true)
    }

    /// Checks an answer, and keeps it if it is in shared memory.
    fn expect(&self, kept: &mut Kept, answer: Bytes, head: Head, whole: Option<&[u8]>) -> Called {
        let found = check(&answer).map_err(Outcome::Wrong)?;
        if found != head || whole.is_some_and(|whole| *whole != answer) {
            return Err(Outcome::Wrong(format!("got {found:?} for {head:?}")));
        }
        if SharedBytes::holds(&answer) {
            self.count(5);
        }
        kept.keep(head, answer).map(drop).map_err(Outcome::Wrong)
    }
}

/// The methods, each as often as it is to be called.
const METHODS: [&str; 8] = ["Unary", "Unary", "Unary", "Unary", "PassOn", "Download", "Upload", "Chat"];

fn path(method: &str) -> &'static str {
    match method {
        "Unary" => "/soak.Soak/Unary",
        "PassOn" => "/soak.Soak/PassOn",
        "Download" => "/soak.Soak/Download",
        "Upload" => "/soak.Soak/Upload",
        _ => "/soak.Soak/Chat",
    }
}

type Called<T = ()> = std::result::Result<T, Outcome>;

/// How a call ended that did not end well.
enum Outcome {
    Status(Status),
    Wrong(String),
}

impl From<Status> for Outcome {
    fn from(status: Status) -> Self {
        Self::Status(status)
    }
}

fn ends(is_so: bool) -> Called {
    if is_so { Ok(()) } else { Err(Outcome::Wrong("more answers than asked for".to_owned())) }
}
