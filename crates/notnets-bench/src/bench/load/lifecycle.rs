//! Connections from their first call on, and calls to their early end.

use std::pin::pin;
use std::time::{Duration, Instant};

use super::super::channel::Channel;
use super::super::control::Load;
use super::super::proto::bench_client::BenchClient;
use super::super::proto::{Handler, Message, Moment};
use super::super::recorder::{Recorder, Sample};
use super::Clock;
use super::unary::{FILLER, check};
use crate::{Result, usage};

/// The pause before a call is dropped and before the server is asked about it, so that the reset travels
/// alone.
const PAUSE: Duration = Duration::from_millis(2);

/// Connections that are made one after the other, timed until their first call was answered.
pub async fn connects<C, F>(load: &Load, connect: impl Fn() -> F) -> Result<Sample>
where
    C: Channel,
    F: Future<Output = Result<BenchClient<C>>>,
{
    let recorder = Recorder::new(1);
    let mut calls = 0;
    let clock = Clock::start(load).await;
    while clock.start.elapsed().as_secs_f64() < load.seconds {
        let before = Instant::now();
        let mut client = connect().await?;
        first_call(&mut client).await?;
        recorder.record(0, before.elapsed().as_nanos() as u64);
        calls += 1;
    }
    Ok(clock.stop(calls, &recorder))
}

/// A small call, as the first on a connection.
pub async fn first_call<C: Channel>(client: &mut BenchClient<C>) -> Result {
    let payload = bytes::Bytes::from_static(&[FILLER; 8]);
    let reply = client.echo(Message { payload, marker: 1, read: false }).await?;
    check(reply.get_ref(), 1, 8)
}

/// Calls that are dropped while their handlers run, timed until the handlers were dropped.
pub async fn cancels<C: Channel>(load: &Load, client: &BenchClient<C>) -> Result<Sample> {
    let recorder = Recorder::new(1);
    let mut client = client.clone();
    let mut calls = 0;
    let clock = Clock::start(load).await;
    while clock.start.elapsed().as_secs_f64() < load.seconds {
        let key = u64::from(std::process::id()) << 32 | calls;
        let cancelled = cancel(&mut client, key).await?;
        let Moment { nanos: dropped } = client.dropped(Handler { key }).await?.into_inner();
        recorder.record(0, dropped.saturating_sub(cancelled));
        calls += 1;
    }
    Ok(clock.stop(calls, &recorder))
}

/// Makes a call that is not answered and drops it. Returns when.
async fn cancel<C: Channel>(client: &mut BenchClient<C>, key: u64) -> Result<u64> {
    let mut holding = client.clone();
    let dropped;
    {
        let mut call = pin!(async { holding.hold(Handler { key }).await });
        let running = async {
            client.started(Handler { key }).await?;
            tokio::time::sleep(PAUSE).await;
            Result::Ok(())
        };
        tokio::select! {
            biased;
            ended = &mut call => return Err(format!("a call that is not answered ended: {ended:?}").into()),
            running = running => running?,
        }
        dropped = usage::now();
    }
    tokio::time::sleep(PAUSE).await;
    Ok(dropped)
}
