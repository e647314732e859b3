//! A remark on a failed call's status beside its code: whether it is safe to call again.

use std::sync::Arc;

use crate::Error;

/// In the source of a [`tonic::Status`]: the server's application never saw the request, so that it is safe
/// to send it again, whatever it does.
///
/// ```
/// fn may_retry(status: &tonic::Status) -> bool {
///     std::error::Error::source(status).is_some_and(|source| source.is::<notnets::RetrySafe>())
/// }
/// ```
#[derive(Debug)]
pub struct RetrySafe(Option<Arc<Error>>);

impl RetrySafe {
    pub(crate) fn because_of(error: Option<Arc<Error>>) -> Self {
        Self(error)
    }
}

impl std::fmt::Display for RetrySafe {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the server's application never saw the request")
    }
}

impl std::error::Error for RetrySafe {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.as_deref().map(|error| error as _)
    }
}
