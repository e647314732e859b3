//! How a call ended.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use notnets_core::call::Failure;

use super::{Code, Metadata, Method};
use crate::{Error, status_message};

const DETAILS: &str = "grpc-status-details-bin";

/// A gRPC status: a code, a sentence, and metadata. As an error of a call it is never OK.
///
/// ```
/// use notnets::rpc::{Code, Status};
///
/// let status = Status::new(Code::NOT_FOUND, "no such book");
/// assert_eq!((status.code(), status.message()), (Code::NOT_FOUND, "no such book"));
/// assert!(!status.is_retry_safe());
/// ```
#[derive(Clone)]
pub struct Status {
    code: Code,
    message: Cow<'static, str>,
    metadata: Metadata,
    retry_safe: bool,
    source: Option<Arc<Error>>,
}

impl Status {
    /// A status with a code and a sentence.
    pub fn new(code: Code, message: impl Into<Cow<'static, str>>) -> Self {
        let message = message.into();
        let metadata = Metadata::new();
        Self { code, message, metadata, retry_safe: false, source: None }
    }

    /// Returns the status for a method that a handler does not know.
    pub fn unknown_method(method: &Method) -> Self {
        Self::new(Code::UNIMPLEMENTED, format!("there is no method {method}"))
    }

    /// With metadata: a server sends them as its trailers.
    #[must_use]
    pub fn with_metadata(mut self, metadata: Metadata) -> Self {
        self.metadata = metadata;
        self
    }

    /// The code.
    pub fn code(&self) -> Code {
        self.code
    }

    /// Returns the cause, in a sentence.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// The trailers that came or go with it.
    pub fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    /// The details: an encoded `google.rpc.Status`, if there is one.
    pub fn details(&self) -> Option<Vec<u8>> {
        self.metadata.get_bin(DETAILS)
    }

    /// Returns `true` if the server's application never saw the request, so that it is safe to call again.
    pub fn is_retry_safe(&self) -> bool {
        self.retry_safe
    }

    /// Returns the status that a server ended a call with. `None` when it ended well.
    pub(super) fn from_trailers(code: Code, trailers: &mut Metadata) -> Option<Self> {
        let message = trailers.take(status_message::KEY);
        let (code, message) = match (code, message) {
            (Code::OK, _) => return None,
            (Code::NONE, _) => (Code::UNKNOWN, "the response has no status".into()),
            (code, message) => {
                (code, message.map_or_else(Cow::default, |text| status_message::decode(&text).into()))
            }
        };
        Some(Self::new(code, message).with_metadata(std::mem::take(trailers)))
    }

    /// The message as it goes into the trailers, if there is one.
    pub(super) fn encoded_message(&self) -> Option<Bytes> {
        (!self.message.is_empty()).then(|| status_message::encode(&self.message).into())
    }

    /// Why there is no link to the server.
    pub(crate) fn no_link(error: &Arc<Error>) -> Self {
        let status = Self::new(error.code(), error.to_string());
        Self { retry_safe: true, source: Some(Arc::clone(error)), ..status }
    }

    /// Why the channel had no link for the call, if that was the cause.
    pub fn channel_error(&self) -> Option<&Arc<Error>> {
        self.source.as_ref()
    }
}

impl From<Failure> for Status {
    fn from(failure: Failure) -> Self {
        let Failure { code, message, retry_safe, .. } = failure;
        Self { retry_safe, ..Self::new(code, message.to_string()) }
    }
}

impl fmt::Debug for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { code, message, metadata, retry_safe, source } = self;
        // `main` and `unwrap` print this. The source is in the message.
        let kind = source.as_deref().map(Error::kind);
        write!(
            f,
            "Status({code}: {message:?}, metadata: {metadata:?}, retry_safe: {retry_safe}, source: {kind:?})"
        )
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code, self.message)
    }
}

impl std::error::Error for Status {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        // The error itself is in the message.
        std::error::Error::source(self.source.as_deref()?)
    }
}
