//! A link as tasks share it: a session behind a lock, and the tasks to be woken when something happens on it.
//!
//! A task that has something to send or to look for locks the link, does it, and finishes its turn: events
//! become wake-ups, and the peer's doorbell is rung if the peer is parked. A task that waits for a reply
//! polls the lane itself, one task at a time; when it stops, the lane is armed and looked at once more, so
//! that a lane is always either polled or armed. The [`driver`] task does the rest: doorbells, deadlines,
//! further segments, and the link's end.
//!
//! | file | what |
//! | --- | --- |
//! | `calls.rs` | what the layers above ask of a link for one of their calls |
//! | `outcomes.rs` | counts of how calls end |
//! | `mod.rs` | the lock, and waiting |
//! | `state.rs` | what the lock protects: the session, and the wakers |
//! | `poller.rs` | which task polls the lane |
//! | `driver.rs` | the task behind the link |
//! | `watched.rs` | all that it looks at besides the lanes |
//! | `driver_slot.rs` | whether that task is stuck, and its relief |
//! | `open_queue.rs`, `stream_wakers.rs`, `wake_list.rs` | wakers |

mod calls;
pub(crate) mod driver;
mod driver_slot;
mod open_queue;
mod outcomes;
mod poller;
mod state;
mod stay;
mod stream_wakers;
#[cfg(test)]
mod tests;
mod wake_list;
mod watched;

use std::future::Future;
use std::os::fd::OwnedFd;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use notnets_core::call::{Failure, Role, StreamId};
use notnets_core::clock;
use notnets_core::link::{Established, Socket};
use notnets_core::session::{Descriptors, Ending, Session};
use notnets_core::stats::{Count, Stats};
use notnets_core::wait::{self, Polled, WaitFor};
use notnets_memory::process::ForkGuard;
use tokio::runtime::{Handle, RuntimeFlavor};

use state::State;
use stay::Stay;
use stream_wakers::StreamWakers;

use crate::options::LinkOptions;

pub(crate) use calls::{Answer, OpenRequest, OpenTicket, OpenedCall};
pub(crate) use outcomes::Outcomes;

/// Batches that don't bring what a task waits for, before it lets others run.
const MAX_ROUNDS: usize = 16;

/// One end of a link.
#[derive(Debug)]
pub(crate) struct Link {
    state: Mutex<State>,
    socket: Arc<Socket>,
    /// In a forked child the link is its parent's: nothing of it is touched there. A thread of the parent may
    /// have held the lock when it forked.
    fork: ForkGuard,
}

impl Link {
    /// A link over what the handshake established. The driver still has to be started.
    pub(crate) fn new(
        role: Role,
        options: &LinkOptions,
        established: Established,
    ) -> std::io::Result<(Arc<Self>, Option<OwnedFd>)> {
        let (mut session, Descriptors { socket, pidfd }) = Session::new(role, options.limits, established)?;
        if let Some(trust) = options.trust {
            session.trust_peer_memory(trust);
        }
        let state = Mutex::new(State::new(session, options.wait));
        Ok((Arc::new(Self { state, socket: Arc::new(socket), fork: ForkGuard::new()? }), pidfd))
    }

    /// The process at the other end. `None` in a forked child.
    #[cfg(feature = "byte-stream")]
    pub(crate) fn peer(&self) -> Option<crate::PeerInfo> {
        self.with(|state| state.session.peer().into())
    }

    /// Has the ends of calls counted with those of other links to the same server.
    pub(crate) fn count_outcomes(&self, outcomes: &Arc<Outcomes>) {
        self.lock_here().outcomes = Some(Arc::clone(outcomes));
    }

    /// Has the link counted there, with what is at its other end.
    pub(crate) fn count_in(&self, stats: &Arc<Stats>, target: &str, is_http2: bool) {
        self.lock_here().session.count_in(stats, target, is_http2);
    }

    /// Counts one more of these.
    #[cold]
    pub(crate) fn count(&self, count: Count) {
        self.lock_here().session.count(count);
    }

