//! A server that is replaced again and again, by processes that take its name over, while clients call it.
//! It, or the one that takes its place, may be killed meanwhile.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use notnets_cli_common::random::Random;
use notnets_core::failpoint;
use rustix::process::Signal;
use tempfile::TempDir;

use super::client::Tally;
use super::failpoints::OF_TAKE_OVER;
use super::{executions, signal};
use crate::Result;
use crate::child::{Child, PATIENCE};

const URI: &str = "notnets:///replaced";
/// Processes that call.
const CLIENTS: u64 = 8;
/// Servers that may still have calls to end. Then the oldest is waited for.
const LEAVING: usize = 4;

/// Replaces the server so many times.
///
/// # Errors
/// When a call failed, or an old server does not end by itself.
pub async fn run(seed: u64, times: u64) -> Result {
    let mut stage = Stage::set(seed, &["--strict"]).await?;
    for number in 0..times {
        let next = start_server(stage.work.path()).await?;
        stage.replace_server(next);
        stage.look(number).await?;
    }
    stage.end(times, ", no unary call failed").await
}

/// Replaces the server so many times, and kills it or its successor each time while both are there. Where
/// there are failpoints, half of the successors that are killed die between two steps of the take-over.
///
/// # Errors
/// When a call had a wrong outcome, the name is not served again, or an old server does not end by itself.
pub async fn run_with_deaths(seed: u64, times: u64) -> Result {
    let mut stage = Stage::set(seed, &[]).await?;
    let steps: Vec<_> =
        failpoint::STEPS.iter().copied().filter(|step| step.starts_with(OF_TAKE_OVER)).collect();
    let (mut old_killed, mut at_steps) = (0, 0);
    for number in 0..times {
        let failed = |error: crate::Error| format!("replacement {number}: {error}");
        let random = &mut stage.random;
        let is_old = random.once_in(2);
        let step = (failpoint::IS_ON && !is_old && random.once_in(2)).then(|| random.one_of(&steps));
        let mut new = spawn_server(stage.work.path(), step)?;
        // Before it begins, in its midst, or when it has the name and the other one ends its calls.
        let is_ready = stage.random.once_in(2) && step.is_none();
        if is_ready {
            ready(&mut new).await.map_err(failed)?;
        }
        tokio::time::sleep(Duration::from_micros(stage.random.below(20_000))).await;
        if is_old {
            signal_if_there(&mut stage.server, Signal::KILL)?;
            if !is_ready {
                ready(&mut new).await.map_err(failed)?;
            }
            old_killed += 1;
            stage.server = new;
        } else {
            match step {
                Some(_) => dead(&mut new).await.map_err(failed)?,
                None => signal(&new, Signal::KILL)?,
            }
            at_steps += u64::from(step.is_some());
            let next = start_server(stage.work.path()).await.map_err(failed)?;
            stage.replace_server(next);
        }
        stage.look(number).await?;
    }
    let killed = format!(
        ": the old server was killed in {old_killed}, its successor in the others, {at_steps} of them between two \
         steps"
    );
    stage.end(times, &killed).await
}

/// A server, and clients that call it all the while.
struct Stage {
    work: TempDir,
    random: Random,
    server: Child,
    clients: Vec<Child>,
    /// Servers that were replaced, and may still have calls to end.
    leaving: Vec<Child>,
    begin: Instant,
}

impl Stage {
    /// Starts all. `options` are for the clients.
    async fn set(seed: u64, options: &[&str]) -> Result<Self> {
        let work = tempfile::tempdir()?;
        let notes = notes(work.path());
        fs::create_dir(&notes)?;
        let mut random = Random::new(seed);
        let server = start_server(work.path()).await?;
        let clients = start_clients(work.path(), &notes, &mut random, options).await?;
        Ok(Self { work, random, server, clients, leaving: Vec::new(), begin: Instant::now() })
    }

    /// Another one has taken the name over.
    fn replace_server(&mut self, next: Child) {
        self.leaving.push(std::mem::replace(&mut self.server, next));
    }

