//! Further attempts are given up for a while when many calls fail.

use std::sync::atomic::{AtomicI64, Ordering};

use super::Throttling;

/// What a failed call costs.
const FAILED: i64 = 1000;

/// The tokens of a channel, in thousandths.
#[derive(Debug)]
pub(crate) struct Throttle {
    tokens: AtomicI64,
    of: Throttling,
}

impl Throttle {
    pub(super) fn new(of: Throttling) -> Self {
        Self { tokens: AtomicI64::new(of.max), of }
    }

    /// A call has failed with a code for which it would be made again, or the server wants no further
    /// attempt. Returns `true` if further attempts are allowed.
    pub(crate) fn fail(&self) -> bool {
        self.is_enough(self.change(-FAILED))
    }

    /// Returns `true` if further attempts are allowed.
    pub(crate) fn allows(&self) -> bool {
        self.is_enough(self.tokens.load(Ordering::Relaxed))
    }

    fn is_enough(&self, tokens: i64) -> bool {
        tokens * 2 > self.of.max
    }

    /// A call has ended well.
    pub(crate) fn succeed(&self) {
        self.change(self.of.ratio);
    }

    /// Returns the tokens afterwards. They order nothing else.
    fn change(&self, by: i64) -> i64 {
        let changed = |tokens: i64| (tokens + by).clamp(0, self.of.max);
        let update = |tokens| Some(changed(tokens));
        match self.tokens.fetch_update(Ordering::Relaxed, Ordering::Relaxed, update) {
            Ok(before) | Err(before) => changed(before),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_of_the_tokens_have_to_be_left() {
        let throttle = Throttle::new(Throttling { max: 10_000, ratio: 500 });
        // 9, 8, 7, 6 are more than half; 5 is not.
        let allowed: Vec<_> = (0..5).map(|_| throttle.fail()).collect();
        assert_eq!(allowed, [true, true, true, true, false]);
        assert!(!throttle.allows());
        (0..3).for_each(|_| throttle.succeed());
        // 6.5, less 1.
        assert!(throttle.fail());
        (0..100).for_each(|_| _ = throttle.fail());
        assert_eq!(throttle.change(0), 0);
        (0..100).for_each(|_| throttle.succeed());
        assert_eq!(throttle.change(0), 10_000);
        assert!(throttle.allows());
    }
}
