//! A connection that can be written no more is read to its end all the same.
//!
//! A server that leaves says last which calls it has not processed. The runtime writes to a socket at once,
//! but reads only what the kernel has told it of, so a write may fail while those words wait to be read; and
//! HTTP/2 gives a connection up at the first write that fails, with all its calls.

use std::io;
use std::os::fd::AsFd;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use rustix::net::{RecvFlags, recv};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// A socket whose writer hears of a failure when all that was received is read.
pub struct LastWords<S> {
    socket: S,
    /// Why it can be written no more.
    failed: Option<io::Error>,
}

impl<S> LastWords<S> {
    pub fn new(socket: S) -> Self {
        Self { socket, failed: None }
    }

    /// Puts the failure of a write off. The task reads on at once.
    fn written(
        &mut self,
        cx: &Context<'_>,
        length: usize,
        written: io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        Poll::Ready(written.or_else(|error| {
            self.failed = Some(error);
            cx.waker().wake_by_ref();
            Ok(length)
        }))
    }
}

impl<S: AsyncRead + AsFd + Unpin> AsyncRead for LastWords<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.failed.is_none() {
            return Pin::new(&mut self.socket).poll_read(cx, buf);
        }
        match recv(&self.socket, buf.initialize_unfilled(), RecvFlags::DONTWAIT) {
            Ok((length, _)) if length > 0 => {
                buf.advance(length);
                Poll::Ready(Ok(()))
            }
            _ => Poll::Ready(self.failed.take().map_or(Ok(()), Err)),
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for LastWords<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        if self.failed.is_some() {
            return Poll::Ready(Ok(buf.len()));
        }
        let written = ready!(Pin::new(&mut self.socket).poll_write(cx, buf));
        self.written(cx, buf.len(), written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let length = bufs.iter().map(|buf| buf.len()).sum();
        if self.failed.is_some() {
            return Poll::Ready(Ok(length));
        }
        let written = ready!(Pin::new(&mut self.socket).poll_write_vectored(cx, bufs));
        self.written(cx, length, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }
}
