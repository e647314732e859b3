//! The task behind a link: it looks at the lanes, and at all that the link [watches](super::watched).
//!
//! On a link that is idle it sleeps in the kernel's readiness queue and takes no CPU at all. On a
//! server's link it also takes the requests and starts their handlers. A driver whose thread does not come
//! back is replaced for the time being, where its runtime has other threads: see
//! [`driver_slot`](super::driver_slot).

use std::future::{Future, poll_fn};
use std::io;
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use notnets_core::call::{Buffered, Failure, Request};
use notnets_core::clock;
use notnets_core::session::{Ending, Keepalive};
use notnets_core::wait::{self, Polled};
use tokio::runtime::Handle;

use super::driver_slot::{DriverId, DriverTurn, Found};
use super::state::State;
use super::stay::Stay;
use super::watched::Watched;
use super::{Link, has_workers, poll_again};

pub(crate) use super::watched::WindUp;

/// A driver that does not come for this long is relieved.
const PATIENCE: Duration = Duration::from_millis(1);
/// While the lanes are polled, all else is looked at once in this many polls: each takes about a
/// microsecond.
const POLLS_BETWEEN: u32 = 16;

/// A server's handling of a link's requests.
pub(crate) trait Accept: Send + Sync + 'static {
    /// Starts the handlers of these requests, with what has come of their bodies. `leave` says that those
    /// which would run on this thread, and might block it, are left to [`go_on`](Self::go_on).
    fn accept(&self, link: &Arc<Link>, requests: &mut Vec<(Request, Buffered)>, leave: bool) -> Started;

    /// Starts the handlers of requests that are left. Any of them may block this thread: those behind it are
    /// left to whoever comes next.
    fn go_on(&self, link: &Arc<Link>) -> Started;
}

/// What has become of requests.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Started {
    /// Handlers were started as tasks.
    pub(crate) tasks: bool,
    /// Requests are left, for the link's driver to go on with.
    pub(crate) left: bool,
}

/// A client's link accepts nothing.
pub(crate) struct NoRequests;

impl Accept for NoRequests {
    fn accept(&self, link: &Arc<Link>, requests: &mut Vec<(Request, Buffered)>, _: bool) -> Started {
        requests.clear();
        self.go_on(link)
    }

    fn go_on(&self, _: &Arc<Link>) -> Started {
        Started { tasks: false, left: false }
    }
}

/// Runs until the link ends; its calls have ended with the reason by then.
pub(crate) struct Driver<A: Accept>(Turns<A>);

impl<A: Accept> Driver<A> {
    /// Drives a link in the present runtime. `wind_up` is the local side's wish to end it.
    ///
    /// # Errors
    /// When the runtime can't watch the link's socket.
    pub(crate) fn new(
        link: Arc<Link>,
        pidfd: Option<OwnedFd>,
        accept: A,
        wind_up: Option<WindUp>,
        keepalive: Option<Keepalive>,
    ) -> io::Result<Self> {
        if let Some(keepalive) = keepalive.filter(|keepalive| !keepalive.interval.is_zero()) {
            link.with(|state| state.session.keep_alive(keepalive, clock::now()));
        }
        let watched = Watched::new(Arc::clone(&link.socket), pidfd, wind_up)?;
        let reliefs = has_workers().then(Handle::current);
        let shared = Arc::new(Shared { link, accept, watched: Mutex::new(Some(watched)), reliefs });
        Ok(Self(Turns::new(shared, DriverId::OWN)))
    }
}

impl<A: Accept> Future for Driver<A> {
    type Output = Failure;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Failure> {
        self.0.poll(cx).map(|()| self.0.shared.link.end(Ending::Closed))
    }
}

impl<A: Accept> Drop for Driver<A> {
    /// Also when it is dropped with its runtime, no call waits for what can't come.
    fn drop(&mut self) {
        let shared = &self.0.shared;
        shared.link.end(Ending::RuntimeGone);
        // A forked child watches what its parent does, and must not end that.
        if !shared.link.is_of_parent() {
            drop(shared.watched().take());
        }
    }
}

/// What the drivers of a link have in common.
struct Shared<A> {
    link: Arc<Link>,
    accept: A,
    /// Until the link's own driver is over: what is watched holds wakers that hold this.
    watched: Mutex<Option<Watched>>,
    /// Where a relief can be started.
    reliefs: Option<Handle>,
}

impl<A> Shared<A> {
    /// Returns `true` if the runtime has several workers.
    fn has_others(&self) -> bool {
        self.reliefs.is_some()
    }

