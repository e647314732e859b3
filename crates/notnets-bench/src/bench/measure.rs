//! Rounds: each case in turn, so that what disturbs the machine disturbs all alike. A figure is the median of
//! its rounds.

use std::time::Duration;

use super::case::{Case, Transport, Wait};
use super::figures::{Figures, Row};
use super::progress::Progress;
use super::testbed::Testbed;
use crate::Result;

/// The length of the warm-up before a round, as a part of the round.
const WARM_UP: f64 = 0.15;
/// A process that spins goes on for a tenth of a second. Until it stops, the next case would share a core
/// with it.
const SPINS_ON: Duration = Duration::from_millis(120);

/// How long and how often to measure.
#[derive(Clone, Copy, Debug)]
pub struct Effort {
    /// Seconds of one round of one case.
    pub seconds: f64,
    /// Rounds.
    pub repeats: u32,
}

/// Measures cases in turns. All of their processes live meanwhile, but only one case's are at work. Between
/// hosts idle processes poll now and then: there they live for a round only.
///
/// # Errors
/// When a case can't be measured, or a reply was wrong: then no figure is worth anything.
pub async fn interleaved(cases: &[Case], effort: Effort, progress: &Progress) -> Result<Vec<Row>> {
    let mut testbeds = Vec::new();
    for case in cases {
        let testbed = match case.pod {
            None => Some(Testbed::open(case).await.map_err(|error| describe(case, error))?),
            Some(_) => None,
        };
        testbeds.push((case, testbed, Vec::new()));
    }
    for round in 0..effort.repeats {
        for (case, testbed, rounds) in &mut testbeds {
            let measured = match testbed {
                Some(testbed) => measure(testbed, effort.seconds, round).await,
                None => measure_anew(case, effort.seconds, round).await,
            };
            let figures = measured.map_err(|error| describe(case, error))?;
            if case.wait == Some(Wait::Spin) || case.transport == Transport::Iceoryx2 {
                tokio::time::sleep(SPINS_ON).await;
            }
            progress.step(round, effort.repeats, case, &figures);
            rounds.push(figures);
        }
    }
    let mut rows = Vec::new();
    for (case, testbed, rounds) in testbeds {
        rows.push(Row::new(case, &rounds));
        if let Some(testbed) = testbed {
            testbed.close().await?;
        }
    }
    Ok(rows)
}

async fn measure_anew(case: &Case, seconds: f64, round: u32) -> Result<Figures> {
    let mut testbed = Testbed::open(case).await?;
    let figures = measure(&mut testbed, seconds, round).await?;
    testbed.close().await?;
    Ok(figures)
}

async fn measure(testbed: &mut Testbed, seconds: f64, round: u32) -> Result<Figures> {
    testbed.measure(seconds * WARM_UP, seconds, round.into()).await
}

fn describe(case: &Case, error: Box<dyn std::error::Error + Send + Sync>) -> String {
    format!("{} over {}: {error}", case.work, case.way())
}
