//! Which task drives the link, and whether it is stuck.
//!
//! A driver whose thread is blocked cannot be moved to another. Where its runtime has others it is watched
//! while it is busy and there is something that it should come to: when it does not come, a relief is
//! started, which drives the link until the driver itself comes back.

use std::task::Waker;

/// A task that drives a link.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct DriverId(u64);

impl DriverId {
    /// The driver that the link began with, and ends with.
    pub(super) const OWN: Self = Self(0);
}

/// The task that drives a link at present.
#[derive(Debug, Default)]
pub(super) struct DriverSlot {
    id: DriverId,
    waker: Option<Waker>,
    /// It has something else to look at than the lanes.
    wanted: bool,
    /// A driver that was replaced may have taken requests whose handlers were not started.
    left: bool,
    /// How often a driver has come.
    turns: u64,
    /// It has come and has not gone to sleep since: it is in its turn, or has promised to come again.
    busy: bool,
    /// It is watched.
    watched: bool,
    reliefs: u64,
}

/// What a look at a driver that is watched has shown.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// It sleeps: it is not watched any more.
    Asleep,
    /// It has come since the last look.
    Awake,
    /// It has not. This relief is to be started.
    Stuck(DriverId),
}

/// A turn of the task that drives the link.
#[derive(Debug)]
pub(super) struct DriverTurn {
    /// It was woken for something else than the lanes.
    pub(super) wanted: bool,
    /// A driver before it may have taken requests whose handlers were not started.
    pub(super) left: bool,
    /// The relief that it replaces, to be woken: it is over.
    pub(super) relief: Option<Waker>,
}

impl DriverSlot {
    /// Begins a driver's turn: it is woken by this from now on. The link's own driver replaces a relief;
    /// `None` if this one was replaced itself.
    #[inline]
    pub(super) fn begin_turn(&mut self, id: DriverId, waker: &Waker) -> Option<DriverTurn> {
        let mut relief = None;
        if id != self.id {
            if id != DriverId::OWN {
                return None;
            }
            self.id = id;
            relief = self.waker.take();
            // It may be stuck itself with what it goes on with.
            self.left = true;
        }
        self.turns += 1;
        self.busy = true;
        if !self.waker.as_ref().is_some_and(|own| own.will_wake(waker)) {
            self.waker = Some(waker.clone());
        }
        let (wanted, left) = (std::mem::take(&mut self.wanted), std::mem::take(&mut self.left));
        Some(DriverTurn { wanted, left, relief })
    }

    /// Returns `true` if this driver should end its turn: it is wanted for something else than the lanes, or
    /// another drives.
    #[inline]
    pub(super) fn is_called(&self, id: DriverId) -> bool {
        self.wanted || !self.is_driven_by(id)
    }

    /// Returns `true` if this driver drives the link.
    #[inline]
    pub(super) fn is_driven_by(&self, id: DriverId) -> bool {
        self.id == id
    }

    /// Returns `true` while the one that drives has not gone to sleep.
    #[cfg(test)]
    pub(super) fn is_busy(&self) -> bool {
        self.busy
    }

    /// A driver that was replaced leaves requests, which it has taken, to the present one. Returns the task
    /// to wake for them.
    pub(super) fn leave_requests(&mut self) -> Option<Waker> {
        self.left = true;
        self.want()
    }

    /// A driver's turn ends, and it sleeps until it is woken.
    #[inline]
    pub(super) fn sleep(&mut self, id: DriverId) {
        if id == self.id {
            self.busy = false;
        }
    }

    /// There is something to do besides the lanes. Returns the task to wake for it.
    pub(super) fn want(&mut self) -> Option<Waker> {
        self.wanted = true;
        self.waker.clone()
    }

    /// Something that the driver watches is ready. Returns the task to wake for it, and whether to begin to
    /// watch it: it is busy, and may not come.
    pub(super) fn ready(&mut self) -> (Option<Waker>, bool) {
        self.wanted |= self.busy;
        let watch = self.busy && self.watch();
        (self.waker.clone(), watch)
    }

