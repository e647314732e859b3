//! The state under a link's lock: the session, and the tasks to be woken by its events.

use std::sync::Arc;
use std::task::Waker;

use notnets_core::call::{Event, Failure, StreamId};
use notnets_core::clock::{self, Timestamp};
use notnets_core::session::{Ending, Session};
use notnets_core::wait::{Budget, Polled, Wait, WaitFor};

use super::MAX_ROUNDS;
use super::driver_slot::DriverSlot;
use super::open_queue::OpenQueue;
use super::outcomes::Outcomes;
use super::poller::PollerSlot;
use super::stream_wakers::StreamWakers;
use super::wake_list::WakeList;

/// Calls that are woken at once to open their streams: they fill a ring.
const MAX_WOKEN: usize = 128;

#[derive(Debug)]
pub(super) struct State {
    pub(super) session: Session<StreamWakers>,
    pub(super) budget: Budget,
    pub(super) poller: PollerSlot,
    /// To be woken when the link is unlocked.
    pub(super) wakes: WakeList,
    /// Wakers that are not needed any more, to be dropped when the link is unlocked.
    pub(super) replaced: Vec<Waker>,
    /// Tasks that wait to open a stream.
    open_queue: OpenQueue,
    /// Tasks to be told when the link takes no more calls.
    leavers: Vec<Waker>,
    /// Counts how a client's calls end, if that is asked for.
    pub(super) outcomes: Option<Arc<Outcomes>>,
    pub(super) driver: DriverSlot,
    /// When the driver wakes by itself.
    timer: Option<Timestamp>,
    /// All tasks have been woken for the end of the link.
    all_told: bool,
}

impl State {
    pub(super) fn new(session: Session<StreamWakers>, wait: Wait) -> Self {
        Self {
            budget: session.budget(wait),
            session,
            poller: PollerSlot::default(),
            wakes: WakeList::default(),
            replaced: Vec::new(),
            open_queue: OpenQueue::default(),
            leavers: Vec::new(),
            outcomes: None,
            driver: DriverSlot::default(),
            timer: None,
            all_told: false,
        }
    }

    /// The application is done with a client's call; so is the task that sends its requests.
    pub(super) fn close(&mut self, stream: StreamId) {
        if let Some(calls) = self.session.live() {
            if let Some(wakers) = calls.user(stream) {
                wakers.wake_all(&mut self.wakes);
            }
            calls.close(stream);
        }
    }

    /// Takes what the peer has pushed: nothing once the link has ended.
    #[inline]
    pub(super) fn receive(&mut self) -> usize {
        let taken = self.session.receive(clock::now);
        if taken > 0 {
            self.budget.arrived(taken, clock::now);
        }
        taken
    }

    /// Ends the calls whose deadline has passed, so that none of them is started any more.
    pub(super) fn expire(&mut self) {
        if self.session.next_deadline().is_some() {
            self.session.expire(clock::now());
        }
    }

    /// Returns `true` if whoever drives this link may poll on at `now`, rather than park.
    pub(super) fn may_poll(&mut self, now: Timestamp) -> bool {
        let what = if self.session.calls().open_streams() > 0 { WaitFor::Reply } else { WaitFor::Request };
        !self.session.is_over() && self.may_wait(now, what)
    }

    /// The same, for this kind of arrival.
    #[inline]
    pub(super) fn may_wait(&mut self, now: Timestamp, what: WaitFor) -> bool {
        let may = self.budget.allows(now, what);
        if !may && self.budget.was_in_vain() {
            self.session.calls().count_poll_in_vain();
        }
        may
    }

    /// Polls the lane for a moment.
    #[inline]
    pub(super) fn poll(&mut self, now: Timestamp) -> Polled {
        let Self { session, budget, .. } = self;
        session.disarm();
        if session.is_between_hosts() {
            return budget.poll(now, || session.has_news());
        }
        budget.poll(now, || session.is_ready())
    }

    /// Leaves a waker for what is received on a stream.
    pub(super) fn wait_received(&mut self, stream: StreamId, waker: &Waker) {
        let wakers = self.session.calls().user_or_default(stream);
        self.replaced.extend(wakers.and_then(|wakers| wakers.wait_readable(waker)));
    }

    /// Leaves a waker for room to open a stream.
    pub(super) fn wait_to_open(&mut self, ticket: &mut Option<u64>, waker: &Waker) {
        self.replaced.extend(self.open_queue.wait(ticket, waker));
    }

