//! One of the benchmark's processes, from the parent's side.

use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::time::timeout;

use super::Result;
use super::control::{Answer, Ask};

/// How long a process may take to start, or to answer beyond what it was asked to take.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Keeps freed memory in the process. Else most of what a message of 1 MiB costs, over any
/// transport, is the kernel giving out and taking back its pages.
const KEEP_MEMORY: &str = "glibc.malloc.mmap_threshold=33554432:glibc.malloc.trim_threshold=268435456";

/// A process, and the two pipes to it.
pub struct Process {
    child: Child,
    input: Option<ChildStdin>,
    output: Lines<BufReader<ChildStdout>>,
    /// Its id.
    pub pid: u32,
}

impl Process {
    /// Starts a hidden subcommand of this program.
    pub fn start(subcommand: &str) -> Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        command.arg(subcommand).env("GLIBC_TUNABLES", KEEP_MEMORY);
        // A group of its own: Ctrl-C ends the parent alone, and so its children's input.
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).process_group(0).kill_on_drop(true);
        let mut child = command.spawn()?;
        let input = child.stdin.take();
        let output = BufReader::new(child.stdout.take().ok_or("no pipe from the process")?).lines();
        let pid = child.id().ok_or("the process has ended")?;
        Ok(Self { child, input, output, pid })
    }

    /// Tells it something.
    pub async fn tell(&mut self, what: &Ask) -> Result {
        let line = serde_json::to_string(what)? + "\n";
        let input = self.input.as_mut().ok_or("the process was told to end")?;
        input.write_all(line.as_bytes()).await?;
        Ok(())
    }

    /// Its next answer.
    pub async fn answer(&mut self, patience: Duration) -> Result<Answer> {
        let line = timeout(patience, self.output.next_line()).await;
        let line = line.map_err(|_| format!("no answer within {patience:?}"))??;
        match serde_json::from_str(&line.ok_or("a process of the benchmark ended without an answer")?)? {
            Answer::Failed(why) => Err(why.into()),
            answer => Ok(answer),
        }
    }

    /// Tells it something that takes next to no time.
    pub async fn ask(&mut self, what: &Ask) -> Result<Answer> {
        self.tell(what).await?;
        self.answer(PATIENCE).await
    }

    /// Tells it to serve or to connect, and waits until it does. Returns its address.
    pub async fn be(&mut self, what: &Ask) -> Result<String> {
        match self.ask(what).await? {
            Answer::Ready(address) => Ok(address),
            other => Err(format!("a process answered {other:?} before it was ready").into()),
        }
    }

    /// For how long it has kept processors busy, in nanoseconds.
    pub async fn cpu_time(&mut self) -> Result<u64> {
        match self.ask(&Ask::Cpu).await? {
            Answer::Cpu(nanos) => Ok(nanos),
            other => Err(format!("a process answered {other:?}").into()),
        }
    }

    /// Closes its input, upon which it ends.
    pub fn tell_to_end(&mut self) {
        self.input = None;
    }

    /// Waits until it has ended.
    pub async fn end(mut self) -> Result {
        self.tell_to_end();
        let status = timeout(PATIENCE, self.child.wait()).await.map_err(|_| "a process does not end")??;
        if status.success() { Ok(()) } else { Err(format!("a process ended with {status}").into()) }
    }
}
