//! From a call to the request that a service takes.

use std::sync::Arc;

use foldhash::HashMap;
use http::{HeaderMap, HeaderValue, Request, Uri};
use notnets_core::clock;
use notnets_core::code::Code;
use tonic::body::Body;
use tracing::Instrument;

use super::connect_info::ConnectInfo;
use super::head;
use super::request_body::RequestBody;
use super::service::AnyService;
use super::trace::TraceFn;
use crate::rpc::{IncomingCall, Serving};

/// A service, for the calls of one link.
pub(crate) struct HttpLink {
    service: Arc<dyn AnyService>,
    /// The head of a request without metadata.
    usual: HeaderMap,
    paths: Paths,
    trace: Option<TraceFn>,
    connect_info: ConnectInfo,
}

impl HttpLink {
    /// A service, for the calls of a client with that user agent.
    pub(crate) fn new(
        service: Arc<dyn AnyService>,
        user_agent: String,
        trace: Option<TraceFn>,
        connect_info: ConnectInfo,
    ) -> Self {
        let usual = head::usual_request(HeaderValue::try_from(user_agent).ok());
        Self { service, usual, paths: Paths::default(), trace, connect_info }
    }

    /// Begins to serve a call: what is returned is polled at once.
    pub(crate) fn serve(&mut self, call: IncomingCall) -> Serving {
        let IncomingCall { method: path, metadata, deadline, peer, turn, requests, response } = call;
        let Some(uri) = self.paths.parse(&path) else {
            let text = format!("{path:?} is not a method's path");
            return Box::pin(response.refuse(Code::UNIMPLEMENTED, text.into()));
        };
        let (method, mut headers) = head::request_head(metadata, &self.usual);
        if let Some(deadline) = deadline {
            head::set_timeout(&mut headers, clock::until(deadline));
        }
        let mut request = Request::new(Body::new(RequestBody(requests)));
        *request.method_mut() = method;
        *request.uri_mut() = uri;
        *request.version_mut() = http::Version::HTTP_2;
        *request.headers_mut() = headers;
        request.extensions_mut().insert(peer);
        self.connect_info.insert_into(request.extensions_mut());
        match &self.trace {
            None => self.service.serve(request, turn, response),
            Some(trace) => {
                let (span, request) = trace.span(request);
                let serving = span.in_scope(|| self.service.serve(request, turn, response));
                Box::pin(serving.instrument(span))
            }
        }
    }
}

/// The paths that were called, parsed: methods come again and again.
#[derive(Debug, Default)]
struct Paths(HashMap<Arc<str>, Uri>);

impl Paths {
    /// More than a server has methods; a client that calls what there isn't fills no memory.
    const MAX: usize = 1024;

    fn parse(&mut self, path: &Arc<str>) -> Option<Uri> {
        if let Some(uri) = self.0.get(path) {
            return Some(uri.clone());
        }
        let uri = Uri::try_from(&**path).ok()?;
        if self.0.len() < Self::MAX {
            self.0.insert(Arc::clone(path), uri.clone());
        }
        Some(uri)
    }
}
