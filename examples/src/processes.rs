//! How an example gets a rendezvous directory of its own, and how one program is two processes: it
//! starts itself anew.

use std::env;
use std::path::Path;
use std::process::{ExitCode, Stdio};

use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::runtime::Runtime;

use crate::Result;

/// Set for what an example has started itself.
const STARTED: &str = "NOTNETS_EXAMPLE_STARTED";
/// What a server prints once clients can connect.
const READY: &str = "READY";

/// The `main` of an example. `server` and `client` as first argument run one side, for two
/// terminals; without one, both are run, in a rendezvous directory of their own.
pub fn two_processes(server: impl Future<Output = Result>, client: impl Future<Output = Result>) -> ExitCode {
    let side = env::args().nth(1);
    run(async {
        match side.as_deref() {
            Some("server") => serve(server).await,
            Some("client") => client.await,
            None => both().await,
            Some(other) => Err(format!("`{other}` is neither `server` nor `client`").into()),
        }
    })
}

/// The `main` of an example that is one process.
pub fn in_own_directory(work: impl Future<Output = Result>) -> ExitCode {
    run(async {
        if env::var_os(STARTED).is_some() {
            return work.await;
        }
        let directory = tempfile::tempdir()?;
        let ended = this_program(directory.path())?.status().await?;
        if ended.success() { Ok(()) } else { Err(format!("the example ended with {ended}").into()) }
    })
}

fn run(work: impl Future<Output = Result>) -> ExitCode {
    let runtime = Runtime::new().expect("a runtime");
    let result = runtime.block_on(work);
    // A read of standard input may still be going on, on a thread that can't be stopped.
    runtime.shutdown_background();
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// This program once more, in which names are looked up in `directory`.
fn this_program(directory: &Path) -> Result<Command> {
    let mut command = Command::new(env::current_exe()?);
    command.env("NOTNETS_DIR", directory).env(STARTED, "1").stdin(Stdio::null()).kill_on_drop(true);
    Ok(command)
}

async fn both() -> Result {
    let directory = tempfile::tempdir()?;
    // The server ends with its standard input, so also when this process is killed.
    let mut server =
        this_program(directory.path())?.arg("server").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
    wait_until_ready(&mut server).await?;
    let client = this_program(directory.path())?.arg("client").status().await?;
    drop(server.stdin.take());
    let server = server.wait().await?;
    match client.success() && server.success() {
        true => Ok(()),
        false => Err(format!("the client ended with {client}, the server with {server}").into()),
    }
}

async fn wait_until_ready(server: &mut Child) -> Result {
    let output = server.stdout.take().ok_or("the server has no output")?;
    let line = BufReader::new(output).lines().next_line().await?;
    if line.as_deref() == Some(READY) { Ok(()) } else { Err("the server did not start".into()) }
}

async fn serve(server: impl Future<Output = Result>) -> Result {
    tokio::select! {
        // In this order: when the server has been polled once, its name is taken.
        biased;
        ended = server => ended,
        ended = after_ready() => ended,
    }
}

/// Ends when the server shall.
async fn after_ready() -> Result {
    println!("{READY}");
    if env::var_os(STARTED).is_none() {
        return std::future::pending().await;
    }
    tokio::io::stdin().read_to_end(&mut Vec::new()).await?;
    Ok(())
}
