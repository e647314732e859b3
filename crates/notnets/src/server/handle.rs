//! One request: from its frame to its handler, and back.

use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use foldhash::HashMap;
use http::{HeaderMap, Request, Response, Uri};
use http_body::Body as _;
use notnets_core::call::{self, AtHand, Sent};
use notnets_core::code::Code;
use tokio::sync::Semaphore;
use tonic::Status;
use tonic::body::Body;
use tower_service::Service;

use super::body::RequestBody;
use super::{BoxError, ResponseLike};
use crate::clock;
use crate::head::{self, PeerInfo};
use crate::link::{Link, State};

/// A service of any type: its errors have become responses.
pub(super) trait AnyService: Send + Sync {
    fn call(&self, request: Request<Body>) -> ResponseFuture;
}

type ResponseFuture = Pin<Box<dyn Future<Output = Response<Body>> + Send>>;

struct Erased<S>(S);

impl<S> AnyService for Erased<S>
where
    S: Service<Request<Body>, Response: ResponseLike, Error: Into<BoxError>> + Clone + Send + Sync + 'static,
    S::Future: Send + 'static,
{
    fn call(&self, request: Request<Body>) -> ResponseFuture {
        let mut service = self.0.clone();
        Box::pin(async move {
            let failed = |error: S::Error| Status::from_error(error.into()).into_http();
            if let Err(response) = poll_fn(|cx| service.poll_ready(cx).map_err(failed)).await {
                return response;
            }
            service.call(request).await.map_or_else(failed, ResponseLike::into_response)
        })
    }
}

pub(super) fn erase_like<S>(service: S) -> Arc<dyn AnyService>
where
    S: Service<Request<Body>, Response: ResponseLike, Error: Into<BoxError>> + Clone + Send + Sync + 'static,
    S::Future: Send + 'static,
{
    Arc::new(Erased(service))
}

pub(super) fn erase<S, B>(service: S) -> Arc<dyn AnyService>
where
    S: Service<Request<Body>, Response = Response<B>, Error: Into<BoxError>> + Clone + Send + Sync + 'static,
    S::Future: Send + 'static,
    B: http_body::Body<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
{
    erase_like(service)
}

/// What all requests of a link have in common.
pub(super) struct Caller {
    pub(super) service: Arc<dyn AnyService>,
    pub(super) peer: PeerInfo,
    /// The head of a request without metadata.
    pub(super) head: HeaderMap,
    pub(super) paths: Paths,
    pub(super) timeout: Option<std::time::Duration>,
    pub(super) running: Option<Arc<Semaphore>>,
    pub(super) load_shed: bool,
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

/// Runs a request's handler: polled once in place, and as a task of its own if it is not done then.
pub(super) fn start(caller: &mut Caller, link: &Arc<Link>, request: call::Request, at_hand: AtHand) {
    let stream = request.stream;
    let guard = CallGuard { link: Arc::clone(link), stream, over: false };
    let request = match http_request(caller, link, request, at_hand) {
        Ok(request) => request,
        Err(status) => {
            tokio::spawn(respond(guard, status.into_http()));
            return;
        }
    };
    let mut call: Pin<Box<dyn Future<Output = ()> + Send>> = Box::pin(handle(caller, guard, request));
    // Polled here with a waker that does nothing: if it is not done, a task polls it again at once,
    // with its own.
    let mut cx = Context::from_waker(std::task::Waker::noop());
    let polled = catch_unwind(AssertUnwindSafe(|| call.as_mut().poll(&mut cx)));
    if let Ok(Poll::Pending) = polled {
        tokio::spawn(Handler { link: Arc::clone(link), stream, call });
    }
}

fn http_request(
    caller: &mut Caller,
    link: &Arc<Link>,
    request: call::Request,
    at_hand: AtHand,
) -> Result<Request<Body>, Status> {
    let call::Request { stream, method: path, metadata, mut deadline } = request;
    if let Some(timeout) = caller.timeout {
        let own = clock::after(timeout);
        deadline = Some(deadline.map_or(own, |client| client.min(own)));
        link.with(|state| state.connection.shorten(stream, own));
    }
    let uri = caller.paths.parse(&path)?;
    let (method, mut headers) = head::request_head(metadata, &caller.head);
    if let Some(deadline) = deadline {
        head::set_timeout(&mut headers, clock::until(deadline));
    }
    let mut http = Request::new(Body::new(RequestBody::new(Arc::clone(link), stream, at_hand)));
    *http.method_mut() = method;
    *http.uri_mut() = uri;
    *http.version_mut() = http::Version::HTTP_2;
    *http.headers_mut() = headers;
    http.extensions_mut().insert(caller.peer);
    Ok(http)
}

fn handle(
    caller: &Caller,
    guard: CallGuard,
    request: Request<Body>,
) -> impl Future<Output = ()> + Send + use<> {
    let service = Arc::clone(&caller.service);
    let (running, load_shed) = (caller.running.clone(), caller.load_shed);
    async move {
        let _permit = match running {
            None => None,
            Some(running) if load_shed => match running.try_acquire_owned() {
                Ok(permit) => Some(permit),
                Err(_) => {
                    let status = Status::resource_exhausted("the server has too many calls at once");
                    return respond(guard, status.into_http()).await;
                }
            },
            Some(running) => running.acquire_owned().await.ok(),
        };
        let response = service.call(request).await;
        respond(guard, response).await;
    }
}

/// A handler, dropped as soon as its call is over without it.
struct Handler {
    link: Arc<Link>,
    stream: u64,
    call: Pin<Box<dyn Future<Output = ()> + Send>>,
}

impl Future for Handler {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let stream = self.stream;
        let open = self.link.with(|state| {
            if state.broken.is_some() || !state.connection.is_open(stream) {
                return false;
            }
            if let Some(waiters) = state.connection.user(stream) {
                waiters.wait_gone(cx.waker());
            }
            true
        });
        if open { self.call.as_mut().poll(cx) } else { Poll::Ready(()) }
    }
}

