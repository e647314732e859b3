//! All that a driver looks at besides the lanes: doorbells and packets, the end of the peer's process, the
//! local side's wish to end, deadlines, further segments.

use std::future::Future;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use notnets_core::clock;
use notnets_core::link::Socket;
use notnets_core::session::{Ending, earlier};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::watch;
use tokio::time::{Instant, Sleep};

use super::Link;
use crate::async_fd::{Pollable, register};

/// Packets of one poll before other tasks get a turn.
const PACKETS: usize = 64;

/// The local side's wish to close the link, once its calls are over.
pub(crate) struct WindUp {
    wish: Pin<Box<dyn Future<Output = ()> + Send>>,
    #[expect(dead_code, reason = "it is held, and that is all")]
    untold: watch::Receiver<()>,
}

impl WindUp {
    /// A link is wound up when `wish` completes. `untold` is dropped once the peer knows.
    pub(crate) fn new(wish: impl Future<Output = ()> + Send + 'static, untold: watch::Receiver<()>) -> Self {
        Self { wish: Box::pin(wish), untold }
    }
}

/// What the runtime watches for a link.
pub(super) struct Watched {
    socket: AsyncFd<Pollable<Arc<Socket>>>,
    /// There may be something to read that the runtime tells no more of.
    unread: bool,
    /// The socket, watched for room while packets wait for it.
    full: Option<AsyncFd<Pollable<OwnedFd>>>,
    /// Readable when the peer's process is gone.
    pidfd: Option<AsyncFd<Pollable<OwnedFd>>>,
    /// The local side's wish to wind the link up, until it has it.
    wind_up: Option<WindUp>,
    timer: Pin<Box<Sleep>>,
}

impl Watched {
    /// Watched by the present runtime.
    ///
    /// # Errors
    /// When it can't.
    pub(super) fn new(
        socket: Arc<Socket>,
        pidfd: Option<OwnedFd>,
        wind_up: Option<WindUp>,
    ) -> io::Result<Self> {
        Ok(Self {
            // Not for writing: that would wake us whenever the peer takes a doorbell.
            socket: register(socket, Interest::READABLE)?,
            unread: false,
            full: None,
            pidfd: pidfd.map(|pidfd| register(pidfd, Interest::READABLE)).transpose()?,
            wind_up,
            timer: Box::pin(tokio::time::sleep(Duration::MAX)),
        })
    }

    /// Looks at everything, in the order of its weight.
    pub(super) fn poll(&mut self, link: &Link, cx: &mut Context<'_>) {
        self.poll_socket(link, cx);
        self.poll_process(link, cx);
        self.poll_winding_up(link, cx);
        self.poll_timers(link, cx);
        self.poll_segments(link, cx);
    }

    /// Has this woken when more comes, and leaves what is there for the next poll.
    pub(super) fn listen_on(&mut self, cx: &mut Context<'_>) {
        while let Poll::Ready(Ok(mut guard)) = self.socket.poll_read_ready(cx) {
            guard.clear_ready();
            self.unread = true;
        }
    }

    /// The socket's packets and doorbells, and its end.
    fn poll_socket(&mut self, link: &Link, cx: &mut Context<'_>) {
        let mut packets = 0;
        let mut handle = |incoming| {
            packets += 1;
            let goes_on = link.with(|state| state.session.handle_incoming(incoming, clock::now));
            goes_on == Some(true) && packets < PACKETS
        };
        while self.unread {
            let incoming = self.socket.get_ref().receive();
            if matches!(&incoming, Err(error) if error.kind() == io::ErrorKind::WouldBlock) {
                self.unread = false;
            } else if !handle(incoming) {
                return cx.waker().wake_by_ref();
            }
        }
        while let Poll::Ready(ready) = self.socket.poll_read_ready(cx) {
            let mut guard = match ready {
                Ok(guard) => guard,
                Err(error) => {
                    link.with(|state| state.session.end(Ending::Socket(error), clock::now));
                    return;
                }
            };
            while let Ok(incoming) = guard.try_io(|socket| socket.get_ref().receive()) {
                if !handle(incoming) {
                    return cx.waker().wake_by_ref();
                }
            }
        }
    }

    /// The end of the peer's process.
    fn poll_process(&mut self, link: &Link, cx: &mut Context<'_>) {
        if let Some(pidfd) = &self.pidfd
            && pidfd.poll_read_ready(cx).is_ready()
        {
            link.with(|state| state.session.handle_peer_gone(clock::now));
        }
    }

    /// The local side's wish to wind the link up. One that either side winds up ends with its last stream.
    fn poll_winding_up(&mut self, link: &Link, cx: &mut Context<'_>) {
        let begins = self.wind_up.take_if(|wind_up| wind_up.wish.as_mut().poll(cx).is_ready());
        link.with(|state| {
            if begins.is_some() {
                state.session.go_away(clock::now());
            }
            if state.session.is_wound_up() {
                state.session.end(Ending::Closed, clock::now);
            }
        });
    }

    fn poll_timers(&mut self, link: &Link, cx: &mut Context<'_>) {
        loop {
            let now = clock::now();
            let wake_at = link.with(|state| {
                state.session.handle_timeout(now);
                let lane = state.poller.expire(now);
                let wake_at = earlier(state.session.poll_timeout(), lane);
                state.set_timer(wake_at);
                wake_at
            });
            let Some(wake_at) = wake_at.flatten() else { return };
            self.timer.as_mut().reset(Instant::now() + clock::until(wake_at));
            if self.timer.as_mut().poll(cx).is_pending() {
                return;
            }
        }
    }

    /// Offers a segment when one would help, and sends what waits for the socket.
    fn poll_segments(&mut self, link: &Link, cx: &mut Context<'_>) {
        let all_sent = link.with(|state| {
            if let Err(error) = state.session.offer_segment() {
                tracing::warn!(%error, "the link goes on with the memory it has");
            }
            state.session.flush(&link.socket)
        });
        if all_sent != Some(false) {
            self.full = None;
            return;
        }
        if self.full.is_none() {
            let again = link.socket.as_fd().try_clone_to_owned();
            self.full = again.and_then(|fd| register(fd, Interest::WRITABLE)).ok();
        }
        let Some(full) = &self.full else { return };
        while let Poll::Ready(Ok(mut guard)) = full.poll_write_ready(cx) {
            if link.with(|state| state.session.flush(&link.socket)) != Some(false) {
                self.full = None;
                return;
            }
            guard.clear_ready();
        }
    }
}
