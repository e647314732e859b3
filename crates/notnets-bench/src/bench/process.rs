//! One of the benchmark's processes, from the parent's side.

use std::time::Duration;

use super::control::{Answer, Ask};
use crate::Result;
use crate::child::Child;
pub use crate::child::PATIENCE;

/// A server or client.
pub struct Process {
    child: Child,
    /// Its id.
    pub pid: u32,
}

impl Process {
    /// Starts a hidden subcommand of this program.
    pub fn start(subcommand: &str) -> Result<Self> {
        let child = Child::start(|command| {
            command.arg(subcommand);
        })?;
        let pid = child.id().ok_or("the process has ended")?;
        Ok(Self { child, pid })
    }

    /// Sends it a request.
    pub async fn tell(&mut self, what: &Ask) -> Result {
        self.child.tell(what).await
    }

    /// Waits for its next answer.
    pub async fn answer(&mut self, patience: Duration) -> Result<Answer> {
        match self.child.answer(patience).await? {
            Answer::Failed(why) => Err(why.into()),
            answer => Ok(answer),
        }
    }

    /// Sends it a request that takes next to no time, and returns the answer.
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

    /// Returns its processor time in nanoseconds.
    pub async fn cpu_time(&mut self) -> Result<u64> {
        match self.ask(&Ask::Cpu).await? {
            Answer::Cpu(nanos) => Ok(nanos),
            other => Err(format!("a process answered {other:?}").into()),
        }
    }

    /// Returns the number of lines it has fetched from the other host.
    pub async fn lines(&mut self) -> Result<u64> {
        match self.ask(&Ask::Lines).await? {
            Answer::Lines(lines) => Ok(lines),
            other => Err(format!("a process answered {other:?}").into()),
        }
    }

    /// Closes its input, upon which it ends.
    pub fn tell_to_end(&mut self) {
        self.child.tell_to_end();
    }

    /// Tells it to end and blocks until it has.
    pub fn wait_for_end(&mut self) {
        self.child.wait_for_end();
    }

    /// Waits until it has ended.
    pub async fn end(self) -> Result {
        self.child.end().await
    }
}
