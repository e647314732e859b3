//! Calls without a runtime: for threads that own a core, or that simply want to wait.
//!
//! A [`Client`] makes one unary call at a time and returns with its reply. A [`Server`] answers unary calls
//! on the thread that calls [`Server::serve`], for all its links. Messages are bytes: what encodes them is
//! the caller's choice. Both speak the same protocol as `notnets::Channel` and
//! `notnets::Server`, so either side of a call may be a tonic client or service.
//!
//! ```
//! use notnets::blocking::{Client, Code, Endpoint, Server, Status};
//!
//! # let temporary = tempfile::tempdir()?;
//! # let directory = temporary.path().to_owned();
//! let server = Server::builder().directory(&directory).bind("notnets:///shout")?;
//! let stopper = server.stopper();
//! let serving = std::thread::spawn(move || {
//!     server.serve(|request, reply| match request.method {
//!         "/shout.Shout/Louder" => {
//!             reply.message.extend(request.message.iter().map(u8::to_ascii_uppercase));
//!             Ok(())
//!         }
//!         method => Err(Status::unknown_method(method)),
//!     })
//! });
//!
//! let endpoint = Endpoint::new("notnets:///shout")?.directory(&directory);
//! let mut client: Client = endpoint.connect()?;
//! assert_eq!(client.call("/shout.Shout/Louder", b"hello")?, b"HELLO");
//! assert_eq!(client.call("/shout.Shout/Softer", b"hello").unwrap_err().code, Code::UNIMPLEMENTED);
//!
//! stopper.stop();
//! serving.join().expect("it does not panic");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Waiting
//!
//! [`Wait`] says what a thread does while there is nothing to do. With `Spin` it looks at
//! memory, at the clock now and then, and at its sockets every 0.1 ms, until nothing has come for a tenth of
//! a second: a call then takes less than a microsecond, and each side takes a whole core. With `Adaptive` it
//! does so while that pays off, and sleeps in `poll(2)` otherwise; with `Park` it sleeps at once. A thread
//! that spins and shares its core is slower than one that sleeps.
//!
//! # Large messages
//!
//! [`Client::call`] copies a reply into a `Vec`. [`Client::call_bytes`] gives `bytes::Bytes` that hold the
//! memory in which the server has put them, where that is possible ([`SharedBytes`](crate::SharedBytes), or a
//! server that is [trusted](Endpoint::trust_peer_memory)), as [`Request::to_bytes`] does on a server. What is
//! sent is copied once, unless it is such bytes, or was written into a [loan](Client::loan). A server sends
//! these as [`Reply::bytes`].
//!
//! # Pods
//!
//! `notnets://pod0/shout` is the name of a service in a pod (the crate `notnets-pod`): client and server find
//! each other by the agents of their hosts, and are then the same. The rendezvous directory is where the
//! agent listens.
//!
//! # What ends a call
//!
//! Its reply; its deadline, on both sides; the end of the other process, which is seen within 0.1 ms by who
//! spins and at once by who sleeps. A client whose server has ended connects anew with the next call.
//!
//! # Limits
//!
//! There is one message each way. A request of several messages, as a stream has, is answered with
//! `UNIMPLEMENTED`, and so is a compressed one; a client that gets a second message ends the call with
//! that status. A `Channel` has streams, and many calls at once on one link.

mod acceptor;
mod client;
mod endpoint;
mod handler;
mod link;
mod message;
#[cfg(feature = "pod")]
mod pods;
#[cfg(not(feature = "pod"))]
#[path = "no_pods.rs"]
mod pods;
mod seen;
mod server;
mod server_link;
mod status;
mod stop;
mod waiting;

pub use crate::LoanedBytes;
pub use crate::{Admission, Error, ErrorKind, PeerInfo, Wait};
pub use client::{Call, Client, Response, ResponseBytes};
pub use endpoint::Endpoint;
pub use handler::{Reply, Request};
pub use notnets_core::Code;
pub use notnets_core::metadata::Metadata;
pub use server::{Builder, Server};
pub use status::Status;
pub use stop::Stopper;

const USER_AGENT: &str = concat!("notnets/", env!("CARGO_PKG_VERSION"));
