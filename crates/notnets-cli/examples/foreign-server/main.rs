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

use notnets::Server;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let argument = std::env::args()
        .nth(1)
        .ok_or("give the address to serve: HOST:PORT, unix:/PATH or notnets:///NAME")?;
    let has_scheme = argument.starts_with("notnets:") || argument.starts_with("unix:");
    let uri = if has_scheme { argument.clone() } else { format!("http://{argument}") };
    let bound = Server::builder().bind_service(uri.as_str(), routes::all().await).await?;
    let address = bound.http2_addresses().pop().unwrap_or(uri);
    println!("READY {}", address.strip_prefix("http://").unwrap_or(&address));
    Ok(bound.serve().await?)
}
