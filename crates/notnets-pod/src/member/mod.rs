//! A process's membership in a pod: links with processes on other hosts.
//!
//! A [`Member`] has one connection to the agent of its host and one thread, the *watcher*, which speaks with
//! the agent, and looks at lanes for parked sides while the agent doesn't. To its user a link looks as one on
//! the same host: it has a [`Socket`](notnets_core::link::Socket), whose other end the watcher holds. That is
//! rung when there is something in the lanes, and closed when the peer is gone.
//!
//! | file | what |
//! | --- | --- |
//! | `mod.rs` | serving: this blocks, as do joining, dialling and answering |
//! | `members.rs` | which pods this process is in: threads that join at once |
//! | `connect.rs` | which process is asked for a link, and how |
//! | `links.rs` | dialling and answering through the region |
//! | `local.rs` | processes of the same host, which are not reached through the region |
//! | `peer_message.rs` | what two processes write to each other to make a link and to give it memory |
//! | `segments.rs` | further segments of a link |
//! | `payloads.rs` | payloads that lie in the region |
//! | `join.rs` | joining the pod, and joining it again |
//! | `watcher.rs` | the thread |
//! | `activity.rs` | the lines in which this process notes what it does on its links |
//! | `dispatch.rs` | what follows from the packets of the agent and of other processes |
//! | `state.rs`, `link_state.rs` | what they share, and of a link what each side still uses |

mod activity;
mod connect;
mod dispatch;
mod error;
mod join;
mod link_state;
mod links;
mod local;
mod members;
mod payloads;
mod peer_message;
mod segments;
mod state;
mod watcher;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use notnets_memory::process::ForkGuard;
use notnets_memory::region::{Region, RegionOffset};

use super::packet::FromProcess;
use super::table::ProcessId;
use super::watch::WatchCounts;
use notnets_core::link::LinkGuard;
use notnets_core::link::packet::Hello;
use notnets_core::link::rendezvous::Directory;
use notnets_core::name::Name;
use state::{Shared, State};

pub use connect::Dial;
pub use error::PodError;
pub use join::{leave_host, region_of};
pub use links::between_hosts;

/// How long servers wait for the agent to take a name, or to grant memory.
pub const AGENT_TIMEOUT: Duration = Duration::from_secs(5);

/// A process's offset in a pod. Clones are the same.
#[derive(Clone, Debug)]
pub struct Member(Arc<Membership>);

/// A process's offset in a pod, not held on to.
#[derive(Clone, Debug)]
pub struct WeakMember(Weak<Membership>);

impl WeakMember {
    /// Returns the member, if it is still held.
    pub fn upgrade(&self) -> Option<Member> {
        self.0.upgrade().map(Member)
    }
}

#[derive(Debug)]
struct Membership {
    shared: Arc<Shared>,
    /// A forked child has none of its parent's threads: nothing of this is touched there.
    fork: ForkGuard,
}

/// A client on another host wants a link. Answer it.
#[derive(Debug)]
pub struct Arrival {
    from: ProcessId,
    link: u32,
    nonce: u64,
    offset: RegionOffset,
    /// Its first message.
    pub hello: Hello,
}

/// A callback for arrivals, on the watcher's thread: hand them on, and do nothing there that takes long.
pub type OnArrival = Box<dyn Fn(Arrival) + Send + Sync>;

impl Member {
    /// This process in the pod of that name, by the agent in this directory. Joins if it has not yet.
    ///
    /// # Errors
    /// When there is no agent, or it does not want us before `deadline`.
    pub fn of(directory: &Directory, pod: &Name, deadline: Instant) -> Result<Self, PodError> {
        members::membership(directory, pod, deadline).map(Self)
    }

    /// Returns a reference that does not keep the process in the pod.
    pub fn downgrade(&self) -> WeakMember {
        WeakMember(Arc::downgrade(&self.0))
    }

    /// Returns a value that keeps the process in the pod for as long as it is held.
    pub fn guard(&self) -> LinkGuard {
        Arc::clone(&self.0) as LinkGuard
    }

    /// The region that it shares with others.
    pub fn region(&self) -> Region {
        self.state().region.clone()
    }

    /// The number of this host.
    pub fn host(&self) -> u16 {
        self.state().id.host
    }

    /// Which process of the pod this is.
    pub fn id(&self) -> ProcessId {
        self.state().id
    }

    /// From now on a message waits for no longer than this for a parked side of this process, whatever its
    /// agent says. If several are set in a process, the shortest wins. The shorter, the more processor time
    /// the agent takes, which looks that often.
    pub fn wake_within(&self, latency: Duration) {
        self.state().wake_within(latency);
        self.0.shared.wake();
    }

    /// How much this process has looked at its links itself, since no agent did.
    pub fn watch_counts(&self) -> WatchCounts {
        self.state().watch.counts()
    }

    /// Serves a name: arrivals for it are reported from now on.
    ///
    /// # Errors
    /// When the host can serve no more names.
    pub fn serve(&self, name: &Name, on_arrival: OnArrival, deadline: Instant) -> Result<(), PodError> {
        self.state().services.insert(name.clone(), Arc::new(on_arrival));
        self.send(FromProcess::Serve(name.clone()));
        let refused = self.wait(deadline, |state| state.serving.remove(name))?;
        match refused {
            None => Ok(()),
            Some(text) => {
                self.state().services.remove(name);
                Err(PodError::Refused(text))
            }
        }
    }

    /// Serves it no more.
    pub fn unserve(&self, name: &Name) {
        if self.0.fork.is_forked_child() {
            return;
        }
        self.state().services.remove(name);
        self.send(FromProcess::Unserve(name.clone()));
    }

    /// Returns the processes that serve a name, nearest first.
    ///
    /// # Errors
    /// When the agent does not answer.
    pub fn resolve(&self, name: &Name, deadline: Instant) -> Result<Vec<ProcessId>, PodError> {
        let query = self.state().number();
        self.send(FromProcess::Resolve { query, name: name.clone() });
        self.wait(deadline, |state| state.resolved.remove(&query))
    }

    fn send(&self, packet: FromProcess) {
        self.state().to_agent.push_back(packet);
        self.0.shared.wake();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.0.shared.state)
    }

    /// Waits until `find` finds what it looks for.
    fn wait<T>(
        &self,
        deadline: Instant,
        mut find: impl FnMut(&mut State) -> Option<T>,
    ) -> Result<T, PodError> {
        let mut state = self.state();
        loop {
            if let Some(found) = find(&mut state) {
                return Ok(found);
            }
            if state.agent_gone {
                return Err(PodError::AgentGone);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left == Duration::ZERO {
                return Err(PodError::TimedOut);
            }
            let waited = self.0.shared.changed.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

impl Drop for Membership {
    fn drop(&mut self) {
        if self.fork.is_forked_child() {
            return;
        }
        lock(&self.shared.state).stop = true;
        self.shared.wake();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
