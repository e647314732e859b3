//! A client of the soak: calls of all kinds, sizes and ends, each of which is checked.

use std::fs::File;
use std::io::{self, BufRead};
use std::ops::AddAssign;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use notnets::rpc::{Code, Method, Request, Status};
use notnets::{Channel, Endpoint};
use notnets_cli_common::random::Random;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use super::content::{Head, check, message};
use super::server::{note, notes};
use crate::Result;
use crate::runtime::runtime;

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
}

impl AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.ok += other.ok;
        self.unavailable += other.unavailable;
        self.retry_safe += other.retry_safe;
        self.late += other.late;
        self.cancelled += other.cancelled;
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
    counts: [AtomicU64; 5],
}

/// Calls until the input ends; answers each line of it with a `Tally`.
///
/// # Errors
/// With the first call whose outcome is wrong.
pub fn call(args: ClientArgs) -> Result {
    runtime(2)?.block_on(async {
        let unseen = notes(&args.notes, "unseen")?;
        let client = Arc::new(Client { args, next: AtomicU64::new(0), unseen, counts: Default::default() });
        let mut tasks = tokio::task::JoinSet::new();
        for (index, uri) in client.args.uris.iter().enumerate() {
            let channel = Endpoint::new(uri.as_str())?.connect_lazy();
            for task in 0..TASKS {
                let random = Random::new(client.args.seed ^ (index as u64) << 40 ^ task << 20);
                tasks.spawn(Arc::clone(&client).calls(channel.clone(), random));
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
        let [ok, unavailable, retry_safe, late, cancelled] =
            std::array::from_fn(|index| self.counts[index].load(Ordering::Relaxed));
        Tally { ok, unavailable, retry_safe, late, cancelled }
    }

    /// Calls one after the other; returns what was wrong with one.
    async fn calls(self: Arc<Self>, channel: Channel, mut random: Random) -> String {
        loop {
            let id = self.args.number << 40 | self.next.fetch_add(1, Ordering::Relaxed);
            let has_deadline = random.below(8) == 0 && !self.args.strict;
            let outcome =
                tokio::time::timeout(HANGS, self.call(&channel, id, has_deadline, &mut random)).await;
            let status = match outcome {
                Err(_) => return format!("call {id:#x} has no outcome after {HANGS:?}"),
                Ok(Ok(true)) => {
                    self.count(0);
                    continue;
                }
                Ok(Ok(false)) => {
                    self.count(4);
                    continue;
                }
                Ok(Err(Outcome::Wrong(what))) => return format!("call {id:#x}: {what}"),
                Ok(Err(Outcome::Status(status))) => status,
            };
            match status.code() {
                Code::UNAVAILABLE if self.args.strict && !status.is_retry_safe() => {
                    return format!("call {id:#x} failed though its server was replaced in order: {status}");
                }
                Code::UNAVAILABLE => {
                    self.count(1);
                    if status.is_retry_safe() {
                        self.count(2);
                        if let Err(error) = note(&self.unseen, id) {
                            return error.to_string();
                        }
                    }
                    // Its server is dead: others' turn.
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
                Code::DEADLINE_EXCEEDED if has_deadline => self.count(3),
                _ => return format!("call {id:#x} ended with {status}"),
            }
        }
    }

    fn count(&self, which: usize) {
        self.counts[which].fetch_add(1, Ordering::Relaxed);
    }

    /// Makes a call. Returns `false` if it was given up.
    async fn call(
        &self,
        channel: &Channel,
        id: u64,
        has_deadline: bool,
        random: &mut Random,
    ) -> std::result::Result<bool, Outcome> {
        let size = random.one_of(&[0, 1, 20, 200, 1000, 5000, 40_000, 300_000]) as usize;
        let answers = random.below(6);
        let asked_size = random.one_of(&[0, 10, 1000, 30_000, 200_000]);
        let head = Head { id, number: 0, answers, size: asked_size };
        let request = |method: &'static str| {
            let request = Request::new(Method::from_static(method));
            if has_deadline { request.timeout(Duration::from_millis(1 + id % 50)) } else { request }
        };
        let gives_up = random.below(16) == 0;
        match random.below(8) {
            0..=4 => {
                let sent = message(head, size);
                let call = channel.unary_call(request("/soak.Soak/Unary"), sent.clone());
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
                expect(&answered?.message.into_bytes(), head, Some(&sent))?;
            }
            5 => {
                let call = channel.server_streaming_call(request("/soak.Soak/Download"), message(head, size));
                let mut stream = call.await?;
                for number in 0..answers {
                    if gives_up && number == 1 {
                        return Ok(false);
                    }
                    let Some(answer) = stream.message().await? else {
                        return Err(Outcome::Wrong(format!("{number} of {answers} answers")));
                    };
                    let answer = answer.into_bytes();
                    expect(&answer, Head { number, ..head }, None)?;
                    if answer.len() != 32 + asked_size as usize {
                        return Err(Outcome::Wrong(format!("an answer of {} bytes", answer.len())));
                    }
                }
                ends(stream.message().await?.is_none())?;
            }
            6 => {
                let (mut sender, mut stream) = channel.streaming_call(request("/soak.Soak/Upload")).await?;
                let count = 1 + answers;
                for number in 0..count {
                    if sender.send(message(Head { number, ..head }, size)).await.is_err() {
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
                expect(&answer.into_bytes(), Head { number: count, ..head }, None)?;
                ends(stream.message().await?.is_none())?;
            }
            _ => {
                let (mut sender, mut stream) = channel.streaming_call(request("/soak.Soak/Chat")).await?;
                for number in 0..=answers {
                    let sent = message(Head { number, ..head }, size);
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
                    expect(&answer.into_bytes(), Head { number, ..head }, Some(&sent))?;
                }
                let _ = sender.finish().await;
                ends(stream.message().await?.is_none())?;
            }
        }
        Ok(true)
    }
}

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

fn expect(bytes: &[u8], head: Head, whole: Option<&[u8]>) -> std::result::Result<(), Outcome> {
    let found = check(bytes).map_err(Outcome::Wrong)?;
    if found != head || whole.is_some_and(|whole| whole != bytes) {
        return Err(Outcome::Wrong(format!("got {found:?} for {head:?}")));
    }
    Ok(())
}

fn ends(is_so: bool) -> std::result::Result<(), Outcome> {
    if is_so { Ok(()) } else { Err(Outcome::Wrong("more answers than asked for".to_owned())) }
}
