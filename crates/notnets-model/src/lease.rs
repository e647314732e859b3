//! Leases: when a host may be marked dead, and that it finds out.
//!
//! One host beats, and another watches it. Time passes in ticks; a host that is not stopped does all that
//! is due in a tick before the next, so its clock is at most that much late. Either is stopped at any
//! moment, for any time, and goes on with what it was about to do. Clocks count ticks since a beat or since
//! a change was seen: no two hosts compare theirs.

use stateright::{Model, Property};

use crate::line::Line;

/// Ticks without a heartbeat after which a host is marked dead. It beats each tick.
const LEASE: u8 = 3;
/// Ticks that are looked at.
const TICKS: u8 = 14;
/// How often each host is stopped.
const STOPS: u8 = 1;
const LIVES: u8 = 3;

/// What is left out of the protocol, or done in another order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// A host is marked dead before its lease has passed.
    MarkedEarly,
    /// The watcher judges by the clock before it looks at the record.
    JudgedBeforeLook,
    /// A heartbeat is stored and not published.
    BeatNotPublished,
    /// The record is looked at without being observed.
    BeatNotObserved,
    /// A life that was marked dead is accepted again.
    AcceptedAgain,
    /// A host does not read what others say of it.
    FateNotRead,
    /// What the watcher says is stored and not published.
    FateNotPublished,
    /// A host is taken for living by one look, without a heartbeat.
    AcceptedUnseen,
}

/// The model.
#[derive(Clone, Copy, Debug, Default)]
pub struct Lease {
    /// Nothing, or what is left out.
    pub fault: Option<Fault>,
}

