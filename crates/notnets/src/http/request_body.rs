//! A request's body, as its handler reads it.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use notnets_core::messages::Messages;
use tonic::Status;

use super::status::to_tonic;
use crate::rpc::{Pieces, RequestHalf};

/// The body of a request.
pub(crate) struct RequestBody {
    half: RequestHalf,
    messages: Messages,
}

impl RequestBody {
    /// A body that is read by somebody who keeps parts of messages.
    pub(crate) fn new(half: RequestHalf) -> Self {
        Self { half, messages: Messages::Between }
    }

    /// A body that is read by somebody who says what is kept of it.
    #[cfg(feature = "stubs")]
    pub(crate) fn of_pieces(half: RequestHalf) -> Self {
        Self { half, messages: Messages::Unknown }
    }
}

#[cfg(feature = "stubs")]
impl Pieces for RequestBody {
    fn gather(&self, first: Bytes, total: usize) -> Result<(), Bytes> {
        self.half.gather(first, total)
    }

    fn keep_unfinished(&self, bytes: usize) {
        self.half.keep_unfinished(bytes);
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let Self { half, messages } = &mut *self;
        half.poll_data(cx).map(|received| {
            received.map(|received| match received {
                Ok(data) => {
                    messages.after(&data);
                    if messages.unfinished() > 0 {
                        half.keep_unfinished(messages.unfinished());
                    }
                    Ok(Frame::data(data))
                }
                Err(failure) => Err(to_tonic(&failure.into())),
            })
        })
    }

    fn is_end_stream(&self) -> bool {
        self.half.known_len() == Some(0)
    }

    fn size_hint(&self) -> SizeHint {
        self.half.known_len().map_or_else(SizeHint::default, |len| SizeHint::with_exact(len as u64))
    }
}
