//! Servers and clients for tests that look below gRPC: any HTTP service, any body.
#![allow(dead_code, reason = "each test file uses its own part of this")]

pub mod outside;
pub mod raw;

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::mpsc;
use std::task::{Context, Poll};
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body::Frame;
use notnets::{Bound, Channel, Endpoint, Server};
use tokio::sync::oneshot;
use tonic::Status;
use tonic::body::Body;
use tower_service::Service;

pub const LIMIT: Duration = Duration::from_secs(20);

/// Nothing in these tests takes long, unless it hangs.
pub async fn within<T>(what: &str, work: impl Future<Output = T>) -> T {
    match tokio::time::timeout(LIMIT, work).await {
        Ok(done) => done,
        Err(_) => panic!("{what}: not within {LIMIT:?}"),
    }
}

type Answer = Pin<Box<dyn Future<Output = Response<Body>> + Send>>;

/// A service made of a function.
#[derive(Clone)]
pub struct Handler<F>(pub F);

impl<F, A> Service<Request<Body>> for Handler<F>
where
    F: Fn(Request<Body>) -> A + Send + Sync + 'static,
    A: Future<Output = Response<Body>> + Send + 'static,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let answer: Answer = Box::pin((self.0)(request));
        Box::pin(async move { Ok(answer.await) })
    }
}

/// A server that is dropped, with all its links, when this is.
pub struct Host {
    pub directory: tempfile::TempDir,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Host {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Host {
    pub fn serve<F, A>(builder: Server, handler: F) -> Self
    where
        F: Fn(Request<Body>) -> A + Clone + Send + Sync + 'static,
        A: Future<Output = Response<Body>> + Send + 'static,
    {
        let directory = tempfile::tempdir().unwrap();
        let server = builder.directory(directory.path());
        let bound = server.bind_service_blocking("notnets:///test", Handler(handler)).unwrap();
        let task = tokio::spawn(async move { bound.serve().await.unwrap() });
        Self { directory, task }
    }

    pub fn endpoint(&self) -> Endpoint {
        Endpoint::from_static("notnets:///test").directory(self.directory.path())
    }

    pub async fn connect(&self) -> Channel {
        within("connecting", self.endpoint().connect()).await.unwrap()
    }
}

/// A server's task, which can be told to stop, and ends at once when this is dropped.
pub struct Running {
    stop: Option<oneshot::Sender<()>>,
    pub task: tokio::task::JoinHandle<()>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Running {
    pub fn start(bound: Bound) -> Self {
        let (stop, stopped) = oneshot::channel::<()>();
        let stopped = async {
            if stopped.await.is_err() {
                std::future::pending::<()>().await;
            }
        };
        let task = tokio::spawn(async move { bound.serve_with_shutdown(stopped).await.unwrap() });
        Self { stop: Some(stop), task }
    }

    /// Tells it to stop.
    pub fn tell(&mut self) {
        self.stop.take().unwrap().send(()).unwrap();
    }

    /// Takes no more calls, and ends with the last one.
    pub async fn stop(mut self) {
        self.tell();
        within("stopping", &mut self.task).await.unwrap();
    }

    /// Ends by itself.
    pub async fn ended(mut self) {
        within("ending", &mut self.task).await.unwrap();
    }

    /// Ends at once, with all links.
    pub async fn kill(mut self) {
        self.task.abort();
        let _ended = within("ending", &mut self.task).await;
    }
}

/// Calls a path.
pub fn call(channel: &Channel, path: &str, body: Body) -> notnets::ResponseFuture {
    let request = Request::builder().method("POST").uri(path).body(body).unwrap();
    channel.clone().call(request)
}

/// A reply that is a status only.
pub fn ok() -> Response<Body> {
    Status::ok("").into_http()
}

/// A reply that says which task has run its handler.
pub fn ok_from_task() -> Response<Body> {
    let mut response = ok();
    let task = tokio::task::id().to_string();
    response.headers_mut().insert("task", task.parse().unwrap());
    response
}

/// Calls a method that answers with [`ok_from_task`] until its handlers run in place, one after the other in
/// the task that drives the link. On a busy machine short handlers may not be short for long: then it goes
/// on.
pub async fn until_in_place(channel: &Channel, path: &str) {
    let mut tasks = Vec::new();
    for _ in 0..500 {
        let response = within("a short call", call(channel, path, Body::empty())).await.unwrap();
        let task = response.headers()["task"].clone();
        tasks.retain(|other| *other == task);
        tasks.push(task);
        if tasks.len() == 10 {
            break;
        }
    }
}

/// Keeps a runtime from sleeping as a whole. A worker of tokio's that wakes to what its sockets and timers
/// have runs the task itself, and while that blocks nobody looks at them, if the other workers sleep: then
/// nothing goes on in that runtime, whatever waits there. `block_in_place` is its way to say so.
pub struct Awake(Option<(mpsc::Sender<()>, JoinHandle<()>)>);

impl Awake {
    pub fn keep() -> Self {
        let runtime = tokio::runtime::Handle::current();
        let (stop, stopped) = mpsc::channel();
        let thread = std::thread::spawn(move || {
            while stopped.recv_timeout(Duration::from_millis(1)) == Err(mpsc::RecvTimeoutError::Timeout) {
                runtime.spawn(std::future::ready(()));
            }
        });
        Self(Some((stop, thread)))
    }
}

impl Drop for Awake {
    fn drop(&mut self) {
        if let Some((stop, thread)) = self.0.take() {
            drop(stop);
            thread.join().unwrap();
        }
    }
}

/// A body of which each frame comes from a function.
pub struct Frames<F>(pub F);

impl<F> http_body::Body for Frames<F>
where
    F: FnMut(&mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> + Unpin,
{
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        (self.0)(cx)
    }
}

/// The next data of a body, or `None` at its end.
pub async fn data(body: &mut Body) -> Option<Result<Bytes, Status>> {
    loop {
        let frame = std::future::poll_fn(|cx| http_body::Body::poll_frame(Pin::new(&mut *body), cx)).await?;
        match frame.map(Frame::into_data) {
            Ok(Ok(data)) => return Some(Ok(data)),
            Ok(Err(_trailers)) => {}
            Err(status) => return Some(Err(status)),
        }
    }
}

/// Polls once.
pub async fn poll_once<T: Unpin + Future>(future: &mut T) -> Poll<T::Output> {
    std::future::poll_fn(|cx| Poll::Ready(Pin::new(&mut *future).poll(cx))).await
}
