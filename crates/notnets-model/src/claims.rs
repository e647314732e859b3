//! Claims: how long an extent of shared payloads is kept for those that read there.
//!
//! A host's record about the owner's host has a bit that says that a process of it reads in the extent, and
//! a count of how often its bits changed. Processes pass payloads on: the next one has its host's bit set
//! before it says that it has taken over, and until then the one before keeps its own. The owner's agent
//! looks at one record after the other, and frees the extent once two looks at all of them have found the
//! same, and no bit.

use stateright::{Model, Property};

use crate::line::Line;

/// Hosts that read; the owner's is another.
const HOSTS: usize = 2;
/// How often a payload is passed on, and how often a process that reads is killed.
const PASSES: u8 = 4;
const KILLS: u8 = 1;
const RESTARTS: u8 = 1;

/// What is left out of the protocol, or done in another order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// A bit is stored and not published.
    ClaimNotPublished,
    /// The owner looks at a record without observing it.
    ClaimNotObserved,
    /// The owner looks once.
    OneLook,
    /// The owner compares the bits of two looks, and not how often they changed.
    ChangesNotCounted,
    /// A process reads before its host's bit is set.
    ReadBeforeClaim,
    /// A process lets go before the next one has taken over.
    LetGoEarly,
    /// The claims of a process end with it.
    ClaimEndsWithReader,
    /// An agent that begins clears what it does not know of.
    ClaimsNotInherited,
}

/// The model.
#[derive(Clone, Copy, Debug, Default)]
pub struct Claims {
    /// Nothing, or what is left out.
    pub fault: Option<Fault>,
}

/// The extent, and who reads there.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct State {
    /// The bit, and the count of changes, of each host.
    records: [Line<(bool, u8)>; HOSTS],
    readers: [Reader; HOSTS],
    /// The owner has passed its payload to a host, and holds the extent until that one has taken over.
    offered: Option<usize>,
    /// The owner has returned the extent, and waits for claims.
    returned: bool,
    free: bool,
    /// What the owner saw at its last look, and what it has seen of this one.
    last: Option<[(bool, u8); HOSTS]>,
    look: Vec<(bool, u8)>,
    passes: u8,
    kills: u8,
    restarts: u8,
    /// Somebody has read there after it was free.
    wrong: bool,
}

/// A process that reads, of each host; and what its agent knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Reader {
    reads: Reads,
    /// The other host, to which it has passed the payload on, and which has not taken over.
    passed: bool,
    /// It has ended, and its claim is kept for the one that it passed the payload on to.
    kept: bool,
    /// Its agent has begun, and has not heard from it.
    unheard: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Reads {
    Nothing,
    /// It was sent a payload, and has asked for a claim.
    Asked,
    Payload,
}

/// What may happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// The owner sends a payload to a process on this host.
    Offer(usize),
    /// The owner's process returns the extent.
    Return,
    /// A host's agent sets its bit, and answers its process.
    Claim(usize),
    /// A process passes the payload on to the other host.
    Pass(usize),
    /// A process lets go, and its agent clears the bit.
    LetGo(usize),
    /// A process is killed.
    Kill(usize),
    /// The other host has let go of all that a process had sent which has ended.
    Answer(usize),
    /// A host's agent begins anew.
    Restart(usize),
    /// Its process repeats its claim.
    Repeat(usize),
    /// The owner's agent looks at the next record.
    Look,
    /// A record is written back by itself.
    WriteBack(usize),
    /// The owner's host forgets its copy of one.
    Forget(usize),
}

impl Claims {
    fn lacks(&self, fault: Fault) -> bool {
        self.fault == Some(fault)
    }

    /// Writes the bit, if it changes.
    fn write(&self, state: &mut State, host: usize, bit: bool) {
        let (is, changes) = *state.records[host].own();
        if is != bit {
            state.records[host].write((bit, changes + 1), !self.lacks(Fault::ClaimNotPublished));
        }
    }

    /// Writes the bit as the host's process and agent need it.
    fn review(&self, state: &mut State, host: usize) {
        let Reader { reads, kept, unheard, .. } = state.readers[host];
        let inherits = unheard && !self.lacks(Fault::ClaimsNotInherited) && state.records[host].own().0;
        let knows = reads != Reads::Nothing && !unheard;
        self.write(state, host, knows || kept || inherits);
    }

