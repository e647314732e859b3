//! A response's body: data as they come, then trailers.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame};
use notnets_core::call::{End, Received};
use tonic::Status;

use super::call::Call;
use crate::error::failure_status;
use crate::head;

/// The body of a call's response. Dropping it before its end cancels the call.
pub(super) struct ResponseBody {
    /// `None` after the end.
    call: Option<Call>,
}

impl ResponseBody {
    pub(super) fn new(call: Call) -> Self {
        Self { call: Some(call) }
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let Some(call) = &self.call else { return Poll::Ready(None) };
        let stream = call.stream;
        let received = call.link.0.poll_received(cx, stream, |state| {
            match (state.connection.take(stream), &state.broken) {
                (Received::Pending, None) => None,
                (Received::Pending, Some(failure)) => Some(Received::End(End::Failed(failure.clone()))),
                (received, _) => Some(received),
            }
        });
        let Poll::Ready(received) = received else { return Poll::Pending };
        let frame = match received {
            Received::Data(data) => return Poll::Ready(Some(Ok(Frame::data(data)))),
            Received::End(End::Trailers(status, metadata)) => {
                let trailers = head::trailers(metadata, status);
                (!trailers.is_empty()).then(|| Ok(Frame::trailers(trailers)))
            }
            Received::End(End::Failed(failure)) => Some(Err(failure_status(&failure))),
            Received::End(End::Requests) | Received::Pending => None,
        };
        self.call = None;
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.call.is_none()
    }
}