    fn watched(&self) -> MutexGuard<'_, Option<Watched>> {
        self.watched.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Something that is watched is ready.
impl<A: Accept> Wake for Shared<A> {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        let Some(mut state) = self.link.lock() else { return };
        let (driver, watch) = state.driver.ready();
        drop(state);
        if watch {
            self.watch();
        }
        if let Some(driver) = driver {
            driver.wake();
        }
    }
}

impl<A: Accept> Shared<A> {
    /// Watches the driver while it is busy, and relieves it if it is stuck.
    #[cold]
    fn watch(self: &Arc<Self>) {
        let Some(runtime) = &self.reliefs else { return };
        let shared = Arc::downgrade(self);
        let watching = async move {
            let mut seen = None;
            loop {
                tokio::time::sleep(PATIENCE).await;
                let Some(shared) = shared.upgrade() else { return };
                let Some(mut state) = shared.link.lock() else { return };
                let found = state.driver.look(&mut seen);
                drop(state);
                match found {
                    Found::Asleep => return,
                    Found::Awake => {}
                    Found::Stuck(relief) => {
                        tracing::debug!("a link's driver is stuck: another takes over");
                        let mut turns = Turns::new(Arc::clone(&shared), relief);
                        spawn_for_others(&Handle::current(), poll_fn(move |cx| turns.poll(cx)));
                    }
                }
            }
        };
        spawn_for_others(runtime, watching);
    }
}

/// Starts a task that any worker can take, though this one may be about to block. The task that a worker has
/// started last is its own to run: so another is started after it.
fn spawn_for_others(runtime: &Handle, task: impl Future<Output = ()> + Send + 'static) {
    runtime.spawn(task);
    runtime.spawn(std::future::ready(()));
}

/// The turns of one driver: the link's own, or a relief.
struct Turns<A> {
    shared: Arc<Shared<A>>,
    id: DriverId,
    /// Woken by what is watched, where that may start a relief.
    ready: Option<Waker>,
    next: Pass,
    requests: Vec<(Request, Buffered)>,
    /// Requests were taken whose handlers were not started yet.
    more: bool,
    /// Tasks were woken or started, which this worker may run next.
    others: bool,
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

impl<A: Accept> Turns<A> {
    fn new(shared: Arc<Shared<A>>, id: DriverId) -> Self {
        let ready = shared.has_others().then(|| Waker::from(Arc::clone(&shared)));
        // The one that it relieves does not hear what is ready.
        let next = if id == DriverId::OWN { Pass::LanesFirst } else { Pass::Everything };
        Self { shared, id, ready, next, requests: Vec::new(), more: id != DriverId::OWN, others: false }
    }

    /// One turn. Ready when the link has ended, or this driver was replaced.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        // Before anything is looked at: what happens from now on wakes this task.
        let turn = self.shared.link.lock().and_then(|mut state| state.driver.begin_turn(self.id, cx.waker()));
        let Some(DriverTurn { wanted, left, relief }) = turn else {
            self.hand_over();
            return Poll::Ready(());
        };
        self.more |= left;
        if let Some(relief) = relief {
            relief.wake();
        }
        match self.next {
            Pass::LanesOnly(left) if left > 0 && !wanted => {
                self.next = Pass::LanesOnly(left - 1);
                match self.poll_lanes() {
                    Lanes::Ended => return Poll::Ready(()),
                    // The events that woke this task meanwhile are still to be looked at: it must not sleep
                    // before that.
                    Lanes::Idle => {}
                    _ => {
                        poll_again(cx, std::mem::take(&mut self.others));
                        return Poll::Pending;
                    }
                }
            }
            Pass::LanesOnly(_) | Pass::LanesFirst
                if self.shared.has_others() && self.shared.link.is_ready() =>
            {
                self.listen_on();
                match self.poll_lanes() {
                    Lanes::Ended => return Poll::Ready(()),
                    Lanes::Idle => {}
                    _ => {
                        self.next = Pass::Everything;
                        poll_again(cx, std::mem::take(&mut self.others));
                        return Poll::Pending;
                    }
                }
            }
            Pass::LanesOnly(_) | Pass::LanesFirst if self.shared.link.is_ready() => {
                if self.look() == Lanes::Ended {
                    return Poll::Ready(());
                }
                // Those that wait for what has come go before the socket.
                if std::mem::take(&mut self.others) {
                    self.next = Pass::Everything;
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
            }
            _ => {}
        }
        if self.poll_everything(cx) {
            return Poll::Ready(());
        }
        match self.poll_lanes() {
            Lanes::Ended => return Poll::Ready(()),
            Lanes::Idle => {
                self.next = Pass::LanesFirst;
                // Not before: until here a handler may have blocked this turn.
                self.shared.link.lock_here().driver.sleep(self.id);
            }
            _ => {
                self.next = Pass::LanesOnly(POLLS_BETWEEN);
                poll_again(cx, std::mem::take(&mut self.others));
            }
        }
        Poll::Pending
    }

