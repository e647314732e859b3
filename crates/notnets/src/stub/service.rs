//! Generated servers, and the calls that they are asked to serve directly.

use std::future::Future;
use std::pin::Pin;

use notnets_core::code::Code;
use notnets_core::metadata::Metadata;

use crate::http::{self, DirectCall, DirectService, Halves, Responding};

/// A generated server.
pub trait Service: Clone + Send + Sync + 'static {
    /// Begins to serve a call.
    fn serve(&self, call: Call) -> Serving;
}

impl<S: Service> DirectService for S {
    fn takes(&self, metadata: &Metadata) -> bool {
        http::takes(metadata)
    }

    fn serve(&self, call: DirectCall) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        Service::serve(self, Call(call)).0
    }
}

/// A call to be served.
pub struct Call(pub(super) DirectCall);

impl std::fmt::Debug for Call {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Call").field("path", &self.0.path).finish_non_exhaustive()
    }
}

/// Serves a call to its end.
pub struct Serving(pub(super) Pin<Box<dyn Future<Output = ()> + Send>>);

impl std::fmt::Debug for Serving {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Serving").finish_non_exhaustive()
    }
}

/// The limits of a server's messages.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    pub(super) decoding: Option<usize>,
    pub(super) encoding: Option<usize>,
}

impl Settings {
    /// The most bytes of a message that is received, and of one that is sent.
    pub fn new(max_decoding_message_size: Option<usize>, max_encoding_message_size: Option<usize>) -> Self {
        Self { decoding: max_decoding_message_size, encoding: max_encoding_message_size }
    }
}

impl Call {
    /// The path of the method.
    #[inline]
    pub fn path(&self) -> &str {
        &self.0.path
    }

    /// Answers that there is no such method.
    pub fn unimplemented(self) -> Serving {
        let Halves { response, .. } = self.0.halves;
        Serving(Box::pin(response.refuse(Code::UNIMPLEMENTED, "".into())))
    }
}

/// Answers what a server is asked with a request. `None` for a request that is to be served by HTTP.
#[inline]
pub fn answer<B, S: Service>(request: &mut ::http::Request<B>, service: &S) -> Option<Responding> {
    http::answer(request, service)
}
