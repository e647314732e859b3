//! How long the calls of a well-behaved peer took.

use std::time::Duration;

/// The part of calls that is looked at.
pub const P99: f64 = 0.99;

/// The times of calls that ended well, and how many did not.
#[derive(Clone, Debug, Default)]
pub struct Latencies {
    all: Vec<u32>,
    /// What the first call that failed ended with.
    pub failure: Option<String>,
}

impl Latencies {
    /// Adds a call.
    pub fn add(&mut self, taken: Duration) {
        self.all.push(u32::try_from(taken.as_nanos() / 100).unwrap_or(u32::MAX));
    }

    /// Adds a call that failed.
    pub fn fail(&mut self, why: String) {
        self.failure.get_or_insert(why);
    }

    /// The time that this part of the calls did not exceed.
    pub fn quantile(&mut self, part: f64) -> Duration {
        self.all.sort_unstable();
        let index = (self.all.len() as f64 * part) as usize;
        let tenths = self.all.get(index.min(self.all.len().saturating_sub(1)));
        Duration::from_nanos(u64::from(tenths.copied().unwrap_or(0)) * 100)
    }

    /// In a line.
    pub fn line(&mut self) -> String {
        let [half, p99, most] = [0.5, P99, 1.0].map(|part| self.quantile(part));
        format!("{} calls, p50 {half:.1?}, p99 {p99:.1?}, at most {most:.1?}", self.all.len())
    }

    /// # Errors
    /// When a call failed, or none was made.
    pub fn check(&self) -> Result<(), String> {
        if let Some(failure) = &self.failure {
            return Err(failure.clone());
        }
        if self.all.is_empty() {
            return Err("no call was made".to_owned());
        }
        Ok(())
    }
}
