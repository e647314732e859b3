//! `notnets exporter`: the counters of all processes of this host, for Prometheus.
//!
//! Each scrape is a look at the processes' own segments ([`observe`](crate::observe)); [`metrics`] says what
//! becomes of them, [`exposition`] how that is written, and [`http`] how it is fetched.

mod exposition;
mod http;
mod metrics;

use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

use crate::announce::announce;
use crate::failure::Failure;
use crate::observe::processes;
use crate::service_manager::{Standing, notify};

/// The arguments of the subcommand.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Prints `READY HOST:PORT` once it can be scraped, at http://HOST:PORT/metrics, and ends on SIGINT or SIGTERM.
It sees the processes of its own user; as root, those of all users.")]
pub struct Args {
    /// Where to listen: HOST:PORT; port 0 takes a free one
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:9464")]
    listen: String,
    /// Say in JSON that it can be scraped: an object with `event` and `addresses`
    #[arg(long)]
    json: bool,
}

/// Answers scrapes until a signal comes.
///
/// # Errors
/// When the address cannot be used.
pub async fn run(args: Args) -> Result<(), Failure> {
    let cannot_listen = |error| Failure::new(format!("cannot listen on {}: {error}", args.listen));
    let listener = TcpListener::bind(&args.listen).await.map_err(cannot_listen)?;
    let address = listener.local_addr().map_err(cannot_listen)?;
    let no_signals = |error| Failure::new(format!("cannot wait for signals: {error}"));
    let mut interrupt = signal(SignalKind::interrupt()).map_err(no_signals)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(no_signals)?;
    announce("READY", [&*address.to_string()], args.json);
    notify(Standing::Ready);
    tokio::select! {
        () = http::serve(listener, scrape) => {}
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    notify(Standing::Stopping);
    Ok(())
}

/// What the counters of all processes say now.
fn scrape() -> String {
    metrics::of(&processes::all())
}
