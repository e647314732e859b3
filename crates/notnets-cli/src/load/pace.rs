//! When calls begin.

use std::num::NonZeroU64;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use notnets::Channel;
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use super::recorder::{Record, Recorder, Times};
use super::work::Work;

/// How long calls may go on that are open when no more begin.
const GRACE: Duration = Duration::from_secs(5);
/// How long the pacing thread sleeps before it looks whether it has to end.
const NAP: Duration = Duration::from_millis(50);

/// What is to be done.
#[derive(Clone, Debug)]
pub struct Plan {
    pub pace: Pace,
    /// For how long calls do not count.
    pub warm_up: Duration,
    /// For how long calls begin after that.
    pub duration: Option<Duration>,
    /// How many of them do.
    pub count: Option<u64>,
}

/// When a call begins.
#[derive(Clone, Copy, Debug)]
pub enum Pace {
    /// When one of so many has ended.
    Open(u32),
    /// At fixed times.
    Rate {
        per_second: f64,
        /// If so many are open, the next one waits, and its time passes.
        most_open: u32,
    },
}

impl Pace {
    fn most_open(self) -> u32 {
        match self {
            Self::Open(calls) => calls,
            Self::Rate { most_open, .. } => most_open,
        }
    }
}

/// What came of it.
pub struct Outcome {
    pub record: Record,
    /// From the first call that counted to the end of the last.
    pub elapsed: Duration,
    /// Calls that had not ended when they were no longer waited for.
    pub unfinished: u64,
}

/// Calls that are being made.
pub struct Load {
    work: Work,
    channels: Vec<Channel>,
    plan: Plan,
    recorder: Recorder,
    /// From here on calls count.
    from: Instant,
    /// From here on none begin.
    end: Option<Instant>,
    /// Calls so far that count.
    counted: AtomicU64,
    is_stopped: AtomicBool,
}

impl Load {
    pub fn new(work: Work, channels: Vec<Channel>, plan: Plan) -> Self {
        let from = Instant::now() + plan.warm_up;
        Self {
            work,
            channels,
            recorder: Recorder::new(thread::available_parallelism().map_or(1, usize::from)),
            from,
            end: plan.duration.map(|duration| from + duration),
            counted: AtomicU64::new(0),
            is_stopped: AtomicBool::new(false),
            plan,
        }
    }

    /// Makes all calls. Ends early on Ctrl-C.
    pub async fn run(self) -> Outcome {
        let most_open = self.plan.pace.most_open();
        let load = Arc::new(self);
        // One for each call that may be open.
        let places = Arc::new(Semaphore::new(most_open as usize));
        let begun = match load.plan.pace {
            Pace::Open(_) => load.begin_in_turn(&places),
            Pace::Rate { per_second, .. } => load.begin_in_time(per_second, &places),
        };
        tokio::select! {
            _ = begun => {}
            _ = tokio::signal::ctrl_c() => load.is_stopped.store(true, Ordering::Relaxed),
            () = load.has_ended() => {}
        }
        let ended = tokio::time::timeout(GRACE, places.acquire_many(most_open)).await;
        let unfinished = match ended {
            Ok(_) => 0,
            Err(_) => u64::from(most_open) - places.available_permits() as u64,
        };
        let record = load.recorder.total();
        let last = record.last.unwrap_or(load.from);
        Outcome { elapsed: last.saturating_duration_since(load.from), record, unfinished }
    }

    /// Tasks that each make one call after the other. All have ended when nothing sends.
    fn begin_in_turn(self: &Arc<Self>, places: &Arc<Semaphore>) -> oneshot::Receiver<()> {
        let (sender, receiver) = oneshot::channel();
        let all = Arc::new(sender);
        for number in 0..self.plan.pace.most_open() {
            let (load, all) = (Arc::clone(self), Arc::clone(&all));
            let place = Arc::clone(places).try_acquire_owned().expect("one for each");
            tokio::spawn(async move {
                let _held = (place, all);
                let mut n = u64::from(number);
                let step = u64::from(load.plan.pace.most_open());
                loop {
                    let now = Instant::now();
                    let Some(counts) = load.admit(now) else { break };
                    load.call(n, Times { intended: now, began: now }, counts).await;
                    n += step;
                }
            });
        }
        receiver
    }

    /// A thread that begins calls at their times: the runtime's timer is a millisecond coarse.
    fn begin_in_time(self: &Arc<Self>, per_second: f64, places: &Arc<Semaphore>) -> oneshot::Receiver<()> {
        let (sender, receiver) = oneshot::channel();
        let (load, places, runtime) = (Arc::clone(self), Arc::clone(places), Handle::current());
        thread::spawn(move || {
            // Nothing is lost without it but some precision.
            let _ = rustix::thread::set_current_timer_slack(NonZeroU64::new(1));
            let begin = Instant::now();
            for n in 0_u64.. {
                let intended = begin + Duration::from_secs_f64(n as f64 / per_second);
                if !load.sleep_until(intended) {
                    break;
                }
                let place = load.place(&places, &runtime);
                let Some((place, counts)) = place.zip(load.admit(intended)) else { break };
                let load = Arc::clone(&load);
                runtime.spawn(async move {
                    let _held = place;
                    load.call(n, Times { intended, began: Instant::now() }, counts).await;
                });
            }
            drop(sender);
        });
        receiver
    }

    /// Returns `false` if no more calls begin.
    fn sleep_until(&self, time: Instant) -> bool {
        loop {
            if self.is_stopped.load(Ordering::Relaxed) {
                return false;
            }
            match time.checked_duration_since(Instant::now()) {
                None => return true,
                Some(left) => thread::sleep(left.min(NAP)),
            }
        }
    }

    /// Waits until one more call may be open.
    fn place(&self, places: &Arc<Semaphore>, runtime: &Handle) -> Option<OwnedSemaphorePermit> {
        if let Ok(place) = Arc::clone(places).try_acquire_owned() {
            return Some(place);
        }
        loop {
            let waited = async { tokio::time::timeout(NAP, Arc::clone(places).acquire_owned()).await };
            match runtime.block_on(waited) {
                Ok(place) => return place.ok(),
                Err(_) if self.is_over(Instant::now()) => return None,
                Err(_) => {}
            }
        }
    }

    fn is_over(&self, now: Instant) -> bool {
        self.is_stopped.load(Ordering::Relaxed) || self.end.is_some_and(|end| now >= end)
    }

    /// Whether a call that begins now counts. `None` if it must not begin.
    fn admit(&self, now: Instant) -> Option<bool> {
        if self.is_over(now) {
            return None;
        }
        if now < self.from {
            return Some(false);
        }
        let before = self.counted.fetch_add(1, Ordering::Relaxed);
        self.plan.count.is_none_or(|count| before < count).then_some(true)
    }

    async fn call(&self, n: u64, times: Times, counts: bool) {
        let channel = &self.channels[(n % self.channels.len() as u64) as usize];
        let result = self.work.call(channel, n).await;
        if counts {
            self.recorder.record(n, times, Instant::now(), &result);
        }
    }

    async fn has_ended(&self) {
        match self.end {
            Some(end) => tokio::time::sleep_until(end.into()).await,
            None => std::future::pending().await,
        }
    }
}
