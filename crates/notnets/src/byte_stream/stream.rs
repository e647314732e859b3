//! A stream's two directions.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use notnets_core::call::{Buffered, End, Failure, Received, Sent};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::oneshot;

use crate::PeerInfo;
use crate::rpc::{Call, Code, RequestHalf, ResponseHalf, SendHalf, Status};

/// A stream of bytes in both directions: see [the module](super).
pub struct ByteStream {
    end: LinkEnd,
    peer: PeerInfo,
    /// Received, and not read yet.
    unread: Bytes,
    /// All that comes has been received.
    is_read: bool,
    /// Nothing more is written.
    is_shut_down: bool,
}

/// The end of the link that the stream is at.
enum LinkEnd {
    Client { call: Call, sending: SendHalf },
    Server { requests: RequestHalf, response: ResponseHalf, _held: oneshot::Sender<()> },
}

impl std::fmt::Debug for ByteStream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ByteStream").field("peer", &self.peer).finish_non_exhaustive()
    }
}

impl ByteStream {
    pub(super) fn of_client(call: Call, sending: SendHalf, buffered: Buffered) -> Result<Self, Status> {
        let Some(peer) = call.peer() else {
            return Err(Status::new(Code::UNAVAILABLE, "the channel is that of a parent process"));
        };
        let mut stream = Self::new(LinkEnd::Client { call, sending }, peer);
        stream.unread = buffered.data.unwrap_or_default();
        if let Some(end) = buffered.end {
            stream.is_read = true;
            check_end(end)?;
        }
        Ok(stream)
    }

    pub(super) fn of_server(
        requests: RequestHalf,
        response: ResponseHalf,
        peer: PeerInfo,
        held: oneshot::Sender<()>,
    ) -> Self {
        Self::new(LinkEnd::Server { requests, response, _held: held }, peer)
    }

    fn new(end: LinkEnd, peer: PeerInfo) -> Self {
        Self { end, peer, unread: Bytes::new(), is_read: false, is_shut_down: false }
    }

    /// The process at the other end.
    pub fn peer(&self) -> PeerInfo {
        self.peer
    }

    /// Receives the next bytes. None at all: the end.
    fn poll_receive(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Bytes>> {
        if self.is_read {
            return Poll::Ready(Ok(Bytes::new()));
        }
        let received = match &mut self.end {
            LinkEnd::Client { call, .. } => match ready!(call.poll_data(cx)) {
                Received::Pending => return Poll::Pending,
                Received::Data(data) => Ok(Some(data)),
                Received::End(end) => {
                    call.end();
                    check_end(end).map(|()| None)
                }
            },
            LinkEnd::Server { requests, .. } => {
                ready!(requests.poll_data(cx)).transpose().map_err(|failure: Failure| failure.into())
            }
        };
        self.is_read = !matches!(received, Ok(Some(_)));
        Poll::Ready(received.map(Option::unwrap_or_default).map_err(reset))
    }

    /// Sends bytes as far as there is room, and with `end` that nothing comes after them.
    fn poll_send(&mut self, cx: &mut Context<'_>, data: &mut &[u8], end: bool) -> Poll<io::Result<()>> {
        let sent = match &mut self.end {
            LinkEnd::Client { sending, .. } => ready!(sending.poll_send(cx, data, end)),
            LinkEnd::Server { response, .. } if end => {
                let sent = ready!(response.poll_finish(cx, std::iter::empty, Code::OK));
                response.end();
                sent
            }
            LinkEnd::Server { response, .. } => ready!(response.poll_send(cx, data)),
        };
        Poll::Ready(if sent == Sent::Stopped { Err(io::ErrorKind::BrokenPipe.into()) } else { Ok(()) })
    }
}

impl AsyncRead for ByteStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if buffer.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        while self.unread.is_empty() && !self.is_read {
            self.unread = ready!(self.poll_receive(cx))?;
        }
        let len = self.unread.len().min(buffer.remaining());
        buffer.put_slice(&self.unread[..len]);
        self.unread.advance(len);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for ByteStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.is_shut_down {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let mut rest = bytes;
        let sent = self.poll_send(cx, &mut rest, false);
        let written = bytes.len() - rest.len();
        // Those for which there was room are on their way, though the others wait.
        if written > 0 { Poll::Ready(Ok(written)) } else { sent.map_ok(|()| 0) }
    }

    /// There is nothing to flush.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.is_shut_down {
            return Poll::Ready(Ok(()));
        }
        let ended = ready!(self.poll_send(cx, &mut &[][..], true));
        self.is_shut_down = true;
        // The other end may have gone first, and then it is as well.
        Poll::Ready(ended.or(Ok(())))
    }
}

/// Fails unless the server has ended the stream well.
fn check_end(end: End) -> Result<(), Status> {
    match end {
        End::Failed(failure) => Err(failure.into()),
        End::Requests | End::Trailers(Code::OK, _) => Ok(()),
        End::Trailers(code, _) => Err(Status::new(code, "the server ended the stream with an error")),
    }
}

fn reset(status: Status) -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionReset, status)
}