/// The two hosts.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct State {
    now: u8,
    /// The life and the count of heartbeats, by the host that beats.
    record: Line<(u8, u8)>,
    /// The life that is dead, by the watcher.
    verdict: Line<u8>,
    host: Beating,
    watcher: Watching,
    wrong: Option<Wrong>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Beating {
    stopped: bool,
    stops: u8,
    done: bool,
    /// It is about to read what the watcher says of it.
    reads: bool,
    /// Ticks since it last beat, by its own clock, and in truth.
    since: u8,
    silent: u8,
    /// Its clock is stopped with it, as that of a virtual machine is.
    frozen: bool,
    /// How long it has not been stopped.
    awake: u8,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Watching {
    stopped: bool,
    stops: u8,
    done: bool,
    awake: u8,
    up: bool,
    known: u8,
    dead: u8,
    /// What it has seen, and for how many ticks nothing else.
    seen: (u8, u8),
    silence: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Wrong {
    MarkedEarly,
    AcceptedAgain,
    AcceptedUnseen,
}

/// What may happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Time passes.
    Tick,
    /// The host beats, or begins a new life because it is late.
    Beat,
    /// It reads what is said of it.
    ReadFate,
    /// The watcher does.
    Watch,
    /// The host is stopped, alone or with its clock.
    StopHost(bool),
    /// It goes on.
    ResumeHost,
    /// The watcher is stopped, or goes on.
    StopWatcher(bool),
    /// A line is written back by itself: the record, or the verdict.
    WriteBack(bool),
    /// The reader's host forgets its copy.
    Forget(bool),
}

impl Lease {
    fn lacks(&self, fault: Fault) -> bool {
        self.fault == Some(fault)
    }

    fn beat(&self, state: &mut State) {
        let (life, count) = *state.record.own();
        if state.host.since >= LEASE {
            self.begin(state, life + 1, 0);
        } else {
            self.begin(state, life, count + 1);
        }
        (state.host.done, state.host.reads) = (true, !self.lacks(Fault::FateNotRead));
    }

    /// What the watcher says of the host is read after a heartbeat, so that may be one of a dead life.
    fn read_fate(&self, state: &mut State) {
        let (life, _) = *state.record.own();
        if state.verdict.look(true) == life {
            self.begin(state, life + 1, 0);
        }
        state.host.reads = false;
    }

    fn begin(&self, state: &mut State, life: u8, count: u8) {
        if life <= LIVES {
            state.record.write((life, count), !self.lacks(Fault::BeatNotPublished));
            (state.host.since, state.host.silent) = (0, 0);
        }
    }

    fn watch(&self, state: &mut State) {
        let lease = if self.lacks(Fault::MarkedEarly) { LEASE - 1 } else { LEASE };
        if self.lacks(Fault::JudgedBeforeLook) && state.watcher.silence >= lease {
            self.mark_dead(state, true);
        }
        let record = state.record.look(!self.lacks(Fault::BeatNotObserved));
        let seen = std::mem::replace(&mut state.watcher.seen, record);
        if seen != record {
            state.watcher.silence = 0;
        }
        let is_other = record.0 != state.watcher.known;
        if state.watcher.up && is_other {
            self.mark_dead(state, false);
        }
        let beats = seen.0 == record.0 && seen.1 != record.1;
        let believable = beats || self.lacks(Fault::AcceptedUnseen);
        let watcher = &mut state.watcher;
        let is_dead = record.0 == watcher.dead && !self.lacks(Fault::AcceptedAgain);
        if !watcher.up && believable && !is_dead && record.0 > 0 {
            (watcher.up, watcher.known) = (true, record.0);
            if record.0 == watcher.dead {
                state.wrong = Some(Wrong::AcceptedAgain);
            }
            if !beats {
                state.wrong = Some(Wrong::AcceptedUnseen);
            }
        }
        if state.watcher.up && state.watcher.silence >= lease {
            self.mark_dead(state, true);
        }
        state.watcher.done = true;
    }

    fn mark_dead(&self, state: &mut State, silent: bool) {
        let watcher = &mut state.watcher;
        if !watcher.up {
            return;
        }
        (watcher.up, watcher.dead) = (false, watcher.known);
        state.verdict.write(watcher.dead, !self.lacks(Fault::FateNotPublished));
        if silent && state.record.own().0 == watcher.dead && state.host.silent < LEASE {
            state.wrong = Some(Wrong::MarkedEarly);
        }
    }

    fn act(&self, state: &mut State, action: Action) {
        match action {
            Action::Tick => {
                state.now += 1;
                let more = |ticks: u8| (ticks + 1).min(2 * LEASE);
                let State { host, watcher, .. } = state;
                host.since = if host.frozen { host.since } else { more(host.since) };
                (host.silent, watcher.silence) = (more(host.silent), more(watcher.silence));
                host.awake = if host.stopped { 0 } else { more(host.awake) };
                watcher.awake = if watcher.stopped { 0 } else { more(watcher.awake) };
                (host.done, watcher.done) = (false, false);
            }
            Action::Beat => self.beat(state),
            Action::ReadFate => self.read_fate(state),
            Action::Watch => self.watch(state),
            Action::StopHost(frozen) => {
                (state.host.stopped, state.host.frozen) = (true, frozen);
                state.host.stops -= 1;
            }
            Action::ResumeHost => (state.host.stopped, state.host.frozen) = (false, false),
            Action::StopWatcher(stopped) => {
                state.watcher.stopped = stopped;
                state.watcher.stops -= u8::from(stopped);
            }
            Action::WriteBack(record) => {
                if record {
                    state.record.write_back()
                } else {
                    state.verdict.write_back()
                };
            }
            Action::Forget(record) => {
                if record {
                    state.record.forget()
                } else {
                    state.verdict.forget()
                };
            }
        }
    }
}

impl Model for Lease {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        let watcher = Watching {
            stopped: false,
            stops: STOPS,
            done: false,
            awake: 0,
            up: false,
            known: 0,
            dead: 0,
            seen: (0, 0),
            silence: 0,
        };
        vec![State {
            now: 0,
            record: Line::new((1, 0)),
            verdict: Line::new(0),
            host: Beating {
                stopped: false,
                stops: STOPS,
                done: false,
                reads: false,
                since: 0,
                silent: 0,
                frozen: false,
                awake: 0,
            },
            watcher,
            wrong: None,
        }]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        let State { host, watcher, .. } = state;
        let due = [
            (Action::Beat, !host.stopped && !host.done),
            (Action::ReadFate, !host.stopped && host.reads),
            (Action::Watch, !watcher.stopped && !watcher.done),
        ];
        actions.extend(due.iter().filter(|(_, due)| *due).map(|(action, _)| *action));
        if due.iter().all(|(_, due)| !due) && state.now < TICKS {
            actions.push(Action::Tick);
        }
        if host.stopped {
            actions.push(Action::ResumeHost);
        } else if host.stops > 0 {
            actions.extend([true, false].map(Action::StopHost));
        }
        if watcher.stopped || watcher.stops > 0 {
            actions.push(Action::StopWatcher(!watcher.stopped));
        }
        actions.extend([true, false].map(Action::WriteBack));
        actions.extend([true, false].map(Action::Forget));
    }

    fn next_state(&self, state: &State, action: Action) -> Option<State> {
        let mut next = state.clone();
        self.act(&mut next, action);
        (next != *state).then_some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("who beats in time is not marked dead", |_, state: &State| {
                state.wrong != Some(Wrong::MarkedEarly)
            }),
            Property::always("a life that was marked dead is never accepted again", |_, state: &State| {
                state.wrong != Some(Wrong::AcceptedAgain)
            }),
            Property::always(
                "nobody is taken for living whose heart was not seen to beat",
                |_, state: &State| state.wrong != Some(Wrong::AcceptedUnseen),
            ),
            Property::always("who was marked dead begins a new life", |_, state: &State| {
                let is_dead = state.record.own().0 == state.watcher.dead;
                !is_dead || state.host.awake < 3 || state.watcher.awake < 3
            }),
            Property::always("who has been silent is marked dead", |_, state: &State| {
                !state.watcher.up || state.watcher.awake <= LEASE || state.host.silent <= LEASE + 1
            }),
            Property::always("hosts that run find each other", |_, state: &State| {
                // It may be marked dead yet, begins a new life, and is seen to beat twice.
                let awake = state.host.awake.min(state.watcher.awake);
                state.watcher.up || awake < 2 * LEASE || state.record.own().0 == LIVES
            }),
            Property::sometimes("a host that was marked dead is back", |_, state: &State| {
                let Watching { up, known, dead, .. } = state.watcher;
                up && dead > 0 && known > dead
            }),
        ]
    }
}
