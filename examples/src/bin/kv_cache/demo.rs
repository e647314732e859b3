//! A store on one host of a pod, clients that prefill on the second, and clients that decode on the third.
//! Each prompt is prefilled by one process and decoded by another, as in servers that keep the two apart.
//! Then the same over TCP.

use std::env;
use std::path::Path;
use std::process::Stdio;

use clap::{Args, ValueEnum};
use notnets_examples::Result;
use notnets_memory::Coherence;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

use crate::Prompts;
use crate::hosts::{ADDRESS, Hosts};
use crate::report::{Report, heading};
use crate::transport::say;
use crate::worker::Role;

const STORE: u16 = 0;
const PREFILL: u16 = 1;
const DECODE: u16 = 2;

/// How the demo's blocks go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Over {
    /// Memory of a pod that its device keeps coherent
    Hardware,
    /// Memory of a pod that its hosts keep coherent
    Software,
    /// HTTP/2 on the loopback interface, by tonic
    Tcp,
}

#[derive(Args)]
pub struct Options {
    /// How blocks go, one after the other.
    #[arg(long, value_delimiter = ',', default_values_t = [Over::Hardware, Over::Software, Over::Tcp], value_enum)]
    over: Vec<Over>,
    /// Pairs of clients: one prefills, one decodes.
    #[arg(long, default_value_t = 2)]
    pairs: u64,
    /// Prompts for each pair.
    #[arg(long, default_value_t = 100)]
    prompts: u64,
    /// Mebibytes that the store keeps.
    #[arg(long, default_value_t = 192)]
    capacity: u64,
    #[command(flatten)]
    which: Prompts,
}

pub async fn run(options: &Options) -> Result {
    say(&heading())?;
    for &over in &options.over {
        let report = match over {
            Over::Hardware => in_pod(options, Coherence::Hardware).await?,
            Over::Software => in_pod(options, Coherence::Software).await?,
            Over::Tcp => compare(options, "127.0.0.1:0", |_| Path::new("/").into()).await?,
        };
        let name = over.to_possible_value().expect("it is shown");
        print!("{}", report.rows(name.get_name()));
    }
    Ok(())
}

async fn in_pod(options: &Options, coherence: Coherence) -> Result<Report> {
    // Twice: an extent is used again when nothing in it is kept any more.
    let hosts = Hosts::new(3, coherence, (2 * options.capacity) << 20)?;
    compare(options, ADDRESS, |host| hosts.directory(host)).await
}

/// Runs a store and its clients, and returns what these have measured.
async fn compare(
    options: &Options,
    address: &str,
    directory: impl Fn(u16) -> std::path::PathBuf,
) -> Result<Report> {
    let capacity = options.capacity.to_string();
    let mut store = Process::start(&directory(STORE), &["serve", address, "--capacity", &capacity])?;
    let ready = store.line().await?;
    let address = ready.strip_prefix("READY ").ok_or("the store did not start")?;
    let mut pairs = tokio::task::JoinSet::new();
    for stream in 0..options.pairs {
        let which = Prompts { stream, ..options.which };
        let prefill = Process::work(&directory(PREFILL), address, Role::Prefill, which)?;
        let decode = Process::work(&directory(DECODE), address, Role::Decode, which)?;
        pairs.spawn(serve_prompts(prefill, decode, options.prompts));
    }
    let mut all = Report::default();
    while let Some(reports) = pairs.join_next().await {
        reports??.into_iter().for_each(|report| all.add(report));
    }
    Ok(all)
}

/// Has prompts prefilled, and each decoded thereafter.
async fn serve_prompts(mut prefill: Process, mut decode: Process, prompts: u64) -> Result<[Report; 2]> {
    for prompt in 0..prompts {
        prefill.ask(prompt).await?;
        prefill.line().await?;
        // While the next one is prefilled.
        if prompt > 0 {
            decode.line().await?;
        }
        decode.ask(prompt).await?;
    }
    if prompts > 0 {
        decode.line().await?;
    }
    Ok([prefill.end().await?, decode.end().await?])
}

/// This program once more.
struct Process {
    child: Child,
    input: ChildStdin,
    output: Lines<BufReader<ChildStdout>>,
}

impl Process {
    fn start(directory: &Path, arguments: &[&str]) -> Result<Self> {
        let mut command = Command::new(env::current_exe()?);
        command.args(arguments).env("NOTNETS_DIR", directory).kill_on_drop(true);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let (input, output) = child.stdin.take().zip(child.stdout.take()).ok_or("a process has no pipes")?;
        Ok(Self { child, input, output: BufReader::new(output).lines() })
    }

    fn work(directory: &Path, address: &str, role: Role, which: Prompts) -> Result<Self> {
        let role = role.to_possible_value().expect("it is shown");
        let Prompts { block, documents, stream } = which;
        let [block, documents, stream] =
            [block.into(), documents, stream].map(|number: u64| number.to_string());
        let arguments = [role.get_name(), "--block", &block, "--documents", &documents, "--stream", &stream];
        Self::start(directory, &[&["work", address][..], &arguments].concat())
    }

    async fn ask(&mut self, prompt: u64) -> Result {
        Ok(self.input.write_all(format!("{prompt}\n").as_bytes()).await?)
    }

    async fn line(&mut self) -> Result<String> {
        Ok(self.output.next_line().await?.ok_or("a process has ended too early")?)
    }

    /// Lets a client end, and returns what it has measured.
    async fn end(mut self) -> Result<Report> {
        drop(self.input);
        let report = self.output.next_line().await?.ok_or("a client has ended without a report")?;
        let ended = self.child.wait().await?;
        if !ended.success() {
            return Err(format!("a client ended with {ended}").into());
        }
        Ok(serde_json::from_str(&report)?)
    }
}
