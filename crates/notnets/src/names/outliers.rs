//! Servers of which too many calls fail get none for a while (gRFC A50).
//!
//! The links to a server count how its calls end. At each interval the counts of all servers of a place are
//! compared, and outliers are *ejected*: calls go to others, until some time has passed.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use crate::link::Outcomes;
use crate::service_config::{Bounds, OutlierDetection};

/// How a server does.
#[derive(Debug, Default)]
pub(super) struct Record {
    pub(super) outcomes: Arc<Outcomes>,
    is_ejected: AtomicBool,
    history: Mutex<History>,
}

#[derive(Debug, Default)]
struct History {
    /// When it was ejected, if it is now.
    ejected: Option<Instant>,
    /// By how many times the base an ejection lasts.
    multiplier: u32,
}

impl Record {
    /// Returns `true` if the server gets no calls for now.
    pub(super) fn is_ejected(&self) -> bool {
        // It orders nothing.
        self.is_ejected.load(Ordering::Relaxed)
    }

    fn eject(&self, now: Instant) {
        let mut history = self.history.lock().unwrap_or_else(PoisonError::into_inner);
        history.ejected = Some(now);
        history.multiplier += 1;
        self.is_ejected.store(true, Ordering::Relaxed);
    }

    /// Ends the ejection if its time is over. What was long ago counts less and less.
    fn pass(&self, detection: &OutlierDetection, now: Instant) {
        let mut history = self.history.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(ejected) = history.ejected else {
            history.multiplier = history.multiplier.saturating_sub(1);
            return;
        };
        let longest = detection.base_ejection_time.max(detection.max_ejection_time);
        let time = detection.base_ejection_time.saturating_mul(history.multiplier).min(longest);
        if now.saturating_duration_since(ejected) > time {
            history.ejected = None;
            self.is_ejected.store(false, Ordering::Relaxed);
        }
    }
}

/// What a server's calls were in the last interval.
struct Calls<'a> {
    record: &'a Record,
    server: usize,
    failed: u32,
    all: u32,
}

impl Calls<'_> {
    fn share_failed(&self) -> f64 {
        f64::from(self.failed) / f64::from(self.all)
    }
}

/// Compares the servers of a place by their calls since the last time. Returns those that were ejected.
/// `chance` yields random numbers below 100.
pub(super) fn sweep(
    detection: &OutlierDetection,
    records: &[&Record],
    now: Instant,
    mut chance: impl FnMut() -> u32,
) -> Vec<usize> {
    let calls = records.iter().enumerate().map(|(server, record)| {
        let (succeeded, failed) = record.outcomes.take();
        Calls { record, server, failed, all: succeeded.saturating_add(failed) }
    });
    let calls: Vec<_> = calls.collect();
    let mut ejected = Vec::new();
    let mut eject = |calls: &Calls<'_>, bounds: Bounds| {
        let present = records.iter().filter(|record| record.is_ejected()).count();
        let has_room = present * 100 < detection.max_ejection_percent as usize * records.len();
        if has_room && !calls.record.is_ejected() && chance() < bounds.enforcement_percentage {
            calls.record.eject(now);
            ejected.push(calls.server);
        }
    };
    if let Some(rule) = &detection.success_rate {
        let counted: Vec<_> = counted(&calls, rule.bounds).collect();
        if !counted.is_empty() && counted.len() >= rule.bounds.minimum_hosts as usize {
            let most = most_failed(&counted, rule.stdev_factor);
            counted
                .iter()
                .filter(|calls| calls.share_failed() > most)
                .for_each(|calls| eject(calls, rule.bounds));
        }
    }
    if let Some(rule) = &detection.failure_percentage
        && records.len() >= rule.bounds.minimum_hosts as usize
    {
        let most = f64::from(rule.threshold) / 100.0;
        let outliers = counted(&calls, rule.bounds).filter(|calls| calls.share_failed() > most);
        outliers.for_each(|calls| eject(calls, rule.bounds));
    }
    records.iter().for_each(|record| record.pass(detection, now));
    ejected
}

/// Those with enough calls.
fn counted<'a>(calls: &'a [Calls<'a>], bounds: Bounds) -> impl Iterator<Item = &'a Calls<'a>> {
    calls.iter().filter(move |calls| calls.all >= bounds.request_volume.max(1))
}

