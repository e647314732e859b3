//! A link as tasks share it: the connection behind a lock, and who has to be woken when.
//!
//! Whoever has something to send or to look for locks the link, does it, and *settles*: events become
//! wake-ups, and the peer's doorbell is rung if the peer is parked. A task that waits for a reply
//! polls the lane itself, one task at a time; when it stops, the lane is armed and looked at once
//! more, so that a lane is always either polled or armed. The [`driver`] task does the rest: doorbells,
//! deadlines, further segments, and the link's end.

mod calls;
pub(crate) mod driver;
mod open_queue;
mod stream_wakers;
#[cfg(test)]
mod tests;
mod wake_list;

use std::future::Future;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use notnets_core::call::{Connection, Event, Failure, Role, StreamId, Violation};
use notnets_core::code::Code;
use notnets_core::limits::Limits;
use notnets_core::link::segments::Segments;
use notnets_core::link::{Established, KeepAlive, Socket};
use notnets_memory::process::ForkGuard;
use tokio::runtime::{Handle, RuntimeFlavor};

use crate::clock::{self, Timestamp};
use crate::wait::{self, Budget, Polled, Wait, WaitFor};
use open_queue::OpenQueue;
use stream_wakers::StreamWakers;
use wake_list::WakeList;

pub(crate) use calls::{Answer, OpenRequest, OpenTicket, OpenedCall};

/// Descriptors taken in one go before others get a turn: all of a ring, so that of the calls that
/// piled up none is started that has been cancelled behind the others.
const BATCH: usize = 128;
/// A task that waits for something takes at most so many batches that don't bring it.
const MAX_ROUNDS: usize = 16;
/// So many calls at most are woken at once to open their streams: they fill a ring.
const MAX_WOKEN: usize = 128;
/// A task that polls the lane and has not come back for so long does not come back:
/// it selects, and waits for something else by now.
const POLLER_PATIENCE: Duration = Duration::from_millis(5);

/// One end of a link.
#[derive(Debug)]
pub(crate) struct Link {
    state: Mutex<State>,
    socket: Arc<Socket>,
    fork: ForkGuard,
    /// Held for as long as the link is.
    _keep_alive: Option<KeepAlive>,
}

/// What the lock protects.
#[derive(Debug)]
struct State {
    connection: Connection<StreamWakers>,
    segments: Segments,
    /// Why no call can be made any more.
    broken: Option<Failure>,
    /// The peer reads no more: it has closed the link, or its process has ended.
    peer_gone: bool,
    /// The local side wants the link to end.
    closing: bool,
    /// The last answered ping.
    pong: u64,
    budget: Budget,
    /// The stream whose task polls the lane.
    poller: Option<StreamId>,
    /// How often such a task has said that it will come back.
    polls: u64,
    /// What the driver saw of that when it last looked, and when it looks again.
    watch: Option<(u64, Timestamp)>,
    /// Tasks that wait to open a stream.
    open_queue: OpenQueue,
    driver: Option<Waker>,
    /// The driver has something else to look at than the lanes.
    driver_wanted: bool,
    /// When the driver wakes by itself.
    timer: Option<Timestamp>,
    wakes: WakeList,
    /// Wakers that are not needed any more, to be dropped when the lock is not held.
    replaced: Vec<Waker>,
    space_armed: bool,
}

impl Link {
    /// A link over what the handshake established. The driver still has to be started.
    pub(crate) fn new(
        role: Role,
        own: Limits,
        wait: Wait,
        established: Established,
    ) -> std::io::Result<(Arc<Self>, Option<std::os::fd::OwnedFd>)> {
        let Established { socket, pidfd, lanes, peer_limits, keep_alive, source, .. } = established;
        let own = own.check().map_err(std::io::Error::other)?;
        let mut connection = Connection::new(role, lanes, own, peer_limits);
        if connection.lanes().is_silent() {
            connection.send_time_left();
        }
        let state = State {
            connection,
            segments: Segments::new(source, own.segment_bytes, peer_limits.segment_bytes),
            broken: None,
            peer_gone: false,
            closing: false,
            pong: 0,
            budget: Budget::new(wait),
            poller: None,
            polls: 0,
            watch: None,
            open_queue: OpenQueue::default(),
            driver: None,
            driver_wanted: false,
            timer: None,
            wakes: WakeList::default(),
            replaced: Vec::new(),
            space_armed: false,
        };
        let (state, socket) = (Mutex::new(state), Arc::new(socket));
        let link = Self { state, socket, fork: ForkGuard::new()?, _keep_alive: keep_alive };
        Ok((Arc::new(link), pidfd))
    }

