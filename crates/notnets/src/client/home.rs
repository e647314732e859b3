//! The runtimes that a channel's tasks run on: its dials, and the drivers of its links.
//!
//! A channel's home is the runtime that it was made in. Its callers may be polled in others, or in none, and
//! none of these holds up the rest when it idles or ends. Where no other runtime can be relied on, tasks run
//! on the *fallback*: a runtime of this process's own, with one thread that is started on first need.

use std::future::{Future, pending};
use std::io;

use notnets_core::per_process::PerProcess;
use notnets_memory::process::ForkGuard;
use once_cell::race::OnceBox;
use tokio::runtime::{Builder, Handle, RuntimeFlavor};
use tokio::task::JoinHandle;

use crate::Error;

/// A runtime that a channel's tasks run on.
#[derive(Clone, Debug)]
pub(crate) struct Home {
    handle: Handle,
    /// It runs its tasks whatever its callers do. A current-thread runtime needs a thread that is in it.
    has_own_threads: bool,
    /// The threads stay behind when a process forks. A process without a guard is taken for the one that made
    /// this.
    fork: Option<ForkGuard>,
}

impl Home {
    fn new(handle: Handle, has_own_threads: bool) -> Self {
        Self { handle, has_own_threads, fork: ForkGuard::new().ok() }
    }

    /// Returns the runtime that the caller is polled in, if there is one.
    pub(crate) fn present() -> Option<Self> {
        let handle = Handle::try_current().ok()?;
        let has_own_threads = handle.runtime_flavor() != RuntimeFlavor::CurrentThread;
        Some(Self::new(handle, has_own_threads))
    }

    /// Returns the fallback.
    ///
    /// # Errors
    /// When its thread can't be started.
    pub(crate) fn fallback() -> Result<Self, Error> {
        fallback().map_err(Error::io("start a thread for channels that have no runtime"))
    }

    /// Returns `true` if the caller is polled in this runtime.
    #[inline]
    pub(crate) fn is_present(&self) -> bool {
        Handle::try_current().is_ok_and(|present| present.id() == self.handle.id())
    }

    pub(super) fn is_same(&self, other: &Self) -> bool {
        self.handle.id() == other.handle.id()
    }

    /// Returns `true` if a task here goes on while the caller waits for it.
    pub(super) fn runs_beside_caller(&self) -> bool {
        !self.is_of_parent() && (self.has_own_threads || self.is_present())
    }

    /// Returns `true` in a child that was forked from the process that this runtime runs in.
    pub(crate) fn is_of_parent(&self) -> bool {
        self.fork.is_some_and(|fork| fork.is_forked_child())
    }

    pub(crate) fn spawn<F>(&self, task: F) -> JoinHandle<F::Output>
    where
        F: Future<Output: Send> + Send + 'static,
    {
        self.handle.spawn(task)
    }

    /// Returns a runtime for a task that a call needs: the one that its caller is polled in, else this one or
    /// the fallback.
    ///
    /// # Errors
    /// When the fallback is needed and can't be started.
    pub(crate) fn beside_caller(&self) -> io::Result<Handle> {
        match Handle::try_current() {
            Ok(present) => Ok(present),
            Err(_) if self.runs_beside_caller() => Ok(self.handle.clone()),
            Err(_) => Ok(fallback()?.handle),
        }
    }
}

/// Returns a runtime for a timer of the caller's own: the one that it is polled in, else the fallback, which
/// never ends.
///
/// # Errors
/// When the fallback is needed and can't be started.
pub(crate) fn for_timers() -> io::Result<Handle> {
    Handle::try_current().or_else(|_| fallback().map(|home| home.handle))
}

fn fallback() -> io::Result<Home> {
    static FALLBACK: OnceBox<PerProcess<Option<Home>>> = OnceBox::new();
    let mut present = FALLBACK.get_or_init(|| PerProcess::new(None).into()).lock(|| None);
    if let Some(home) = &*present {
        return Ok(home.clone());
    }
    let runtime = Builder::new_current_thread().enable_io().enable_time().thread_name("notnets").build()?;
    let home = Home::new(runtime.handle().clone(), true);
    let run = move || runtime.block_on(pending::<()>());
    std::thread::Builder::new().name("notnets".to_owned()).spawn(run)?;
    *present = Some(home.clone());
    Ok(home)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn current_thread() -> tokio::runtime::Runtime {
        Builder::new_current_thread().build().unwrap()
    }

    #[test]
    fn a_current_thread_runtime_runs_beside_those_in_it() {
        let (one, other) = (current_thread(), current_thread());
        let home = one.block_on(async { Home::present() }).unwrap();
        assert!(one.block_on(async { home.is_present() && home.runs_beside_caller() }));
        assert!(!other.block_on(async { home.is_present() || home.runs_beside_caller() }));
        assert!(!home.is_present() && !home.runs_beside_caller());
    }

    #[test]
    fn one_with_threads_runs_beside_all() {
        let runtime = Builder::new_multi_thread().worker_threads(1).build().unwrap();
        let home = runtime.block_on(async { Home::present() }).unwrap();
        assert!(home.runs_beside_caller() && !home.is_present());
        assert_eq!(home.beside_caller().unwrap().id(), runtime.handle().id());
    }

    #[test]
    fn the_fallback_is_one_thread_that_is_named() {
        assert!(Home::present().is_none());
        let (home, again) = (Home::fallback().unwrap(), Home::fallback().unwrap());
        assert_eq!(home.handle.id(), again.handle.id());
        assert_eq!(for_timers().unwrap().id(), home.handle.id());
        let named = home.spawn(async { std::thread::current().name() == Some("notnets") });
        let (done, is_named) = std::sync::mpsc::channel();
        home.spawn(async move { done.send(named.await.unwrap()).unwrap() });
        assert!(is_named.recv().unwrap());
    }

    #[test]
    fn a_calls_tasks_run_beside_its_caller() {
        let (one, other) = (current_thread(), current_thread());
        let home = one.block_on(async { Home::present() }).unwrap();
        let beside = other.block_on(async { home.beside_caller() }).unwrap();
        assert_eq!(beside.id(), other.handle().id());
        assert_eq!(home.beside_caller().unwrap().id(), Home::fallback().unwrap().handle.id());
    }
}
