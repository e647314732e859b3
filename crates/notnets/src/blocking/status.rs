//! What a call ends with that does not end well.

use std::fmt;

use notnets_core::call::Failure;
use notnets_core::code::Code;
use notnets_core::metadata::Metadata;

use crate::{Error, status_message};

/// A gRPC status that is not OK.
#[derive(Clone, PartialEq, Eq)]
pub struct Status {
    /// The code.
    pub code: Code,
    /// What happened, in a sentence.
    pub message: String,
    /// What came or goes with it.
    pub metadata: Metadata,
    /// For a client: the server's application has never seen the request, so it is safe to call again.
    pub retry_safe: bool,
}

impl Status {
    /// A status without metadata.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), metadata: Metadata::new(), retry_safe: false }
    }

    /// What a handler answers that does not know the method.
    pub fn unknown_method(method: &str) -> Self {
        Self::new(Code::UNIMPLEMENTED, format!("there is no method {method}"))
    }

    /// From what the server ended the call with.
    pub(super) fn from_trailers(code: Code, mut metadata: Metadata) -> Self {
        let mut message = String::new();
        metadata.retain(|(key, value)| {
            let is_message = &**key == status_message::KEY;
            if is_message {
                message = status_message::decode(value);
            }
            !is_message
        });
        let (code, message) = match code {
            Code::NONE => (Code::UNKNOWN, "the response has no status".to_owned()),
            code => (code, message),
        };
        Self { code, message, metadata, retry_safe: false }
    }
}

impl fmt::Debug for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { code, message, metadata, retry_safe } = self;
        // `main` and `unwrap` print this.
        write!(f, "Status({code}: {message:?}, metadata: {metadata:?}, retry_safe: {retry_safe})")
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code, self.message)
    }
}

impl std::error::Error for Status {}

/// Of a call that found no server.
impl From<Error> for Status {
    fn from(error: Error) -> Self {
        Self { retry_safe: true, ..Self::new(error.code(), error.to_string()) }
    }
}

impl From<Failure> for Status {
    fn from(failure: Failure) -> Self {
        let Failure { code, message, retry_safe, .. } = failure;
        Self { retry_safe, ..Self::new(code, &*message) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_unwrap_prints_begins_with_the_code_and_the_sentence() {
        let status = Status::unknown_method("/shout.Shout/Softer");
        let begin = r#"Status(UNIMPLEMENTED: "there is no method /shout.Shout/Softer", "#;
        assert!(format!("{status:#?}").starts_with(begin), "{status:#?}");
    }

    #[test]
    fn the_message_is_not_among_the_metadata() {
        let entries = [(status_message::KEY.into(), "no%20bread".into()), ("k".into(), "v".into())];
        let status = Status::from_trailers(Code::UNKNOWN, entries.into());
        assert_eq!((&*status.message, status.metadata.len()), ("no bread", 1));
    }
}
