//! The generator: makes calls, times them and checks their replies.
//!
//! In a closed loop each of `outstanding` tasks makes its next call when the last one has ended. In an open
//! loop ([`open`]) calls begin when they are due, whatever comes back, and are timed from then.

pub mod handlers;
pub mod lifecycle;
pub mod null;
mod open;
pub mod streams;
pub mod unary;

pub use streams::MESSAGES;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use super::control::Load;
use super::recorder::{Recorder, Sample};
use crate::{Result, usage};

/// Makes calls, one after the other.
pub trait Caller: Send + 'static {
    /// Makes a call and checks its reply.
    fn call(&mut self) -> impl Future<Output = Result> + Send;
}

/// Carries out an order with callers that `make` makes, each for the task of a number. `workers` are those of
/// the runtime.
pub async fn run<K: Caller>(load: &Load, workers: usize, make: impl FnMut(usize) -> K) -> Result<Sample> {
    match load.rate {
        Some(rate) => open::run(load, rate, workers, make).await,
        None => closed(load, workers, make).await,
    }
}

async fn closed<K: Caller>(load: &Load, workers: usize, make: impl FnMut(usize) -> K) -> Result<Sample> {
    let recorder = Arc::new(Recorder::new(workers));
    let callers: Vec<K> = (0..load.outstanding as usize).map(make).collect();
    let calls = Arc::new(AtomicU64::new(0));
    let clock = Clock::start(load).await;
    let end = clock.start + Duration::from_secs_f64(load.seconds);
    let mut tasks = JoinSet::new();
    for (task, mut caller) in callers.into_iter().enumerate() {
        let recorder = Arc::clone(&recorder);
        let calls = Arc::clone(&calls);
        tasks.spawn(async move {
            let mut before = Instant::now();
            let mut made = 0;
            loop {
                caller.call().await?;
                let after = Instant::now();
                recorder.record(task, (after - before).as_nanos() as u64);
                before = after;
                made += 1;
                if after >= end {
                    calls.fetch_add(made, Ordering::Relaxed);
                    return Result::Ok(());
                }
            }
        });
    }
    while let Some(ended) = tasks.join_next().await {
        ended??;
    }
    Ok(clock.stop(calls.load(Ordering::Relaxed), &recorder))
}

/// Begins at the time that all clients were given, and takes this process's processor time meanwhile.
pub struct Clock {
    /// When it began.
    pub start: Instant,
    cpu: u64,
}

impl Clock {
    /// Waits for the start.
    pub async fn start(load: &Load) -> Self {
        tokio::time::sleep(Duration::from_nanos(load.start.saturating_sub(usage::now()))).await;
        Self { start: Instant::now(), cpu: usage::cpu_time() }
    }

    /// Returns the outcome.
    pub fn stop(self, calls: u64, recorder: &Recorder) -> Sample {
        let seconds = self.start.elapsed().as_secs_f64();
        let cpu = usage::cpu_time() - self.cpu;
        Sample { calls, seconds, cpu, latencies: recorder.latencies() }
    }
}