    /// Waits for a server that leaves, if there are many, and looks whether the clients go on.
    async fn look(&mut self, number: u64) -> Result {
        if self.leaving.len() > LEAVING {
            end_of(self.leaving.remove(0)).await.map_err(|error| format!("replacement {number}: {error}"))?;
        }
        if self.clients.iter_mut().any(|client| client.ended().is_some()) {
            return Err(format!("a client has ended by itself at replacement {number}: see above").into());
        }
        Ok(())
    }

    /// Ends all, says what has happened, and checks which calls were executed.
    async fn end(self, times: u64, how: &str) -> Result {
        for old in self.leaving {
            end_of(old).await?;
        }
        let took = self.begin.elapsed();
        let all = end_clients(self.clients).await?;
        println!("{times} replacements in {took:.1?}{how}; calls of {CLIENTS} clients: {all:?}");
        self.server.end().await?;
        executions(&notes(self.work.path()))
    }
}

/// Where processes note what they have executed.
fn notes(directory: &Path) -> PathBuf {
    directory.join("notes")
}

async fn start_server(directory: &Path) -> Result<Child> {
    let mut server = spawn_server(directory, None)?;
    ready(&mut server).await?;
    Ok(server)
}

/// Starts a server that takes the name over, and dies at a step of that if one is given.
fn spawn_server(directory: &Path, step: Option<&str>) -> Result<Child> {
    Child::start(|command| {
        command.args(["soak-server", "--take-over", URI]).arg(notes(directory)).arg(URI);
        command.env("NOTNETS_DIR", directory);
        if let Some(step) = step {
            command.env("NOTNETS_FAILPOINT", format!("{step}:1:kill"));
            command.env("NOTNETS_FAILPOINT_NOTE", directory.join("died"));
        }
    })
}

async fn ready(server: &mut Child) -> Result {
    let ready: Result<String> = server.answer(PATIENCE).await;
    ready.map(drop).map_err(|error| format!("a server does not become ready: {error}").into())
}

/// Sends a signal to a server that may have ended by itself, because its name was taken over.
fn signal_if_there(server: &mut Child, what: Signal) -> Result {
    if server.ended().is_some() { Ok(()) } else { signal(server, what) }
}

async fn start_clients(
    directory: &Path,
    notes: &Path,
    random: &mut Random,
    options: &[&str],
) -> Result<Vec<Child>> {
    let mut clients = Vec::new();
    for number in 1..=CLIENTS {
        clients.push(start_client(directory, notes, number, random.bits(), options).await?);
    }
    Ok(clients)
}

async fn start_client(
    directory: &Path,
    notes: &Path,
    number: u64,
    seed: u64,
    options: &[&str],
) -> Result<Child> {
    let mut client = Child::start(|command| {
        command.arg("soak-client").args(options).args([number, seed].map(|number| number.to_string()));
        command.arg(notes).arg(URI).env("NOTNETS_DIR", directory);
    })?;
    let ready: Result<String> = client.answer(PATIENCE).await;
    ready.map_err(|error| format!("a client does not become ready: {error}"))?;
    Ok(client)
}

async fn end_clients(clients: Vec<Child>) -> Result<Tally> {
    let mut all = Tally::default();
    for mut client in clients {
        client.tell(&()).await?;
        let tally: Tally = client.answer(PATIENCE).await.map_err(|error| format!("a client: {error}"))?;
        if tally.ok == 0 {
            return Err("a client had no answer at all".into());
        }
        all += tally;
        client.end().await?;
    }
    Ok(all)
}

/// Waits until a server has died at its failpoint.
async fn dead(server: &mut Child) -> Result {
    server.ends().await.map(drop).ok_or_else(|| "a server does not come to its failpoint".into())
}

/// Waits for the end of a server whose name was taken over.
async fn end_of(mut old: Child) -> Result {
    match old.ends().await {
        Some(status) if status.success() => Ok(()),
        Some(status) => Err(format!("the server that was replaced ended with {status}").into()),
        None => Err(format!("a server whose name was taken over runs on for {PATIENCE:?}").into()),
    }
}
