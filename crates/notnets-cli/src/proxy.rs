//! `notnets proxy`: a bridge between shared memory and HTTP/2, in either
//! direction, so that clients and servers in any language take part.

use std::io::{self, Write};
use std::time::Duration;

use notnets_cli_common::duration;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::failure::Failure;
use crate::target::{self, Target, Upstream, Upstreams};
use notnets::http2::bridge::Bridge;
use notnets::http2::client;
use notnets::http2::pings::KeepAlive;

/// The arguments of the subcommand.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Prints `READY ADDRESS` once clients can connect. On SIGINT or SIGTERM no new calls are taken and
open ones may end; a second signal cuts them off.

Examples:
  notnets proxy --listen 127.0.0.1:50051 --to notnets:///inventory
  notnets proxy --listen notnets:///inventory --to unix:/run/inventory.sock")]
pub struct Args {
    /// Where clients connect: HOST:PORT (port 0 takes a free one), unix:/PATH or notnets:///NAME
    #[arg(long, value_name = "ADDRESS")]
    listen: Target,
    /// Where their calls go: notnets:///NAME, http://HOST:PORT or unix:/PATH
    #[arg(long, value_name = "ADDRESS")]
    to: Target,
    /// How long open calls may go on after the first signal
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = duration::parse)]
    grace: Duration,
    /// How long a server may take to be connected
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = duration::parse)]
    connect_timeout: Duration,
    /// How long a server with open calls, or a client, may be silent before it is pinged; 0s never pings
    #[arg(long, value_name = "DURATION", default_value = "20s", value_parser = duration::parse)]
    keepalive_interval: Duration,
    /// How long a ping may remain unanswered before the connection is given up
    #[arg(long, value_name = "DURATION", default_value = "20s", value_parser = duration::parse)]
    keepalive_timeout: Duration,
}

impl Args {
    fn keep_alive(&self) -> KeepAlive {
        let interval = Some(self.keepalive_interval).filter(|interval| !interval.is_zero());
        KeepAlive { interval, timeout: self.keepalive_timeout }
    }
}

/// Forwards calls until a signal comes.
///
/// # Errors
/// When one of the two addresses cannot be used.
pub async fn run(args: Args) -> Result<(), Failure> {
    let keep_alive = args.keep_alive();
    let options = client::Options { connect_timeout: args.connect_timeout, keep_alive };
    let upstreams = Upstreams::new(&args.to, options)?;
    raise_descriptors();
    let signals = Signals::new()
        .map_err(|error| Failure::new(format!("cannot wait for SIGINT and SIGTERM: {error}")))?;
    tokio::spawn(warn_if_missing(upstreams.one()));
    // A client's windows, resets and silence are its own, because its connections to the server are.
    let bridge = move || Bridge::new(upstreams.one());
    target::serve(&args.listen, bridge, keep_alive, announce, signals.first(), args.grace).await
}

/// Each client takes some descriptors, so there may be as many as the system allows.
fn raise_descriptors() {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current < maximum
        && let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum })
    {
        tracing::debug!("the number of open files stays at {current:?}: {error}");
    }
}

/// A server that starts later than its proxy is fine; one that never does
/// should not be a riddle.
async fn warn_if_missing(upstream: Upstream) {
    if let Err(status) = upstream.ready().await {
        tracing::warn!("calls will fail until the server is there: {}", status.message());
    }
}

fn announce(address: &str) {
    // The process that started the proxy may have closed its output; that is not a reason to stop.
    let _ = writeln!(io::stdout(), "READY {address}");
}

struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Self { interrupt: signal(SignalKind::interrupt())?, terminate: signal(SignalKind::terminate())? })
    }

    /// Resolves at the first signal; from then on the next one ends the process.
    async fn first(mut self) {
        self.next().await;
        tokio::spawn(async move {
            self.next().await;
            std::process::exit(1);
        });
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}
