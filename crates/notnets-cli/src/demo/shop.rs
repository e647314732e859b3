//! A running shop: eight services and its customers, each a process of its own.

use std::process::Stdio;
use std::time::Duration;

use clap::ValueEnum;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::time::timeout;

use super::Result;
use super::control::{Answer, Ask};
use super::load::{Order, Sample};
use super::services::Name;
use super::transport::Transport;

/// How long a process may take to start, or to answer beyond what it was asked to take.
const PATIENCE: Duration = Duration::from_secs(30);

/// Keeps freed memory in the process. Else most of what a message of 1 MiB costs, over any
/// transport, is the kernel giving out and taking back its pages.
const KEEP_MEMORY: &str = "glibc.malloc.mmap_threshold=33554432:glibc.malloc.trim_threshold=268435456";

/// All processes of a shop, over one transport.
pub struct Shop {
    services: Vec<Process>,
    customers: Process,
    // Dropped last, when the processes are gone.
    _directory: TempDir,
}

impl Shop {
    /// Starts the services, those first that others ask, and then the customers.
    pub async fn open(transport: Transport, workers: usize) -> Result<Self> {
        let directory = tempfile::Builder::new().prefix("notnets-demo-").tempdir()?;
        let start = |arguments: &[&str], peers: &[(Name, String)]| {
            let mut command = Command::new(std::env::current_exe()?);
            command.args(arguments).arg("--directory").arg(directory.path());
            command.args(["--transport", transport.as_str(), "--workers", &workers.to_string()]);
            command.args(peers.iter().map(|(name, address)| format!("--peer={}={address}", name.as_str())));
            command.env("NOTNETS_DIR", directory.path()).env("GLIBC_TUNABLES", KEEP_MEMORY);
            Process::start(command)
        };
        let (mut services, mut addresses) = (Vec::new(), Vec::<(Name, String)>::new());
        for name in Name::value_variants() {
            let known = |(peer, _): &&(Name, String)| name.peers().contains(peer);
            let peers: Vec<_> = addresses.iter().filter(known).cloned().collect();
            let mut process = start(&["demo-service", name.as_str()], &peers)?;
            let address = process.ready().await.map_err(|error| format!("{}: {error}", name.as_str()))?;
            addresses.push((*name, address));
            services.push(process);
        }
        addresses.retain(|(name, _)| *name == Name::Storefront);
        let mut customers = start(&["demo-customers"], &addresses)?;
        customers.ready().await.map_err(|error| format!("the customers: {error}"))?;
        Ok(Self { services, customers, _directory: directory })
    }

    /// Lets the customers in.
    pub async fn load(&mut self, order: Order) -> Result<Sample> {
        let patience = PATIENCE + Duration::from_secs_f64(order.seconds);
        match self.customers.ask(&Ask::Load(order), patience).await? {
            Answer::Loaded(sample) => Ok(sample),
            other => Err(format!("the customers answered {other:?}").into()),
        }
    }

    /// For how long all processes together have kept processors busy since they were started.
    pub async fn cpu_time(&mut self) -> Result<Duration> {
        let mut nanos = 0;
        for process in self.services.iter_mut().chain([&mut self.customers]) {
            match process.ask(&Ask::CpuTime, PATIENCE).await? {
                Answer::CpuTime(theirs) => nanos += theirs,
                other => return Err(format!("a process answered {other:?}").into()),
            }
        }
        Ok(Duration::from_nanos(nanos))
    }

    /// Ends all processes and waits until they are gone.
    pub async fn close(self) -> Result {
        // Those that ask go before those that they ask.
        self.customers.end().await?;
        for process in self.services.into_iter().rev() {
            process.end().await?;
        }
        Ok(())
    }
}

/// One process, and the two pipes to it.
struct Process {
    child: Child,
    input: ChildStdin,
    output: Lines<BufReader<ChildStdout>>,
}

impl Process {
    fn start(mut command: Command) -> Result<Self> {
        // A group of its own: Ctrl-C ends the demo alone, and so its children's input.
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).process_group(0).kill_on_drop(true);
        let mut child = command.spawn()?;
        let input = child.stdin.take().ok_or("no pipe to the process")?;
        let output = child.stdout.take().ok_or("no pipe from the process")?;
        Ok(Self { child, input, output: BufReader::new(output).lines() })
    }

    /// Waits until it says where it is.
    async fn ready(&mut self) -> Result<String> {
        match self.answer(PATIENCE).await? {
            Answer::Ready(address) => Ok(address),
            other => Err(format!("answered {other:?} before it was ready").into()),
        }
    }

    async fn ask(&mut self, what: &Ask, patience: Duration) -> Result<Answer> {
        let line = serde_json::to_string(what)? + "\n";
        self.input.write_all(line.as_bytes()).await?;
        self.answer(patience).await
    }

    async fn answer(&mut self, patience: Duration) -> Result<Answer> {
        let line = timeout(patience, self.output.next_line()).await;
        let line = line.map_err(|_| format!("no answer within {patience:?}"))??;
        Ok(serde_json::from_str(&line.ok_or("the process ended without an answer")?)?)
    }

    /// Closes its input, upon which it ends.
    async fn end(mut self) -> Result {
        drop(self.input);
        let status = timeout(PATIENCE, self.child.wait()).await.map_err(|_| "a process does not end")??;
        if status.success() { Ok(()) } else { Err(format!("a process ended with {status}").into()) }
    }
}