    /// Locks, does something, settles.
    #[inline]
    fn with<R>(&self, act: impl FnOnce(&mut State) -> R) -> R {
        let mut state = self.lock();
        let result = act(&mut state);
        self.settle(state);
        result
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic while the lock was held is a bug of ours; the state is checked as a peer's is, so
        // going on does no harm beyond this link.
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if self.fork.is_forked_child() {
            state.connection.detach();
            state.broken.get_or_insert_with(forked);
        }
        state
    }

    /// Turns events into wake-ups, rings the peer if it is parked, and unlocks.
    #[inline]
    fn settle(&self, mut state: MutexGuard<'_, State>) {
        let ring = state.settle();
        let wakes = std::mem::take(&mut state.wakes);
        let _replaced = std::mem::take(&mut state.replaced);
        drop(state);
        if ring {
            self.socket.ring();
        }
        wakes.wake();
    }

    /// Waits until `check` finds what it looks for on a stream. The first task that waits polls the
    /// lane for a while, in place.
    ///
    /// `check` must find something when the link is broken.
    fn poll_received<R>(
        &self,
        cx: &mut Context<'_>,
        stream: StreamId,
        mut check: impl FnMut(&mut State) -> Option<R>,
    ) -> Poll<R> {
        let mut state = self.lock();
        if let Some(found) = check(&mut state) {
            return self.found(state, stream, found);
        }
        self.wait_received(cx, state, stream, check)
    }

    /// What was to be found is not there: polls the lane, or leaves the waker.
    fn wait_received<'a, R>(
        &'a self,
        cx: &mut Context<'_>,
        mut state: MutexGuard<'a, State>,
        stream: StreamId,
        mut check: impl FnMut(&mut State) -> Option<R>,
    ) -> Poll<R> {
        let mut rounds = 0;
        loop {
            if state.poller.is_some_and(|poller| poller != stream) || state.is_over() {
                break;
            }
            if state.receive() > 0 {
                if let Some(found) = check(&mut state) {
                    return self.found(state, stream, found);
                }
                rounds += 1;
                if rounds < MAX_ROUNDS {
                    continue;
                }
                state.will_poll_again(stream);
                poll_again(cx);
                break;
            }
            let now = clock::now();
            if state.budget.allows(now, WaitFor::Reply) {
                state.poller = Some(stream);
                match state.poll(now) {
                    Polled::Ready => continue,
                    Polled::Nothing => poll_again(cx),
                    Polled::Yield => {
                        state = self.yield_core(state);
                        if let Some(found) = check(&mut state) {
                            return self.found(state, stream, found);
                        }
                        poll_again(cx);
                    }
                }
                state.will_poll_again(stream);
                break;
            }
            state.stop_polling(stream);
            if state.park() {
                break;
            }
        }
        state.wait_received(stream, cx.waker());
        self.settle(state);
        Poll::Pending
    }

    /// The wait on a stream is over.
    fn found<R>(&self, mut state: MutexGuard<'_, State>, stream: StreamId, found: R) -> Poll<R> {
        state.stop_polling(stream);
        self.settle(state);
        Poll::Ready(found)
    }

    /// Lets other processes run, which may need this core for what we wait for.
    fn yield_core<'a>(&'a self, state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        self.settle(state);
        let away = wait::yield_core();
        let mut state = self.lock();
        state.budget.yielded(away);
        state
    }

    /// The same for the driver.
    pub(crate) fn yield_for_work(&self) {
        let state = self.yield_core(self.lock());
        self.settle(state);
    }

    /// Ends the link: all its calls fail with this, at once, and the peer sees its end, even if this
    /// side's calls and channels are held on to.
    pub(crate) fn break_with(&self, failure: Failure) {
        let mut state = self.lock();
        state.broken.get_or_insert(failure);
        let users = state.connection.take_users();
        let mut wakes = std::mem::take(&mut state.wakes);
        for wakers in users {
            wakers.wake_all(&mut wakes);
        }
        state.open_queue.wake_all(&mut wakes);
        drop(state);
        // The socket itself stays open for as long as a call or channel holds the link. A forked child
        // shares it with its parent.
        if !self.fork.is_forked_child() {
            self.socket.shut_down();
        }
        wakes.wake();
    }

    /// The local side is done with the link.
    pub(crate) fn close(&self) {
        self.with(|state| {
            state.closing = true;
            state.wake_driver();
        });
    }

    /// Returns `true` if the server takes no new calls on this link.
    pub(crate) fn is_draining(&self) -> bool {
        self.lock().connection.is_draining()
    }

    /// Has the peer pushed anything that nobody has taken?
    fn is_ready(&self) -> bool {
        let mut state = self.lock();
        state.broken.is_none() && state.connection.lanes().is_ready()
    }

    /// Can calls be opened?
    pub(crate) fn is_usable(&self) -> bool {
        let state = self.lock();
        state.broken.is_none() && !state.connection.is_draining()
    }
}

