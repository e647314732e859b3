//! Handlers that keep their thread: many that compute at once, and one that blocks beside fast calls.

use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use super::super::channel::Channel;
use super::super::control::Load;
use super::super::proto::Span;
use super::super::proto::bench_client::BenchClient;
use super::super::recorder::{Recorder, Sample};
use super::unary::Unary;
use super::{Clock, run};
use crate::{Result, usage};

/// Batches of calls whose handlers compute, timed from the first call's begin to the last one's end.
pub async fn burns<C: Channel>(load: &Load, pick: impl Fn(usize) -> BenchClient<C>) -> Result<Sample> {
    let recorder = Recorder::new(1);
    let mut calls = 0;
    let clock = Clock::start(load).await;
    while clock.start.elapsed().as_secs_f64() < load.seconds {
        let before = Instant::now();
        let mut batch = JoinSet::new();
        for task in 0..load.outstanding as usize {
            batch.spawn(burn(pick(task), load.burn_ns));
        }
        while let Some(ended) = batch.join_next().await {
            ended??;
        }
        recorder.record(0, before.elapsed().as_nanos() as u64);
        calls += u64::from(load.outstanding);
    }
    Ok(clock.stop(calls, &recorder))
}

async fn burn<C: Channel>(mut client: BenchClient<C>, nanos: u64) -> Result {
    let before = usage::now();
    let ended = client.burn(Span { nanos, in_place: false }).await?.into_inner().nanos;
    if (before + nanos..=usage::now()).contains(&ended) {
        Ok(())
    } else {
        Err("a wrong reply: its handler did not compute as long as asked".into())
    }
}

/// Echoes, while a handler of another method blocks for as long as they are made: in tokio's
/// `block_in_place`, or its worker.
pub async fn beside_blocked<C: Channel>(
    load: &Load,
    workers: usize,
    in_place: bool,
    pick: impl Fn(usize) -> BenchClient<C>,
) -> Result<Sample> {
    let mut client = pick(0);
    let begin = Duration::from_nanos(load.start.saturating_sub(usage::now()));
    let nanos = (load.seconds * 1e9) as u64;
    let blocked = tokio::spawn(async move {
        tokio::time::sleep(begin).await;
        client.block(Span { nanos, in_place }).await
    });
    let sample = run(load, workers, |task| Unary::new(pick(task), load, task)).await?;
    blocked.await??;
    Ok(sample)
}
