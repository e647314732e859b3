//! Where the tests run: a server of NotNets in a directory of its own, and the ways to it.
//!
//! A crate that takes any channel is given a [`Channel`] of ours. One that insists on tonic's is given that,
//! over streams of bytes of a link.

use std::time::Duration;

use hyper_util::rt::TokioIo;
use notnets::byte_stream::ByteStreams;
use notnets::{Channel, Endpoint, Router, Server};
use tempfile::TempDir;

const NAME: &str = "notnets:///foreign";

/// Where a server is found for as long as this is kept. The server ends with its runtime.
pub struct Bed {
    _directory: TempDir,
}

impl Bed {
    /// Serves what is added to this server, and gives a channel to it.
    pub async fn native(services: impl FnOnce(Server) -> Router) -> (Self, Channel) {
        let directory = tempfile::tempdir().expect("a directory");
        let server = services(Server::builder().directory(directory.path()));
        tokio::spawn(server.bind(NAME).await.expect("the name is free").serve());
        let endpoint = Endpoint::from_static(NAME).directory(directory.path());
        let channel = endpoint.connect().await.expect("the server is there");
        (Self { _directory: directory }, channel)
    }

    /// Serves what this server of tonic's has, and gives a channel of tonic's to it: HTTP/2 over a link.
    pub async fn over_streams(server: tonic::transport::server::Router) -> (Self, tonic::transport::Channel) {
        let (streams, incoming) = ByteStreams::new();
        let (bed, below) = Self::native(|server| server.add_byte_streams(streams)).await;
        tokio::spawn(server.serve_with_incoming(incoming));
        let connect = tower::service_fn(move |_| {
            let below = below.clone();
            async move { below.byte_stream().await.map(TokioIo::new) }
        });
        let endpoint = tonic::transport::Endpoint::from_static("http://foreign");
        let channel = endpoint.connect_with_connector(connect).await.expect("the server is there");
        (bed, channel)
    }
}

/// What comes of this, which is never long.
///
/// # Panics
/// After 20 s.
pub async fn within<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(Duration::from_secs(20), future).await.expect("it is there within 20 s")
}
