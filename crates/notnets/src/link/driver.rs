//! The task behind a link: doorbells, deadlines, further segments, keepalive, and the link's end.
//!
//! On a link that is idle it sleeps in the kernel's readiness queue and takes no CPU at all. On a
//! server's link it also takes the requests and starts their handlers.

use std::future::Future;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use notnets_core::call::{Failure, Request};
use notnets_core::code::Code;
use notnets_core::link::Socket;
use notnets_core::link::socket::Incoming;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::time::{Instant, Sleep};

use super::Link;
use crate::watch::{Watched, watch};
use crate::{clock, wait};

/// Rounds of one poll before other tasks get a turn.
const ROUNDS: usize = 4;
/// Packets of one poll before other tasks get a turn.
const PACKETS: usize = 64;
/// When the link ends, at most so many batches are taken: more than the largest ring holds.
const LAST_ROUNDS: usize = 2048;

/// What a server does with a link's requests.
pub(crate) trait Accept: Send {
    /// Starts a request's handler.
    fn accept(&mut self, link: &Arc<Link>, request: Request);

    /// Shall the link be closed, once its calls are over? Registers to be told.
    fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<()>;
}

/// A client's link accepts nothing.
pub(crate) struct NoRequests;

impl Accept for NoRequests {
    fn accept(&mut self, _link: &Arc<Link>, _request: Request) {}

    fn poll_shutdown(&mut self, _cx: &mut Context<'_>) -> Poll<()> {
        Poll::Pending
    }
}

/// When to ask a silent peer whether it is there.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Keepalive {
    /// How often.
    pub interval: Duration,
    /// How long to wait for the answer.
    pub timeout: Duration,
    /// Also while no call is open.
    pub while_idle: bool,
}

/// Runs until the link ends; its calls have been told why by then.
pub(crate) struct Driver<A> {
    link: Arc<Link>,
    socket: AsyncFd<Watched<Arc<Socket>>>,
    /// The same socket, watched for room while packets wait for it.
    full: Option<AsyncFd<Watched<OwnedFd>>>,
    /// Readable when the peer's process is gone.
    pidfd: Option<AsyncFd<Watched<OwnedFd>>>,
    accept: A,
    shutting_down: bool,
    keepalive: Option<Keepalive>,
    /// The ping that was sent last, when, and whether the peer owes an answer.
    pinged: (u64, u64),
    timer: Pin<Box<Sleep>>,
    requests: Vec<Request>,
}

impl<A: Accept> Driver<A> {
    pub(crate) fn new(
        link: Arc<Link>,
        pidfd: Option<OwnedFd>,
        accept: A,
        keepalive: Option<Keepalive>,
    ) -> io::Result<Self> {
        let socket = Arc::clone(&link.socket);
        Ok(Self {
            // Not for writing: that would wake us whenever the peer takes a doorbell.
            socket: watch(socket, Interest::READABLE)?,
            full: None,
            pidfd: pidfd.map(|pidfd| watch(pidfd, Interest::READABLE)).transpose()?,
            link,
            accept,
            shutting_down: false,
            keepalive,
            pinged: (0, clock::now()),
            timer: Box::pin(tokio::time::sleep(Duration::MAX)),
            requests: Vec::new(),
        })
    }

