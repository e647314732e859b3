//! A doorbell for a peer that was awake, and so did not ask for one, but does not look either.
//!
//! A peer whose driver is stuck (in a handler that blocks its thread, behind a task that does) polls its lane
//! no more and has not armed it. The side that parks meanwhile sees that its frames are not taken, and rings
//! after a while: the doorbell reaches another thread of the peer, which takes over.

use std::time::Duration;

use crate::clock::Timestamp;

/// A peer that does not look within this time is rung, and again each time after twice as long.
const PATIENCE: Duration = Duration::from_micros(500);

/// A look that is due.
#[derive(Clone, Copy, Debug)]
pub(super) struct Nudge {
    at: Timestamp,
    patience: Duration,
}

impl Nudge {
    pub(super) fn first(now: Timestamp) -> Self {
        Self { at: now + PATIENCE, patience: PATIENCE }
    }

    /// When it is due.
    pub(super) fn at(self) -> Timestamp {
        self.at
    }

    pub(super) fn next(self, now: Timestamp) -> Self {
        let patience = self.patience.saturating_mul(2);
        Self { at: now + patience, patience }
    }
}
