//! A child process of this program, from its parent's side: it is told lines of JSON on its standard input,
//! answers with lines of JSON on its standard output, and ends when its input does.

use std::process::Stdio;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{ChildStdin, ChildStdout, Command};
use tokio::time::timeout;

use crate::Result;

/// How long a process may take to start, to end, or to answer beyond what it was asked to take.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Keeps freed memory in the process. Else most of what a message of 1 MiB costs, over any
/// transport, is the kernel giving out and taking back its pages.
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

    /// Its process id, as long as it has not ended.
    pub fn id(&self) -> Option<u32> {
        self.child.id()
    }

    /// Tells it something.
    pub async fn tell(&mut self, what: &impl Serialize) -> Result {
        let line = serde_json::to_string(what)? + "\n";
        let input = self.input.as_mut().ok_or("the process was told to end")?;
        Ok(input.write_all(line.as_bytes()).await?)
    }

    /// Its next answer.
    pub async fn answer<T: DeserializeOwned>(&mut self, patience: Duration) -> Result<T> {
        let line = timeout(patience, self.output.next_line()).await;
        let line = line.map_err(|_| format!("no answer within {patience:?}"))??;
        Ok(serde_json::from_str(&line.ok_or("the process ended without an answer")?)?)
    }

    /// Closes its input, upon which it ends.
    pub fn tell_to_end(&mut self) {
        self.input = None;
    }

    /// Waits until it has ended, after telling it to.
    pub async fn end(mut self) -> Result {
        self.tell_to_end();
        let status = timeout(PATIENCE, self.child.wait()).await.map_err(|_| "a process does not end")??;
        if status.success() { Ok(()) } else { Err(format!("a process ended with {status}").into()) }
    }
}
