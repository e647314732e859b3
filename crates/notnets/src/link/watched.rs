//! All that a driver looks at besides the lanes: doorbells and packets, the end of the peer's process, the
//! local side's wish to end, deadlines, further segments.

use std::future::Future;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use notnets_core::clock::{self, Timestamp};
use notnets_core::link::Socket;
use notnets_core::link::packet::MAX_PACKET;
use notnets_core::link::socket::Incoming;
use notnets_core::session::{DEATH, Ending, earlier};
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
    /// What packets are read into.
    packet: [u8; MAX_PACKET],
    /// There may be something to read that the runtime tells no more of.
    unread: bool,
    /// Until when the end of the peer's process is waited for, now that its socket has ended.
    dying_until: Option<Timestamp>,
    /// The socket, watched for room while packets wait for it.
    full: Option<AsyncFd<Pollable<OwnedFd>>>,
    /// Readable when the peer's process is gone.
    pidfd: Option<AsyncFd<Pollable<OwnedFd>>>,
    /// The local side's wish to wind the link up, until it has it.
    wind_up: Option<WindUp>,
    timer: Timer,
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
            packet: [0; MAX_PACKET],
            unread: false,
            dying_until: None,
            full: None,
            pidfd: pidfd.map(|pidfd| register(pidfd, Interest::READABLE)).transpose()?,
            wind_up,
            timer: Timer::new(),
        })
    }

    /// Looks at everything, in the order of its weight. `driver` is woken, instead of the context's task, for
    /// what is let go of: perhaps under the link's lock.
    pub(super) fn poll(&mut self, link: &Link, cx: &mut Context<'_>, driver: &Waker) {
        self.poll_socket(link, cx);
        let is_gone = self.pidfd.as_ref().is_some_and(|pidfd| pidfd.poll_read_ready(cx).is_ready());
        let wish = self.wind_up.take_if(|wind_up| wind_up.wish.as_mut().poll(cx).is_ready());
        loop {
            let now = clock::now();
            let lives = self.dying_until.take_if(|until| is_gone || *until <= now).is_some();
            let looked = link.with(|state| {
                if is_gone {
                    state.session.handle_peer_gone(clock::now);
                } else if lives {
                    state.session.handle_incoming(Ok(Incoming::Closed), clock::now);
                }
                if wish.is_some() {
                    state.session.go_away(now);
                }
                // A link that either side winds up ends with its last stream.
                if state.session.is_wound_up() {
                    state.session.end(Ending::Closed, clock::now);
                }
                state.session.tell_returns(Some(driver));
                state.session.handle_timeout(now);
                let lane = state.poller.expire(now);
                let due = earlier(state.session.poll_timeout(), self.dying_until);
                let timer = self.timer.next(earlier(due, lane), now);
                state.set_timer(timer);
                if let Err(error) = state.session.offer_memory() {
                    tracing::warn!(target: crate::log::LINK, %error, "the link goes on with the memory it has");
                }
                (timer, state.session.flush(&link.socket), state.session.take_wants_packets())
            });
            let Some((timer, all_sent, wants_packets)) = looked else { return };
            self.poll_full(link, cx, all_sent);
            if wants_packets {
                // They are there, whether or not that shows yet.
                self.unread = true;
                self.poll_socket(link, cx);
                continue;
            }
            if timer.is_none_or(|timer| self.timer.poll(cx, timer).is_pending()) {
                return;
            }
        }
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
        if self.dying_until.is_some() {
            return;
        }
        let mut packets = 0;
        let dying_until = &mut self.dying_until;
        let mut handle = |incoming| {
            packets += 1;
            let goes_on = link.with(|state| {
                if matches!(incoming, Ok(Incoming::Closed)) && state.session.hangs_on_death() {
                    *dying_until = Some(clock::now() + DEATH);
                    return false;
                }
                state.session.handle_incoming(incoming, clock::now)
            });
            goes_on == Some(true) && packets < PACKETS
        };
        while self.unread {
            let incoming = self.socket.get_ref().receive_into(&mut self.packet);
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
            while let Ok(incoming) = guard.try_io(|socket| socket.get_ref().receive_into(&mut self.packet)) {
                if !handle(incoming) {
                    return cx.waker().wake_by_ref();
                }
            }
        }
    }

    /// Waits until the socket takes what is left to send, if anything is.
    fn poll_full(&mut self, link: &Link, cx: &mut Context<'_>, all_sent: bool) {
        if all_sent {
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

/// A timer of the runtime, which is seldom set: what is due later than the time that it was set for waits for
/// that, and is looked at again then.
struct Timer {
    sleep: Pin<Box<Sleep>>,
    /// What it was set for, until that has come.
    set: Option<Timestamp>,
}

impl Timer {
    fn new() -> Self {
        Self { sleep: Box::pin(tokio::time::sleep(Duration::MAX)), set: None }
    }

    /// When it has to wake its task for what is due at `due`.
    fn next(&self, due: Option<Timestamp>, now: Timestamp) -> Option<Timestamp> {
        earlier(due, self.set.filter(|set| *set > now))
    }

    /// Ready once `at`, which [`next`](Self::next) has returned, has come.
    fn poll(&mut self, cx: &mut Context<'_>, at: Timestamp) -> Poll<()> {
        if self.set != Some(at) {
            self.set = Some(at);
            self.sleep.as_mut().reset(Instant::now() + clock::until(at));
        }
        self.sleep.as_mut().poll(cx).map(|()| self.set = None)
    }
}
