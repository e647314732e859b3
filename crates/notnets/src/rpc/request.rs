//! The beginning of a call, and the end of a unary one.

use std::time::Duration;

use super::{Deadline, Metadata, Method, Payload};
use crate::message_prefix::MAX_MESSAGE_SIZE;

/// The beginning of a call: its method, metadata and deadline. The message, or the stream of them, goes
/// beside it.
///
/// A client makes one for each call; a [`unary`](super::unary) handler gets one with the message.
///
/// ```
/// use std::time::Duration;
/// use notnets::rpc::{Method, Request};
///
/// const GREET: Method = Method::from_static("/greeter.Greeter/Greet");
/// let request = Request::new(GREET).timeout(Duration::from_secs(1));
/// assert!(request.deadline.is_some() && request.metadata.is_empty());
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Request {
    /// The method that is called.
    pub method: Method,
    /// The metadata for the server.
    pub metadata: Metadata,
    /// By when the call has to be over. On a client the channel's time-out counts if it is shorter.
    pub deadline: Option<Deadline>,
    /// For a client: a response's message of more bytes ends the call with `RESOURCE_EXHAUSTED`. 4 MiB unless
    /// set. For a handler it has no meaning; the limit of what it receives is
    /// [`Unary::max_message_size`](super::Unary::max_message_size).
    pub max_message_size: usize,
}

impl Request {
    /// A call of this method.
    pub fn new(method: Method) -> Self {
        Self { method, metadata: Metadata::new(), deadline: None, max_message_size: MAX_MESSAGE_SIZE }
    }

    /// With this metadata.
    #[must_use]
    pub fn metadata(mut self, metadata: Metadata) -> Self {
        self.metadata = metadata;
        self
    }

    /// The call has to be over by then.
    #[must_use]
    pub fn deadline(mut self, deadline: Deadline) -> Self {
        self.deadline = Some(deadline);
        self
    }

    /// The call has to be over this long from now.
    #[must_use]
    pub fn timeout(self, timeout: Duration) -> Self {
        self.deadline(Deadline::after(timeout))
    }

    /// A response's message of more bytes ends the call with `RESOURCE_EXHAUSTED`. 4 MiB unless set.
    #[must_use]
    pub fn max_message_size(mut self, bytes: usize) -> Self {
        self.max_message_size = bytes;
        self
    }
}

/// The reply of a unary call that ended well.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Reply {
    /// The metadata of its head.
    pub metadata: Metadata,
    /// Its message.
    pub message: Payload,
    /// The metadata of its end.
    pub trailers: Metadata,
}

impl Reply {
    /// A message without metadata.
    pub fn new(message: impl Into<Payload>) -> Self {
        Self { message: message.into(), ..Self::default() }
    }
}
