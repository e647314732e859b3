//! Serves the conformance services over one transport until its standard input
//! is closed, so that it never outlives the test that started it.
//!
//! Prints `READY <address>` once it can be reached.

use std::error::Error;
use std::io::{Read, Write};
use std::time::Duration;

use clap::Parser;
use notnets_conformance::pod;
use notnets_conformance::server::{self, TraceLayer};
use notnets_conformance::transport::{Flavour, Transport};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::oneshot;
use tokio_stream::Stream;
use tokio_stream::wrappers::{TcpListenerStream, UnixListenerStream};
use tonic::transport::server::Connected;

/// A server for the conformance suite.
#[derive(Parser)]
struct Args {
    /// What to serve over.
    #[arg(long)]
    transport: Transport,
    /// The runtime that drives the server.
    #[arg(long, default_value = "multi")]
    runtime: Flavour,
    /// A socket address for tcp, a path for uds, a name for notnets and pods.
    address: String,
}

/// The program.
///
/// # Errors
/// When the server can't serve.
pub fn main() -> Result<(), Box<dyn Error>> {
    let args = Args::parse();
    let runtime = args.runtime.runtime()?;
    let closed = stdin_closed();
    let outcome = runtime.block_on(async {
        tokio::select! {
            served = serve(args.transport, &args.address) => served,
            _ = closed => Ok(()),
        }
    });
    // Handlers that never end are part of the suite: nothing waits for them.
    runtime.shutdown_background();
    outcome
}

async fn serve(transport: Transport, address: &str) -> Result<(), Box<dyn Error>> {
    match transport {
        Transport::Tcp => {
            let listener = TcpListener::bind(address).await?;
            ready(&format!("http://{}", listener.local_addr()?))?;
            serve_http2(TcpListenerStream::new(listener)).await
        }
        Transport::Uds | Transport::UdsUnlayered | Transport::ToHttp2 => {
            let listener = UnixListener::bind(address)?;
            ready(&format!("unix://{address}"))?;
            let incoming = UnixListenerStream::new(listener);
            if transport == Transport::UdsUnlayered {
                serve_http2_unlayered(incoming).await
            } else {
                serve_http2(incoming).await
            }
        }
        Transport::NotNetsUnlayered => {
            let routes = server::register(notnets::Routes::default()).await;
            let server = notnets::Server::builder().max_concurrent_streams(server::MAX_CONCURRENT_STREAMS);
            let bound = server.add_routes(routes).bind(address).await?;
            ready(address)?;
            Ok(bound.serve().await?)
        }
        Transport::FromHttp2 | Transport::NotNets | Transport::PodHardware | Transport::PodSoftware => {
            let _agent = pod::agent_of_server()?;
            let routes = server::register(notnets::Routes::default()).await;
            let bound = notnets::Server::builder()
                .max_concurrent_streams(server::MAX_CONCURRENT_STREAMS)
                .layer(TraceLayer)
                .add_routes(routes)
                .bind(address)
                .await?;
            ready(bound.http2_addresses().first().map_or(address, String::as_str))?;
            Ok(bound.serve().await?)
        }
    }
}

async fn serve_http2<S, I>(incoming: S) -> Result<(), Box<dyn Error>>
where
    S: Stream<Item = std::io::Result<I>>,
    I: tokio::io::AsyncRead + tokio::io::AsyncWrite + Connected + Send + Unpin + 'static,
{
    let routes = server::register(tonic::service::RoutesBuilder::default()).await;
    http2().layer(TraceLayer).add_routes(routes.routes()).serve_with_incoming(incoming).await?;
    Ok(())
}

async fn serve_http2_unlayered<S, I>(incoming: S) -> Result<(), Box<dyn Error>>
where
    S: Stream<Item = std::io::Result<I>>,
    I: tokio::io::AsyncRead + tokio::io::AsyncWrite + Connected + Send + Unpin + 'static,
{
    let routes = server::register(tonic::service::RoutesBuilder::default()).await;
    http2().add_routes(routes.routes()).serve_with_incoming(incoming).await?;
    Ok(())
}

fn http2() -> tonic::transport::Server {
    tonic::transport::Server::builder()
        .max_concurrent_streams(server::MAX_CONCURRENT_STREAMS)
        .initial_stream_window_size(server::STREAM_WINDOW)
        .initial_connection_window_size(server::CONNECTION_WINDOW)
}

/// Says where the server can be reached.
fn ready(address: &str) -> std::io::Result<()> {
    let mut stdout = std::io::stdout().lock();
    writeln!(stdout, "READY {address}")?;
    stdout.flush()
}

/// Resolves once standard input is closed. A thread waits for it, and ends the
/// process if a runtime that hangs does not.
fn stdin_closed() -> oneshot::Receiver<()> {
    const GRACE: Duration = Duration::from_secs(2);
    let (sender, receiver) = oneshot::channel();
    std::thread::spawn(move || {
        let mut stdin = std::io::stdin().lock();
        let mut ignored = [0; 64];
        while matches!(stdin.read(&mut ignored), Ok(read) if read > 0) {}
        let _ = sender.send(());
        std::thread::sleep(GRACE);
        std::process::exit(1);
    });
    receiver
}