    /// Takes a turn: locks, acts, finishes. `None` in a forked child.
    #[inline]
    fn with<R>(&self, act: impl FnOnce(&mut State) -> R) -> Option<R> {
        self.with_wakes(act).map(|(result, _woke)| result)
    }

    /// Takes a turn. Also returns whether other tasks were woken by it. `None` in a forked child.
    #[inline]
    fn with_wakes<R>(&self, act: impl FnOnce(&mut State) -> R) -> Option<(R, bool)> {
        let mut state = self.lock()?;
        let result = act(&mut state);
        let woke = self.finish_turn(state);
        Some((result, woke))
    }

    /// `None` in a forked child.
    #[inline]
    fn lock(&self) -> Option<MutexGuard<'_, State>> {
        if self.fork.is_forked_child() { None } else { Some(self.lock_here()) }
    }

    /// Locks in the process that made the link.
    fn lock_here(&self) -> MutexGuard<'_, State> {
        // A panic while the lock was held is a bug of ours; the state is checked as a peer's is, so
        // going on does no harm beyond this link.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Turns events into wake-ups, unlocks, and rings the peer if it is parked. Returns `true` if other tasks
    /// were woken.
    #[inline]
    fn finish_turn(&self, mut state: MutexGuard<'_, State>) -> bool {
        let ring = state.finish_turn();
        if state.wakes.is_empty() && state.replaced.is_empty() {
            drop(state);
            if ring {
                self.socket.ring();
            }
            return false;
        }
        self.unlock_and_wake(state, ring)
    }

    fn unlock_and_wake(&self, mut state: MutexGuard<'_, State>, ring: bool) -> bool {
        let wakes = std::mem::take(&mut state.wakes);
        let _replaced = std::mem::take(&mut state.replaced);
        drop(state);
        if ring {
            self.socket.ring();
        }
        wakes.wake()
    }

    /// Waits until `check` finds what it looks for on a stream. The first task that waits polls the
    /// lane for a while, in place.
    ///
    /// `check` must find something when the link has ended. In a forked child the wait fails with what `fail`
    /// makes of the reason.
    fn poll_received<R>(
        &self,
        cx: &mut Context<'_>,
        stream: StreamId,
        fail: impl FnOnce(Failure) -> R,
        mut check: impl FnMut(&mut State) -> Option<R>,
    ) -> Poll<R> {
        let Some(mut state) = self.lock() else { return Poll::Ready(fail(Ending::Forked.into())) };
        if let Some(found) = check(&mut state) {
            return self.found(state, stream, found);
        }
        self.wait_received(cx, state, stream, check)
    }

    /// Waits for what was not there yet: polls the lane, or leaves the waker.
    fn wait_received<'a, R>(
        &'a self,
        cx: &mut Context<'_>,
        mut state: MutexGuard<'a, State>,
        stream: StreamId,
        mut check: impl FnMut(&mut State) -> Option<R>,
    ) -> Poll<R> {
        let mut rounds = 0;
        let mut again = false;
        let mut others = false;
        let mut stay: Option<Stay> = None;
        while !state.poller.is_held_by_other(stream) && !state.session.is_over() {
            if state.receive() > 0 {
                if let Some(found) = check(&mut state) {
                    return self.found(state, stream, found);
                }
                rounds += 1;
                if rounds < MAX_ROUNDS {
                    continue;
                }
                again = true;
                break;
            }
            let now = clock::now();
            if !state.may_wait(now, WaitFor::Reply) {
                state.stop_polling(stream, 0);
                if state.session.arm(clock::now) {
                    break;
                }
                continue;
            }
            state.poller.acquire(stream);
            let polled = state.poll(now);
            if polled == Polled::Ready {
                continue;
            }
            let stay = stay.get_or_insert_with(|| Stay::new(has_workers()));
            // Others may lock the link meanwhile.
            let mut woke = false;
            if polled == Polled::Yield {
                (state, woke) = self.yield_core(state);
            } else if stay.is_long() {
                woke = self.finish_turn(state);
                state = self.lock_here();
            }
            if let Some(found) = check(&mut state) {
                return self.found(state, stream, found);
            }
            others |= woke;
            let alone = state.session.calls().open_streams() == 1;
            if stay.is_long() && alone && stay.on(others) {
                continue;
            }
            again = true;
            break;
        }
        if again {
            state.will_poll_again(stream);
        }
        state.wait_received(stream, cx.waker());
        others |= self.finish_turn(state);
        if again {
            poll_again(cx, others);
        }
        Poll::Pending
    }

    /// The wait on a stream is over.
    fn found<R>(&self, mut state: MutexGuard<'_, State>, stream: StreamId, found: R) -> Poll<R> {
        state.stop_polling(stream, 1);
        self.finish_turn(state);
        Poll::Ready(found)
    }

    /// Lets other processes run, which may need this core for what we wait for. Returns `true` if other tasks
    /// were woken before.
    fn yield_core<'a>(&'a self, state: MutexGuard<'a, State>) -> (MutexGuard<'a, State>, bool) {
        let woke = self.finish_turn(state);
        wait::yield_core();
        (self.lock_here(), woke)
    }

    fn open_streams(&self) -> usize {
        self.lock().map_or(0, |mut state| state.session.calls().open_streams())
    }

    /// Returns how many calls are open on the link, and how many more its server allows now.
    pub(crate) fn load(&self) -> (usize, usize) {
        self.lock().map_or((0, 0), |mut state| {
            let calls = state.session.calls();
            (calls.open_streams(), calls.free_streams())
        })
    }

    /// Ends the link, if it has not ended yet: all its calls fail at once, and the peer sees its end, even if
    /// this side's calls and channels are held on to. Returns why it has ended.
    pub(crate) fn end(&self, ending: Ending) -> Failure {
        // A forked child shares the socket with its parent.
        let Some(mut state) = self.lock() else { return Ending::Forked.into() };
        let (failure, wakes) = state.end(ending);
        drop(state);
        // The socket itself stays open for as long as a call or channel holds the link.
        self.socket.shut_down();
        wakes.wake();
        failure
    }

    /// A server's link that is wound up has no more time for the calls that are open.
    #[cfg(feature = "server")]
    pub(crate) fn end_calls_in_overtime(&self) {
        self.with(|state| {
            state.session.end_calls_in_overtime();
            state.wake_driver();
        });
    }

    /// The local side needs the link no more.
    pub(crate) fn close(&self) {
        self.with(|state| {
            state.session.end(Ending::Closed, clock::now);
            state.wake_driver();
        });
    }

    /// Returns `true` in a child that was forked from the process that made this.
    fn is_of_parent(&self) -> bool {
        self.fork.is_forked_child()
    }

    /// Returns `true` if the server takes no new calls on this link.
    pub(crate) fn is_draining(&self) -> bool {
        self.lock().is_some_and(|mut state| state.session.calls().is_draining())
    }

    /// Returns `true` if the peer has pushed what nobody has taken.
    fn is_ready(&self) -> bool {
        self.lock().is_some_and(|mut state| state.session.is_ready())
    }

    /// Returns `true` if calls can be opened.
    pub(crate) fn is_usable(&self) -> bool {
        self.lock().is_some_and(|state| state.session.is_usable())
    }
}

/// Wakes this task again after the others. `others` are such that this thread has just woken.
///
/// A runtime with several workers wakes another of them for a task that wakes itself, and that takes the task
/// over to its core. So the task yields there: it stays with its worker, which looks at its sockets in
/// between. Not so where the worker has others to run now, for as long as they like: then another may well
/// take it.
///
/// On the only thread of a runtime a look at the sockets is for when they are due: links that are parked may
/// have been rung.
pub(crate) fn poll_again(cx: &mut Context<'_>, others: bool) {
    let yields = if has_workers() { !others } else { wait::sockets_are_due() };
    if yields {
        let _pending = pin!(tokio::task::yield_now()).poll(cx);
    } else {
        cx.waker().wake_by_ref();
    }
}

fn has_workers() -> bool {
    Handle::try_current().is_ok_and(|handle| handle.runtime_flavor() != RuntimeFlavor::CurrentThread)
}
