//! A span for each request.

use std::fmt;
use std::sync::Arc;

use http::Request;
use tonic::body::Body;
use tracing::Span;

/// Makes the span in which a request is served.
#[derive(Clone)]
pub(crate) struct TraceFn(Arc<MakeSpan>);

type MakeSpan = dyn Fn(&Request<()>) -> Span + Send + Sync;

impl TraceFn {
    pub(crate) fn new(make: impl Fn(&Request<()>) -> Span + Send + Sync + 'static) -> Self {
        Self(Arc::new(make))
    }

    /// The span of a request, made from its head.
    pub(super) fn span(&self, request: Request<Body>) -> (Span, Request<Body>) {
        let (head, body) = request.into_parts();
        let request = Request::from_parts(head, ());
        let span = (self.0)(&request);
        (span, request.map(|()| body))
    }
}

impl fmt::Debug for TraceFn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TraceFn")
    }
}