/// WakeList this task again after the others. Where it is long until then, the runtime looks at its sockets
/// first: links of the thread that are parked may have been rung.
pub(crate) fn poll_again(cx: &mut Context<'_>) {
    if wait::sockets_are_due() && has_one_thread() {
        let _pending = pin!(tokio::task::yield_now()).poll(cx);
    } else {
        cx.waker().wake_by_ref();
    }
}

/// A runtime with several has one that looks at its sockets, unless all are busy. And what yields to sockets there
/// stays with its thread: a handler that keeps the thread for long would keep it too.
fn has_one_thread() -> bool {
    Handle::try_current().is_ok_and(|handle| handle.runtime_flavor() == RuntimeFlavor::CurrentThread)
}

/// Calls and links are not inherited.
fn forked() -> Failure {
    let text = "this process was forked from the one that made the channel: make a channel after the fork";
    Failure::new(Code::UNAVAILABLE, text)
}

impl State {
    /// The application is done with a client's call; so is the task that sends its requests.
    fn close(&mut self, stream: StreamId) {
        if self.broken.is_none() {
            let wakers = self.connection.user(stream).map(std::mem::take);
            wakers.unwrap_or_default().wake_all(&mut self.wakes);
            self.connection.close(stream);
        }
    }

    /// Takes what the peer has pushed. Nothing once the link is broken.
    #[inline]
    fn receive(&mut self) -> usize {
        if self.broken.is_some() {
            return 0;
        }
        let taken = self.connection.receive(BATCH, clock::now);
        if taken > 0 {
            self.budget.arrived(clock::now);
        }
        taken
    }

    /// Ends the calls whose deadline has passed, so that none of them is started any more.
    fn expire(&mut self) {
        if self.broken.is_none() && self.connection.next_deadline().is_some() {
            self.connection.expire(clock::now());
        }
    }

    /// Why a call fails that has no answer, once the link is broken.
    fn failure_of(&mut self, stream: StreamId) -> Option<Failure> {
        let failure = self.broken.clone()?;
        let unread = self.peer_gone && self.connection.is_unread(stream);
        Some(failure.with_retry_safe(unread))
    }

    /// May whoever drives this link poll on at `now`, rather than park?
    fn may_poll(&mut self, now: Timestamp) -> bool {
        let what = if self.connection.open_streams() > 0 { WaitFor::Reply } else { WaitFor::Request };
        self.broken.is_none() && self.budget.allows(now, what)
    }

    /// Polls the lane for a moment.
    #[inline]
    fn poll(&mut self, now: Timestamp) -> Polled {
        let lanes = self.connection.lanes();
        lanes.disarm_frames();
        self.budget.poll(now, || lanes.is_ready())
    }

    /// Does nothing come any more? After a violation frames may lie there, but none is taken.
    fn is_over(&self) -> bool {
        self.broken.is_some() || self.connection.violation().is_some()
    }

    /// Asks to be rung, and looks once more. Returns false when there is something: don't park.
    #[inline]
    fn park(&mut self) -> bool {
        self.is_over() || !self.connection.lanes().arm_frames()
    }

    /// Are no new streams taken, and the old ones over?
    fn is_wound_up(&self) -> bool {
        self.connection.is_draining() && self.connection.open_streams() == 0
    }

    /// Is a task of the local side polling the lane?
    fn is_polled(&self) -> bool {
        self.poller.is_some()
    }

    fn wait_received(&mut self, stream: StreamId, waker: &Waker) {
        let replaced = self.connection.user(stream).and_then(|wakers| wakers.wait_readable(waker));
        self.replaced.extend(replaced);
    }

    fn wait_to_open(&mut self, ticket: &mut Option<u64>, waker: &Waker) {
        self.replaced.extend(self.open_queue.wait(ticket, waker));
    }

    /// Who waited to open a stream has one, or has given up: then what it may have been woken for is
    /// there for others.
    fn leave_open_queue(&mut self, ticket: u64, opened: bool) {
        self.open_queue.leave(ticket);
        if !opened && self.broken.is_none() {
            self.connection.wake_queued();
        }
    }

    /// If those that are woken don't use all there is, the next look for room finds the others.
    fn wake_openers(&mut self) {
        let free = self.connection.free_streams().min(MAX_WOKEN);
        if self.open_queue.wake(free, &mut self.wakes) {
            self.connection.want_to_open();
        }
    }

