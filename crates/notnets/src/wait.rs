//! The waiting policy, in one place.
//!
//! A message through memory takes a fraction of a microsecond, waking a parked thread tens of them.
//! So whoever waits first polls the lane for a while, and parks when that does not pay. What has
//! paid off lately on a link decides how long: each wait that ended soon makes the next one poll,
//! each that took longer than a wake-up makes it park.

/// How a link waits for messages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Wait {
    /// Poll for ever while calls are open: fastest, and takes a core.
    Spin,
    /// Poll while that pays off, then park. The default.
    #[default]
    Adaptive,
    /// Park at once: least CPU, and each message costs a wake-up.
    Park,
}

/// About what a wake-up costs, in nanoseconds: polling longer than this can't pay.
const WAKE_UP: u64 = 50_000;
/// One poll of a task spins at most so long before it lets other tasks run.
const ONE_POLL: u64 = 1_000;
const TRUST: i8 = 8;

/// How long to poll, from what has paid off.
#[derive(Debug)]
pub(crate) struct Budget {
    wait: Wait,
    /// Above zero: waits have been short lately.
    trust: i8,
    /// When the present wait began.
    since: Option<u64>,
}

impl Budget {
    pub(crate) fn new(wait: Wait) -> Self {
        Self { wait, trust: TRUST / 2, since: None }
    }

    /// Nothing is there at `now`: poll on, or park?
    #[inline]
    pub(crate) fn allows(&mut self, now: u64) -> bool {
        let since = *self.since.get_or_insert(now);
        match self.wait {
            Wait::Spin => true,
            Wait::Park => false,
            Wait::Adaptive => self.trust > 0 && now - since < WAKE_UP,
        }
    }

    /// Something came.
    #[inline]
    pub(crate) fn arrived(&mut self, now: impl FnOnce() -> u64) {
        let Some(since) = self.since.take() else { return };
        let short = now().saturating_sub(since) < WAKE_UP;
        self.trust = if short { (self.trust + 1).min(TRUST) } else { (self.trust - 2).max(-TRUST) };
    }

    /// May this link keep polling for ever?
    pub(crate) fn is_endless(&self) -> bool {
        self.wait == Wait::Spin
    }
}

/// Spins until `ready` or until one poll's share of time is over. Returns whether it is ready.
#[inline]
pub(crate) fn spin(mut ready: impl FnMut() -> bool) -> bool {
    // PAUSE takes some 27 ns here; a look at the clock about as long, so it is looked at rarely.
    let until = crate::clock::now() + ONE_POLL;
    loop {
        for _ in 0..8 {
            if ready() {
                return true;
            }
            std::hint::spin_loop();
        }
        if crate::clock::now() >= until {
            return false;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn polls_while_it_pays_and_parks_when_it_does_not() {
        let mut budget = Budget::new(Wait::Adaptive);
        let mut now = 0;
        let mut wait = |budget: &mut Budget, duration: u64| {
            let polled = budget.allows(now);
            now += duration;
            budget.arrived(|| now);
            polled
        };
        assert!(wait(&mut budget, 5_000));
        for _ in 0..10 {
            wait(&mut budget, 10_000_000);
        }
        assert!(!wait(&mut budget, 10_000_000), "long waits: it parks at once");
        for _ in 0..20 {
            wait(&mut budget, 30_000);
        }
        assert!(wait(&mut budget, 5_000), "short waits again: it polls");
    }

    #[test]
    fn one_wait_is_polled_for_no_longer_than_a_wake_up() {
        let mut budget = Budget::new(Wait::Adaptive);
        assert!(budget.allows(0));
        assert!(budget.allows(WAKE_UP - 1));
        assert!(!budget.allows(WAKE_UP));
        let mut spin = Budget::new(Wait::Spin);
        assert!(spin.allows(0) && spin.allows(u64::MAX));
        assert!(!Budget::new(Wait::Park).allows(0));
    }
}
