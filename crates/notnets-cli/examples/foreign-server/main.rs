//! A server for clients that are not ours: the `Probe` service with health and
//! reflection. `ci/foreign-clients` runs it behind `notnets proxy`.
//!
//! `cargo run -p notnets-cli --example foreign-server -- ADDRESS` prints
//! `READY ADDRESS` and serves until it is killed: over HTTP/2 at HOST:PORT or
//! unix:/PATH, through shared memory at notnets:///NAME.
#![forbid(unsafe_code)]

mod probe;
#[allow(dead_code)]
mod routes;
mod trailers;

use std::error::Error;
use std::future::pending;
use std::path::PathBuf;
use std::time::Duration;

// The proxy's own HTTP/2 server: unlike tonic's it leaves deadlines to the two
// ends, so that it is the client's deadline that a test sees.
use notnets::http2::listener::Listener;
use notnets::http2::pings::KeepAlive;
use notnets::http2::{Address, server};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let argument = std::env::args()
        .nth(1)
        .ok_or("give the address to serve: HOST:PORT, unix:/PATH or notnets:///NAME")?;
    if argument.starts_with("notnets:") {
        return through_memory(&argument).await;
    }
    match argument.strip_prefix("unix:") {
        Some(path) => over_http2(&Address::Unix(PathBuf::from(path))).await,
        None => over_http2(&Address::Tcp(argument.parse()?)).await,
    }
}

async fn over_http2(address: &Address) -> Result<(), Box<dyn Error>> {
    let listener = Listener::bind(address).await?;
    println!("READY {}", listener.address()?);
    let routes = routes::all().await;
    server::serve(listener, || routes.clone(), KeepAlive::default(), pending(), Duration::ZERO).await;
    Ok(())
}

async fn through_memory(uri: &str) -> Result<(), Box<dyn Error>> {
    let bound = notnets::Server::builder().bind_service(uri, routes::all().await).await?;
    println!("READY {uri}");
    Ok(bound.serve().await?)
}
