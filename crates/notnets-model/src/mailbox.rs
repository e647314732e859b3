//! A mailbox from one host's agent to another's: `notnets_pod::mailbox`.
//!
//! Packets of one part and of two go through a ring of slots. Either agent is started again at any step,
//! and begins where its own part of the memory shows that it was. The pair of hosts begins a new life,
//! which each end hears of when it does; slots of the former life stay where they are.

use stateright::{Model, Property};

use crate::line::Line;

/// Slots, for two of the longest packets.
const SLOTS: u8 = 4;
/// Packets that are sent in each life, of one part and of two in turns.
const PACKETS: u8 = 5;
const LIVES: u8 = 2;
/// How often each agent is started again.
const RESTARTS: u8 = 2;

/// What is left out of the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// A slot is stored and not published.
    SlotNotPublished,
    /// The reader looks at a slot without observing it.
    SlotNotObserved,
    /// The count of slots that were read is not published.
    TakenNotPublished,
    /// The writer looks at that count without observing it.
    TakenNotObserved,
    /// A slot's seal does not name the life of the hosts.
    LifeNotSealed,
    /// A slot is written again before it is known to be read.
    TakenNotAwaited,
    /// A packet counts as read with its first part.
    TakenBeforeWhole,
}

/// The model.
#[derive(Clone, Copy, Debug, Default)]
pub struct Mailbox {
    /// Nothing, or what is left out.
    pub fault: Option<Fault>,
}

/// What the agents and their memory are like.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct State {
    slots: Vec<Line<Slot>>,
    /// By the reader: in which life it has read how many slots.
    taken: Line<(u8, u8)>,
    writer: Writer,
    reader: Reader,
    /// Packets of the writer's life that were cut short, and of the reader's that it lost with its agent.
    cut: u8,
    lost: u8,
    wrong: Option<Wrong>,
}

