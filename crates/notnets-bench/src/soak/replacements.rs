//! A server that is replaced again and again, by processes that take its name over, while clients call it.

use std::fs;
use std::path::Path;
use std::time::Instant;

use notnets_cli_common::random::Random;

use super::client::Tally;
use super::executions;
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
    let work = tempfile::tempdir()?;
    let notes = work.path().join("notes");
    fs::create_dir(&notes)?;
    let mut random = Random::new(seed);
    let mut server = start_server(work.path(), &notes).await?;
    let mut clients = Vec::new();
    for number in 1..=CLIENTS {
        clients.push(start_client(work.path(), &notes, number, random.bits()).await?);
    }
    let begin = Instant::now();
    let mut leaving = Vec::new();
    for number in 0..times {
        let old = std::mem::replace(&mut server, start_server(work.path(), &notes).await?);
        leaving.push(old);
        if leaving.len() > LEAVING {
            end_of(leaving.remove(0)).await.map_err(|error| format!("replacement {number}: {error}"))?;
        }
        if clients.iter_mut().any(|client| client.ended().is_some()) {
            return Err(format!("a client has ended by itself at replacement {number}: see above").into());
        }
    }
    for old in leaving {
        end_of(old).await?;
    }
    let took = begin.elapsed();
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
    println!("{times} replacements in {took:.1?}, no unary call failed; calls of {CLIENTS} clients: {all:?}");
    server.end().await?;
    executions(&notes)
}

async fn start_server(directory: &Path, notes: &Path) -> Result<Child> {
    let mut server = Child::start(|command| {
        command.args(["soak-server", "--take-over", URI]).arg(notes).arg(URI).env("NOTNETS_DIR", directory);
    })?;
    let ready: Result<String> = server.answer(PATIENCE).await;
    ready.map_err(|error| format!("a server does not become ready: {error}"))?;
    Ok(server)
}

async fn start_client(directory: &Path, notes: &Path, number: u64, seed: u64) -> Result<Child> {
    let mut client = Child::start(|command| {
        command.args(["soak-client", "--strict"]).args([number, seed].map(|number| number.to_string()));
        command.arg(notes).arg(URI).env("NOTNETS_DIR", directory);
    })?;
    let ready: Result<String> = client.answer(PATIENCE).await;
    ready.map_err(|error| format!("a client does not become ready: {error}"))?;
    Ok(client)
}

/// Waits for the end of a server whose name was taken over.
async fn end_of(mut old: Child) -> Result {
    let begin = Instant::now();
    loop {
        match old.ended() {
            Some(status) if status.success() => return Ok(()),
            Some(status) => return Err(format!("the server that was replaced ended with {status}").into()),
            None if begin.elapsed() > PATIENCE => {
                return Err(format!("a server whose name was taken over runs on for {PATIENCE:?}").into());
            }
            None => tokio::time::sleep(std::time::Duration::from_millis(1)).await,
        }
    }
}
