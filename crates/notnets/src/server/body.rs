//! A request's body, as its handler reads it.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use notnets_core::call::{Buffered, End, Received, StreamId};
use tonic::Status;

use crate::http::status::to_tonic;
use crate::link::Link;

/// The body of a request.
pub(super) struct RequestBody {
    link: Arc<Link>,
    stream: StreamId,
    /// What came with the request itself.
    first: Option<Bytes>,
    ended: bool,
}

impl RequestBody {
    pub(super) fn new(link: Arc<Link>, stream: StreamId, buffered: Buffered) -> Self {
        Self { link, stream, first: buffered.data, ended: buffered.end == Some(End::Requests) }
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if let Some(first) = self.first.take() {
            return Poll::Ready(Some(Ok(Frame::data(first))));
        }
        if self.ended {
            return Poll::Ready(None);
        }
        let received = ready!(self.link.poll_request_data(cx, self.stream));
        if let Received::Data(data) = received {
            return Poll::Ready(Some(Ok(Frame::data(data))));
        }
        self.ended = true;
        Poll::Ready(match received {
            Received::End(End::Failed(failure)) => Some(Err(to_tonic(&failure.into()))),
            _ => None,
        })
    }

    fn is_end_stream(&self) -> bool {
        self.first.is_none() && self.ended
    }

    fn size_hint(&self) -> SizeHint {
        match (&self.first, self.ended) {
            (Some(first), true) => SizeHint::with_exact(first.len() as u64),
            (None, true) => SizeHint::with_exact(0),
            _ => SizeHint::default(),
        }
    }
}