/// Resets the call if it is dropped before its response is sent: on a panic, or when the runtime ends.
struct CallGuard {
    link: Arc<Link>,
    stream: u64,
    over: bool,
}

impl Drop for CallGuard {
    fn drop(&mut self) {
        if !self.over {
            let reason =
                if std::thread::panicking() { "the handler panicked" } else { "the handler was dropped" };
            self.reset(Code::INTERNAL, reason);
        }
    }
}

impl CallGuard {
    fn reset(&mut self, code: Code, reason: &'static str) {
        self.over = true;
        self.link.with(|state| {
            if state.broken.is_none() {
                state.connection.reset(self.stream, code, reason);
            }
        });
    }

    /// Sends something, and waits for room as long as the call lives.
    async fn send(
        &self,
        mut send: impl FnMut(&mut State, u64) -> Result<Sent, call::HeadError>,
    ) -> Result<Sent, call::HeadError> {
        poll_fn(|cx| {
            self.link.with(|state| {
                if state.broken.is_some() {
                    return Poll::Ready(Ok(Sent::Stopped));
                }
                match send(state, self.stream) {
                    Ok(Sent::Nothing) => {
                        if let Some(waiters) = state.connection.user(self.stream) {
                            waiters.wait_writable(cx.waker());
                        }
                        Poll::Pending
                    }
                    sent => Poll::Ready(sent),
                }
            })
        })
        .await
    }
}

async fn respond(mut guard: CallGuard, response: Response<Body>) {
    match try_respond(&guard, response).await {
        Ok(()) | Err(Cut::Over) => guard.over = true,
        Err(Cut::HeadTooLarge(error)) => {
            tracing::debug!(%error, "a response could not be sent");
            guard.reset(Code::RESOURCE_EXHAUSTED, "response metadata too large");
        }
        Err(Cut::Body(status)) => {
            tracing::debug!(%status, "a response's body failed");
            guard.reset(Code(status.code() as u32), "the response's body failed");
        }
    }
}

/// Why a response could not be sent whole.
enum Cut {
    /// The call is over; nobody listens.
    Over,
    HeadTooLarge(call::HeadError),
    Body(Status),
}

impl From<call::HeadError> for Cut {
    fn from(error: call::HeadError) -> Self {
        Self::HeadTooLarge(error)
    }
}

async fn try_respond(guard: &CallGuard, response: Response<Body>) -> Result<(), Cut> {
    let (parts, mut body) = response.into_parts();
    let entries = || head::response_entries(&parts.status, &parts.headers);
    if let Some(status) = head::grpc_status(&parts.headers) {
        guard.send(|state, stream| state.connection.respond_trailers_only(stream, entries(), status)).await?;
        return Ok(());
    }
    // What is ready at once goes out with the head, a unary response in one frame.
    let mut first = Bytes::new();
    let mut trailers = None;
    let mut next = poll_fn(|cx| Poll::Ready(Pin::new(&mut body).poll_frame(cx))).await;
    if let Poll::Ready(Some(frame)) = next {
        match frame.map_err(Cut::Body)?.into_data() {
            Ok(data) => {
                first = data;
                next = poll_fn(|cx| Poll::Ready(Pin::new(&mut body).poll_frame(cx))).await;
            }
            Err(frame) => next = Poll::Ready(Some(Ok(frame))),
        }
    }
    let mut second = None;
    match next {
        Poll::Pending => {}
        Poll::Ready(None) => trailers = Some(HeaderMap::new()),
        Poll::Ready(Some(frame)) => match frame.map_err(Cut::Body)?.into_data() {
            Ok(data) => second = Some(data),
            Err(frame) => trailers = frame.into_trailers().ok(),
        },
    }
    let status = trailers.as_ref().map(|trailers| head::grpc_status(trailers).unwrap_or(Code::NONE));
    // One frame can end with a status; trailers with more than that take a frame of their own.
    let plain = trailers.as_ref().is_some_and(|trailers| head::trailer_entries(trailers).next().is_none());
    let with_head = status.filter(|_| plain);
    let sent = guard
        .send(|state, stream| state.connection.respond(stream, entries(), &mut first, with_head))
        .await?;
    if sent == Sent::Stopped || (sent == Sent::All && with_head.is_some()) {
        return Ok(());
    }
    send_data(guard, first).await?;
    if let Some(second) = second {
        send_data(guard, second).await?;
    }
    let trailers = match trailers {
        Some(trailers) => trailers,
        None => send_body(guard, body).await?,
    };
    let status = head::grpc_status(&trailers).unwrap_or(Code::NONE);
    guard
        .send(|state, stream| state.connection.finish(stream, head::trailer_entries(&trailers), status))
        .await?;
    Ok(())
}

/// Sends a body's data until its trailers.
async fn send_body(guard: &CallGuard, mut body: Body) -> Result<HeaderMap, Cut> {
    loop {
        let frame = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await;
        let Some(frame) = frame else { return Ok(HeaderMap::new()) };
        match frame.map_err(Cut::Body)?.into_data() {
            Ok(data) => send_data(guard, data).await?,
            Err(frame) => return Ok(frame.into_trailers().unwrap_or_default()),
        }
    }
}

async fn send_data(guard: &CallGuard, mut data: Bytes) -> Result<(), Cut> {
    match guard.send(|state, stream| Ok(state.connection.send(stream, &mut data, false))).await? {
        Sent::Stopped => Err(Cut::Over),
        _ => Ok(()),
    }
}
