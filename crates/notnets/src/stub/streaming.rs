//! tonic's `Streaming`, fed with messages.
//!
//! A `Streaming` reads the bytes of a body into a buffer, looks for messages there, and has a decoder decode
//! them. What is received here is messages already. So its body yields an empty message for each of them,
//! five bytes, and its decoder takes the message from where the body has put it.

use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame};
use notnets_core::frame::PREFIX;
use prost::Message;
use tonic::Status;
use tonic::codec::{BufferSettings, DecodeBuf, Decoder};

use super::decoded::Decoding;
#[cfg(feature = "server")]
use crate::http::RequestBody;
#[cfg(feature = "client")]
use crate::http::ResponseBody;
use crate::rpc::Pieces;

/// A body that can put messages together.
pub(super) trait MessageBody: Body<Data = Bytes, Error = Status> + Pieces {}

#[cfg(feature = "server")]
impl MessageBody for RequestBody {}

#[cfg(feature = "client")]
impl MessageBody for ResponseBody {}

impl MessageBody for tonic::body::Body {}

impl Pieces for tonic::body::Body {
    fn gather(&self, first: Bytes, _total: usize) -> Result<(), Bytes> {
        Err(first)
    }

    // The body within this one does.
    fn keep_unfinished(&self, _bytes: usize) {}
}

/// What stands for a message.
const EMPTY: &[u8] = &[0; PREFIX];

/// Returns the body and the decoder of a `Streaming` that yields the messages in the data of `body`.
pub(super) fn messages<B, M>(body: B, decoding: Decoding) -> (Messages<B, M>, Taking<M>) {
    let place = Place(Arc::default());
    let taking = Taking(Place(Arc::clone(&place.0)));
    (Messages { body, decoding, place, is_over: false, of: PhantomData }, taking)
}

/// Where a message is between body and decoder.
struct Place<M>(Arc<Mutex<Option<Result<M, Status>>>>);

impl<M> Place<M> {
    fn put(&self, message: Result<M, Status>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(message);
    }

    fn take(&self) -> Option<Result<M, Status>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// The body of a `Streaming`.
pub(super) struct Messages<B, M> {
    body: B,
    decoding: Decoding,
    place: Place<M>,
    is_over: bool,
    of: PhantomData<fn() -> M>,
}

impl<B, M> Body for Messages<B, M>
where
    B: MessageBody + Unpin,
    M: Message + Default,
{
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = &mut *self;
        while !this.is_over {
            if let Some(message) = this.decoding.next().transpose() {
                this.is_over = message.is_err();
                this.place.put(message);
                return Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(EMPTY)))));
            }
            let Self { body, decoding, .. } = this;
            decoding.gather(body);
            match ready!(Pin::new(body).poll_frame(cx)) {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => this.decoding.push(data),
                    Err(trailers) => return Poll::Ready(Some(Ok(trailers))),
                },
                Some(Err(status)) => return Poll::Ready(Some(Err(status))),
                None => {
                    this.is_over = true;
                    if let Err(status) = this.decoding.end() {
                        return Poll::Ready(Some(Err(status)));
                    }
                }
            }
        }
        Poll::Ready(None)
    }
}

/// The decoder of a `Streaming`.
pub(super) struct Taking<M>(Place<M>);

impl<M> Decoder for Taking<M> {
    type Item = M;
    type Error = Status;

    fn decode(&mut self, _empty: &mut DecodeBuf<'_>) -> Result<Option<M>, Status> {
        self.0.take().transpose()
    }

    fn buffer_settings(&self) -> BufferSettings {
        BufferSettings::new(PREFIX, PREFIX)
    }
}
