//! A client's share of the runtime: it is read from no faster than its calls begin.
//!
//! A client can begin calls, and give them up again, with some bytes for each. Whoever reads all that
//! there is
//! fills the runtime's queue with the tasks of one client, behind which those of others wait. So a connection
//! is not read from while many of its calls have not had their first turn, and in small pieces as long as
//! these bring many.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker, ready};

use hyper::rt::Executor;
use pin_project_lite::pin_project;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::pieces::{PIECE, poll_read};

/// Calls that may wait for their first turn while more is read.
const WAITING: usize = 32;

/// The calls of one connection that wait for their first turn.
#[derive(Clone, Default)]
pub struct Turns(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    waiting: usize,
    /// The reader, if it waits until there are few.
    reader: Option<Waker>,
    /// The last piece brought many.
    in_pieces: bool,
}

impl Turns {
    /// Reads from `stream` in these turns.
    pub fn reading<S>(&self, stream: S) -> InTurns<S> {
        InTurns { stream, turns: self.clone() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn begin(&self) -> Waiting {
        let mut state = self.state();
        state.waiting += 1;
        state.in_pieces |= state.waiting > WAITING;
        Waiting(self.clone())
    }

    /// Returns how much may be read now.
    fn poll_piece(&self, cx: &mut Context<'_>) -> Poll<usize> {
        let mut state = self.state();
        if state.waiting > WAITING {
            state.reader = Some(cx.waker().clone());
            return Poll::Pending;
        }
        Poll::Ready(if std::mem::take(&mut state.in_pieces) { PIECE } else { usize::MAX })
    }
}

/// A call that waits for its first turn.
struct Waiting(Turns);

impl Drop for Waiting {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.waiting -= 1;
        if state.waiting <= WAITING
            && let Some(reader) = state.reader.take()
        {
            drop(state);
            reader.wake();
        }
    }
}

/// Spawns the calls of one connection.
impl<F> Executor<F> for Turns
where
    F: Future<Output: Send + 'static> + Send + 'static,
{
    fn execute(&self, future: F) {
        tokio::spawn(Call { future, waiting: Some(self.begin()) });
    }
}

pin_project! {
    struct Call<F> {
        #[pin]
        future: F,
        waiting: Option<Waiting>,
    }
}

impl<F: Future> Future for Call<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let this = self.project();
        *this.waiting = None;
        this.future.poll(cx)
    }
}

/// A stream that is read from no faster than its calls begin.
pub struct InTurns<S> {
    stream: S,
    turns: Turns,
}

impl<S: AsyncRead + Unpin> AsyncRead for InTurns<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let piece = ready!(self.turns.poll_piece(cx));
        poll_read(&mut self.stream, piece, cx, buf)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for InTurns<S> {
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
    use std::future::poll_fn;

    use super::*;

    async fn piece(turns: &Turns) -> Option<usize> {
        poll_fn(|cx| match turns.poll_piece(cx) {
            Poll::Ready(piece) => Poll::Ready(Some(piece)),
            Poll::Pending => Poll::Ready(None),
        })
        .await
    }

    #[tokio::test]
    async fn nothing_is_read_while_many_calls_wait() {
        let turns = Turns::default();
        assert_eq!(piece(&turns).await, Some(usize::MAX));
        let mut waiting: Vec<_> = (0..WAITING).map(|_| turns.begin()).collect();
        assert_eq!(piece(&turns).await, Some(usize::MAX));
        waiting.push(turns.begin());
        assert_eq!(piece(&turns).await, None);
        let woken = tokio::spawn({
            let turns = turns.clone();
            async move { poll_fn(|cx| turns.poll_piece(cx)).await }
        });
        tokio::task::yield_now().await;
        waiting.pop();
        assert_eq!(woken.await.expect("no panic"), PIECE);
        assert_eq!(piece(&turns).await, Some(usize::MAX));
    }

    #[tokio::test]
    async fn a_call_waits_until_its_first_turn() {
        let turns = Turns::default();
        for _ in 0..=WAITING {
            turns.execute(std::future::pending::<()>());
        }
        assert_eq!(piece(&turns).await, None);
        assert_eq!(poll_fn(|cx| turns.poll_piece(cx)).await, PIECE);
    }
}
