//! Services that serve calls without HTTP: those that `notnets-build` generates.
//!
//! A service that is added to a server is a tower service of whatever type. If its futures are
//! [`Responding`], which only generated services return, it is asked what serves its calls directly; and if
//! it is such a service behind an interceptor, the interceptor gets each call's head as a request, within
//! which the call itself goes on to the service.

use std::any::TypeId;
use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use http::{Extensions, HeaderMap, Request, Response, Uri};
use tonic::body::Body;
use tonic::codegen::BoxFuture;
use tonic::service::interceptor;

use super::head::boxed;
use super::respond::respond;
use super::service::{HttpService, call as call_service};
use crate::rpc::{RequestHalf, ResponseHalf, Serving, Turn};

/// A call, for what serves it directly.
pub(crate) struct DirectCall {
    /// The path of its method.
    pub(crate) path: Arc<str>,
    /// `None` if there are none. Boxed, for a call is moved about, and most have none.
    pub(crate) headers: Option<Box<HeaderMap>>,
    pub(crate) extensions: Extensions,
    pub(crate) halves: Halves,
}

/// The messages of a call, and when it may run.
pub(crate) struct Halves {
    pub(crate) turn: Turn,
    pub(crate) requests: RequestHalf,
    pub(crate) response: ResponseHalf,
}

/// Serves calls without HTTP.
pub(crate) trait DirectService: Send + Sync {
    /// Returns `true` if it serves calls with such a head. Others are served by HTTP.
    fn takes(&self, metadata: &notnets_core::metadata::Metadata) -> bool;

    /// Begins to serve a call.
    fn serve(&self, call: DirectCall) -> Serving;
}

/// Returns what serves the calls of a service directly, if there is something that does.
pub(super) fn find<S: HttpService>(service: &S) -> Option<Arc<dyn DirectService>> {
    let future = TypeId::of::<S::Future>();
    if future == TypeId::of::<Responding>() {
        return ask(service);
    }
    let intercepted = future == TypeId::of::<interceptor::ResponseFuture<Responding>>();
    intercepted.then(|| Arc::new(Intercepted(service.clone())) as _)
}

/// Asks a service that returns [`Responding`]. Whatever passes requests on to another one is not asked for
/// that one.
fn ask<S: HttpService>(service: &S) -> Option<Arc<dyn DirectService>> {
    let (question, request) = Question::of(Asked::Service(None));
    drop(service.clone().call(request));
    match question.take() {
        Some(Asked::Service(Some((of, direct)))) if of == TypeId::of::<S>() => Some(direct),
        _ => None,
    }
}

/// Among the extensions of a request to a generated service: what it is asked.
#[derive(Clone)]
pub(crate) struct Question(Arc<Mutex<Option<Asked>>>);

pub(crate) enum Asked {
    /// What serves its calls, and for which type.
    Service(Option<(TypeId, Arc<dyn DirectService>)>),
    /// To serve this call, whose head the request is.
    Call(Box<Halves>),
}

impl Question {
    fn of(asked: Asked) -> (Self, Request<Body>) {
        let question = Self(Arc::new(Mutex::new(Some(asked))));
        let mut request = Request::new(Body::empty());
        request.extensions_mut().insert(question.clone());
        (question, request)
    }

    fn take(&self) -> Option<Asked> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn put(&self, asked: Asked) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(asked);
    }
}

/// For a generated service: answers what it is asked with a request. `None` for a request that is to be
/// served by HTTP.
#[inline]
pub(crate) fn answer<B, S>(request: &mut Request<B>, service: &S) -> Option<Responding>
where
    S: DirectService + Clone + 'static,
{
    let question: Question = request.extensions_mut().remove()?;
    Some(answer_question(&question, request, service))
}

fn answer_question<B, S>(question: &Question, request: &mut Request<B>, service: &S) -> Responding
where
    S: DirectService + Clone + 'static,
{
    match question.take() {
        Some(Asked::Service(_)) => {
            question.put(Asked::Service(Some((TypeId::of::<S>(), Arc::new(service.clone())))));
            Responding::new(Box::pin(async { Ok(Response::default()) }))
        }
        Some(Asked::Call(halves)) => {
            let path = request.uri().path().into();
            let headers = boxed(std::mem::take(request.headers_mut()));
            let extensions = std::mem::take(request.extensions_mut());
            let serving = service.serve(DirectCall { path, headers, extensions, halves: *halves });
            Responding::new(Box::pin(async {
                serving.await;
                Ok(Response::default())
            }))
        }
        // Somebody has cloned the request.
        None => Responding::new(Box::pin(async {
            Ok(tonic::Status::internal("the request was served before").into_http())
        })),
    }
}

/// A generated service behind an interceptor.
struct Intercepted<S>(S);

impl<S: HttpService> DirectService for Intercepted<S> {
    fn takes(&self, metadata: &notnets_core::metadata::Metadata) -> bool {
        takes(metadata)
    }

    fn serve(&self, call: DirectCall) -> Serving {
        let DirectCall { path, headers, extensions, mut halves } = call;
        let service = self.0.clone();
        Box::pin(async move {
            halves.turn.come().await;
            let (question, mut request) = Question::of(Asked::Call(Box::new(halves)));
            *request.method_mut() = http::Method::POST;
            *request.uri_mut() = Uri::try_from(&*path).unwrap_or_default();
            *request.version_mut() = http::Version::HTTP_2;
            *request.headers_mut() = headers.map_or_else(HeaderMap::new, |headers| *headers);
            request.extensions_mut().extend(extensions);
            let response = call_service(service, request).await;
            // The interceptor has not let it pass.
            if let Some(Asked::Call(halves)) = question.take() {
                respond(response, halves.response).await;
            }
        })
    }
}

/// Returns `true` for calls that say nothing of compression, and are usual ones of gRPC in all else.
pub(crate) fn takes(metadata: &notnets_core::metadata::Metadata) -> bool {
    metadata.is_empty()
        || !metadata.iter().any(|(key, _)| {
            matches!(&**key, "grpc-encoding" | "grpc-accept-encoding" | "content-type" | ":method")
        })
}

/// The future of a generated service's response.
pub struct Responding(BoxFuture<Response<Body>, Infallible>);

impl Responding {
    /// A response that comes of this.
    #[doc(hidden)]
    pub fn new(response: BoxFuture<Response<Body>, Infallible>) -> Self {
        Self(response)
    }
}

impl std::fmt::Debug for Responding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Responding").finish_non_exhaustive()
    }
}

impl Future for Responding {
    type Output = Result<Response<Body>, Infallible>;

    #[inline]
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.0.as_mut().poll(cx)
    }
}
