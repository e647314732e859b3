//! A server for clients that are not ours, and for the day in `ci/day`: the `Probe` service with health and
//! reflection.
//!
//! `cargo run -p notnets-cli --example foreign-server -- ADDRESS` prints `READY ADDRESS` and serves until it
//! is told to stop by SIGTERM: over HTTP/2 at HOST:PORT or unix:/PATH, through shared memory at
//! notnets:///NAME or notnets://POD/NAME.
#![forbid(unsafe_code)]

mod probe;
#[allow(dead_code)]
mod routes;
mod trailers;

use std::error::Error;

use clap::Parser;
use notnets::{Admission, Server, UserLimits};
use tokio::signal::unix::{SignalKind, signal};

#[derive(Parser)]
struct Options {
    /// HOST:PORT, unix:/PATH, notnets:///NAME or notnets://POD/NAME.
    address: String,
    /// Uids that are admitted beside the own one.
    #[arg(long, value_delimiter = ',')]
    admit: Vec<u32>,
    /// Calls that each of them may begin in a second.
    #[arg(long)]
    calls_per_second: Option<u32>,
    /// Take the name over from a server that has it.
    #[arg(long)]
    take_over: bool,
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
        .with_writer(std::io::stderr)
        .init();
    let Options { address, admit, calls_per_second, take_over } = Options::parse();
    let has_scheme = address.starts_with("notnets:") || address.starts_with("unix:");
    let uri = if has_scheme { address } else { format!("http://{address}") };
    let mut terminated = signal(SignalKind::terminate())?;
    let bound = Server::builder()
        .admission(Admission::Listed { uids: admit, gids: Vec::new() })
        .user_limits(UserLimits::default().calls_per_second(calls_per_second))
        .take_over(take_over)
        .bind_service(uri.as_str(), routes::all().await)
        .await?;
    let address = bound.http2_addresses().pop().unwrap_or(uri);
    println!("READY {}", address.strip_prefix("http://").unwrap_or(&address));
    let stop = async move {
        terminated.recv().await;
    };
    Ok(bound.serve_with_shutdown(stop).await?)
}
