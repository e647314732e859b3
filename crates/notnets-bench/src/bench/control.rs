//! How the benchmark's processes are told what to do: a line of JSON on standard input, answered by
//! a line of JSON on standard output. A process ends when its input does, however the benchmark ends.

use std::io::{BufRead, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use super::case::{Api, Transport, Wait, Work};
use super::pod::Place;
use super::recorder::Sample;
use super::sizes::Size;
use super::usage;

/// What a process can be asked.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ask {
    /// To be a server. Asked first and once.
    Serve(Serve),
    /// To be a client. Asked first and once.
    Connect(Connect),
    /// A client: to make calls.
    Load(Load),
    /// A client: to hold so many connections, on each of which one call was made.
    Links(u32),
    /// How long it has kept processors busy.
    Cpu,
    /// How many lines it has fetched from the other host.
    Lines,
}

/// What it answers.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// It serves at this address, or is connected there.
    Ready(String),
    /// What came of calls.
    Loaded(Sample),
    /// Nanoseconds of processor time, over all its threads, also ended ones.
    Cpu(u64),
    /// Lines that the other host had changed.
    Lines(u64),
    /// It could not: why.
    Failed(String),
}

/// How to serve.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Serve {
    /// What carries the calls.
    pub transport: Transport,
    /// At which level.
    pub api: Api,
    /// What calls there will be: floors are made for one kind of it.
    pub work: Work,
    /// Where in a pod it is, unless all is within one host.
    #[serde(default)]
    pub place: Option<Place>,
    /// How NotNets waits.
    pub wait: Wait,
    /// Workers of the runtime; 0 for the current-thread runtime.
    pub workers: usize,
    /// The core to stay on.
    pub core: Option<usize>,
    /// For sockets.
    pub directory: PathBuf,
    /// The server's own name in it.
    pub name: String,
    /// Servers that are asked before an echo is answered.
    #[serde(default)]
    pub upstream: Vec<String>,
    /// Answer wrongly now and then, to see that it is noticed.
    #[serde(default)]
    pub spoil: bool,
}

impl Serve {
    /// Where it serves its name, and finds those of others.
    pub fn names(&self) -> &Path {
        names(self.place.as_ref(), &self.directory)
    }

    /// What clients call it by.
    pub fn address(&self) -> String {
        let pod = self.place.as_ref().map_or("", |place| &place.pod);
        format!("notnets://{pod}/{}", self.name)
    }
}

impl Connect {
    /// Where it finds names.
    pub fn names(&self) -> &Path {
        names(self.place.as_ref(), &self.directory)
    }
}

fn names<'a>(place: Option<&'a Place>, directory: &'a Path) -> &'a Path {
    place.map_or(directory, |place| &place.directory)
}

/// How to be a client.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Connect {
    /// What carries the calls.
    pub transport: Transport,
    /// At which level.
    pub api: Api,
    /// Where in a pod it is, unless all is within one host.
    #[serde(default)]
    pub place: Option<Place>,
    /// How NotNets waits.
    pub wait: Wait,
    /// Workers of the runtime; 0 for the current-thread runtime.
    pub workers: usize,
    /// The core to stay on.
    pub core: Option<usize>,
    /// For sockets.
    pub directory: PathBuf,
    /// What the server said.
    pub address: String,
    /// How many connections to make calls on.
    pub connections: u32,
}

/// Calls to make.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Load {
    /// What one call is.
    pub work: Work,
    /// How large it is.
    pub size: Size,
    /// Calls open at once.
    pub outstanding: u32,
    /// Calls per second to begin, whatever comes back.
    pub rate: Option<f64>,
    /// When to begin, on the host's monotonic clock in nanoseconds: all clients at the same time.
    pub start: u64,
    /// For how long.
    pub seconds: f64,
    /// Which sizes and times.
    pub seed: u64,
}

/// Reads the first order, which says what to be.
pub fn first() -> Option<Ask> {
    let mut line = String::new();
    std::io::stdin().read_line(&mut line).ok().filter(|bytes| *bytes > 0)?;
    Some(parse(&line))
}

/// Starts a thread that answers what it can itself and passes other orders on. It ends the process
/// when its input ends, whatever the process is doing then, and takes the sockets' directory along: the parent
/// may have been killed.
pub fn listen(directory: PathBuf) -> mpsc::UnboundedReceiver<Ask> {
    let (pass_on, orders) = mpsc::unbounded_channel();
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines().map_while(std::io::Result::ok) {
            match parse(&line) {
                Ask::Cpu => answer(&Answer::Cpu(usage::cpu_time())),
                Ask::Lines => answer(&Answer::Lines(notnets_memory::far_memory_model::lines_fetched())),
                // Nobody waits for orders in a process that only serves.
                order => drop(pass_on.send(order)),
            }
        }
        // All of a case's processes do this at the same time. One that fails leaves it to the one that was faster.
        let _ = std::fs::remove_dir_all(&directory);
        std::process::exit(0);
    });
    orders
}

fn parse(line: &str) -> Ask {
    serde_json::from_str(line).unwrap_or_else(|error| {
        eprintln!("not something to ask: {line}: {error}");
        std::process::exit(2);
    })
}

/// Says one thing. If nobody listens any more, the input is at its end too, which ends the process.
pub fn answer(what: &Answer) {
    let line = serde_json::to_string(what).expect("numbers and strings");
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
}
