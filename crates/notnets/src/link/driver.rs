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

use notnets_core::call::{Buffered, Failure, Request};
use notnets_core::code::Code;
use notnets_core::link::Socket;
use notnets_core::link::packet::Packet;
use notnets_core::link::socket::Incoming;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::time::{Instant, Sleep};

use super::{Link, State, StreamWakers, poll_again};
use crate::async_fd::{Pollable, register};
use crate::clock::{self, Timestamp};
use crate::wait::Polled;

/// A client that is told to go away has so long to answer. Until then what it sends is taken; a client
/// that hangs must not keep a server from stopping.
const GO_AWAY_TIMEOUT: Duration = Duration::from_secs(1);

/// Rounds of one poll before other tasks get a turn.
const ROUNDS: usize = 4;
/// Packets of one poll before other tasks get a turn.
const PACKETS: usize = 64;
/// While the lanes are polled, all else is looked at once in so many polls: each takes about a
/// microsecond.
const POLLS_BETWEEN: u32 = 16;
/// When the link ends, at most so many batches are taken: more than the largest ring holds.
const LAST_ROUNDS: usize = 2048;

/// What a server does with a link's requests.
pub(crate) trait Accept: Send {
    /// Starts a request's handler, with what has come of its body.
    fn accept(&mut self, link: &Arc<Link>, request: Request, buffered: Buffered);

    /// Shall the link be closed, once its calls are over? Registers to be told.
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

/// When to ask the peer whether it is there.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Keepalive {
    /// How often.
    pub interval: Duration,
    /// How long to wait for the answer.
    pub timeout: Duration,
    /// Also while no call is open.
    pub while_idle: bool,
}

/// The ping that was sent last.
#[derive(Clone, Copy, Debug)]
struct Pinged {
    echo: u64,
    at: Timestamp,
    answered: bool,
}

impl Pinged {
    /// When the next one is due, or the answer to this one.
    fn look_at(self, keepalive: Keepalive) -> Timestamp {
        let pause = if self.answered { keepalive.interval } else { keepalive.timeout };
        self.at + pause
    }
}

