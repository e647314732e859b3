//! A request's body, as its handler reads it.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tonic::Status;

use super::status::to_tonic;
use crate::rpc::RequestHalf;

/// The body of a request.
pub(crate) struct RequestBody(pub(crate) RequestHalf);

impl Body for RequestBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        self.0.poll_data(cx).map(|received| {
            received.map(|received| match received {
                Ok(data) => Ok(Frame::data(data)),
                Err(failure) => Err(to_tonic(&failure.into())),
            })
        })
    }

    fn is_end_stream(&self) -> bool {
        self.0.known_len() == Some(0)
    }

    fn size_hint(&self) -> SizeHint {
        self.0.known_len().map_or_else(SizeHint::default, |len| SizeHint::with_exact(len as u64))
    }
}
