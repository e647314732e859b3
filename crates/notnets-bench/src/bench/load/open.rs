//! The open loop: calls begin when they are due, and are timed from then, so that a transport that
//! keeps the generator from beginning a call is charged for it.
//!
//! Calls are due at random times of a given rate (a Poisson process), the same for each transport. A timer
//! of the kernel wakes the generator, for tokio's own only goes by milliseconds; that it wakes late is part
//! of each latency, and alike for all.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use notnets_cli_common::random::Random;
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::mpsc;

use super::super::control::Load;
use super::super::recorder::{Recorder, Sample};
use super::{Caller, Clock};
use crate::{Result, usage};

/// More calls than this are not open at once: those that are due then wait, and the time counts.
const MAX_OPEN: usize = 1024;

/// Begins calls at `rate` per second.
pub async fn run<K: Caller>(
    load: &Load,
    rate: f64,
    workers: usize,
    mut make: impl FnMut(usize) -> K,
) -> Result<Sample> {
    let recorder = Arc::new(Recorder::new(workers));
    let (give_back, mut free) = mpsc::unbounded_channel();
    let timer = Timer::new()?;
    let mut random = Random::new(load.seed);
    let mut made = 0;
    let mut calls = 0;
    let clock = Clock::start(load).await;
    let start = usage::now();
    let mut due = 0.0;
    loop {
        due -= (1.0 - random.part()).ln() / rate;
        if due >= load.seconds {
            break;
        }
        let intended = start + (due * 1e9) as u64;
        if usage::now() < intended {
            timer.until(intended).await?;
        }
        let (task, mut caller): (usize, K) = match free.try_recv() {
            Ok(caller) => caller?,
            Err(_) if made < MAX_OPEN => {
                made += 1;
                (made - 1, make(made - 1))
            }
            Err(_) => free.recv().await.ok_or("the callers are gone")??,
        };
        calls += 1;
        let give_back = give_back.clone();
        let recorder = Arc::clone(&recorder);
        tokio::spawn(async move {
            let ended = caller.call().await;
            recorder.record(task, usage::now().saturating_sub(intended));
            // Nobody wants it back once another call has failed.
            let _ = give_back.send(ended.map(|()| (task, caller)));
        });
    }
    drop(give_back);
    // Those that are idle and those that are still open, until the last has ended.
    while let Some(caller) = free.recv().await {
        caller?;
    }
    Ok(clock.stop(calls, &recorder))
}

/// Wakes its task at a time on the monotonic clock.
struct Timer(AsyncFd<OwnedFd>);

impl Timer {
    fn new() -> Result<Self> {
        let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
        let timer = timerfd_create(TimerfdClockId::Monotonic, flags)?;
        // Deprecated because a descriptor's number alone promises nothing about its life; this one is owned.
        // Its successor is an unsafe function.
        #[expect(deprecated)]
        Ok(Self(AsyncFd::with_interest(timer, Interest::READABLE)?))
    }

    async fn until(&self, nanos: u64) -> Result {
        let at = |nanos: u64| Timespec {
            tv_sec: (nanos / 1_000_000_000) as i64,
            tv_nsec: (nanos % 1_000_000_000) as i64,
        };
        let once = Itimerspec { it_interval: at(0), it_value: at(nanos) };
        timerfd_settime(self.0.get_ref(), TimerfdTimerFlags::ABSTIME, &once)?;
        loop {
            let mut ready = self.0.readable().await?;
            let read = ready.try_io(|timer| Ok(rustix::io::read(timer.get_ref(), &mut [0; 8])?));
            match read {
                Ok(Ok(_)) => return Ok(()),
                Ok(Err(error)) => return Err(error.into()),
                Err(_not_yet) => {}
            }
        }
    }
}
