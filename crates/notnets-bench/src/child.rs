//! A child process of this program, from its parent's side. It reads lines of JSON from its standard input,
//! answers with lines of JSON on its standard output, and ends when its input does. [`crate::orders`] is its
//! own side.

use std::process::{ExitStatus, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{ChildStdin, ChildStdout, Command};
use tokio::time::timeout;

use crate::Result;

/// The time that a process may take to start, to end, or to answer (beyond the time that it was ordered to
/// take).
pub const PATIENCE: Duration = Duration::from_secs(30);

/// How often a process that is waited for is looked at.
const LOOK_AGAIN: Duration = Duration::from_millis(1);

/// Keeps freed memory in the process. Otherwise most of the cost of a message of 1 MiB, over any transport,
/// is the kernel handing out and taking back its pages.
const KEEP_MEMORY: &str = "glibc.malloc.mmap_threshold=33554432:glibc.malloc.trim_threshold=268435456";

/// A process, and the two pipes to it. It is killed when this is dropped.
pub struct Child {
    child: tokio::process::Child,
    input: Option<ChildStdin>,
    output: Lines<BufReader<ChildStdout>>,
}

impl Child {
    /// Starts this program with other arguments, which `with` adds.
    pub fn start(with: impl FnOnce(&mut Command)) -> Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        with(&mut command);
        command.env("GLIBC_TUNABLES", KEEP_MEMORY);
        // A group of its own: Ctrl-C ends the parent alone, and so its children's input.
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).process_group(0).kill_on_drop(true);
        let mut child = command.spawn()?;
        let input = child.stdin.take();
        let output = BufReader::new(child.stdout.take().ok_or("no pipe from the process")?).lines();
        Ok(Self { child, input, output })
    }

    /// Returns its process id, unless it has ended.
    pub fn id(&self) -> Option<u32> {
        self.child.id()
    }

    /// Returns how it has ended, if it has.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// Waits until it has ended by itself, for [`PATIENCE`] at most, and returns how it has.
    pub async fn ends(&mut self) -> Option<ExitStatus> {
        timeout(PATIENCE, self.child.wait()).await.ok()?.ok()
    }

    /// Sends it a line.
    pub async fn tell(&mut self, what: &impl Serialize) -> Result {
        let line = serde_json::to_string(what)? + "\n";
        let input = self.input.as_mut().ok_or("the process was told to end")?;
        Ok(input.write_all(line.as_bytes()).await?)
    }

    /// Waits for its next answer.
    pub async fn answer<T: DeserializeOwned>(&mut self, patience: Duration) -> Result<T> {
        let line = timeout(patience, self.output.next_line()).await;
        let line = line.map_err(|_| format!("no answer within {patience:?}"))??;
        Ok(serde_json::from_str(&line.ok_or("the process ended without an answer")?)?)
    }

    /// Closes its input, which makes it end.
    pub fn tell_to_end(&mut self) {
        self.input = None;
    }

    /// Tells it to end and blocks until it has, for [`PATIENCE`] at most.
    pub fn wait_for_end(&mut self) {
        self.tell_to_end();
        let until = Instant::now() + PATIENCE;
        while matches!(self.child.try_wait(), Ok(None)) && Instant::now() < until {
            sleep(LOOK_AGAIN);
        }
    }

    /// Waits until it has ended, after telling it to.
    pub async fn end(mut self) -> Result {
        self.tell_to_end();
        let status = self.ends().await.ok_or("a process does not end")?;
        if status.success() { Ok(()) } else { Err(format!("a process ended with {status}").into()) }
    }
}
