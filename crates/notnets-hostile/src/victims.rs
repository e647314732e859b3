//! Processes that are attacked: what they say at their end tells how they fared.

use std::io::{self, BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use notnets::blocking;
use notnets::rpc::Request;

use crate::attacks::ECHO as PATH;
use crate::latencies::P99;
use crate::peers::{ECHO, UNFINISHED, bind, calls, endpoint};

/// An error in a sentence.
pub type Error = Box<dyn std::error::Error + Send + Sync>;

/// A server: serves until its input ends.
///
/// # Errors
/// When it can't serve.
pub async fn serve(directory: &Path) -> Result<(), Error> {
    let bound = bind(directory, "victim").await?;
    tokio::spawn(bound.serve());
    // The same in a thread of its own.
    let server = blocking::Server::builder().directory(directory).max_unfinished_bytes(UNFINISHED);
    let server = server.bind("notnets:///blocking-victim")?;
    std::thread::spawn(move || {
        server.serve(|call, reply| {
            reply.message.extend_from_slice(call.message);
            Ok(())
        })
    });
    println!("READY");
    until_told().await;
    println!("{}", remains()?);
    Ok(())
}

/// A client: calls `good` all the time, and `bad` as well once it is told so.
///
/// # Errors
/// When it can't call.
pub async fn call(directory: &Path) -> Result<(), Error> {
    let channel = endpoint(directory, "good")?.connect().await?;
    println!("READY");
    for beside in [false, true] {
        let stop = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&stop);
        let bad = beside.then(|| spawn_bad_calls(directory, Arc::clone(&stop))).transpose()?;
        let (mut latencies, ()) = tokio::join!(calls(channel.clone(), &stop), async move {
            until_told().await;
            told.store(true, Ordering::Relaxed);
        });
        drop(bad);
        latencies.check()?;
        println!("{}", latencies.line());
        println!("{}", latencies.quantile(P99).as_nanos());
    }
    println!("{}", remains()?);
    // Threads that still wait for a bad server are not waited for.
    std::process::exit(0)
}

/// A client that calls `bad` once it is told so, with this many calls at once: it waits for a message of
/// each, or `keeps` them and takes nothing.
///
/// # Errors
/// When it can't connect.
pub async fn wait(directory: &Path, calls: usize, keeps: bool) -> Result<(), Error> {
    let channel = endpoint(directory, "bad")?.connect().await?;
    println!("READY");
    until_told().await;
    let mut tasks = Vec::new();
    for _ in 0..calls {
        let channel = channel.clone();
        tasks.push(tokio::spawn(async move {
            let call = channel.server_streaming_call(Request::new(ECHO), Vec::new()).await;
            match call {
                Ok(mut stream) if !keeps => drop(stream.message().await),
                _ => std::future::pending().await,
            }
        }));
    }
    until_told().await;
    tasks.iter().for_each(tokio::task::JoinHandle::abort);
    Ok(())
}

/// Calls of a server that may do anything: how they end is not looked at, only that they do.
fn spawn_bad_calls(directory: &Path, stop: Arc<AtomicBool>) -> Result<tokio::task::JoinHandle<()>, Error> {
    let patience = Duration::from_millis(200);
    let bad = endpoint(directory, "bad")?.connect_timeout(patience);
    let blocking = blocking::Endpoint::new("notnets:///bad")?.directory(directory).connect_timeout(patience);
    let told = Arc::clone(&stop);
    std::thread::spawn(move || {
        while !told.load(Ordering::Relaxed) {
            let Ok(mut client) = blocking.connect() else { continue };
            for _ in 0..20 {
                if client.call(PATH, b"blocking").is_err() {
                    break;
                }
            }
        }
    });
    Ok(tokio::spawn(async move {
        while !stop.load(Ordering::Relaxed) {
            let channel = bad.connect_lazy();
            let some = (0..8).map(|_| {
                let channel = channel.clone();
                tokio::spawn(async move {
                    for _ in 0..20 {
                        let request = Request::new(ECHO).timeout(patience);
                        let _ = channel.unary_call(request, vec![1; 3000]).await;
                    }
                })
            });
            for task in some.collect::<Vec<_>>() {
                let _ = task.await;
            }
        }
    }))
}

/// Reads a line, or the end of the input.
async fn until_told() {
    let _ = tokio::task::spawn_blocking(|| io::stdin().lock().read_line(&mut String::new())).await;
}

/// What the process holds at its end.
fn remains() -> io::Result<String> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let memory = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap_or_default();
    let files = std::fs::read_dir("/proc/self/fd")?.count();
    let maps = std::fs::read_to_string("/proc/self/maps")?.lines().count();
    Ok(format!(
        "{}, {files} descriptors, {maps} mappings",
        memory.split_whitespace().skip(1).collect::<Vec<_>>().join(" ")
    ))
}

/// A victim in a process of its own.
pub struct Victim {
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<std::process::ChildStdout>,
}

impl Victim {
    /// Starts this program as one.
    ///
    /// # Errors
    /// When it does not become ready.
    pub fn start(program: &Path, part: &str, directory: &Path) -> Result<Self, Error> {
        Self::start_by(Command::new(program), &[part], directory)
    }

    /// Starts a command as one: this program, perhaps by another one that becomes it.
    ///
    /// # Errors
    /// When it does not become ready.
    pub fn start_by(mut command: Command, part: &[&str], directory: &Path) -> Result<Self, Error> {
        let mut child = command
            .args(part)
            .arg(directory)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()?;
        let input = child.stdin.take();
        let output = BufReader::new(child.stdout.take().ok_or("no output")?);
        let mut victim = Self { child, input, output };
        match victim.line()?.as_str() {
            "READY" => Ok(victim),
            other => Err(format!("not ready: {other:?}").into()),
        }
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The next line that it says.
    ///
    /// # Errors
    /// When it has ended instead.
    pub fn line(&mut self) -> Result<String, Error> {
        let mut line = String::new();
        if self.output.read_line(&mut line)? == 0 {
            return Err(format!("the victim has ended: {}", self.child.wait()?).into());
        }
        Ok(line.trim_end().to_owned())
    }

    /// The p99 of its calls, which it says behind their line.
    ///
    /// # Errors
    /// When it has ended instead.
    pub fn p99(&mut self) -> Result<Duration, Error> {
        Ok(Duration::from_nanos(self.line()?.parse()?))
    }

    /// Tells it to go on to its next part.
    ///
    /// # Errors
    /// When it has ended.
    pub fn tell(&mut self) -> Result<(), Error> {
        Ok(self.input.as_mut().ok_or("it was told already")?.write_all(b"\n")?)
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// When that is no success.
    pub fn end(mut self) -> Result<(), Error> {
        self.input = None;
        let status = self.child.wait()?;
        if status.success() { Ok(()) } else { Err(format!("the victim has ended: {status}").into()) }
    }
}

impl Drop for Victim {
    fn drop(&mut self) {
        // It has ended, or is ours to end.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
