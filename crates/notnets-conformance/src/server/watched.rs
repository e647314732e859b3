//! Streams that tell the probe what is taken from them and when they are gone.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::sync::mpsc;
use tokio_stream::Stream;
use tonic::{Status, Streaming};

use super::probe::{Handler, Tally};

/// A boxed stream of replies, as the generated services want one named.
pub type Replies<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// The client's stream, whose messages are counted as `consumed`.
pub struct Requests<T> {
    inner: Streaming<T>,
    tally: Tally,
}

impl<T> Requests<T> {
    /// Watches the request stream of a handler.
    pub fn new(inner: Streaming<T>, handler: &Handler) -> Self {
        Self { inner, tally: handler.tally() }
    }
}

impl<T> Stream for Requests<T> {
    type Item = Result<T, Status>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let item = ready!(Pin::new(&mut self.inner).poll_next(cx));
        if let Some(Ok(_)) = item {
            self.tally.add(|counters| counters.consumed += 1);
        }
        Poll::Ready(item)
    }
}

impl<T> Drop for Requests<T> {
    fn drop(&mut self) {
        self.tally.add(|counters| counters.request_streams_gone += 1);
    }
}

/// Where a handler's code puts its replies.
pub struct Out<T>(mpsc::Sender<T>);

impl<T> Out<T> {
    /// Waits until the transport has room for this reply.
    pub async fn send(&self, reply: T) {
        // The receiver lives in the same stream as the code that calls this.
        let _ = self.0.send(reply).await;
    }
}

/// A reply stream out of straight code, which runs only while the transport
/// asks for replies. Counts them as `produced`; the handler ends when the code
/// does, and is dropped when the stream is dropped before.
pub fn replies<T, F>(handler: Handler, code: impl FnOnce(Out<T>) -> F) -> Replies<T>
where
    T: Send + 'static,
    F: Future<Output = Result<(), Status>> + Send + 'static,
{
    let (sender, receiver) = mpsc::channel(1);
    let code = Box::pin(code(Out(sender)));
    Box::pin(Generated { code: Some(code), receiver, failure: None, handler: Some(handler) })
}

struct Generated<T, F> {
    code: Option<Pin<Box<F>>>,
    receiver: mpsc::Receiver<T>,
    failure: Option<Status>,
    handler: Option<Handler>,
}

impl<T, F: Future<Output = Result<(), Status>>> Stream for Generated<T, F> {
    type Item = Result<T, Status>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        if let Some(code) = &mut this.code
            && let Poll::Ready(outcome) = code.as_mut().poll(cx)
        {
            // With the code its sender goes, so that the receiver gives what
            // is left and then its end.
            this.code = None;
            this.failure = outcome.err();
        }
        let reply = ready!(this.receiver.poll_recv(cx));
        if let (Some(_), Some(handler)) = (&reply, &this.handler) {
            handler.tally().add(|counters| counters.produced += 1);
        }
        if reply.is_none()
            && let Some(handler) = this.handler.take()
        {
            handler.finish();
        }
        Poll::Ready(reply.map(Ok).or_else(|| this.failure.take().map(Err)))
    }
}
