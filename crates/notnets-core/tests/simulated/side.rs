//! One end of a link, with the rules that whoever drives a [`Session`](notnets_core::session::Session) keeps
//! to: every turn is finished, every lane is looked at once more after it was armed.

use std::collections::VecDeque;

use notnets_core::call::Event;
use notnets_core::link::packet::Packet;
use notnets_core::link::socket::Incoming;
use notnets_core::pair::{HeapSession, frozen_clock};

use super::random::Random;

pub struct Side {
    pub session: HeapSession,
    /// What lies in the socket.
    pub socket: VecDeque<Packet>,
    /// The driver has more to do before it sleeps.
    pub awake: bool,
    /// Something was done, and the turn is not finished yet: nothing else can be done before.
    pub in_turn: bool,
    pub events: Vec<Event<()>>,
}

impl Side {
    pub fn new(session: HeapSession) -> Self {
        Self { session, socket: VecDeque::new(), awake: true, in_turn: false, events: Vec::new() }
    }

    /// One round of the task behind the link.
    pub fn drive(&mut self, random: &mut Random) {
        self.in_turn = true;
        if let Some(packet) = self.socket.pop_front() {
            assert!(self.session.handle_incoming(Ok(Incoming::Packet(packet, None)), frozen_clock));
        }
        let taken = self.session.calls().receive(1 + random.below(8), frozen_clock);
        // Not to sleep yet: something has come since the lane was armed.
        self.awake = taken > 0 || !self.session.arm(frozen_clock) || !self.socket.is_empty();
    }

    /// A task that waits for a message looks for itself.
    pub fn look(&mut self, random: &mut Random) {
        self.in_turn = true;
        self.session.calls().receive(1 + random.below(3), frozen_clock);
    }

    /// Offers more memory if that would help, and sends one packet. Returns the packet.
    pub fn send_packet(&mut self) -> Option<Packet> {
        self.in_turn = true;
        self.session.offer_memory().expect("there is always memory");
        let (packet, _) = self.session.poll_packet()?;
        let packet = packet.clone();
        self.session.packet_sent();
        Some(packet)
    }

    /// Finishes the turn, and collects the events. Returns `true` if the other side has to be rung.
    pub fn finish_turn(&mut self) -> bool {
        self.in_turn = false;
        let ring = self.session.finish_turn(frozen_clock);
        self.events.extend(std::iter::from_fn(|| self.session.poll_event()));
        ring
    }

    /// Nothing is left on this side.
    pub fn assert_idle(&mut self) {
        let calls = self.session.calls();
        assert_eq!(calls.open_streams(), 0, "streams are left");
        assert_eq!(calls.next_deadline(), None, "deadlines are left");
        assert!(!calls.waits_for_space(), "something still waits for room");
        assert!(!calls.lanes().is_ready(), "a frame was not taken");
        assert_eq!(calls.lanes().arena().lent(), 0, "blocks are lent");
        assert!(self.socket.is_empty() && self.session.poll_packet().is_none(), "a packet was not read");
    }
}
