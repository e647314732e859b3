//! From a call to the request that a service takes.

use std::sync::Arc;

#[cfg(feature = "stubs")]
use http::header::USER_AGENT;
use http::uri::{Authority, Scheme};
use http::{Extensions, HeaderMap, HeaderValue, Request, Uri};
use notnets_core::clock;
use tonic::body::Body;
use tracing::Instrument;

use super::connect_info::ConnectInfo;
#[cfg(feature = "stubs")]
use super::direct::{DirectCall, DirectService, Halves};
use super::head;
use super::request_body::RequestBody;
use super::service::AnyService;
use super::trace::TraceFn;
use crate::rpc::{IncomingCall, PeerInfo, Serving};

/// The user agent of a client whose application has set none begins with this.
#[cfg(feature = "stubs")]
const OUR_AGENT: &[u8] = b"notnets/";

/// The URI of a request for this authority, as over HTTP/2.
#[cold]
fn with_authority(path: Uri, authority: Authority) -> Uri {
    let mut parts = path.clone().into_parts();
    parts.scheme = Some(Scheme::HTTP);
    parts.authority = Some(authority);
    Uri::from_parts(parts).unwrap_or(path)
}

/// A service, for the calls of one link.
pub(crate) struct HttpLink {
    service: Arc<dyn AnyService>,
    /// The head of a request without metadata.
    usual: HeaderMap,
    /// The client's user agent, if it is one that its application has set.
    #[cfg(feature = "stubs")]
    own_agent: Option<HeaderValue>,
    trace: Option<TraceFn>,
    /// Those of each request: who the client is. To clone them takes less than to put them together.
    extensions: Extensions,
}

impl HttpLink {
    /// A service, for the calls of this client, which has that user agent.
    pub(crate) fn new(
        service: Arc<dyn AnyService>,
        peer: PeerInfo,
        user_agent: String,
        trace: Option<TraceFn>,
        connect_info: ConnectInfo,
    ) -> Self {
        let agent = HeaderValue::try_from(user_agent).ok().filter(|agent| !agent.is_empty());
        #[cfg(feature = "stubs")]
        let own_agent = agent.clone().filter(|agent| !agent.as_bytes().starts_with(OUR_AGENT));
        let usual = head::usual_request(agent);
        let mut extensions = Extensions::new();
        extensions.insert(peer);
        connect_info.insert_into(&mut extensions);
        Self {
            service,
            usual,
            #[cfg(feature = "stubs")]
            own_agent,
            trace,
            extensions,
        }
    }

    /// Begins to serve a call of the method with that path.
    pub(crate) fn serve(&self, call: IncomingCall, path: Uri) -> Serving {
        let IncomingCall { metadata, deadline, turn, requests, response, .. } = call;
        let (method, authority, mut headers) = head::request_head(metadata, &self.usual);
        if let Some(deadline) = deadline {
            head::set_timeout(&mut headers, clock::until(deadline));
        }
        let mut request = Request::new(Body::new(RequestBody::new(requests)));
        *request.method_mut() = method;
        *request.uri_mut() = match authority {
            None => path,
            Some(authority) => with_authority(path, authority),
        };
        *request.version_mut() = http::Version::HTTP_2;
        *request.headers_mut() = headers;
        *request.extensions_mut() = self.extensions.clone();
        match &self.trace {
            None => self.service.serve(request, turn, response),
            Some(trace) => {
                let (span, request) = trace.span(request);
                let serving = span.in_scope(|| self.service.serve(request, turn, response));
                Box::pin(serving.instrument(span))
            }
        }
    }

    /// Begins to serve a call without HTTP.
    #[cfg(feature = "stubs")]
    pub(crate) fn serve_directly(&self, call: IncomingCall, service: &dyn DirectService) -> Serving {
        let IncomingCall { method, metadata, deadline, turn, requests, response, .. } = call;
        let mut headers = None::<Box<HeaderMap>>;
        if let Some(agent) = &self.own_agent {
            headers.get_or_insert_default().insert(USER_AGENT, agent.clone());
        }
        if !metadata.is_empty() {
            head::extend(headers.get_or_insert_default(), metadata);
        }
        if let Some(deadline) = deadline {
            head::set_timeout(headers.get_or_insert_default(), clock::until(deadline));
        }
        let extensions = self.extensions.clone();
        let halves = Halves { turn, requests, response };
        service.serve(DirectCall { path: method, headers, extensions, halves })
    }
}