/// Runs until the link ends; its calls have been told why by then.
pub(crate) struct Driver<A> {
    link: Arc<Link>,
    socket: AsyncFd<Pollable<Arc<Socket>>>,
    /// The same socket, watched for room while packets wait for it.
    full: Option<AsyncFd<Pollable<OwnedFd>>>,
    /// Readable when the peer's process is gone.
    pidfd: Option<AsyncFd<Pollable<OwnedFd>>>,
    accept: A,
    /// Set once the link is being wound up: when calls are refused of which the client could not know
    /// that they come too late.
    refuse_at: Option<Timestamp>,
    keepalive: Option<Keepalive>,
    pinged: Pinged,
    timer: Pin<Box<Sleep>>,
    /// So many more polls look at the lanes only, unless something else is asked for.
    lanes_only: u32,
    /// The last poll looked at the lanes before all else, and left the rest to this one.
    looked_first: bool,
    requests: Vec<(Request, Buffered)>,
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
            socket: register(socket, Interest::READABLE)?,
            full: None,
            pidfd: pidfd.map(|pidfd| register(pidfd, Interest::READABLE)).transpose()?,
            link,
            accept,
            refuse_at: None,
            keepalive,
            pinged: Pinged { echo: 0, at: clock::now(), answered: true },
            timer: Box::pin(tokio::time::sleep(Duration::MAX)),
            lanes_only: 0,
            looked_first: false,
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
                            let settled = match packet {
                                Packet::Doorbell => state.segments.poll(lanes)?,
                                packet => state.segments.receive(packet, descriptor, lanes)?,
                            };
                            if settled {
                                state.connection.on_segment_answer(true);
                            }
                            Ok(())
                        });
                        let settled: Result<(), notnets_core::link::segments::SegmentViolation> = settled;
                        if let Err(violation) = settled {
                            let text = format!("the link was closed: {violation}");
                            return Poll::Ready(Failure::new(Code::INTERNAL, text));
                        }
                    }
                    Ok(Ok(Incoming::Closed)) => return Poll::Ready(self.peer_gone()),
                    Ok(Ok(Incoming::Bad(bad))) => {
                        let text = format!("the link was closed: the peer sent {bad}");
                        return Poll::Ready(Failure::new(Code::INTERNAL, text));
                    }
                    Ok(Err(error)) => return Poll::Ready(broken(&error)),
                }
            }
        }
    }

    /// The lanes: takes what there is. Returns whether the task may sleep.
    fn poll_lanes(&mut self) -> Result<bool, Failure> {
        for _ in 0..ROUNDS {
            let Self { link, requests, .. } = self;
            let (rest, broken) = link.with(|state| {
                let taken = state.receive();
                if taken > 0 {
                    state.expire();
                }
                requests.extend(std::iter::from_fn(|| {
                    let request = state.connection.accept()?;
                    // At once: tasks that the handler starts may wait before the handler itself does.
                    state.connection.set_user(request.stream, StreamWakers::default());
                    let buffered = state.connection.take_buffered(request.stream);
                    Some((request, buffered))
                }));
                let broken = state.broken.clone().or_else(|| state.violation());
                let idle = taken == 0 && requests.is_empty() && broken.is_none();
                (if idle { rest(state) } else { Rest::No }, broken)
            });
            for (request, buffered) in self.requests.drain(..) {
                self.accept.accept(&self.link, request, buffered);
            }
            if let Some(failure) = broken {
                return Err(failure);
            }
            match rest {
                Rest::No => {}
                Rest::Moment => return Ok(false),
                Rest::Yield => {
                    self.link.yield_for_work();
                    return Ok(false);
                }
                Rest::Sleep => return Ok(true),
            }
        }
        Ok(false)
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
                state.expire();
                if self.refuse_at.is_some_and(|at| at <= now) && state.broken.is_none() {
                    state.connection.refuse();
                }
                let ping = self.keepalive.map(|keepalive| self.pinged.look_at(keepalive));
                let refuse = self.refuse_at.filter(|at| *at > now && !state.connection.is_draining());
                let mut wake_at = state.connection.next_deadline();
                for at in [ping, refuse, state.watch_poller(now)].into_iter().flatten() {
                    wake_at = Some(wake_at.map_or(at, |soonest| soonest.min(at)));
                }
                state.set_timer(wake_at);
                wake_at
            });
            let Some(wake_at) = wake_at else { return Poll::Pending };
            self.timer.as_mut().reset(Instant::now() + clock::until(wake_at));
            ready!(self.timer.as_mut().poll(cx));
        }
    }

    /// Sends a ping when it is time. Returns whether the last one has gone unanswered for too long.
    fn keep_alive(&mut self, now: Timestamp) -> bool {
        let Some(keepalive) = self.keepalive else { return false };
        self.link.with(|state| {
            if state.pong == self.pinged.echo {
                self.pinged.answered = true;
            }
            if now < self.pinged.look_at(keepalive) {
                return false;
            }
            if !self.pinged.answered {
                return true;
            }
            let asks = keepalive.while_idle || state.connection.open_streams() > 0;
            if asks {
                self.pinged.echo += 1;
                state.connection.ping(self.pinged.echo);
            }
            (self.pinged.at, self.pinged.answered) = (now, !asks);
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
                    state.connection.on_segment_answer(false);
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
            self.full = again.and_then(|fd| register(fd, Interest::WRITABLE)).ok();
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

    fn peer_gone(&self) -> Failure {
        self.link.with(|state| state.peer_gone = true);
        Failure::new(
            Code::UNAVAILABLE,
            "the other end of the link is gone: its process has ended, or has let go of the link",
        )
    }

    /// All of the above, in the order of their weight. Fails when the link has ended.
    fn poll_link(&mut self, cx: &mut Context<'_>) -> Result<(), Failure> {
        // Before anything is looked at: what happens from now on wakes this task.
        let wanted = self.link.with(|state| state.set_driver(cx.waker()));
        if self.lanes_only > 0 && !wanted {
            self.lanes_only -= 1;
            // What has woken this task meanwhile was not looked at: it may not sleep before that.
            if !self.poll_lanes()? {
                poll_again(cx);
                return Ok(());
            }
        }
        // Who has rung wants an answer, and nobody waits for the socket to be read.
        self.looked_first = !self.looked_first && self.link.is_ready();
        if self.looked_first {
            self.poll_lanes()?;
            cx.waker().wake_by_ref();
            return Ok(());
        }
        let mut ended = self.poll_socket(cx);
        if ended.is_pending() {
            ended = self.poll_end(cx);
        }
        if ended.is_pending() {
            ended = self.poll_timers(cx);
        }
        if let Poll::Ready(failure) = ended {
            // What the peer said before its end still counts.
            let mut last = (0..LAST_ROUNDS).map(|_| self.link.with(|state| state.receive()));
            let _all = last.any(|taken| taken == 0);
            return Err(failure);
        }
        self.poll_segments(cx);
        let may_sleep = self.poll_lanes()?;
        self.lanes_only = if may_sleep { 0 } else { POLLS_BETWEEN };
        if !may_sleep {
            poll_again(cx);
        }
        Ok(())
    }

    fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<Failure> {
        if let Some(pidfd) = &self.pidfd
            && pidfd.poll_read_ready(cx).is_ready()
        {
            return Poll::Ready(self.peer_gone());
        }
        let begins = self.refuse_at.is_none() && self.accept.poll_shutdown(cx).is_ready();
        if begins {
            self.refuse_at = Some(clock::after(GO_AWAY_TIMEOUT));
        }
        // A link that either side winds up ends with its last stream.
        let over = self.link.with(|state| {
            if begins && state.broken.is_none() {
                state.connection.go_away();
            }
            state.closing || state.is_wound_up()
        });
        if over {
            return Poll::Ready(Failure::new(Code::UNAVAILABLE, "the link was closed by this side"));
        }
        Poll::Pending
    }
}

impl<A: Accept + Unpin> Future for Driver<A> {
    type Output = Failure;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Failure> {
        let Err(failure) = self.poll_link(cx) else { return Poll::Pending };
        self.link.break_with(failure.clone());
        Poll::Ready(failure)
    }
}

/// What a driver does when nothing is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rest {
    /// Goes on: something has come meanwhile.
    No,
    /// Lets other tasks run, and looks again.
    Moment,
    /// The same, and lets other processes run.
    Yield,
    /// Sleeps: the lane is armed, or somebody else polls it.
    Sleep,
}

/// Nothing is there: polls on for a moment, or arms the lane.
fn rest(state: &mut State) -> Rest {
    // A client's tasks poll for themselves.
    if state.is_polled() {
        return Rest::Sleep;
    }
    let now = clock::now();
    if state.connection.role_accepts() && state.may_poll(now) {
        return match state.poll(now) {
            Polled::Ready => Rest::No,
            Polled::Nothing => Rest::Moment,
            Polled::Yield => Rest::Yield,
        };
    }
    if state.park() { Rest::Sleep } else { Rest::No }
}

impl<A> Drop for Driver<A> {
    /// Also when it is dropped with its runtime, no call waits for what can't come.
    fn drop(&mut self) {
        self.link.break_with(runtime_gone());
    }
}

fn runtime_gone() -> Failure {
    let text = "the runtime that this side of the link ran on has ended, or its server was dropped";
    Failure::new(Code::UNAVAILABLE, text)
}

fn broken(error: &io::Error) -> Failure {
    Failure::new(Code::UNAVAILABLE, format!("the link's socket broke: {error}"))
}