    /// This driver was replaced: what it has left goes to the one that drives now.
    #[cold]
    fn hand_over(&self) {
        if !self.more {
            return;
        }
        let driver = self.shared.link.lock().and_then(|mut state| state.driver.leave_requests());
        if let Some(driver) = driver {
            driver.wake();
        }
    }

    /// Before a handler runs, which may block: a relief can be called as soon as more comes.
    fn listen_on(&self) {
        if let (Some(ready), Some(watched)) = (&self.ready, &mut *self.shared.watched()) {
            watched.listen_on(&mut Context::from_waker(ready));
        }
    }

    /// Looks at all but the lanes. Returns `true` if the link has ended.
    fn poll_everything(&mut self, cx: &mut Context<'_>) -> bool {
        let link = &self.shared.link;
        if let Some(watched) = &mut *self.shared.watched() {
            match &self.ready {
                Some(ready) => watched.poll(link, &mut Context::from_waker(ready), cx.waker()),
                None => {
                    let driver = cx.waker().clone();
                    watched.poll(link, cx, &driver);
                }
            }
        }
        link.lock().is_none_or(|state| state.session.is_over())
    }

    /// The lanes, until nothing is there or others should have their turn.
    fn poll_lanes(&mut self) -> Lanes {
        let mut stay = Stay::new(self.shared.has_others());
        loop {
            match self.look() {
                Lanes::Busy if !self.more && stay.on(self.others) => {}
                Lanes::Moment if stay.is_long() && stay.on(self.others) => {}
                Lanes::Yield => {
                    wait::yield_core();
                    if !(stay.is_long() && self.shared.link.open_streams() <= 1 && stay.on(self.others)) {
                        return Lanes::Moment;
                    }
                }
                lanes => return lanes,
            }
        }
    }

    /// One look at the lanes: takes what there is, and starts the handlers of requests.
    fn look(&mut self) -> Lanes {
        let Self { shared, requests, id, more, others, .. } = self;
        let Shared { link, accept, .. } = &**shared;
        let looked = link.with_wakes(|state| {
            if state.session.is_ready() {
                // Before the look: should a handler keep this side from coming again, the peer sees that
                // it was awake, and rings.
                state.session.disarm();
            }
            let taken = state.receive();
            if taken > 0 {
                state.expire();
            }
            let calls = state.session.calls();
            requests.extend(std::iter::from_fn(|| {
                let request = calls.accept()?;
                let buffered = calls.take_buffered(request.stream);
                Some((request, buffered))
            }));
            if state.session.is_over() {
                Lanes::Ended
            } else if state.driver.is_called(*id) {
                Lanes::Called
            } else if taken > 0 || !requests.is_empty() || *more {
                Lanes::Busy
            } else {
                rest(state)
            }
        });
        let Some((lanes, woke)) = looked else { return Lanes::Ended };
        *others |= woke;
        // The last of these tasks may run on this thread only: nothing that may block it goes before them.
        let mut tasks = woke;
        if !requests.is_empty() {
            // Should one of several block, another thread can take over with the others.
            let leave = shared.has_others() && (requests.len() > 1 || *more || woke);
            let started = accept.accept(link, requests, leave);
            *more |= started.left;
            tasks |= started.tasks;
        }
        if *more && !tasks {
            // Those that are left can be seen by now: a relief that comes from here on finds them. One that
            // came before has not, and may sleep.
            let mut state = link.lock_here();
            if !state.driver.is_driven_by(*id) {
                return Lanes::Called;
            }
            let watch = state.driver.watch();
            drop(state);
            if watch {
                shared.watch();
            }
            let started = accept.go_on(link);
            *more = started.left;
            tasks = started.tasks;
        }
        *others |= tasks;
        if *more { Lanes::Busy } else { lanes }
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
    /// There is something else to look at, or another task drives the link.
    Called,
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
    if state.session.arm(clock::now) { Lanes::Idle } else { Lanes::Busy }
}