    /// The socket's end, its packets, and doorbells.
    fn poll_socket(&mut self, cx: &mut Context<'_>) -> Poll<Failure> {
        let mut packets = 0;
        loop {
            let mut guard = match ready!(self.socket.poll_read_ready(cx)) {
                Ok(guard) => guard,
                Err(error) => return Poll::Ready(broken(&error)),
            };
            loop {
                if packets == PACKETS {
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
                packets += 1;
                match guard.try_io(|socket| socket.get_ref().receive()) {
                    Err(_would_block) => break,
                    Ok(Ok(Incoming::Packet(packet, descriptor))) => {
                        let settled = self.link.with(|state| {
                            state.rung();
                            let lanes = state.connection.lanes();
                            let settled = state.segments.receive(packet, descriptor, lanes)?;
                            if settled {
                                state.connection.segment_settled(true);
                            }
                            Ok(())
                        });
                        let settled: Result<(), notnets_core::link::segments::SegmentViolation> = settled;
                        if let Err(violation) = settled {
                            let text = format!("the link was closed: {violation}");
                            return Poll::Ready(Failure::new(Code::INTERNAL, text));
                        }
                    }
                    Ok(Ok(Incoming::Closed)) => return Poll::Ready(peer_gone()),
                    Ok(Ok(Incoming::Bad(bad))) => {
                        let text = format!("the link was closed: the peer sent {bad}");
                        return Poll::Ready(Failure::new(Code::INTERNAL, text));
                    }
                    Ok(Err(error)) => return Poll::Ready(broken(&error)),
                }
            }
        }
    }

    /// The lanes: takes what there is, and says whether the task may sleep.
    fn poll_lanes(&mut self, cx: &mut Context<'_>) -> Poll<Failure> {
        for _ in 0..ROUNDS {
            let Self { link, requests, .. } = self;
            let (taken, broken) = link.with(|state| {
                let taken = state.receive();
                requests.extend(std::iter::from_fn(|| state.connection.accept()));
                (taken, state.broken.clone().or_else(|| state.violation()))
            });
            for request in self.requests.drain(..) {
                self.accept.accept(&self.link, request);
            }
            if let Some(failure) = broken {
                return Poll::Ready(failure);
            }
            if taken > 0 {
                continue;
            }
            if self.rest() {
                return Poll::Pending;
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Nothing is there: polls on for a moment, or arms the lane. Returns whether the task may sleep.
    fn rest(&mut self) -> bool {
        self.link.with(|state| {
            // A client's tasks poll for themselves.
            if state.is_polled() {
                return true;
            }
            if state.connection.role_accepts() && state.may_poll(clock::now()) {
                let lanes = state.connection.lanes();
                lanes.disarm_frames();
                wait::spin(|| lanes.is_ready());
                return false;
            }
            state.park()
        })
    }

    fn poll_timers(&mut self, cx: &mut Context<'_>) -> Poll<Failure> {
        loop {
            let now = clock::now();
            let unanswered = self.keep_alive(now);
            if unanswered {
                let text = "the peer does not answer (keepalive): it hangs or was stopped";
                return Poll::Ready(Failure::new(Code::UNAVAILABLE, text));
            }
            let wake_at = self.link.with(|state| {
                if state.broken.is_none() {
                    state.connection.expire(now);
                }
                let deadline = state.connection.next_deadline().unwrap_or(u64::MAX);
                let wake_at = deadline.min(next_ping(self.keepalive, self.pinged, state.pong));
                let wake_at = wake_at.min(state.watch_poller(now));
                state.set_timer(wake_at);
                wake_at
            });
            if wake_at == u64::MAX {
                return Poll::Pending;
            }
            self.timer.as_mut().reset(Instant::now() + clock::until(wake_at));
            ready!(self.timer.as_mut().poll(cx));
        }
    }

    /// Sends a ping when it is time. Returns whether the last one has gone unanswered for too long.
    fn keep_alive(&mut self, now: u64) -> bool {
        let Some(keepalive) = self.keepalive else { return false };
        let (last, sent) = self.pinged;
        self.link.with(|state| {
            if now < next_ping(self.keepalive, self.pinged, state.pong) {
                return false;
            }
            if last != 0 && state.pong != last {
                return now >= sent.saturating_add(nanos(keepalive.timeout));
            }
            if keepalive.while_idle || state.connection.open_streams() > 0 {
                self.pinged = (last + 1, now);
                state.connection.ping(last + 1);
            } else {
                self.pinged = (0, now);
                state.pong = 0;
            }
            false
        })
    }

    /// Offers a segment when one would help, and sends what waits for the socket.
    fn poll_segments(&mut self, cx: &mut Context<'_>) {
        let link = &self.link;
        let all_sent = link.with(|state| {
            if state.broken.is_some() {
                return true;
            }
            if let Some(blocks) = state.connection.take_wanted_segment() {
                let offered = state.segments.may_offer(blocks).then(|| state.segments.offer(blocks));
                if let Some(Err(error)) = &offered {
                    tracing::warn!(%error, "the link goes on with the memory it has");
                }
                if !matches!(offered, Some(Ok(()))) {
                    state.connection.segment_settled(false);
                }
            }
            state.segments.flush(&link.socket)
        });
        if all_sent {
            self.full = None;
            return;
        }
        if self.full.is_none() {
            let again = link.socket.as_fd().try_clone_to_owned();
            self.full = again.and_then(|fd| watch(fd, Interest::WRITABLE)).ok();
        }
        let Some(full) = &self.full else { return };
        while let Poll::Ready(Ok(mut guard)) = full.poll_write_ready(cx) {
            if link.with(|state| state.segments.flush(&link.socket)) {
                self.full = None;
                return;
            }
            guard.clear_ready();
        }
    }

    /// All of the above, in the order of their weight.
    fn poll_link(&mut self, cx: &mut Context<'_>) -> Poll<Failure> {
        let mut ended = self.poll_socket(cx);
        if ended.is_pending() {
            ended = self.poll_timers(cx);
        }
        if ended.is_pending() {
            ended = self.poll_end(cx);
        }
        if ended.is_ready() {
            // What the peer said before its end still counts.
            let mut last = (0..LAST_ROUNDS).map(|_| self.link.with(|state| state.receive()));
            let _all = last.any(|taken| taken == 0);
            return ended;
        }
        self.poll_segments(cx);
        self.poll_lanes(cx)
    }

    fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<Failure> {
        if let Some(pidfd) = &self.pidfd
            && pidfd.poll_read_ready(cx).is_ready()
        {
            return Poll::Ready(peer_gone());
        }
        if !self.shutting_down && self.accept.poll_shutdown(cx).is_ready() {
            self.shutting_down = true;
            self.link.with(|state| {
                if state.broken.is_none() {
                    state.connection.go_away();
                }
            });
        }
        // A link that either side winds up ends with its last stream.
        let over = self.link.with(|state| state.closing || state.is_wound_up());
        if over {
            return Poll::Ready(Failure::new(Code::UNAVAILABLE, "the link was closed by this side"));
        }
        Poll::Pending
    }
}

impl<A: Accept + Unpin> Future for Driver<A> {
    type Output = Failure;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Failure> {
        // Before anything is looked at: what happens from now on wakes this task.
        self.link.with(|state| state.set_driver(cx.waker()));
        let ended = self.poll_link(cx);
        if let Poll::Ready(failure) = &ended {
            self.link.break_with(failure.clone());
        }
        ended
    }
}

impl<A> Drop for Driver<A> {
    /// Also when it is dropped with its runtime, no call waits for what can't come.
    fn drop(&mut self) {
        self.link.break_with(peer_gone());
    }
}

/// When to ask next, or until when the answer may take.
fn next_ping(keepalive: Option<Keepalive>, (last, sent): (u64, u64), pong: u64) -> u64 {
    let Some(keepalive) = keepalive else { return u64::MAX };
    let unanswered = last != 0 && pong != last;
    sent.saturating_add(nanos(if unanswered { keepalive.timeout } else { keepalive.interval }))
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

fn peer_gone() -> Failure {
    Failure::new(Code::UNAVAILABLE, "the process at the other end of the link is gone")
}

fn broken(error: &io::Error) -> Failure {
    Failure::new(Code::UNAVAILABLE, format!("the link's socket broke: {error}"))
}
