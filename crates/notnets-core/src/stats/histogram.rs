//! How long calls took: a histogram whose buckets have a width of a quarter of their power of two.

use super::layout::method::BUCKETS;

/// The bucket of a time in ticks of which that many bits are left out.
#[inline]
pub(super) fn bucket(ticks: u64, fine_bits: u32) -> usize {
    let units = ticks >> fine_bits;
    if units < 4 {
        return units as usize;
    }
    let power = units.ilog2();
    let quarter = (units >> (power - 2)) & 3;
    (4 * (power as usize - 1) + quarter as usize).min(BUCKETS - 1)
}

/// The first time that belongs into a bucket, in units of the finest ones.
fn first_of(bucket: usize) -> f64 {
    if bucket < 4 {
        return bucket as f64;
    }
    let power = bucket / 4 + 1;
    (4 + bucket % 4) as f64 * 2_f64.powi(power as i32 - 2)
}

/// How long calls took.
#[derive(Clone, Debug, PartialEq)]
pub struct Histogram {
    pub(super) counts: [u64; BUCKETS],
    /// Seconds of the finest bucket.
    pub(super) unit: f64,
}

impl Histogram {
    /// How many calls are in it.
    pub fn count(&self) -> u64 {
        self.counts.iter().fold(0, |all, count| all.wrapping_add(*count))
    }

    /// In seconds, what this part of all calls took at most, to 12 %: 0.5 is the median. `None` without
    /// calls.
    pub fn quantile(&self, part: f64) -> Option<f64> {
        let all = self.count();
        let wanted = (part * all as f64).ceil().max(1.0);
        let mut seen = 0.0;
        for (bucket, count) in self.counts.iter().enumerate().filter(|(_, count)| **count > 0) {
            if seen + *count as f64 >= wanted {
                // As if those of a bucket were spread evenly over it.
                let within = (wanted - seen) / *count as f64;
                let (first, end) = (first_of(bucket), first_of(bucket + 1));
                return Some((first + (end - first) * within) * self.unit);
            }
            seen += *count as f64;
        }
        None
    }

    /// The upper ends of the buckets in seconds, with the calls in each, but for those at the ends that are
    /// empty.
    pub fn buckets(&self) -> impl Iterator<Item = (f64, u64)> {
        let used = |count: &u64| *count > 0;
        let first = self.counts.iter().position(used).unwrap_or(0);
        let end = self.counts.iter().rposition(used).map_or(0, |last| last + 1);
        (first..end).map(|bucket| (first_of(bucket + 1) * self.unit, self.counts[bucket]))
    }

    /// How many calls took no longer than `seconds`, to 12 % of these: the calls of a bucket count as if they
    /// were spread evenly over it. Never falls from one look to the next.
    pub fn at_most(&self, seconds: f64) -> u64 {
        let limit = seconds / self.unit;
        let counts = self.counts.iter().enumerate().filter(|(_, count)| **count > 0);
        counts.fold(0, |all, (bucket, count)| {
            let (first, end) = (first_of(bucket), first_of(bucket + 1));
            let within = ((limit - first) / (end - first)).clamp(0.0, 1.0);
            // Below 2^53, which no process counts to, this is exact for all of them.
            all.wrapping_add((*count as f64 * within) as u64)
        })
    }

    /// Adds the calls of another one.
    pub fn add(&mut self, other: &Self) {
        for (count, more) in self.counts.iter_mut().zip(other.counts) {
            *count = count.wrapping_add(more);
        }
        self.unit = other.unit;
    }

    /// What was added since an earlier look.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        let counts = std::array::from_fn(|i| self.counts[i].saturating_sub(earlier.counts[i]));
        Self { counts, unit: self.unit }
    }
}

impl Default for Histogram {
    fn default() -> Self {
        Self { counts: [0; BUCKETS], unit: 0.0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_follow_each_other() {
        for bits in [0, 8] {
            let mut last = 0;
            for units in 0..100_000 {
                let bucket = bucket(units << bits, bits);
                assert!(bucket == last || bucket == last + 1, "{units}");
                assert!(first_of(bucket) <= units as f64 && (units as f64) < first_of(bucket + 1), "{units}");
                last = bucket;
            }
        }
        assert_eq!(bucket(u64::MAX, 8), BUCKETS - 1);
        // The last one begins at minutes.
        assert!(first_of(BUCKETS - 1) * 256.0 / 3e9 > 120.0);
    }

    #[test]
    fn quantiles_are_near() {
        let mut histogram = Histogram { unit: 1e-7, ..Histogram::default() };
        assert_eq!(histogram.quantile(0.5), None);
        for units in 1..=10_000 {
            histogram.counts[bucket(units, 0)] += 1;
        }
        for part in [0.01, 0.5, 0.9, 0.99, 1.0] {
            let (actual, seen) = (part * 10_000.0 * 1e-7, histogram.quantile(part).unwrap());
            assert!((seen / actual - 1.0).abs() < 0.13, "{part}: {seen} for {actual}");
        }
        for units in [0, 1, 5, 10, 100, 3000, 10_000, 100_000] {
            let (actual, seen) =
                (units.min(10_000) as f64, histogram.at_most(f64::from(units) * 1e-7) as f64);
            assert!((seen - actual).abs() <= 1.0 + 0.13 * actual, "{units}: {seen}");
        }
        assert_eq!(histogram.at_most(1.0), histogram.count());
        let buckets: Vec<_> = histogram.buckets().collect();
        assert!(buckets.is_sorted_by(|a, b| a.0 < b.0) && buckets[0].1 > 0);
        assert_eq!(buckets.iter().map(|bucket| bucket.1).sum::<u64>(), 10_000);
        assert_eq!(histogram.since(&histogram).count(), 0);
    }
}
