//! Seeing calls, for metrics and traces: [`Endpoint::observer`](crate::Endpoint::observer) and
//! [`Server::observer`](crate::Server::observer), and those of the [blocking](crate::blocking) API.
//!
//! An [`Observer`] is told when a call begins, when it is attempted again, and how it ends. It can send
//! metadata along, as the context of a trace, and have a handler run within a context of its own. All calls
//! are seen, whoever makes or serves them: generated code, [`rpc`](crate::rpc), any HTTP. The crate
//! `notnets-otel` has one for OpenTelemetry. Where there is none, nothing is done for it.
//!
//! ```
//! use std::sync::Arc;
//! use std::sync::atomic::{AtomicU64, Ordering};
//!
//! use notnets::observe::{CallEnd, CallToMake, CallToServe, ClientCalls, Observed, Observer, ServerCalls};
//! use notnets::rpc::Code;
//!
//! /// Counts calls that fail.
//! #[derive(Clone, Default)]
//! struct Failures(Arc<AtomicU64>);
//!
//! impl Observer for Failures {
//!     fn of_channel(&self, _target: &str) -> Arc<dyn ClientCalls> {
//!         Arc::new(self.clone())
//!     }
//!
//!     fn of_server(&self, _names: &str) -> Arc<dyn ServerCalls> {
//!         Arc::new(self.clone())
//!     }
//! }
//!
//! impl ClientCalls for Failures {
//!     fn begin(&self, _call: &mut CallToMake<'_>) -> Arc<dyn Observed> {
//!         Arc::new(self.clone())
//!     }
//! }
//!
//! impl ServerCalls for Failures {
//!     fn begin(&self, _call: &CallToServe<'_>) -> Arc<dyn Observed> {
//!         Arc::new(self.clone())
//!     }
//! }
//!
//! impl Observed for Failures {
//!     fn end(&self, end: &CallEnd) {
//!         if end.status != Code::OK {
//!             self.0.fetch_add(1, Ordering::Relaxed);
//!         }
//!     }
//! }
//!
//! let failures = Failures::default();
//! let endpoint = notnets::Endpoint::from_static("notnets:///inventory").observer(failures.clone());
//! let server = notnets::Server::builder().observer(failures);
//! # drop((endpoint, server));
//! ```

mod observation;

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use notnets_core::code::Code;
use notnets_core::metadata::Metadata;

pub use crate::peer::PeerInfo;
pub(crate) use observation::Observation;

/// Sees the calls of channels and servers.
pub trait Observer: Send + Sync + 'static {
    /// A channel is made, to this target. Returns what sees its calls.
    fn of_channel(&self, target: &str) -> Arc<dyn ClientCalls>;

    /// A server is made that serves these names, with commas between them. Returns what sees its calls.
    fn of_server(&self, names: &str) -> Arc<dyn ServerCalls>;
}

/// Sees the calls of a channel.
pub trait ClientCalls: Send + Sync {
    /// A call is made, where it is first polled. Returns what sees how it goes on.
    fn begin(&self, call: &mut CallToMake<'_>) -> Arc<dyn Observed>;
}

/// Sees the calls of a server.
pub trait ServerCalls: Send + Sync {
    /// A call is to be served. Returns what sees how it goes on.
    fn begin(&self, call: &CallToServe<'_>) -> Arc<dyn Observed>;
}

/// Sees how one call goes on.
pub trait Observed: Send + Sync {
    /// Polls, by `poll`, what serves the call: within a context, if the observer has one. It has to call
    /// `poll` once.
    fn within(&self, poll: &mut dyn FnMut()) {
        poll();
    }

    /// On a client: the call is attempted again.
    fn attempted_again(&self, _again: &Again) {}

    /// The call has ended. It does so once: at the latest when its caller or its server lets go of it.
    fn end(&self, end: &CallEnd);
}

/// A call that a client begins to make.
#[derive(Debug)]
pub struct CallToMake<'a> {
    method: &'a str,
    entries: Entries,
}

/// Keys and values.
type Entries = Vec<(Cow<'static, str>, Bytes)>;

impl<'a> CallToMake<'a> {
    /// The path of its method, `/package.Service/Method`.
    pub fn method(&self) -> &'a str {
        self.method
    }

    /// Sends this with the call's metadata. Keys are in lower case, values are printable ASCII, or base64 if
    /// the key ends with `-bin`.
    pub fn send_along(&mut self, key: impl Into<Cow<'static, str>>, value: impl Into<Bytes>) {
        self.entries.push((key.into(), value.into()));
    }
}

/// A call that a server begins to serve.
#[derive(Debug)]
pub struct CallToServe<'a> {
    method: &'a str,
    metadata: &'a Metadata,
    peer: PeerInfo,
}

impl<'a> CallToServe<'a> {
    /// The path of its method, as the client has it: the server may have no such method.
    pub fn method(&self) -> &'a str {
        self.method
    }

    /// The first value of a key of the client's metadata, as it was sent.
    pub fn metadata(&self, key: &str) -> Option<&'a [u8]> {
        self.metadata.iter().find(|(name, _)| &**name == key).map(|(_, value)| &**value)
    }

    /// The keys of the client's metadata.
    pub fn keys(&self) -> impl Iterator<Item = &'a str> {
        self.metadata.iter().map(|(key, _)| &**key)
    }

    /// The caller.
    pub fn peer(&self) -> PeerInfo {
        self.peer
    }
}

/// Another attempt of a client's call.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Again {
    /// Why there is another one.
    pub reason: AgainReason,
    /// The status of the attempt that has failed; `OK` where none has.
    pub status: Code,
    /// How long the client waits before it.
    pub delay: Duration,
    /// Bytes of messages that the failed attempt has sent, with gRPC's five before each.
    pub bytes_sent: u64,
}

/// Why a call is attempted again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum AgainReason {
    /// The retry policy of its method wants it.
    Retry,
    /// No server has read the call, or the server has taken it no further.
    Transparent,
    /// It is hedged: the attempts before go on.
    Hedge,
}

/// How a call has ended.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct CallEnd {
    /// Its status. `CANCELLED` if it was let go of; [`Code::NONE`] for one that is not gRPC's, and has none.
    pub status: Code,
    /// Bytes of messages that were sent, with gRPC's five before each; of the last attempt.
    pub bytes_sent: u64,
    /// Bytes of messages that have come, with gRPC's five before each.
    pub bytes_received: u64,
}

/// An observer as settings have it.
#[derive(Clone)]
pub(crate) struct AnyObserver(pub(crate) Arc<dyn Observer>);

impl fmt::Debug for AnyObserver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Observer")
    }
}

/// What sees the calls of a channel, as the channel has it.
#[cfg(any(feature = "client", feature = "blocking"))]
#[derive(Clone)]
pub(crate) struct OfChannel(pub(crate) Arc<dyn ClientCalls>);

#[cfg(any(feature = "client", feature = "blocking"))]
impl fmt::Debug for OfChannel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClientCalls")
    }
}