/// Sealed with the life and with its number. What was never written is of life 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Slot {
    life: u8,
    sequence: u8,
    packet: u8,
    part: u8,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Writer {
    life: u8,
    pushed: u8,
    taken: u8,
    packet: u8,
    part: u8,
    restarts: u8,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Reader {
    life: u8,
    popped: u8,
    /// Of the packet that is being read: its length, which part came, and of which packet that was.
    partial: Option<(u8, u8, u8)>,
    /// The last packet that was handed out, and how many were.
    last: Option<u8>,
    count: u8,
    restarts: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Wrong {
    FormerLife,
    Order,
    Mixed,
}

/// What may happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// The writer writes a part, if there is room.
    Push,
    /// The reader looks at the next slot.
    Receive,
    /// It does, and is killed before anybody has the packet.
    ReceiveInVain,
    /// The writer's agent is killed, and started.
    RestartWriter,
    /// The reader's is.
    RestartReader,
    /// The writer hears of a new life.
    WriterBegins,
    /// The reader hears of it.
    ReaderBegins,
    /// A slot is written back by itself.
    WriteBack(u8),
    /// The count is.
    WriteBackTaken,
    /// The reader's host forgets its copy of a slot.
    Forget(u8),
    /// The writer's host forgets its copy of the count.
    ForgetTaken,
}

fn parts(packet: u8) -> u8 {
    1 + packet % 2
}

fn place(sequence: u8) -> usize {
    usize::from((sequence - 1) % SLOTS)
}

impl Mailbox {
    fn lacks(&self, fault: Fault) -> bool {
        self.fault == Some(fault)
    }

    fn is_slot(&self, slot: Slot, life: u8, sequence: u8) -> bool {
        (slot.life == life || slot.life != 0 && self.lacks(Fault::LifeNotSealed)) && slot.sequence == sequence
    }

    fn push(&self, state: &mut State) {
        let Writer { packet, part, .. } = state.writer;
        if packet == PACKETS {
            return;
        }
        let has_room = |writer: &Writer, parts: u8| writer.pushed - writer.taken + parts <= SLOTS;
        let left = parts(packet) - part;
        if !has_room(&state.writer, left) && !self.lacks(Fault::TakenNotAwaited) {
            let (life, taken) = state.taken.read(!self.lacks(Fault::TakenNotObserved));
            let writer = &mut state.writer;
            if life == writer.life && taken >= writer.taken && (writer.pushed == 0 || taken <= writer.pushed)
            {
                writer.taken = taken;
            }
            if !has_room(writer, left) {
                return;
            }
        }
        let writer = &mut state.writer;
        writer.pushed += 1;
        let slot = Slot { life: writer.life, sequence: writer.pushed, packet, part };
        let publishes = !self.lacks(Fault::SlotNotPublished);
        state.slots[place(writer.pushed)].write(slot, publishes);
        (writer.packet, writer.part) =
            if part + 1 == parts(packet) { (packet + 1, 0) } else { (packet, part + 1) };
    }

    fn receive(&self, state: &mut State, in_vain: bool) {
        let reader = &mut state.reader;
        let sequence = reader.popped + 1;
        let slot = state.slots[place(sequence)].look(!self.lacks(Fault::SlotNotObserved));
        if !self.is_slot(slot, reader.life, sequence) {
            return;
        }
        if slot.life != reader.life {
            state.wrong = Some(Wrong::FormerLife);
        }
        let publishes = !self.lacks(Fault::TakenNotPublished);
        if slot.part == 0 && reader.partial.take().is_some() {
            // The writer's restart has cut that one short.
            state.taken.write((reader.life, reader.popped), publishes);
        }
        reader.popped = sequence;
        if slot.part == 0 {
            reader.partial = Some((parts(slot.packet), 0, slot.packet));
        }
        let whole = match &mut reader.partial {
            None => None,
            Some((length, came, packet)) => {
                if *packet != slot.packet || *came != slot.part {
                    state.wrong = Some(Wrong::Mixed);
                }
                *came += 1;
                (came == length).then_some(*packet)
            }
        };
        if whole.is_some() {
            reader.partial = None;
        }
        if whole.is_some() || reader.partial.is_none() || self.lacks(Fault::TakenBeforeWhole) {
            state.taken.write((reader.life, reader.popped), publishes);
        }
        let Some(packet) = whole else { return };
        if in_vain {
            state.lost += 1;
            return;
        }
        if reader.last.is_some_and(|last| packet <= last) {
            state.wrong = Some(Wrong::Order);
        }
        (reader.last, reader.count) = (Some(packet), reader.count + 1);
    }

    /// An agent finds its place.
    fn open_writer(&self, state: &mut State) {
        // The count that this side saw last suffices: nothing written since has overwritten anything.
        let (life, taken) = state.taken.read(false);
        let writer = &mut state.writer;
        writer.taken = if life == writer.life { taken } else { 0 };
        writer.pushed = writer.taken;
        let written = |sequence: u8| self.is_slot(*state.slots[place(sequence)].own(), writer.life, sequence);
        while written(writer.pushed + 1) {
            writer.pushed += 1;
        }
    }

    fn open_reader(state: &mut State) {
        let (life, taken) = *state.taken.own();
        state.reader.popped = if life == state.reader.life { taken } else { 0 };
        state.reader.partial = None;
    }

    fn act(&self, state: &mut State, action: Action) {
        match action {
            Action::Push => self.push(state),
            Action::Receive => self.receive(state, false),
            Action::ReceiveInVain => {
                self.receive(state, true);
                Self::open_reader(state);
                state.reader.restarts -= 1;
            }
            Action::RestartWriter => {
                if state.writer.part > 0 {
                    // The rest of the packet was in the agent's own memory.
                    (state.writer.packet, state.writer.part) = (state.writer.packet + 1, 0);
                    state.cut += 1;
                }
                self.open_writer(state);
                state.writer.restarts -= 1;
            }
            Action::RestartReader => {
                Self::open_reader(state);
                state.reader.restarts -= 1;
            }
            Action::WriterBegins => {
                (state.writer.life, state.writer.packet, state.writer.part) = (state.writer.life + 1, 0, 0);
                state.cut = 0;
                self.open_writer(state);
            }
            Action::ReaderBegins => {
                state.reader.life += 1;
                (state.reader.last, state.reader.count, state.lost) = (None, 0, 0);
                Self::open_reader(state);
            }
            Action::WriteBack(slot) => {
                state.slots[usize::from(slot)].write_back();
            }
            Action::WriteBackTaken => {
                state.taken.write_back();
            }
            Action::Forget(slot) => {
                state.slots[usize::from(slot)].forget();
            }
            Action::ForgetTaken => {
                state.taken.forget();
            }
        }
    }

    /// Neither agent has anything to do, and nothing else happens any more.
    fn is_at_rest(&self, state: &State) -> bool {
        [Action::Push, Action::Receive].into_iter().all(|action| self.next_state(state, action).is_none())
            && state.writer.life == state.reader.life
    }
}

impl Model for Mailbox {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        let never = Slot { life: 0, sequence: 0, packet: 0, part: 0 };
        vec![State {
            slots: vec![Line::new(never); SLOTS.into()],
            taken: Line::new((0, 0)),
            writer: Writer { life: 1, pushed: 0, taken: 0, packet: 0, part: 0, restarts: RESTARTS },
            reader: Reader { life: 1, popped: 0, partial: None, last: None, count: 0, restarts: RESTARTS },
            cut: 0,
            lost: 0,
            wrong: None,
        }]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        actions.extend([Action::Push, Action::Receive, Action::WriteBackTaken, Action::ForgetTaken]);
        if state.writer.restarts > 0 {
            actions.push(Action::RestartWriter);
        }
        if state.reader.restarts > 0 {
            actions.extend([Action::ReceiveInVain, Action::RestartReader]);
        }
        // One end hears of a new life before the other.
        if state.writer.life < LIVES {
            actions.push(Action::WriterBegins);
        }
        if state.reader.life < LIVES {
            actions.push(Action::ReaderBegins);
        }
        actions.extend((0..SLOTS).flat_map(|slot| [Action::WriteBack(slot), Action::Forget(slot)]));
    }

    fn next_state(&self, state: &State, action: Action) -> Option<State> {
        let mut next = state.clone();
        self.act(&mut next, action);
        (next != *state).then_some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("nothing of a former life is believed", |_, state: &State| {
                state.wrong != Some(Wrong::FormerLife)
            }),
            Property::always("packets come in order, and none comes twice", |_, state: &State| {
                state.wrong != Some(Wrong::Order)
            }),
            Property::always("a packet comes whole", |_, state: &State| state.wrong != Some(Wrong::Mixed)),
            Property::always("no packet stays behind", |model: &Self, state: &State| {
                let arrived = state.reader.count + state.lost + state.cut == PACKETS;
                !model.is_at_rest(state) || arrived
            }),
            Property::sometimes("all packets of the last life come", |_, state: &State| {
                state.reader.life == LIVES && state.reader.count == PACKETS
            }),
            Property::sometimes("a packet is cut short", |_, state: &State| state.cut > 0),
        ]
    }
}
