//! The part of a request's body that was not at hand when the call was made.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::Body as _;
use notnets_core::call::Sent;
use tonic::Status;
use tonic::body::Body;

use super::status::from_tonic;
use crate::rpc::SendHalf;

/// Sends `data` and what is left of a body, which is nothing if it has `ended`. Ends with the call,
/// whoever ends it. If it is dropped before (the body has panicked, or the runtime ends), the call fails.
pub(super) async fn send_body(mut call: SendHalf, mut data: Bytes, body: Body, mut ended: bool) {
    let mut body = pin!(body);
    loop {
        // A body that has announced its end is not polled again.
        ended = ended || body.is_end_stream();
        if !data.is_empty() || ended {
            let sent = poll_fn(|cx| call.poll_send(cx, &mut data, ended)).await;
            if ended || sent == Sent::Stopped {
                return;
            }
        }
        match poll_fn(|cx| poll_next(cx, &mut call, body.as_mut())).await {
            Next::Data(next) => data = next,
            Next::End => ended = true,
            Next::Failed(status) => {
                tracing::debug!(%status, "a request's body failed");
                let status = from_tonic(&status);
                return call.fail(status.code(), status.message());
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
fn poll_next(cx: &mut Context<'_>, call: &mut SendHalf, body: Pin<&mut Body>) -> Poll<Next> {
    if call.poll_stopped(cx).is_ready() {
        return Poll::Ready(Next::Stopped);
    }
    match body.poll_frame(cx) {
        Poll::Pending => Poll::Pending,
        Poll::Ready(None) => Poll::Ready(Next::End),
        Poll::Ready(Some(Err(status))) => Poll::Ready(Next::Failed(status)),
        Poll::Ready(Some(Ok(frame))) => Poll::Ready(Next::Data(frame.into_data().unwrap_or_default())),
    }
}
