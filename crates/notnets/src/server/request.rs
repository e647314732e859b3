//! From a request's frame to what a service takes.

use std::sync::Arc;

use foldhash::HashMap;
use http::{HeaderMap, Request, Uri};
use notnets_core::call::{self, Buffered};
use tokio::sync::Semaphore;
use tonic::Status;
use tonic::body::Body;

use super::body::RequestBody;
use super::context::ServerContext;
use crate::clock;
use crate::http::head;
use crate::link::Link;
use crate::rpc::PeerInfo;

/// What all requests of a link have in common.
pub(super) struct Caller {
    pub(super) server: Arc<ServerContext>,
    pub(super) peer: PeerInfo,
    /// The head of a request without metadata.
    pub(super) head: HeaderMap,
    pub(super) paths: Paths,
    pub(super) timeout: Option<std::time::Duration>,
    pub(super) running: Option<Arc<Semaphore>>,
    pub(super) load_shed: bool,
}

impl Caller {
    pub(super) fn request(
        &mut self,
        link: &Arc<Link>,
        request: call::Request,
        buffered: Buffered,
    ) -> Result<Request<Body>, Status> {
        let call::Request { stream, method: path, metadata, mut deadline, .. } = request;
        if let Some(timeout) = self.timeout {
            let own = clock::after(timeout);
            deadline = Some(deadline.map_or(own, |client| client.min(own)));
            link.shorten(stream, own);
        }
        let uri = self.paths.parse(&path)?;
        let (method, mut headers) = head::request_head(metadata, &self.head);
        if let Some(deadline) = deadline {
            head::set_timeout(&mut headers, clock::until(deadline));
        }
        let mut http = Request::new(Body::new(RequestBody::new(Arc::clone(link), stream, buffered)));
        *http.method_mut() = method;
        *http.uri_mut() = uri;
        *http.version_mut() = http::Version::HTTP_2;
        *http.headers_mut() = headers;
        http.extensions_mut().insert(self.peer);
        Ok(http)
    }
}

/// The paths that were called, parsed: methods come again and again.
#[derive(Debug, Default)]
pub(super) struct Paths(HashMap<Arc<str>, Uri>);

impl Paths {
    /// More than a server has methods; a client that calls what there isn't fills no memory.
    const MOST: usize = 1024;

    fn parse(&mut self, path: &Arc<str>) -> Result<Uri, Status> {
        if let Some(uri) = self.0.get(path) {
            return Ok(uri.clone());
        }
        let uri = Uri::try_from(&**path);
        let uri = uri.map_err(|_| Status::unimplemented(format!("{path:?} is no method's path")))?;
        if self.0.len() < Self::MOST {
            self.0.insert(Arc::clone(path), uri.clone());
        }
        Ok(uri)
    }
}
