//! The thread of the agent that watches the links of all processes of its host.
//!
//! So a host looks once for all of its processes, and idle processes use no processor. It is on the way of
//! wake-ups only: without it, each process looks for itself.

use std::collections::HashMap;
use std::io;
use std::num::NonZeroU64;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use notnets_memory::region::Region;
use rustix::process::{Resource, getrlimit};

use crate::backoff::{Backoff, TIMER_SLACK};
use crate::watch::{LinkPlace, Watch, WatchCounts};

/// Descriptors that are kept for processes which come.
const KEPT: u64 = 64;
/// Links of one process that are watched at most.
const MAX_LINKS: usize = 1 << 16;
/// How often it is looked whether memory of links is lost.
const LOST: Duration = Duration::from_millis(100);
/// Bounds of the wake latency, as a process has them for itself.
const LATENCIES: (Duration, Duration) = (Duration::from_micros(1), Duration::from_secs(1));

/// The thread, which begins with the first link and ends with this.
#[derive(Debug)]
pub(super) struct Watchman {
    region: Region,
    host: u16,
    all: Arc<Mutex<All>>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct All {
    processes: HashMap<u16, Process>,
    /// For processes that don't choose themselves.
    latency: Duration,
    /// Of processes that are gone.
    counts: WatchCounts,
    stop: bool,
}

/// The links of a process, and how long a message may wait for its parked sides.
#[derive(Debug)]
struct Process {
    watch: Watch,
    latency: Option<Duration>,
}

impl Watchman {
    pub(super) fn new(region: Region, host: u16, latency: Duration) -> Self {
        let (processes, counts) = (HashMap::new(), WatchCounts::default());
        let all = Arc::new(Mutex::new(All { processes, latency, counts, stop: false }));
        Self { region, host, all, thread: None }
    }

    /// For how long a message may wait for processes that don't choose themselves.
    pub(super) fn set_latency(&self, latency: Duration) {
        lock(&self.all).latency = latency;
    }

    /// For how long it may wait for this one.
    pub(super) fn set_latency_of(&self, process: u16, latency: Duration) {
        lock(&self.all).process(process, &self.region, self.host).latency = Some(latency);
    }

    /// Watches a link, whose user is rung at the other end of the socket. Returns `false` if it can't.
    pub(super) fn add(&mut self, process: u16, link: u32, place: LinkPlace, socket: Option<OwnedFd>) -> bool {
        // Without a descriptor left for it the socket did not arrive.
        let Some(socket) = socket.filter(leaves_some) else { return false };
        let mut all = lock(&self.all);
        let watch = &mut all.process(process, &self.region, self.host).watch;
        let added = watch.len() < MAX_LINKS && watch.add(link, place, Arc::new(socket));
        drop(all);
        added && self.runs()
    }

    /// Watches a link no more.
    pub(super) fn remove(&self, process: u16, link: u32) {
        if let Some(process) = lock(&self.all).processes.get_mut(&process) {
            process.watch.remove(link);
        }
    }

    /// Watches nothing of a process any more: it is gone, or begins anew.
    pub(super) fn forget(&self, process: u16) {
        let mut all = lock(&self.all);
        if let Some(gone) = all.processes.remove(&process) {
            all.counts += gone.watch.counts();
        }
    }

    /// Watches nothing any more.
    pub(super) fn forget_all(&self) {
        lock(&self.all).processes.clear();
    }

    /// How much it has looked.
    pub(super) fn counts(&self) -> WatchCounts {
        let all = lock(&self.all);
        all.processes.values().fold(all.counts, |counts, process| counts + process.watch.counts())
    }

    /// Wakes the thread, which may wait for a first link, or starts it.
    fn runs(&mut self) -> bool {
        if self.thread.is_none() {
            let all = Arc::clone(&self.all);
            self.thread = start(all).ok();
        }
        self.thread.as_ref().inspect(|thread| thread.thread().unpark()).is_some()
    }
}

impl Drop for Watchman {
    fn drop(&mut self) {
        lock(&self.all).stop = true;
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            let _ = thread.join();
        }
    }
}

impl All {
    fn process(&mut self, process: u16, region: &Region, host: u16) -> &mut Process {
        let new = || Process { watch: Watch::new(region.clone(), host, process), latency: None };
        self.processes.entry(process).or_insert_with(new)
    }

    /// Rings parked sides for which something is there. Returns whether there were any, and for how long a
    /// message may wait; `None` if nothing is watched.
    fn look(&mut self, now: Instant) -> (bool, Option<Duration>) {
        let mut rung = false;
        let mut least: Option<Duration> = None;
        for process in self.processes.values_mut().filter(|process| !process.watch.is_empty()) {
            rung |= process.watch.look(now) > 0;
            let latency = process.latency.unwrap_or(self.latency).clamp(LATENCIES.0, LATENCIES.1);
            least = Some(least.map_or(latency, |least| least.min(latency)));
        }
        (rung, least)
    }

    fn end_lost(&self) {
        self.processes.values().for_each(|process| process.watch.end_lost());
    }
}

fn start(all: Arc<Mutex<All>>) -> io::Result<JoinHandle<()>> {
    thread::Builder::new().name("notnets-watch".into()).spawn(move || run(&all))
}

fn run(all: &Mutex<All>) {
    // The kernel adds 50 µs to each sleep of a thread that does not ask for less.
    let _ = rustix::thread::set_current_timer_slack(NonZeroU64::new(TIMER_SLACK));
    let mut backoff = Backoff::new(Instant::now());
    let mut lost_at = Instant::now();
    loop {
        let now = Instant::now();
        let mut watched = lock(all);
        if watched.stop {
            return;
        }
        let (rung, latency) = watched.look(now);
        if now - lost_at >= LOST {
            lost_at = now;
            watched.end_lost();
        }
        drop(watched);
        if rung {
            backoff.reset(now);
        }
        match latency {
            None => thread::park(),
            Some(_) if backoff.spins(now) => std::hint::spin_loop(),
            Some(latency) => thread::park_timeout(backoff.next_nap(latency)),
        }
    }
}

/// Returns `true` if enough descriptors are left beside this one, which is the lowest that was free.
fn leaves_some(socket: &OwnedFd) -> bool {
    let most = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    socket.as_raw_fd() as u64 + KEPT < most
}

fn lock(all: &Mutex<All>) -> MutexGuard<'_, All> {
    all.lock().unwrap_or_else(PoisonError::into_inner)
}
