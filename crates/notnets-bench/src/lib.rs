//! The demo and the benchmarks of the `notnets` command, as subcommands that it links in.
//!
//! Both measure with processes of their own, which are this program again with a hidden subcommand. A program
//! that offers [`Command`] offers those too.
//!
//! | module | what |
//! | --- | --- |
//! | [`mod@bench`] | what calls cost, beside tonic's HTTP/2 and the floor |
//! | [`demo`] | a small web shop over TCP, Unix sockets and NotNets |
//! | `child`, `orders` | the lines of JSON between parent and child process: the parent's side, the child's |
//! | `serving` | a service over each transport |
//! | `trust` | the one promise that is not checked: that the processes here don't change what they lend |
//! | `runtime` | the runtime of a process |
//! | `latencies` | how latencies are recorded |
//! | `usage` | what a process uses: clocks and counters of the kernel |
//! | `cgroup` | CPU quotas by control groups |
//! | `machine` | the machine that figures were measured on |
//! | `plot` | SVG plots for reports |
//! | `status_line` | progress on standard error |
#![deny(unsafe_code)]

pub mod bench;
pub mod demo;
pub mod soak;

mod cgroup;
mod child;
mod latencies;
mod machine;
mod orders;
mod plot;
mod runtime;
mod serving;
mod status_line;
mod trust;
mod usage;

/// An error of the demo or a benchmark: one sentence for the user.
pub type Error = Box<dyn std::error::Error + Send + Sync>;

/// The result of a part of the demo or of a benchmark.
pub type Result<T = ()> = std::result::Result<T, Error>;

/// The subcommands of this crate.
#[derive(Clone, Debug, clap::Subcommand)]
pub enum Command {
    /// Measure what calls cost, beside tonic's HTTP/2 and the floor
    Bench(bench::Args),
    /// One of the benchmark's servers
    #[command(hide = true)]
    BenchServer,
    /// One of the benchmark's clients
    #[command(hide = true)]
    BenchClient,
    /// A busy process beside the benchmark's
    #[command(hide = true)]
    BenchNeighbour,
    /// The keeper of a CPU quota of the benchmark
    #[command(hide = true)]
    BenchQuota,
    /// Run a small web shop over TCP, Unix sockets and NotNets, and compare
    Demo(demo::Args),
    /// One of the demo's services
    #[command(hide = true)]
    DemoService(demo::ServiceArgs),
    /// The demo's customers
    #[command(hide = true)]
    DemoCustomers(demo::ProcessArgs),
    /// Let calls go on while processes are killed, stopped and replaced, and check each
    Soak(soak::Args),
    /// One of the soak's servers
    #[command(hide = true)]
    SoakServer(soak::ServerArgs),
    /// One of the soak's agents
    #[command(hide = true)]
    SoakAgent(soak::AgentArgs),
    /// One of the soak's clients
    #[command(hide = true)]
    SoakClient(soak::ClientArgs),
}

impl Command {
    /// Runs the subcommand. It makes a runtime of its own: call it from outside of any.
    ///
    /// # Errors
    /// When it could not be run, and when a call failed or a reply was wrong.
    pub fn run(self) -> Result {
        match self {
            Self::Bench(args) => bench::run(args),
            Self::BenchServer => bench::server(),
            Self::BenchClient => bench::client(),
            Self::BenchNeighbour => bench::neighbour(),
            Self::BenchQuota => bench::quota(),
            Self::Demo(args) => demo::run(&args),
            Self::DemoService(args) => demo::service(args),
            Self::DemoCustomers(args) => demo::customers(args),
            Self::Soak(args) => soak::run(&args),
            Self::SoakServer(args) => soak::serve(&args),
            Self::SoakAgent(args) => soak::agent(&args),
            Self::SoakClient(args) => soak::call(args),
        }
    }
}
