//! What a server serves: services of the [`rpc`](crate::rpc) layer by their names, all else over HTTP.

use std::sync::Arc;

use foldhash::HashMap;
use http::Uri;
use notnets_core::code::Code;

use crate::http::{AnyService, ConnectInfo, HttpLink, TraceFn};
#[cfg(feature = "stubs")]
use crate::http::{DirectService, DirectServices};
use crate::rpc::{AnyHandler, IncomingCall, PeerInfo, Serving};

/// Services of the rpc layer, by their names.
#[derive(Clone, Default)]
pub(super) struct RpcServices(Arc<HashMap<Arc<str>, Arc<dyn AnyHandler>>>);

impl RpcServices {
    pub(super) fn add(&mut self, name: Arc<str>, handler: Arc<dyn AnyHandler>) {
        Arc::make_mut(&mut self.0).insert(name, handler);
    }
}

impl std::fmt::Debug for RpcServices {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

/// All services of a server.
pub(super) struct Services {
    pub(super) rpc: RpcServices,
    pub(super) http: Arc<dyn AnyService>,
    /// Those of the services that are served over HTTP whose calls need not be.
    #[cfg(feature = "stubs")]
    pub(super) direct: DirectServices,
}

impl Services {
    /// Only what is served over HTTP.
    pub(super) fn of_http(http: Arc<dyn AnyService>) -> Self {
        Self {
            rpc: RpcServices::default(),
            http,
            #[cfg(feature = "stubs")]
            direct: DirectServices::default(),
        }
    }

    /// These services, for the calls of a client.
    pub(super) fn for_link(
        &self,
        peer: &PeerInfo,
        user_agent: String,
        trace: Option<TraceFn>,
        connect_info: ConnectInfo,
    ) -> LinkServices {
        let service = self.http.for_link(peer).unwrap_or_else(|| Arc::clone(&self.http));
        let http = HttpLink::new(service, *peer, user_agent, trace, connect_info);
        LinkServices {
            rpc: self.rpc.clone(),
            http,
            #[cfg(feature = "stubs")]
            direct: Arc::clone(&self.direct),
        }
    }
}

/// A server's services, for the calls of one link.
pub(super) struct LinkServices {
    rpc: RpcServices,
    http: HttpLink,
    #[cfg(feature = "stubs")]
    direct: DirectServices,
}

/// What serves the calls of a method.
pub(super) enum Target {
    Rpc(Arc<dyn AnyHandler>),
    /// Without HTTP, if the call can be.
    #[cfg(feature = "stubs")]
    Direct(Arc<DirectTarget>),
    Http(Uri),
    /// Its path is none.
    Unknown,
}

/// A service whose calls need no HTTP, and the path of a method for those that do.
#[cfg(feature = "stubs")]
pub(super) struct DirectTarget {
    service: Arc<dyn DirectService>,
    path: Uri,
}

impl LinkServices {
    /// Finds what serves the method with that path.
    pub(super) fn find(&self, path: &str) -> Target {
        let name = path.strip_prefix('/').and_then(|path| path.split_once('/')).map(|(name, _)| name);
        if let Some(handler) = name.and_then(|name| self.rpc.0.get(name)) {
            return Target::Rpc(Arc::clone(handler));
        }
        let Ok(uri) = Uri::try_from(path) else { return Target::Unknown };
        #[cfg(feature = "stubs")]
        if let Some(service) = name.and_then(|name| self.direct.get(name)) {
            return Target::Direct(Arc::new(DirectTarget { service: Arc::clone(service), path: uri }));
        }
        Target::Http(uri)
    }

    /// Begins to serve a call: what is returned is polled at once, or as a task.
    pub(super) fn serve(&self, call: IncomingCall, target: &Target) -> Serving {
        match target {
            Target::Rpc(handler) => handler.serve(call),
            #[cfg(feature = "stubs")]
            Target::Direct(target) if target.service.takes(&call.metadata) => {
                self.http.serve_directly(call, &*target.service)
            }
            #[cfg(feature = "stubs")]
            Target::Direct(target) => self.http.serve(call, target.path.clone()),
            Target::Http(uri) => self.http.serve(call, uri.clone()),
            Target::Unknown => {
                let text = format!("{:?} is not a method's path", call.method);
                Box::pin(call.response.refuse(Code::UNIMPLEMENTED, text.into()))
            }
        }
    }
}
