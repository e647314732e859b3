//! A response's body: data as they come, then trailers.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame};
use notnets_core::call::{Buffered, End, Received};
use notnets_core::messages::Messages;
use tonic::Status;

use super::head;
use super::status::to_tonic;
use crate::rpc::{Call, Pieces};

/// The body of a call's response. Dropping it before its end cancels the call.
pub(crate) struct ResponseBody {
    call: Call,
    buffered: Buffered,
    over: bool,
    messages: Messages,
}

impl ResponseBody {
    /// A body that is read by somebody who keeps parts of messages.
    pub(crate) fn new(call: Call, buffered: Buffered) -> Self {
        Self { call, buffered, over: false, messages: Messages::Between }
    }

    /// A body that is read by somebody who says what is kept of it.
    #[cfg(feature = "stubs")]
    pub(crate) fn of_pieces(call: Call, buffered: Buffered) -> Self {
        Self { messages: Messages::Unknown, ..Self::new(call, buffered) }
    }

    /// The data as they are read.
    fn data(&mut self, data: Bytes) -> Frame<Bytes> {
        self.messages.after(&data);
        if self.messages.unfinished() > 0 {
            self.call.keep_unfinished(self.messages.unfinished());
        }
        Frame::data(data)
    }
}

#[cfg(feature = "stubs")]
impl Pieces for ResponseBody {
    fn gather(&self, first: Bytes, total: usize) -> Result<(), Bytes> {
        let Self { call, buffered, over, .. } = self;
        let is_next = !over && buffered.data.is_none() && buffered.end.is_none();
        if is_next { call.gather(first, total) } else { Err(first) }
    }

    fn keep_unfinished(&self, bytes: usize) {
        if !self.over {
            self.call.keep_unfinished(bytes);
        }
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = &mut *self;
        if let Some(data) = this.buffered.data.take() {
            return Poll::Ready(Some(Ok(this.data(data))));
        }
        if this.over {
            return Poll::Ready(None);
        }
        let end = match this.buffered.end.take() {
            Some(end) => end,
            None => match ready!(this.call.poll_data(cx)) {
                Received::Data(data) => return Poll::Ready(Some(Ok(this.data(data)))),
                Received::End(end) => end,
                Received::Pending => return Poll::Pending,
            },
        };
        this.over = true;
        this.call.end();
        Poll::Ready(match end {
            End::Trailers(status, metadata) => {
                let trailers = head::trailers(metadata, status);
                (!trailers.is_empty()).then(|| Ok(Frame::trailers(trailers)))
            }
            End::Failed(failure) => Some(Err(to_tonic(&failure.into()))),
            End::Requests => None,
        })
    }

    fn is_end_stream(&self) -> bool {
        self.over
    }
}