    /// WakeList this from now on. Returns whether it has been woken, or was to be, since the last time.
    fn set_driver(&mut self, waker: &Waker) -> bool {
        if !self.driver.as_ref().is_some_and(|driver| driver.will_wake(waker)) {
            self.driver = Some(waker.clone());
        }
        std::mem::take(&mut self.driver_wanted)
    }

    fn set_timer(&mut self, timer: Option<Timestamp>) {
        self.timer = timer;
    }

    fn wake_driver(&mut self) {
        self.driver_wanted = true;
        if let Some(driver) = &self.driver {
            self.wakes.push(driver.clone());
        }
    }

    /// Violations of the peer's, as the failure of all calls.
    fn violation(&self) -> Option<Failure> {
        self.connection.violation().map(violation_failure)
    }

    /// The doorbell was rung: the words that asked for it are used up.
    fn rung(&mut self) {
        if self.broken.is_some() {
            return;
        }
        self.connection.lanes().disarm_frames();
        if std::mem::take(&mut self.space_armed) {
            self.connection.lanes().disarm_space();
            self.connection.wake_queued();
        }
    }

    /// A task lets others run and keeps the lane meanwhile. The driver sees to it that it comes back.
    fn will_poll_again(&mut self, stream: StreamId) {
        self.poller = Some(stream);
        self.polls += 1;
        if self.watch.is_none() {
            self.wake_driver();
        }
    }

    /// Takes the lane from a task that does not come back. Returns when to look again.
    fn watch_poller(&mut self, now: Timestamp) -> Option<Timestamp> {
        let forgotten = self.watch.is_some_and(|(polls, until)| polls == self.polls && now >= until);
        if forgotten {
            self.poller = None;
        }
        self.watch = match (self.poller, self.watch) {
            (None, _) => None,
            (Some(_), Some((polls, until))) if now < until => Some((polls, until)),
            (Some(_), _) => Some((self.polls, now + POLLER_PATIENCE)),
        };
        self.watch.map(|(_, until)| until)
    }

    /// The stream's task does not look at the lane any more: then it has to be armed.
    fn stop_polling(&mut self, stream: StreamId) {
        if self.poller != Some(stream) {
            return;
        }
        self.poller = None;
        for _ in 0..MAX_ROUNDS {
            if self.park() {
                return;
            }
            self.receive();
        }
        self.wake_driver();
    }

    /// Returns whether the peer has to be rung.
    fn settle(&mut self) -> bool {
        if self.broken.is_some() {
            return false;
        }
        self.watch_space();
        while let Some(event) = self.connection.poll_event() {
            self.on_event(event);
        }
        let sooner = |deadline| self.timer.is_none_or(|timer| deadline < timer);
        let timer = self.connection.next_deadline().is_some_and(sooner);
        if timer
            || self.is_wound_up()
            || self.connection.violation().is_some()
            || self.connection.wants_segment()
        {
            if timer {
                self.timer = Some(Timestamp::ZERO);
            }
            self.wake_driver();
        }
        self.connection.lanes().bell_is_due()
    }

    fn watch_space(&mut self) {
        let waits = self.connection.waits_for_space();
        if waits && !self.space_armed {
            self.space_armed = true;
            self.connection.lanes().arm_space();
            self.connection.wake_queued();
        } else if !waits && self.space_armed {
            self.space_armed = false;
            self.connection.lanes().disarm_space();
        }
    }

    fn on_event(&mut self, event: Event<StreamWakers>) {
        match event {
            Event::Readable(stream) => {
                if let Some(wakers) = self.connection.user(stream) {
                    self.wakes.extend(wakers.take_readable());
                }
            }
            Event::Writable(stream) => {
                if let Some(wakers) = self.connection.user(stream) {
                    self.wakes.extend(wakers.take_writable());
                }
            }
            Event::Cancelled(_, wakers) => {
                if let Some(wakers) = wakers {
                    wakers.wake_all(&mut self.wakes);
                }
            }
            Event::Over(mut wakers) => self.wakes.extend(wakers.take_readable()),
            Event::CanOpen if self.connection.is_draining() => self.open_queue.wake_all(&mut self.wakes),
            Event::CanOpen => self.wake_openers(),
            Event::Pong(echo) => {
                self.pong = echo;
                self.wake_driver();
            }
            // The driver that received it accepts it; a channel asks when it opens its next call.
            Event::Request => {}
            // For a server: the link can be wound up.
            Event::GoAway => self.wake_driver(),
        }
    }
}

/// What a peer's violation means for the calls on the link.
pub(crate) fn violation_failure(violation: &Violation) -> Failure {
    Failure::new(Code::INTERNAL, format!("the link was closed: {violation}"))
}
