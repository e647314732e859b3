//! Handlers, which a server runs for its calls.

use std::future::Future;
use std::sync::Arc;

use super::ServerCall;
use super::incoming::{IncomingCall, Serving};
use crate::message_prefix::MAX_MESSAGE_SIZE;
use crate::rpc::{Code, Payload, Reply, Request, Status, protocol};

/// Serves the calls of a service: all its methods, of all four kinds.
///
/// ```no_run
/// use notnets::rpc::{Handler, ServerCall, Status};
///
/// struct Echo;
///
/// impl Handler for Echo {
///     async fn call(&self, call: &mut ServerCall) -> Result<(), Status> {
///         match call.method.name() {
///             "Unary" => {
///                 let message = call.requests.only_message().await?;
///                 call.responses.send_last(message).await
///             }
///             "Stream" => {
///                 while let Some(message) = call.requests.message().await? {
///                     call.responses.send(message).await?;
///                 }
///                 Ok(())
///             }
///             _ => Err(Status::unknown_method(&call.method)),
///         }
///     }
/// }
///
/// # async fn example() -> Result<(), notnets::Error> {
/// notnets::Server::builder().add_rpc_service("echo.Echo", Echo).serve("notnets:///echo").await
/// # }
/// ```
pub trait Handler: Send + Sync + 'static {
    /// Serves a call. Its result is the call's status; an error's metadata are its trailers.
    ///
    /// The future is dropped when the client goes away and when the deadline passes. If it panics the client
    /// gets `INTERNAL`.
    fn call(&self, call: &mut ServerCall) -> impl Future<Output = Result<(), Status>> + Send;
}

/// A handler of unary calls only.
///
/// ```no_run
/// use notnets::rpc::{self, Payload, Reply, Request, Status};
///
/// # async fn example() -> Result<(), notnets::Error> {
/// let echo = rpc::unary(|_request: Request, message: Payload| async {
///     Ok::<_, Status>(Reply::new(message))
/// });
/// notnets::Server::builder().add_rpc_service("echo.Echo", echo).serve("notnets:///echo").await
/// # }
/// ```
pub fn unary<F, R>(handler: F) -> Unary<F>
where
    F: Fn(Request, Payload) -> R + Send + Sync + 'static,
    R: Future<Output = Result<Reply, Status>> + Send,
{
    Unary { handler, max_message_size: MAX_MESSAGE_SIZE }
}

/// The handler that [`unary`] makes of a function.
#[derive(Clone, Copy, Debug)]
pub struct Unary<F> {
    handler: F,
    max_message_size: usize,
}

impl<F> Unary<F> {
    /// Refuses requests of more bytes with `RESOURCE_EXHAUSTED`. 4 MiB unless set.
    ///
    /// ```
    /// use notnets::rpc::{self, Payload, Reply, Request, Status};
    ///
    /// let store = rpc::unary(|_request: Request, message: Payload| async move {
    ///     Ok::<_, Status>(Reply::new(message.len().to_string()))
    /// });
    /// let store = store.max_message_size(64 << 20);
    /// let server = notnets::Server::builder().add_rpc_service("store.Store", store);
    /// # drop(server);
    /// ```
    #[must_use]
    pub fn max_message_size(mut self, bytes: usize) -> Self {
        self.max_message_size = bytes;
        self
    }
}

impl<F, R> Handler for Unary<F>
where
    F: Fn(Request, Payload) -> R + Send + Sync + 'static,
    R: Future<Output = Result<Reply, Status>> + Send,
{
    async fn call(&self, call: &mut ServerCall) -> Result<(), Status> {
        call.requests.set_max_message_size(self.max_message_size);
        let message = call.requests.only_message().await?;
        let mut request = Request::new(call.method.clone());
        request.metadata = std::mem::take(&mut call.metadata);
        request.deadline = call.deadline;
        let Reply { metadata, message, trailers } = (self.handler)(request, message).await?;
        if let Some(head) = call.responses.metadata() {
            *head = metadata;
        }
        *call.responses.trailers() = trailers;
        call.responses.send_last(message).await
    }
}

/// A handler whose type is forgotten.
pub(crate) trait AnyHandler: Send + Sync {
    fn serve(&self, call: IncomingCall) -> Serving;
}

pub(crate) fn erase(handler: impl Handler) -> Arc<dyn AnyHandler> {
    Arc::new(Erased(Arc::new(handler)))
}

struct Erased<H>(Arc<H>);

impl<H: Handler> AnyHandler for Erased<H> {
    fn serve(&self, mut call: IncomingCall) -> Serving {
        if let Some(other) = protocol::take_other_type(&mut call.metadata) {
            let text = String::from_utf8_lossy(&other);
            let text = format!("a request of type {text:?}: this service speaks gRPC only");
            return Box::pin(call.response.refuse(Code::UNIMPLEMENTED, text.into()));
        }
        let handler = Arc::clone(&self.0);
        let (mut call, mut turn) = ServerCall::new(call);
        Box::pin(async move {
            turn.come().await;
            let result = handler.call(&mut call).await;
            call.responses.finish(result).await;
        })
    }
}