    /// Leaves a waker for when the link takes no more calls.
    pub(super) fn wait_unusable(&mut self, waker: &Waker) {
        if !self.leavers.iter().any(|known| known.will_wake(waker)) {
            self.leavers.push(waker.clone());
        }
    }

    /// A task that waited to open a stream has one, or has given up: then what it may have been woken for is
    /// there for others.
    pub(super) fn leave_open_queue(&mut self, ticket: u64, opened: bool) {
        self.open_queue.leave(ticket);
        if !opened && let Some(calls) = self.session.live() {
            calls.wake_queued();
        }
    }

    /// If those that are woken don't use all there is, the next look for room finds the others.
    fn wake_openers(&mut self) {
        let free = self.session.calls().free_streams().min(MAX_WOKEN);
        if self.open_queue.wake(free, &mut self.wakes) {
            self.session.calls().want_to_open();
        }
    }

    pub(super) fn wake_driver(&mut self) {
        self.wakes.extend(self.driver.want());
    }

    /// The driver wakes by itself at this time.
    pub(super) fn set_timer(&mut self, timer: Option<Timestamp>) {
        self.timer = timer;
    }

    /// A task lets others run and keeps the lane meanwhile. The driver sees to it that it comes back.
    pub(super) fn will_poll_again(&mut self, stream: StreamId) {
        if self.poller.renew(stream) {
            self.wake_driver();
        }
    }

    /// The stream's task does not look at the lane any more: then it has to be armed. `answered` is the
    /// number of streams on which it has just found something.
    pub(super) fn stop_polling(&mut self, stream: StreamId, answered: usize) {
        if !self.poller.release(stream) {
            return;
        }
        for _ in 0..MAX_ROUNDS {
            if self.session.arm_beside(answered, clock::now) {
                return;
            }
            self.receive();
        }
        self.wake_driver();
    }

    /// Turns events into wake-ups. Returns `true` if the peer has to be rung.
    #[inline]
    pub(super) fn finish_turn(&mut self) -> bool {
        if self.all_told {
            return false;
        }
        let ring = self.session.finish_turn(clock::now);
        self.take_events();
        ring
    }

    /// Returns `true` if the peer has to be rung, for a task that goes on to look at the lanes and finishes
    /// its turn then.
    #[inline]
    pub(super) fn pause_turn(&mut self) -> bool {
        !self.all_told && self.session.finish_turn_awake()
    }

    #[inline]
    fn take_events(&mut self) {
        while let Some(event) = self.session.poll_event() {
            self.on_event(event);
        }
        let next = self.session.next_timeout_of_turns();
        let timer = next.is_some_and(|next| self.timer.is_none_or(|timer| next < timer));
        let session = &self.session;
        let calls =
            session.is_wound_up() || session.is_over() || session.wants_to_offer() || session.wants_packets();
        if timer || calls {
            if timer {
                self.timer = next;
            }
            self.wake_driver();
        }
    }

    fn on_event(&mut self, event: Event<StreamWakers>) {
        match event {
            Event::Readable(stream) => {
                if let Some(wakers) = self.session.calls().user(stream) {
                    self.wakes.extend(wakers.take_readable());
                }
            }
            Event::Writable(stream) => {
                if let Some(wakers) = self.session.calls().user(stream) {
                    self.wakes.extend(wakers.take_writable());
                }
            }
            Event::Cancelled(_, wakers) => {
                if let Some(mut wakers) = wakers {
                    wakers.wake_all(&mut self.wakes);
                }
            }
            Event::Over(mut wakers) => self.wakes.extend(wakers.take_readable()),
            Event::CanOpen if self.session.calls().is_draining() => {
                self.open_queue.wake_all(&mut self.wakes);
            }
            Event::CanOpen => self.wake_openers(),
            // The next ping is due at another time.
            Event::Pong(_) => self.wake_driver(),
            // For a server: the link can be wound up.
            Event::GoAway => {
                self.wakes.extend(self.leavers.drain(..));
                self.wake_driver();
            }
        }
    }

    /// Ends the link. Returns why it has ended, and all tasks to wake.
    pub(super) fn end(&mut self, ending: Ending) -> (Failure, WakeList) {
        self.session.end(ending, clock::now);
        self.all_told = true;
        let mut wakes = std::mem::take(&mut self.wakes);
        for mut wakers in self.session.calls().take_users() {
            wakers.wake_all(&mut wakes);
        }
        self.open_queue.wake_all(&mut wakes);
        wakes.extend(self.leavers.drain(..));
        let failure = self.session.ended().cloned().unwrap_or_else(|| Ending::Closed.into());
        (failure, wakes)
    }
}