    /// Returns `true` if the driver is to be watched from now on, and is not yet.
    pub(super) fn watch(&mut self) -> bool {
        !std::mem::replace(&mut self.watched, true)
    }

    /// Looks at a driver that is watched. `seen` is for what the last look has shown.
    pub(super) fn look(&mut self, seen: &mut Option<u64>) -> Found {
        if !self.busy {
            self.watched = false;
            return Found::Asleep;
        }
        if seen.replace(self.turns) != Some(self.turns) {
            return Found::Awake;
        }
        self.reliefs += 1;
        self.id = DriverId(self.reliefs);
        // The relief is given as long to come.
        *seen = None;
        Found::Stuck(self.id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether it drives.
    fn turn(slot: &mut DriverSlot, id: DriverId) -> bool {
        slot.begin_turn(id, Waker::noop()).is_some()
    }

    /// A driver that is in its turn, and watched.
    fn busy() -> (DriverSlot, Option<u64>) {
        let mut slot = DriverSlot::default();
        assert!(turn(&mut slot, DriverId::OWN) && slot.ready().1);
        (slot, None)
    }

    /// The relief of a driver that does not come.
    fn relief(slot: &mut DriverSlot, seen: &mut Option<u64>) -> DriverId {
        assert_eq!(slot.look(seen), Found::Awake, "it may be on its way");
        let Found::Stuck(relief) = slot.look(seen) else { panic!("it is not relieved") };
        relief
    }

    #[test]
    fn one_that_sleeps_is_not_watched() {
        let mut slot = DriverSlot::default();
        assert!(!slot.ready().1);
        assert!(turn(&mut slot, DriverId::OWN));
        slot.sleep(DriverId::OWN);
        assert!(!slot.ready().1);
    }

    #[test]
    fn one_that_is_busy_is_watched_once_until_it_sleeps() {
        let (mut slot, mut seen) = busy();
        assert!(!slot.ready().1 && !slot.watch());
        for _ in 0..10 {
            assert_eq!(slot.look(&mut seen), Found::Awake);
            assert!(turn(&mut slot, DriverId::OWN));
        }
        slot.sleep(DriverId::OWN);
        assert_eq!(slot.look(&mut seen), Found::Asleep);
        assert!(slot.watch(), "it can be watched again");
    }

    #[test]
    fn one_that_does_not_come_is_relieved_once_and_comes_back() {
        let (mut slot, mut seen) = busy();
        let relief = relief(&mut slot, &mut seen);
        assert_eq!(slot.look(&mut seen), Found::Awake, "the relief may be on its way");
        assert!(turn(&mut slot, relief) && !slot.is_called(relief) && slot.is_called(DriverId::OWN));
        assert_eq!(slot.look(&mut seen), Found::Awake);
        let returned = slot.begin_turn(DriverId::OWN, Waker::noop()).unwrap();
        assert!(returned.relief.is_some(), "it would wait for ever");
        assert!(returned.left, "the relief may be stuck, too");
        assert!(!slot.begin_turn(DriverId::OWN, Waker::noop()).unwrap().left);
        slot.sleep(relief);
        assert_eq!(slot.look(&mut seen), Found::Awake, "it is not the relief that is watched");
        assert!(!turn(&mut slot, relief));
    }

    #[test]
    fn a_relief_that_is_stuck_is_relieved_itself() {
        let (mut slot, mut seen) = busy();
        let first = relief(&mut slot, &mut seen);
        assert!(turn(&mut slot, first));
        let second = relief(&mut slot, &mut seen);
        assert_ne!(first, second);
        assert!(!turn(&mut slot, first));
        assert!(turn(&mut slot, second));
    }

    #[test]
    fn what_is_wanted_is_said_once() {
        let mut slot = DriverSlot::default();
        assert!(slot.want().is_none(), "there is no driver yet");
        let wanted = |slot: &mut DriverSlot| slot.begin_turn(DriverId::OWN, Waker::noop()).unwrap().wanted;
        assert!(wanted(&mut slot));
        assert!(!wanted(&mut slot));
        assert!(slot.want().is_some());
    }
}
