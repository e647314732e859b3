//! The rounds: each journey over each transport in turn, so that what disturbs the machine
//! disturbs all alike. A figure is the median of its rounds.

use notnets_cli_common::number::median;
use serde::Serialize;

use super::Args;
use super::checks::Checks;
use super::journeys::Journey;
use super::load::{Order, Sample};
use super::progress::Progress;
use super::shop::Shop;
use super::transport::Transport;
use crate::Result;
use crate::latencies::QUANTILES;

/// Part of a measurement's time that is run before it, uncounted.
const WARM_UP: f64 = 0.1;

/// All that the demo found.
#[derive(Debug, Serialize)]
pub struct Outcome {
    /// A row for each journey and transport.
    pub journeys: Vec<Row>,
    /// Replies compared with what they must be.
    pub replies_checked: u64,
    /// Those that were something else, or did not come.
    pub replies_wrong: u64,
    /// The fault of the first of them.
    #[serde(skip)]
    pub first_wrong: Option<String>,
}

/// The figures of one journey over one transport.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// The transport.
    pub transport: Transport,
    /// The journey.
    pub journey: Journey,
    /// Half of the journeys took no longer, in microseconds.
    pub p50_us: f64,
    /// 99 of 100 took no longer.
    pub p99_us: f64,
    /// 999 of 1000 took no longer.
    pub p999_us: f64,
    /// Journeys per second.
    pub calls_per_s: f64,
    /// Processor time of all processes for one journey.
    pub cpu_us_per_request: f64,
    /// Times at each of [`QUANTILES`].
    #[serde(skip)]
    pub quantiles_us: Vec<f64>,
    /// Journeys in all rounds.
    #[serde(skip)]
    pub requests: u64,
}

impl Outcome {
    /// The row of this journey and transport, if it was measured.
    pub fn row(&self, journey: Journey, transport: Transport) -> Option<&Row> {
        self.journeys.iter().find(|row| row.journey == journey && row.transport == transport)
    }
}

/// One measurement.
struct Round {
    journey: Journey,
    transport: Transport,
    sample: Sample,
    cpu_us_per_request: f64,
}

/// Opens a shop for each transport, measures, and closes them.
pub async fn run(args: &Args) -> Result<Outcome> {
    let mut progress = Progress::new(args);
    let mut shops = Vec::new();
    for &transport in &args.transports {
        progress.note(&format!("starting nine processes over {}", transport.label()));
        let shop = Shop::open(transport, args.workers).await;
        shops.push((transport, shop.map_err(|error| format!("over {}: {error}", transport.label()))?));
    }
    let (rounds, checks) = run_rounds(args, &mut shops, &mut progress).await?;
    progress.end();
    for (_, shop) in shops {
        shop.close().await?;
    }
    let cells = args.journeys.iter().flat_map(|j| args.transports.iter().map(move |t| (*j, *t)));
    Ok(Outcome {
        journeys: cells.filter_map(|(journey, transport)| summarise(&rounds, journey, transport)).collect(),
        replies_checked: checks.checked,
        replies_wrong: checks.wrong,
        first_wrong: checks.first_wrong,
    })
}

/// Measures until all is measured or a reply was wrong: then no figure is worth anything.
async fn run_rounds(
    args: &Args,
    shops: &mut [(Transport, Shop)],
    progress: &mut Progress,
) -> Result<(Vec<Round>, Checks)> {
    let mut rounds = Vec::new();
    let mut checks = Checks::default();
    for nth in 0..args.rounds {
        for &journey in &args.journeys {
            for (transport, shop) in shops.iter_mut() {
                let transport = *transport;
                let round = measure(args, shop, transport, journey, nth, &mut checks).await;
                let round =
                    round.map_err(|error| format!("{journey} over {}: {error}", transport.label()))?;
                progress.step(nth, journey, transport, &round.sample);
                rounds.push(round);
                if checks.wrong > 0 {
                    let place = format!("{journey} over {}: ", transport.label());
                    checks.first_wrong = checks.first_wrong.map(|why| place + &why);
                    return Ok((rounds, checks));
                }
            }
            // Another one goes first the next time.
            shops.rotate_left(1);
        }
    }
    Ok((rounds, checks))
}

async fn measure(
    args: &Args,
    shop: &mut Shop,
    transport: Transport,
    journey: Journey,
    nth: u32,
    checks: &mut Checks,
) -> Result<Round> {
    let seconds = args.seconds / f64::from(args.rounds);
    // The same customers and products for each transport.
    let order = Order { journey, callers: args.callers, seconds, seed: u64::from(nth) };
    let warm_up = Order { seconds: seconds * WARM_UP, seed: u64::MAX - order.seed, ..order };
    checks.add(shop.load(warm_up).await?.checks);
    let before = shop.cpu_time().await?;
    let sample = shop.load(order).await?;
    let spent = shop.cpu_time().await? - before;
    checks.add(sample.checks.clone());
    let cpu_us_per_request = spent.as_secs_f64() * 1e6 / sample.requests.max(1) as f64;
    Ok(Round { journey, transport, sample, cpu_us_per_request })
}

/// The medians over the rounds of one journey over one transport.
fn summarise(rounds: &[Round], journey: Journey, transport: Transport) -> Option<Row> {
    let of_this = |round: &&Round| round.journey == journey && round.transport == transport;
    let rounds: Vec<_> = rounds.iter().filter(of_this).collect();
    if rounds.is_empty() {
        return None;
    }
    let median_of = |value: &dyn Fn(&Round) -> f64| median(rounds.iter().map(|round| value(round)).collect());
    let quantile = |nth: usize| median_of(&|round| round.sample.quantiles_us[nth]);
    let at = |wanted: f64| {
        quantile(QUANTILES.iter().position(|q| *q == wanted).expect("one of those that are measured"))
    };
    Some(Row {
        transport,
        journey,
        p50_us: at(0.5),
        p99_us: at(0.99),
        p999_us: at(0.999),
        calls_per_s: median_of(&|round| round.sample.requests as f64 / round.sample.seconds),
        cpu_us_per_request: median_of(&|round| round.cpu_us_per_request),
        quantiles_us: (0..QUANTILES.len()).map(quantile).collect(),
        requests: rounds.iter().map(|round| round.sample.requests).sum(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_hold_the_medians_of_their_own_rounds() {
        let round = |transport, requests: u64, base: f64| Round {
            journey: Journey::Browse,
            transport,
            sample: Sample {
                requests,
                seconds: 2.0,
                quantiles_us: (0..QUANTILES.len()).map(|nth| base + nth as f64).collect(),
                checks: Checks::default(),
            },
            cpu_us_per_request: base,
        };
        let rounds = [
            round(Transport::Tcp, 10, 100.0),
            round(Transport::Uds, 99, 7.0),
            round(Transport::Tcp, 30, 300.0),
            round(Transport::Tcp, 20, 200.0),
        ];
        let row = summarise(&rounds, Journey::Browse, Transport::Tcp).unwrap();
        assert_eq!((row.p50_us, row.p99_us, row.p999_us), (203.0, 208.0, 211.0));
        assert_eq!((row.calls_per_s, row.cpu_us_per_request, row.requests), (10.0, 200.0, 60));
        assert!(summarise(&rounds, Journey::Export, Transport::Tcp).is_none());
    }
}