/// The share of failed calls above which a server is an outlier.
fn most_failed(calls: &[&Calls<'_>], stdev_factor: u32) -> f64 {
    let n = calls.len() as f64;
    let mean = calls.iter().map(|calls| calls.share_failed()).sum::<f64>() / n;
    let variance = calls.iter().map(|calls| (calls.share_failed() - mean).powi(2)).sum::<f64>() / n;
    // Equal shares are none more than another.
    mean + variance.sqrt() * f64::from(stdev_factor) / 1000.0 + 1e-9
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use notnets_core::code::Code;

    use super::*;
    use crate::service_config::{FailurePercentage, SuccessRate};

    fn records(n: usize) -> Vec<Record> {
        std::iter::repeat_with(Record::default).take(n).collect()
    }

    /// Of a hundred calls so many fail.
    fn calls(record: &Record, failed: usize) {
        (0..failed).for_each(|_| record.outcomes.count(Code::INTERNAL));
        (failed..100).for_each(|_| record.outcomes.count(Code::OK));
    }

    /// Sweeps after such calls. Returns those that were ejected.
    fn after(detection: &OutlierDetection, records: &[Record], failed: &[usize], now: Instant) -> Vec<usize> {
        records.iter().zip(failed).for_each(|(record, failed)| calls(record, *failed));
        sweep(detection, &records.iter().collect::<Vec<_>>(), now, || 99)
    }

    fn by_rate() -> OutlierDetection {
        OutlierDetection { success_rate: Some(SuccessRate::default()), ..OutlierDetection::default() }
    }

    fn by_percentage() -> OutlierDetection {
        let failure_percentage = Some(FailurePercentage::default());
        OutlierDetection { failure_percentage, ..OutlierDetection::default() }
    }

    #[test]
    fn one_that_fails_far_more_than_the_others_is_ejected() {
        let now = Instant::now();
        for (failed, ejected) in [
            (&[0, 0, 0, 0, 50][..], &[4][..]),
            (&[1, 2, 1, 2, 10], &[4]),
            (&[30, 30, 30, 30, 30], &[]),
            (&[10, 20, 30, 40, 50], &[]),
            // Too few servers.
            (&[0, 0, 0, 50], &[]),
        ] {
            assert_eq!(after(&by_rate(), &records(failed.len()), failed, now), ejected, "{failed:?}");
        }
    }

    #[test]
    fn one_that_fails_nearly_always_is_ejected() {
        let now = Instant::now();
        for (failed, ejected) in [
            (&[0, 0, 0, 0, 86][..], &[4][..]),
            (&[0, 0, 0, 0, 85], &[]),
            (&[0, 0, 0, 100], &[]),
            // The first is a fifth of all.
            (&[100, 100, 100, 100, 100], &[0]),
        ] {
            assert_eq!(after(&by_percentage(), &records(failed.len()), failed, now), ejected, "{failed:?}");
        }
    }

    #[test]
    fn no_more_than_a_share_of_all_are_ejected_at_a_time() {
        let now = Instant::now();
        for (percent, ejected) in [(0, 0), (1, 1), (20, 2), (25, 3), (100, 10)] {
            let detection = OutlierDetection { max_ejection_percent: percent, ..by_percentage() };
            let records = records(10);
            assert_eq!(after(&detection, &records, &[100; 10], now).len(), ejected, "{percent}");
            assert_eq!(records.iter().filter(|record| record.is_ejected()).count(), ejected);
        }
    }

    #[test]
    fn few_calls_say_nothing() {
        let records = records(5);
        (0..49).for_each(|_| records[0].outcomes.count(Code::INTERNAL));
        assert!(after(&by_percentage(), &records, &[], Instant::now()).is_empty());
    }

    #[test]
    fn an_outlier_is_ejected_as_likely_as_is_said() {
        let bounds = Bounds { enforcement_percentage: 30, ..FailurePercentage::default().bounds };
        let failure_percentage = Some(FailurePercentage { bounds, ..FailurePercentage::default() });
        let detection = OutlierDetection { failure_percentage, ..by_percentage() };
        for (lot, ejected) in [(29, 1), (30, 0)] {
            let records = records(5);
            calls(&records[0], 100);
            let swept = sweep(&detection, &records.iter().collect::<Vec<_>>(), Instant::now(), || lot);
            assert_eq!(swept.len(), ejected);
        }
    }

    #[test]
    fn each_ejection_is_longer_than_the_last() {
        let (detection, records) = (by_percentage(), records(5));
        let mut now = Instant::now();
        for (n, seconds) in (1..).zip([30, 60, 90, 120]) {
            assert_eq!(after(&detection, &records, &[100, 0, 0, 0, 0], now), [0], "{n}");
            assert!(after(&detection, &records, &[], now + Duration::from_secs(seconds)).is_empty());
            assert!(records[0].is_ejected());
            now += Duration::from_secs(seconds) + Duration::from_millis(1);
            after(&detection, &records, &[], now);
            assert!(!records[0].is_ejected(), "{n}");
        }
        // An interval without one makes up for it.
        for _ in 0..4 {
            after(&detection, &records, &[], now);
        }
        assert_eq!(after(&detection, &records, &[100, 0, 0, 0, 0], now), [0]);
        after(&detection, &records, &[], now + Duration::from_secs(31));
        assert!(!records[0].is_ejected());
    }
}
