//! What the other end of a connection has said, below HTTP/2: when it last did, and how it began; and how
//! much of that is taken in before others have a turn.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::pieces::{PIECE, poll_read};

/// A frame's head: length (3 bytes), type, flags, stream (4 bytes).
pub const FRAME_HEAD: usize = 9;
/// What a client begins with, up to its first frame.
pub const PREFACE: usize = 24;
/// Where the type of a frame stands, and that of the frame which a server begins with.
const TYPE: usize = 3;
const SETTINGS: u8 = 4;
/// The first byte of a TLS alert, and that of its version: what a TLS port says to other protocols.
const TLS_ALERT: [u8; 2] = [0x15, 3];

/// How long a connection's task may read on before others have a turn. An end that sends small frames without
/// a pause (pings, say) would keep the runtime to itself: what tokio lets a task read at once is a megabyte.
const TURN: Duration = Duration::from_micros(100);
/// When something was last received.
#[derive(Clone)]
pub struct Received(Arc<Mutex<Instant>>);

impl Received {
    fn now() -> Self {
        Self(Arc::new(Mutex::new(Instant::now())))
    }

    /// The time of the last byte; at first, when the connection was made.
    pub fn last(&self) -> Instant {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, now: Instant) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = now;
    }
}

/// The first bytes that were received: all that were waited for, or all that there were.
pub struct Beginning(Vec<u8>);

impl Beginning {
    /// Returns `true` if nothing was received.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Looks at a frame's head from a server.
    ///
    /// # Errors
    /// When that is not how an HTTP/2 server begins, with what it is instead.
    pub fn check(&self) -> Result<(), &'static str> {
        match self.0.as_slice() {
            [] => Err("it closed the connection and said nothing: does it want TLS (https://)?"),
            bytes if bytes.starts_with(b"HTTP/1") => Err("it speaks HTTP/1 and not HTTP/2, which gRPC needs"),
            bytes if bytes.starts_with(&TLS_ALERT) => Err("it speaks TLS: write https://"),
            bytes if bytes.len() == FRAME_HEAD && bytes[TYPE] == SETTINGS => Ok(()),
            _ => Err("what it speaks is not HTTP/2, which gRPC needs"),
        }
    }
}

/// What is read without a pause.
#[derive(Clone, Copy)]
struct Turn {
    began: Instant,
    last_read: Instant,
}

/// A stream whose reader is told what it received, and takes turns with other tasks.
pub struct Observed<S> {
    stream: S,
    turn: Option<Turn>,
    /// A read has taken a turn.
    in_pieces: bool,
    received: Received,
    beginning: Vec<u8>,
    wanted: usize,
    begun: Option<oneshot::Sender<Beginning>>,
}

impl<S> Observed<S> {
    /// Observes `stream` from its first byte on. It begins with `wanted` bytes.
    pub fn new(stream: S, wanted: usize) -> (Self, Received, oneshot::Receiver<Beginning>) {
        let received = Received::now();
        let (begun, beginning) = oneshot::channel();
        let observed = Self {
            stream,
            turn: None,
            in_pieces: false,
            received: received.clone(),
            beginning: Vec::new(),
            wanted,
            begun: Some(begun),
        };
        (observed, received, beginning)
    }

    /// Looks at the time, before each read.
    fn is_turn_over(&mut self) -> bool {
        let now = Instant::now();
        let Some(turn) = self.turn else {
            self.turn = Some(Turn { began: now, last_read: now });
            return false;
        };
        self.in_pieces = now - turn.last_read > TURN;
        let is_over = now - turn.began > TURN;
        if is_over {
            self.turn = None;
        }
        is_over
    }

    fn observe(&mut self, bytes: &[u8]) {
        let now = Instant::now();
        if let Some(turn) = &mut self.turn {
            turn.last_read = now;
        }
        self.received.set(now);
        if self.begun.is_none() {
            return;
        }
        let missing = self.wanted - self.beginning.len();
        self.beginning.extend_from_slice(&bytes[..missing.min(bytes.len())]);
        let is_over = bytes.is_empty();
        if (is_over || self.beginning.len() == self.wanted)
            && let Some(begun) = self.begun.take()
        {
            // That it is not waited for is no fault.
            let _ = begun.send(Beginning(std::mem::take(&mut self.beginning)));
        }
    }
}

/// It begins with what came until it was dropped.
impl<S> Drop for Observed<S> {
    fn drop(&mut self) {
        if let Some(begun) = self.begun.take() {
            let _ = begun.send(Beginning(std::mem::take(&mut self.beginning)));
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Observed<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.is_turn_over() {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let before = buf.filled().len();
        let at_most = if self.in_pieces { PIECE } else { usize::MAX };
        let Poll::Ready(read) = poll_read(&mut self.stream, at_most, cx, buf) else {
            self.turn = None;
            return Poll::Pending;
        };
        self.observe(&buf.filled()[before..]);
        Poll::Ready(read)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Observed<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::io::AsyncReadExt;

    use super::*;

    /// A stream that yields these pieces, and ends.
    struct Pieces(Vec<Vec<u8>>);

    impl AsyncRead for Pieces {
        fn poll_read(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            buf: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            if !self.0.is_empty() {
                buf.put_slice(&self.0.remove(0));
            }
            Poll::Ready(Ok(()))
        }
    }

    /// What is said of a server that sends these pieces.
    async fn said(pieces: &[&[u8]]) -> Result<(), &'static str> {
        let stream = Pieces(pieces.iter().map(|piece| piece.to_vec()).collect());
        let (mut observed, _, beginning) = Observed::new(stream, FRAME_HEAD);
        let mut all = Vec::new();
        observed.read_to_end(&mut all).await.expect("no error");
        assert_eq!(all, pieces.concat());
        beginning.await.expect("it is said").check()
    }

    #[tokio::test]
    async fn others_have_a_turn_while_what_is_sent_takes_long() {
        const READS: usize = 10;
        let (mut observed, ..) = Observed::new(tokio::io::repeat(7), PREFACE);
        let turns = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&turns);
        let other = tokio::spawn(async move {
            loop {
                counted.fetch_add(1, Ordering::Relaxed);
                tokio::task::yield_now().await;
            }
        });
        let mut bytes = [0; 4 * PIECE];
        let mut lengths = Vec::new();
        for _ in 0..READS {
            lengths.push(observed.read(&mut bytes).await.expect("it never ends"));
            let read = Instant::now();
            while read.elapsed() <= TURN {}
        }
        other.abort();
        assert!(turns.load(Ordering::Relaxed) >= READS - 1, "{turns:?}");
        assert_eq!(lengths[0], 4 * PIECE);
        assert_eq!(lengths[1..], [PIECE; READS - 1]);
    }

    #[tokio::test]
    async fn how_a_server_begins_tells_what_it_speaks() {
        let settings = [0, 0, 0, SETTINGS, 0, 0, 0, 0, 0, 7];
        assert_eq!(said(&[&settings]).await, Ok(()));
        assert_eq!(said(&[&settings[..4], &settings[4..]]).await, Ok(()));
        for (bytes, word) in [
            (&b"HTTP/1.1 400 Bad Request\r\n"[..], "HTTP/1"),
            (&[0x15, 3, 1, 0, 2, 2, 70], "TLS"),
            (b"", "said nothing"),
            (b"220 mail.example ESMTP", "not HTTP/2"),
            (&settings[..5], "not HTTP/2"),
        ] {
            let sentence = said(&[bytes]).await.expect_err("not HTTP/2");
            assert!(sentence.contains(word), "{bytes:?}: {sentence}");
        }
    }
}
