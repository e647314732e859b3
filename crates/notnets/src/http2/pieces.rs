//! Reading little at a time, from an end that makes much work of few bytes.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, ReadBuf};

/// How much is read at a time then.
pub const PIECE: usize = 1024;

/// Reads `at_most` so many bytes from `stream`; a piece at most, where there is room for more than those.
pub fn poll_read<S: AsyncRead + Unpin>(
    stream: &mut S,
    at_most: usize,
    cx: &mut Context<'_>,
    buf: &mut ReadBuf<'_>,
) -> Poll<io::Result<()>> {
    if at_most >= buf.remaining() {
        return Pin::new(stream).poll_read(cx, buf);
    }
    let mut bytes = [0; PIECE];
    let mut piece = ReadBuf::new(&mut bytes[..at_most.min(PIECE)]);
    let read = Pin::new(stream).poll_read(cx, &mut piece);
    buf.put_slice(piece.filled());
    read
}
