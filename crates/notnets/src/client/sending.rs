//! The part of a request's body that was not at hand when the call was made.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;

use bytes::Bytes;
use http_body::Body as _;
use notnets_core::call::{Sent, StreamId};
use notnets_core::code::Code;
use tonic::Status;
use tonic::body::Body;

use super::channel::ClientLink;

/// Sends `data` and what is left of a body, which is nothing if it has `ended`. Ends with the call,
/// whoever ends it.
pub(super) async fn send_body(link: Arc<ClientLink>, stream: StreamId, data: Bytes, body: Body, ended: bool) {
    let mut sending = Sending { link, stream, over: false };
    send_all(&sending.link, stream, data, body, ended).await;
    sending.over = true;
}

/// Ends the call if its body can't be sent any more: it has panicked, or its runtime ends.
struct Sending {
    link: Arc<ClientLink>,
    stream: StreamId,
    over: bool,
}

impl Drop for Sending {
    fn drop(&mut self) {
        if !self.over {
            let status = Status::cancelled("the request's body was dropped before its end");
            self.link.0.with(|state| state.fail_sending(self.stream, &status));
        }
    }
}

async fn send_all(link: &ClientLink, stream: StreamId, mut data: Bytes, body: Body, mut ended: bool) {
    let mut body = pin!(body);
    loop {
        // A body that has said that it ends is not asked again.
        ended = ended || body.is_end_stream();
        if (!data.is_empty() || ended) && send(link, stream, &mut data, ended).await == Sent::Stopped {
            return;
        }
        if ended {
            return;
        }
        match next(link, stream, body.as_mut()).await {
            Next::Data(next) => data = next,
            Next::End => ended = true,
            Next::Failed(status) => {
                tracing::debug!(%status, "a request's body failed");
                link.0.with(|state| state.fail_sending(stream, &status));
                return;
            }
            Next::Stopped => return,
        }
    }
}

enum Next {
    Data(Bytes),
    End,
    Failed(Status),
    Stopped,
}

/// The body's next data. Does not outwait the call: a stream that the application never ends is let
/// go of when its call is over.
async fn next(link: &ClientLink, stream: StreamId, mut body: Pin<&mut Body>) -> Next {
    poll_fn(|cx| {
        let open = link.0.with(|state| match state.connection.is_sending(stream) && state.broken.is_none() {
            true => {
                if let Some(wakers) = state.connection.user(stream) {
                    wakers.wait_writable(cx.waker());
                }
                true
            }
            false => false,
        });
        if !open {
            return Poll::Ready(Next::Stopped);
        }
        match body.as_mut().poll_frame(cx) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(None) => Poll::Ready(Next::End),
            Poll::Ready(Some(Err(status))) => Poll::Ready(Next::Failed(status)),
            Poll::Ready(Some(Ok(frame))) => Poll::Ready(Next::Data(frame.into_data().unwrap_or_default())),
        }
    })
    .await
}

async fn send(link: &ClientLink, stream: StreamId, data: &mut Bytes, end: bool) -> Sent {
    poll_fn(|cx| {
        link.0.with(|state| {
            if state.broken.is_some() {
                return Poll::Ready(Sent::Stopped);
            }
            match state.connection.send(stream, data, end) {
                Sent::Nothing | Sent::Part => {
                    if let Some(wakers) = state.connection.user(stream) {
                        wakers.wait_writable(cx.waker());
                    }
                    Poll::Pending
                }
                sent => Poll::Ready(sent),
            }
        })
    })
    .await
}

impl crate::link::State {
    /// The application's body failed: the call gets that status, and the server a reset.
    fn fail_sending(&mut self, stream: StreamId, status: &Status) {
        if self.broken.is_none() {
            let message = status.message();
            self.connection.fail_locally(stream, Code(status.code() as u32), message);
        }
    }
}
