//! One side of a link, with the rules that whoever drives a [`Connection`](notnets_core::Connection)
//! keeps to: every lock is settled, every lane is looked at once more after it was armed.

use notnets_core::call::Event;
use notnets_core::pair::{HeapConnection, frozen_clock};

use super::random::Random;

pub struct Side {
    pub connection: HeapConnection,
    /// A doorbell lies in the socket.
    pub rung: bool,
    /// The driver has more to do before it sleeps.
    pub awake: bool,
    /// Something was done and is not settled yet: nothing else can be done before.
    pub unsettled: bool,
    pub events: Vec<Event<()>>,
    space_armed: bool,
}

impl Side {
    pub fn new(connection: HeapConnection) -> Self {
        Self {
            connection,
            rung: false,
            awake: true,
            unsettled: false,
            events: Vec::new(),
            space_armed: false,
        }
    }

    /// One round of the task behind the link.
    pub fn drive(&mut self, random: &mut Random) {
        self.unsettled = true;
        if std::mem::take(&mut self.rung) {
            self.answer_doorbell();
        }
        let taken = self.connection.receive(1 + random.below(8), frozen_clock);
        // Ready after arming means: don't sleep.
        self.awake = taken > 0 || self.connection.lanes().arm_frames();
    }

    /// The words that asked for the doorbell are used up.
    pub fn answer_doorbell(&mut self) {
        self.unsettled = true;
        self.awake = true;
        self.connection.lanes().disarm_frames();
        if std::mem::take(&mut self.space_armed) {
            self.connection.lanes().disarm_space();
            self.connection.wake_queued();
        }
    }

    /// Whoever waits for a message looks for itself.
    pub fn look(&mut self, random: &mut Random) {
        self.unsettled = true;
        self.connection.receive(1 + random.below(3), frozen_clock);
    }

    /// Collects the events, and says whether the other side has to be rung.
    pub fn settle(&mut self) -> bool {
        self.unsettled = false;
        let waits = self.connection.waits_for_space();
        if waits && !self.space_armed {
            self.space_armed = true;
            self.connection.lanes().arm_space();
            self.connection.wake_queued();
        } else if !waits && self.space_armed {
            self.space_armed = false;
            self.connection.lanes().disarm_space();
        }
        self.events.extend(std::iter::from_fn(|| self.connection.poll_event()));
        self.connection.lanes().bell_is_due()
    }

    /// Nothing is left on this side.
    pub fn assert_idle(&mut self) {
        assert_eq!(self.connection.open_streams(), 0, "streams are left");
        assert_eq!(self.connection.next_deadline(), None, "deadlines are left");
        assert!(!self.connection.waits_for_space(), "something still waits for room");
        assert!(!self.connection.lanes().is_ready(), "a frame was not taken");
        assert_eq!(self.connection.lanes().arena().lent(), 0, "blocks are lent");
    }
}
