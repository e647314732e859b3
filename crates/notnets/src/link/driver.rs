//! The task behind a link: doorbells, deadlines, further segments, keepalive, and the link's end.
//!
//! On a link that is idle it sleeps in the kernel's readiness queue and takes no CPU at all. On a
//! server's link it also takes the requests and starts their handlers.

use std::future::Future;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use notnets_core::call::{Buffered, Failure, Request};
use notnets_core::clock;
use notnets_core::link::Socket;
use notnets_core::session::{Ending, Keepalive, earlier};
use notnets_core::wait::Polled;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::time::{Instant, Sleep};

use super::state::State;
use super::stream_wakers::StreamWakers;
use super::{Link, poll_again};
use crate::async_fd::{Pollable, register};

/// Rounds of one poll before other tasks get a turn.
const ROUNDS: usize = 4;
/// Packets of one poll before other tasks get a turn.
const PACKETS: usize = 64;
/// While the lanes are polled, all else is looked at once in this many polls: each takes about a
/// microsecond.
const POLLS_BETWEEN: u32 = 16;
/// A server's handling of a link's requests.
pub(crate) trait Accept: Send {
    /// Starts a request's handler, with what has come of its body.
    fn accept(&mut self, link: &Arc<Link>, request: Request, buffered: Buffered);

    /// Ready when the link shall be closed, once its calls are over. Registers the task otherwise.
    fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<()>;
}

/// A client's link accepts nothing.
pub(crate) struct NoRequests;

impl Accept for NoRequests {
    fn accept(&mut self, _link: &Arc<Link>, _request: Request, _buffered: Buffered) {}

    fn poll_shutdown(&mut self, _cx: &mut Context<'_>) -> Poll<()> {
        Poll::Pending
    }
}

/// Runs until the link ends; its calls have ended with the reason by then.
pub(crate) struct Driver<A> {
    link: Arc<Link>,
    socket: AsyncFd<Pollable<Arc<Socket>>>,
    /// The socket, watched for room while packets wait for it.
    full: Option<AsyncFd<Pollable<OwnedFd>>>,
    /// Readable when the peer's process is gone.
    pidfd: Option<AsyncFd<Pollable<OwnedFd>>>,
    accept: A,
    /// The local side has asked to wind the link up.
    winding_up: bool,
    timer: Pin<Box<Sleep>>,
    next: Pass,
    requests: Vec<(Request, Buffered)>,
}

/// The things that a poll looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pass {
    /// The lanes, and nothing else in this number of polls unless asked for.
    LanesOnly(u32),
    /// The lanes if something lies there, and everything the next time: a peer that has rung waits for an
    /// answer, and nobody waits for the socket to be read.
    LanesFirst,
    /// Everything.
    Everything,
}

impl<A: Accept> Driver<A> {
    pub(crate) fn new(
        link: Arc<Link>,
        pidfd: Option<OwnedFd>,
        accept: A,
        keepalive: Option<Keepalive>,
    ) -> io::Result<Self> {
        if let Some(keepalive) = keepalive {
            link.with(|state| state.session.keep_alive(keepalive, clock::now()));
        }
        let socket = Arc::clone(&link.socket);
        Ok(Self {
            // Not for writing: that would wake us whenever the peer takes a doorbell.
            socket: register(socket, Interest::READABLE)?,
            full: None,
            pidfd: pidfd.map(|pidfd| register(pidfd, Interest::READABLE)).transpose()?,
            link,
            accept,
            winding_up: false,
            timer: Box::pin(tokio::time::sleep(Duration::MAX)),
            next: Pass::LanesFirst,
            requests: Vec::new(),
        })
    }

    /// One poll. Returns `true` if the link has ended.
    fn poll_link(&mut self, cx: &mut Context<'_>) -> bool {
        // Before anything is looked at: what happens from now on wakes this task.
        let wanted = self.link.with(|state| state.set_driver(cx.waker()));
        match self.next {
            Pass::LanesOnly(left) if left > 0 && !wanted => {
                self.next = Pass::LanesOnly(left - 1);
                match self.poll_lanes() {
                    Lanes::Ended => return true,
                    // The events that woke this task meanwhile are still to be looked at: it must not sleep
                    // before that.
                    Lanes::Idle => {}
                    _ => {
                        poll_again(cx);
                        return false;
                    }
                }
            }
            Pass::LanesOnly(_) | Pass::LanesFirst if self.link.is_ready() => {
                self.next = Pass::Everything;
                cx.waker().wake_by_ref();
                return self.poll_lanes() == Lanes::Ended;
            }
            _ => {}
        }
        if self.poll_everything(cx) {
            return true;
        }
        match self.poll_lanes() {
            Lanes::Ended => return true,
            Lanes::Idle => self.next = Pass::LanesFirst,
            _ => {
                self.next = Pass::LanesOnly(POLLS_BETWEEN);
                poll_again(cx);
            }
        }
        false
    }

    /// Looks at all but the lanes, in the order of their weight. Returns `true` if the link has ended.
    fn poll_everything(&mut self, cx: &mut Context<'_>) -> bool {
        self.poll_socket(cx);
        self.poll_process(cx);
        self.poll_winding_up(cx);
        self.poll_timers(cx);
        self.poll_segments(cx);
        self.link.with(|state| state.session.is_over())
    }

