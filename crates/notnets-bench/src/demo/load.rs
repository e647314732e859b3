//! The customers: a process of their own, which walks journeys and times them.

use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};
use tokio::task::JoinSet;

use super::checks::Checks;
use super::data::{self, mix};
use super::journeys::{Journey, Shop};
use super::transport::Channel;
use crate::Result;
use crate::latencies::{QUANTILES, histogram};

/// The customers' order: a journey, and for how long.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Order {
    /// The journey.
    pub journey: Journey,
    /// How many do it at the same time, each one journey after the other.
    pub callers: u32,
    /// For how long.
    pub seconds: f64,
    /// Which customers, products and orders.
    pub seed: u64,
}

/// The outcome.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Sample {
    /// Journeys walked to their end.
    pub requests: u64,
    /// From the first journey's start to the last one's end.
    pub seconds: f64,
    /// How long a journey took, in microseconds, at each of [`QUANTILES`].
    pub quantiles_us: Vec<f64>,
    /// Whether the replies were right.
    pub checks: Checks,
}

/// Carries out an order.
pub async fn run<C: Channel>(shop: &Shop<C>, order: Order) -> Result<Sample> {
    data::prepare();
    let start = Instant::now();
    let end = start + Duration::from_secs_f64(order.seconds);
    let mut callers = JoinSet::new();
    for caller in 0..order.callers {
        let seed = mix(order.seed, caller.into());
        callers.spawn(walk_until(end, shop.clone(), order.journey, seed));
    }
    let mut times = histogram();
    let mut checks = Checks::default();
    while let Some(caller) = callers.join_next().await {
        let (theirs, found) = caller?;
        times.add(theirs)?;
        checks.add(found);
    }
    let at = |quantile| times.value_at_quantile(quantile) as f64 / 1000.0;
    Ok(Sample {
        requests: times.len(),
        seconds: start.elapsed().as_secs_f64(),
        quantiles_us: QUANTILES.map(at).to_vec(),
        checks,
    })
}

/// One customer after the other, until `end`. A failed call ends it: further calls would be pointless.
async fn walk_until<C: Channel>(
    end: Instant,
    mut shop: Shop<C>,
    journey: Journey,
    seed: u64,
) -> (Histogram<u64>, Checks) {
    let mut times = histogram();
    let mut checks = Checks::default();
    for nth in 0.. {
        let Some(took) = journey.walk(&mut shop, mix(seed, nth), &mut checks).await else { break };
        times.saturating_record(took.as_nanos() as u64);
        if Instant::now() >= end {
            break;
        }
    }
    (times, checks)
}
