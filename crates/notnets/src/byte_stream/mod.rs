//! Streams of bytes over a link, as a socket's: for protocols other than gRPC, and for libraries that insist
//! on a transport of their own, such as tonic's.
//!
//! A stream of bytes is one call of a link. Any number of them, and calls, share it.
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use notnets::byte_stream::{self, ByteStreams};
//! use tokio::io::{AsyncReadExt, AsyncWriteExt};
//!
//! // the server
//! let (streams, mut incoming) = ByteStreams::new();
//! tokio::spawn(notnets::Server::builder().add_byte_streams(streams).serve("notnets:///shout"));
//! tokio::spawn(async move {
//!     while let Some(mut stream) = incoming.accept().await {
//!         stream.write_all(b"HELLO").await?;
//!         stream.shutdown().await?;
//!     }
//!     std::io::Result::Ok(())
//! });
//!
//! // the client
//! let channel = notnets::Channel::connect("notnets:///shout").await?;
//! let mut stream = channel.byte_stream().await?;
//! let mut heard = String::new();
//! stream.read_to_string(&mut heard).await?;
//! # Ok(()) }
//! ```
//!
//! # tonic's channel and server
//!
//! tonic's server takes [`Incoming`] in place of a listener (`serve_with_incoming`); its `Endpoint` takes a
//! connector whose streams are wrapped for hyper:
//!
//! ```ignore
//! let (streams, incoming) = ByteStreams::new();
//! tokio::spawn(notnets::Server::builder().add_byte_streams(streams).serve("notnets:///greeter"));
//! tonic::transport::Server::builder().add_service(greeter).serve_with_incoming(incoming).await?;
//!
//! let below = notnets::Channel::connect("notnets:///greeter").await?;
//! let connect = tower::service_fn(move |_| {
//!     let below = below.clone();
//!     async move { below.byte_stream().await.map(hyper_util::rt::TokioIo::new) }
//! });
//! let channel = tonic::transport::Endpoint::from_static("http://greeter")
//!     .connect_with_connector(connect)
//!     .await?;
//! ```
//!
//! That keeps HTTP/2 and its cost, and leaves out the socket. Where a library takes any channel, give it a
//! [`Channel`](crate::Channel) itself.
//!
//! # What a stream is
//!
//! What is written goes into shared memory and is there to be read at once: nothing is kept for a flush. A
//! writer waits while the reader has not taken what came before, within the link's windows. Time-outs of the
//! channel and the server hold for a stream as for any call, from its beginning: better have none for them.
//!
//! A client's shutdown ends what it writes, and it reads on. A server's shutdown ends the stream: the client
//! reads what is there, and then its end; what it still writes is not read. A stream that is dropped before
//! its shutdown is reset, and the other end reads an error.

mod client;
mod server;
mod stream;

pub use server::{ByteStreams, Incoming};
pub use stream::ByteStream;

/// The service and the method that byte streams are calls of.
pub(crate) const SERVICE: &str = "notnets.ByteStream";
const METHOD: &str = "/notnets.ByteStream/Open";