    fn act(&self, state: &mut State, action: Action) {
        match action {
            Action::Offer(host) => {
                state.passes -= 1;
                state.offered = Some(host);
                self.ask(state, host);
            }
            Action::Return => state.returned = true,
            Action::Claim(host) => {
                state.readers[host].reads = Reads::Payload;
                self.review(state, host);
                state.wrong |= state.free;
                // It says that it has taken over.
                if state.offered == Some(host) {
                    state.offered = None;
                }
                state.readers[1 - host].passed = false;
            }
            Action::Pass(host) => {
                state.passes -= 1;
                state.readers[host].passed = true;
                self.ask(state, 1 - host);
            }
            Action::LetGo(host) => {
                state.readers[host].reads = Reads::Nothing;
                self.review(state, host);
            }
            Action::Kill(host) => {
                state.kills -= 1;
                let bit = state.records[host].own().0;
                let reader = &mut state.readers[host];
                let may_have_passed = reader.passed || reader.unheard && bit;
                reader.kept = may_have_passed && !self.lacks(Fault::ClaimEndsWithReader);
                (reader.reads, reader.unheard) = (Reads::Nothing, false);
                // Nobody waits for its answer.
                state.offered = state.offered.filter(|to| *to != host);
                state.readers[1 - host].passed = false;
                self.review(state, host);
            }
            Action::Answer(host) => {
                state.readers[host].kept = false;
                self.review(state, host);
            }
            Action::Restart(host) => {
                state.restarts -= 1;
                state.readers[host].unheard = true;
                self.review(state, host);
            }
            Action::Repeat(host) => {
                state.readers[host].unheard = false;
                self.review(state, host);
            }
            Action::Look => self.look(state),
            Action::WriteBack(host) => {
                state.records[host].write_back();
            }
            Action::Forget(host) => {
                state.records[host].forget();
            }
        }
    }

    fn ask(&self, state: &mut State, host: usize) {
        let reads_at_once = self.lacks(Fault::ReadBeforeClaim);
        if state.readers[host].reads == Reads::Nothing {
            state.readers[host].reads = Reads::Asked;
        }
        if reads_at_once {
            // It takes over at once, and its claim follows.
            state.readers[1 - host].passed = false;
            state.offered = None;
        }
    }

    fn look(&self, state: &mut State) {
        let next = state.look.len();
        let seen = state.records[next].look(!self.lacks(Fault::ClaimNotObserved));
        state.look.push(seen);
        let Ok(seen) = <[(bool, u8); HOSTS]>::try_from(state.look.as_slice()) else { return };
        state.look.clear();
        let last = state.last.replace(seen);
        let bits = |of: [(bool, u8); HOSTS]| of.map(|(bit, _)| bit);
        let stood_still = match last {
            _ if self.lacks(Fault::OneLook) => true,
            None => false,
            Some(last) if self.lacks(Fault::ChangesNotCounted) => bits(last) == bits(seen),
            Some(last) => last == seen,
        };
        if stood_still && bits(seen) == [false; HOSTS] {
            state.free = true;
            // Whoever has a payload there, or is about to, reads what is another's.
            state.wrong |= state.readers.iter().any(|reader| reader.reads != Reads::Nothing);
        }
    }

    fn work(&self, state: &State) -> Vec<Action> {
        let mut work = Vec::new();
        for (host, reader) in state.readers.iter().enumerate() {
            if reader.reads == Reads::Asked && !reader.unheard {
                work.push(Action::Claim(host));
            }
            if reader.unheard {
                work.push(Action::Repeat(host));
            }
            // It hears of the end, and has claimed by then what it was sent, or never will.
            if reader.kept && state.readers[1 - host].reads != Reads::Asked {
                work.push(Action::Answer(host));
            }
            let waits = reader.passed && !self.lacks(Fault::LetGoEarly);
            if reader.reads == Reads::Payload && !waits && !reader.unheard {
                work.push(Action::LetGo(host));
            }
        }
        if state.offered.is_none() && !state.returned {
            work.push(Action::Return);
        }
        if state.returned && !state.free {
            work.push(Action::Look);
        }
        work
    }
}

impl Model for Claims {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        let reader = Reader { reads: Reads::Nothing, passed: false, kept: false, unheard: false };
        vec![State {
            records: [const { (false, 0) }; HOSTS].map(Line::new),
            readers: [reader; HOSTS],
            offered: None,
            returned: false,
            free: false,
            last: None,
            look: Vec::new(),
            passes: PASSES,
            kills: KILLS,
            restarts: RESTARTS,
            wrong: false,
        }]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        actions.extend(self.work(state));
        for (host, reader) in state.readers.iter().enumerate() {
            let may_offer = state.passes > 0 && state.offered.is_none() && !state.returned;
            if may_offer && reader.reads == Reads::Nothing {
                actions.push(Action::Offer(host));
            }
            let next = &state.readers[1 - host];
            if reader.reads == Reads::Payload
                && state.passes > 0
                && !reader.passed
                && next.reads == Reads::Nothing
            {
                actions.push(Action::Pass(host));
            }
            if reader.reads == Reads::Payload && state.kills > 0 {
                actions.push(Action::Kill(host));
            }
            if state.restarts > 0 && !reader.unheard {
                actions.push(Action::Restart(host));
            }
            actions.extend([Action::WriteBack(host), Action::Forget(host)]);
        }
    }

    fn next_state(&self, state: &State, action: Action) -> Option<State> {
        let mut next = state.clone();
        self.act(&mut next, action);
        (next != *state).then_some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("no extent is free in which somebody reads", |_, state: &State| !state.wrong),
            Property::always("what nobody reads is free in the end", |model: &Self, state: &State| {
                let work = model.work(state);
                let is_over = work.into_iter().all(|action| model.next_state(state, action).is_none());
                !is_over || state.free
            }),
            Property::sometimes("an extent is free that was passed on", |_, state: &State| {
                state.free && state.passes == 0
            }),
        ]
    }
}