    /// The socket's packets and doorbells, and its end.
    fn poll_socket(&mut self, cx: &mut Context<'_>) {
        let link = &self.link;
        let mut packets = 0;
        while let Poll::Ready(ready) = self.socket.poll_read_ready(cx) {
            let mut guard = match ready {
                Ok(guard) => guard,
                Err(error) => return link.with(|state| state.session.end(Ending::Socket(error), clock::now)),
            };
            while let Ok(incoming) = guard.try_io(|socket| socket.get_ref().receive()) {
                if !link.with(|state| state.session.handle_incoming(incoming, clock::now)) {
                    return;
                }
                packets += 1;
                if packets == PACKETS {
                    cx.waker().wake_by_ref();
                    return;
                }
            }
        }
    }

    /// The end of the peer's process.
    fn poll_process(&mut self, cx: &mut Context<'_>) {
        if let Some(pidfd) = &self.pidfd
            && pidfd.poll_read_ready(cx).is_ready()
        {
            self.link.with(|state| state.session.handle_peer_gone(clock::now));
        }
    }

    /// The local side's wish to wind the link up. One that either side winds up ends with its last stream.
    fn poll_winding_up(&mut self, cx: &mut Context<'_>) {
        let begins = !self.winding_up && self.accept.poll_shutdown(cx).is_ready();
        self.winding_up |= begins;
        self.link.with(|state| {
            if begins {
                state.session.go_away(clock::now());
            }
            if state.session.is_wound_up() {
                state.session.end(Ending::Closed, clock::now);
            }
        });
    }

    fn poll_timers(&mut self, cx: &mut Context<'_>) {
        loop {
            let now = clock::now();
            let wake_at = self.link.with(|state| {
                state.session.handle_timeout(now);
                let lane = state.poller.expire(now);
                let wake_at = earlier(state.session.poll_timeout(), lane);
                state.set_timer(wake_at);
                wake_at
            });
            let Some(wake_at) = wake_at else { return };
            self.timer.as_mut().reset(Instant::now() + clock::until(wake_at));
            if self.timer.as_mut().poll(cx).is_pending() {
                return;
            }
        }
    }

    /// Offers a segment when one would help, and sends what waits for the socket.
    fn poll_segments(&mut self, cx: &mut Context<'_>) {
        let link = &self.link;
        let all_sent = link.with(|state| {
            if let Err(error) = state.session.offer_segment() {
                tracing::warn!(%error, "the link goes on with the memory it has");
            }
            state.session.flush(&link.socket)
        });
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
            if link.with(|state| state.session.flush(&link.socket)) {
                self.full = None;
                return;
            }
            guard.clear_ready();
        }
    }

    /// The lanes: takes what there is, and starts the handlers of requests.
    fn poll_lanes(&mut self) -> Lanes {
        for _ in 0..ROUNDS {
            let Self { link, requests, .. } = self;
            let lanes = link.with(|state| {
                let taken = state.receive();
                if taken > 0 {
                    state.expire();
                }
                let calls = state.session.calls();
                requests.extend(std::iter::from_fn(|| {
                    let request = calls.accept()?;
                    // At once: tasks that the handler starts may wait before the handler itself does.
                    calls.set_user(request.stream, StreamWakers::default());
                    let buffered = calls.take_buffered(request.stream);
                    Some((request, buffered))
                }));
                if state.session.is_over() {
                    Lanes::Ended
                } else if taken > 0 || !requests.is_empty() {
                    Lanes::Busy
                } else {
                    rest(state)
                }
            });
            for (request, buffered) in self.requests.drain(..) {
                self.accept.accept(&self.link, request, buffered);
            }
            match lanes {
                Lanes::Busy => {}
                Lanes::Yield => {
                    self.link.yield_for_work();
                    return Lanes::Moment;
                }
                lanes => return lanes,
            }
        }
        Lanes::Busy
    }
}

impl<A: Accept + Unpin> Future for Driver<A> {
    type Output = Failure;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Failure> {
        if self.poll_link(cx) { Poll::Ready(self.link.end(Ending::Closed)) } else { Poll::Pending }
    }
}

/// The result of a look at the lanes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lanes {
    /// Something was there, and more may be.
    Busy,
    /// Nothing: let other tasks run, and look again.
    Moment,
    /// Nothing: let other tasks and other processes run, and look again.
    Yield,
    /// Nothing, and the task may sleep: the lane is armed, or somebody else polls it.
    Idle,
    /// The link has ended.
    Ended,
}

/// Nothing is there: polls on for a moment, or arms the lane.
fn rest(state: &mut State) -> Lanes {
    // A client's tasks poll for themselves.
    if state.poller.is_held() {
        return Lanes::Idle;
    }
    let now = clock::now();
    if state.session.calls().role_accepts() && state.may_poll(now) {
        return match state.poll(now) {
            Polled::Ready => Lanes::Busy,
            Polled::Nothing => Lanes::Moment,
            Polled::Yield => Lanes::Yield,
        };
    }
    if state.session.arm() { Lanes::Idle } else { Lanes::Busy }
}

impl<A> Drop for Driver<A> {
    /// Also when it is dropped with its runtime, no call waits for what can't come.
    fn drop(&mut self) {
        self.link.end(Ending::RuntimeGone);
    }
}
