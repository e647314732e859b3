//! Which task polls the lane.
//!
//! Of the tasks that wait for something on a link one polls for all of them. It holds the lane while it lets
//! other tasks run in between, and renews its hold each time. A task that selects may have got what it wanted
//! elsewhere and never come back; so the driver looks after a while, and takes the lane from one that has not
//! been seen since.

use std::time::Duration;

use notnets_core::call::StreamId;
use notnets_core::clock::Timestamp;

/// A task that holds the lane and has not come back after this time does not come back.
const PATIENCE: Duration = Duration::from_millis(5);

/// The holder of the lane: the task of one stream, or nobody.
#[derive(Debug, Default)]
pub(super) struct PollerSlot {
    holder: Option<StreamId>,
    /// How often a holder has renewed its hold.
    renewals: u64,
    /// The renewals that the driver saw last, and when it looks again.
    watch: Option<(u64, Timestamp)>,
}

impl PollerSlot {
    /// Returns `true` if a task holds the lane.
    #[inline]
    pub(super) fn is_held(&self) -> bool {
        self.holder.is_some()
    }

    /// Returns `true` if the task of another stream holds the lane.
    #[inline]
    pub(super) fn is_held_by_other(&self, stream: StreamId) -> bool {
        self.holder.is_some_and(|holder| holder != stream)
    }

    /// The task of this stream polls now. Not to be called while another one holds the lane.
    #[inline]
    pub(super) fn acquire(&mut self, stream: StreamId) {
        self.holder = Some(stream);
    }

    /// The task of this stream lets others run, and will come back. Returns `true` if the driver has to be
    /// woken: it does not watch the holder yet.
    #[inline]
    #[must_use]
    pub(super) fn renew(&mut self, stream: StreamId) -> bool {
        self.holder = Some(stream);
        self.renewals += 1;
        self.watch.is_none()
    }

    /// The task of this stream polls no more. Returns `true` if it did: then the lane has to be armed.
    #[inline]
    #[must_use]
    pub(super) fn release(&mut self, stream: StreamId) -> bool {
        self.holder.take_if(|holder| *holder == stream).is_some()
    }

    /// Takes the lane from a holder that has not come back by `now`. Returns when to look again, if somebody
    /// holds it.
    pub(super) fn expire(&mut self, now: Timestamp) -> Option<Timestamp> {
        let forgotten = self.watch.is_some_and(|(seen, until)| seen == self.renewals && now >= until);
        if forgotten {
            self.holder = None;
        }
        self.watch = match (self.holder, self.watch) {
            (None, _) => None,
            (Some(_), Some((seen, until))) if now < until => Some((seen, until)),
            (Some(_), _) => Some((self.renewals, now + PATIENCE)),
        };
        self.watch.map(|(_, until)| until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: StreamId = StreamId::new(1);
    const THREE: StreamId = StreamId::new(3);

    /// This part of the patience after the start.
    fn at(halves: u32) -> Timestamp {
        Timestamp::ZERO + PATIENCE / 2 * halves
    }

    #[test]
    fn one_task_holds_the_lane_until_it_releases_it() {
        let mut slot = PollerSlot::default();
        slot.acquire(ONE);
        assert!(slot.is_held() && !slot.is_held_by_other(ONE) && slot.is_held_by_other(THREE));
        assert!(!slot.release(THREE), "it is not its to release");
        assert!(slot.release(ONE) && !slot.is_held());
        assert!(!slot.release(ONE));
    }

    #[test]
    fn the_driver_is_woken_to_watch_a_holder_and_no_more_while_it_does() {
        let mut slot = PollerSlot::default();
        slot.acquire(ONE);
        assert!(slot.renew(ONE));
        assert_eq!(slot.expire(at(0)), Some(at(2)));
        assert!(!slot.renew(ONE));
    }

    #[test]
    fn a_holder_that_comes_back_keeps_the_lane() {
        let mut slot = PollerSlot::default();
        let _wake = slot.renew(ONE);
        assert_eq!(slot.expire(at(0)), Some(at(2)));
        let _watched = slot.renew(ONE);
        assert_eq!(slot.expire(at(1)), Some(at(2)), "it is not time yet");
        assert_eq!(slot.expire(at(2)), Some(at(4)));
        assert!(slot.is_held());
    }

    #[test]
    fn one_that_does_not_come_back_loses_it() {
        let mut slot = PollerSlot::default();
        let _wake = slot.renew(ONE);
        slot.expire(at(0));
        assert_eq!(slot.expire(at(2)), None);
        assert!(!slot.is_held());
        assert!(slot.renew(THREE), "the next one is watched anew");
    }

    #[test]
    fn a_lane_that_nobody_holds_is_not_watched() {
        let mut slot = PollerSlot::default();
        let _wake = slot.renew(ONE);
        slot.expire(at(0));
        assert!(slot.release(ONE));
        assert_eq!(slot.expire(at(1)), None);
    }
}
