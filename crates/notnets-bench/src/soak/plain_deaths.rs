//! A server that is killed while one call of a client is open, and nothing else runs: how soon the caller
//! knows.

use std::fs;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use notnets::Endpoint;
use notnets::rpc::{Code, Method, Request};
use rustix::process::Signal;

use super::content::{Head, message};
use super::ended::Delays;
use super::signal;
use crate::Result;
use crate::child::{Child, PATIENCE};

const URI: &str = "notnets:///killed";
/// After this time without a message both sides sleep.
const IDLE: Duration = Duration::from_millis(20);

/// Kills so many servers.
///
/// # Errors
/// When a call does not end as one whose server has died.
pub async fn run(times: u64) -> Result {
    let work = tempfile::tempdir()?;
    fs::create_dir(work.path().join("notes"))?;
    let mut delays = Delays::default();
    for _ in 0..times {
        delays.add(die(work.path()).await?);
    }
    println!("{times} servers were killed; their callers knew: {delays}; {}", delays.soon());
    Ok(())
}

/// Returns how long after a server was killed its caller knew.
async fn die(work: &Path) -> Result<Duration> {
    let mut server = Child::start(|command| {
        command.arg("soak-server").arg(URI).arg(work.join("notes")).arg(URI).env("NOTNETS_DIR", work);
    })?;
    let _: String = server.answer(PATIENCE).await?;
    let channel = Endpoint::new(URI)?.directory(work).connect().await?;
    let request = Request::new(Method::from_static("/soak.Soak/Chat"));
    let (mut sender, mut answers) = channel.streaming_call(request).await?;
    sender.send(message(Head { id: 1, number: 0, answers: 0, size: 0 }, 10)).await?;
    answers.message().await?;
    let killer = thread::spawn(move || {
        thread::sleep(IDLE);
        let at = Instant::now();
        signal(&server, Signal::KILL).map(|()| at).map_err(|error| error.to_string())
    });
    let ended = answers.message().await;
    let known = Instant::now();
    let killed = killer.join().map_err(|_| "a thread panicked")??;
    match ended {
        Err(status) if status.code() == Code::UNAVAILABLE => Ok(known - killed),
        other => Err(format!("a call of a server that was killed ended with {other:?}").into()),
    }
}
