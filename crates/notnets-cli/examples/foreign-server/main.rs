//! A server for clients that are not ours: the `Probe` service with health and
//! reflection. `ci/foreign-clients` runs it behind `notnets proxy`.
//!
//! `cargo run -p notnets-cli --example foreign-server -- 127.0.0.1:0` prints
//! `READY ADDRESS` and serves until it is killed.
#![forbid(unsafe_code)]

// The proxy's own HTTP/2 server: unlike tonic's it leaves deadlines to the two
// ends, so that it is the client's deadline that a test sees.
#[allow(dead_code)]
#[path = "../../src/http2/mod.rs"]
mod http2;
mod probe;
#[allow(dead_code)]
mod routes;
mod trailers;

use std::path::PathBuf;
use std::time::Duration;

use http2::listener::Listener;
use http2::{Address, server};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let argument = std::env::args().nth(1).ok_or("give the address to serve: HOST:PORT or unix:/PATH")?;
    let address = match argument.strip_prefix("unix:") {
        Some(path) => Address::Unix(PathBuf::from(path)),
        None => Address::Tcp(argument.parse()?),
    };
    let listener = Listener::bind(&address).await?;
    println!("READY {}", listener.address()?);
    server::serve(listener, routes::all().await, std::future::pending(), Duration::ZERO).await;
    Ok(())
}
