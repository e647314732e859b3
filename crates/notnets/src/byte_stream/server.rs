//! Taking streams.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_core::Stream;
use notnets_core::call::Sent;
use tokio::sync::{mpsc, oneshot};
use tonic::transport::server::Connected;

use super::{ByteStream, METHOD};
use crate::PeerInfo;
use crate::rpc::{AnyHandler, Code, IncomingCall, Serving};

/// Streams that are opened and not accepted yet. Others wait.
const BACKLOG: usize = 128;

/// Takes byte streams for [`Incoming`], as a part of a server:
/// [`add_byte_streams`](crate::Router::add_byte_streams).
#[derive(Clone, Debug)]
pub struct ByteStreams(mpsc::Sender<ByteStream>);

/// The byte streams that clients open, in their order. Once it is dropped, they are refused with
/// `UNAVAILABLE`.
///
/// As a `Stream` it is what tonic's `serve_with_incoming` takes. It ends with the server.
#[derive(Debug)]
pub struct Incoming(mpsc::Receiver<ByteStream>);

impl ByteStreams {
    /// Makes both ends.
    pub fn new() -> (Self, Incoming) {
        let (streams, incoming) = mpsc::channel(BACKLOG);
        (Self(streams), Incoming(incoming))
    }

    pub(crate) fn erase(self) -> Arc<dyn AnyHandler> {
        Arc::new(self)
    }
}

impl Incoming {
    /// Waits for the next stream. `None`: the server has ended, and with it all streams.
    pub async fn accept(&mut self) -> Option<ByteStream> {
        self.0.recv().await
    }
}

impl Stream for Incoming {
    type Item = io::Result<ByteStream>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<io::Result<ByteStream>>> {
        self.0.poll_recv(cx).map(|stream| stream.map(Ok))
    }
}

/// tonic's handlers find the [`PeerInfo`] of the client among a request's extensions.
impl Connected for ByteStream {
    type ConnectInfo = PeerInfo;

    fn connect_info(&self) -> PeerInfo {
        self.peer()
    }
}

impl AnyHandler for ByteStreams {
    fn serve(&self, call: IncomingCall) -> Serving {
        let IncomingCall { method, peer, mut turn, requests, mut response, .. } = call;
        if *method != *METHOD {
            return Box::pin(
                response.refuse(Code::UNIMPLEMENTED, "a byte stream has one method: Open".into()),
            );
        }
        let streams = self.0.clone();
        Box::pin(async move {
            turn.come().await;
            let Ok(place) = streams.reserve().await else {
                let text = "the server accepts no byte streams any more";
                return response.refuse(Code::UNAVAILABLE, text.into()).await;
            };
            let accept =
                |cx: &mut Context<'_>| response.poll_send_head(cx, std::iter::empty(), &mut &[][..], None);
            match poll_fn(accept).await {
                Ok(Sent::Stopped) => return response.end(),
                Ok(_) => {}
                Err(error) => return response.head_too_large(&error),
            }
            let (held, dropped) = oneshot::channel();
            place.send(ByteStream::of_server(requests, response, peer, held));
            // The call goes on, and keeps its turn, until then.
            let _ = dropped.await;
        })
    }
}
