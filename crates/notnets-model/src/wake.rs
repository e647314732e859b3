//! How a side that is parked is woken by a frame from another host.
//!
//! The links between two processes share an *activity line*. The sending process publishes a frame, and
//! then counts that line up. On the other host a watcher looks at the line alone. When it has changed, the
//! watcher looks which sides are armed, and rings their doorbells. A side that parks stores *armed*,
//! fences, looks again, and sleeps until its doorbell rings. The watcher may die, and another may begin:
//! meanwhile processes look for themselves.
//!
//! While no side is parked the watcher naps until it is rung: the first side that parks says so, and rings
//! it, unless it has done so lately. Once rung, the watcher does not nap for longer than that.
//!
//! *Armed* lies in memory of the receiving host, which is coherent; but a store of it is in the store
//! buffer of its processor until a fence, or until some time later.

use stateright::{Model, Property};

use crate::line::Line;

/// Links that share one activity line.
const LINKS: usize = 2;
/// How often the watcher dies.
const DEATHS: u8 = 1;

/// What is left out of the protocol, or done in another order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// A frame is stored and not published.
    FrameNotPublished,
    /// A side looks for a frame without observing its line.
    FrameNotObserved,
    /// The activity line is counted up and not published.
    ActivityNotPublished,
    /// The watcher looks at the activity line without observing it.
    ActivityNotObserved,
    /// The activity line is counted up before the frame is published.
    ActivityBeforeFrame,
    /// Frames may reach memory later than the count that follows them.
    LinesOutOfOrder,
    /// A side stores *armed* only after it has looked for the last time.
    ArmedAfterLook,
    /// A side looks again without a fence.
    NoFence,
    /// The watcher loads *armed* before it looks at the activity line.
    ArmedLoadedFirst,
    /// The watcher looks at no more sides once it has rung a doorbell.
    OneDoorbell,
    /// A watcher that begins takes what it finds in the activity line for seen.
    ActivityInherited,
    /// Processes wait for a watcher that is dead.
    NobodyLooksInstead,
    /// The first side that parks does not ring the watcher.
    WatcherNotRung,
    /// It rings the watcher, and then says that it is parked.
    RungBeforeParked,
    /// The watcher naps though it was rung so lately that it is not rung again.
    NapsTooEarly,
}

/// The model.
#[derive(Clone, Copy, Debug, Default)]
pub struct Wake {
    /// Nothing, or what is left out.
    pub fault: Option<Fault>,
    /// Processes look now and then, whether there is a watcher or not.
    pub looks_rarely: bool,
    /// The watcher naps while no side is parked.
    pub naps: bool,
    /// Frames that are sent in all, over any of the links.
    pub frames: u8,
}

/// What the two hosts are like.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct State {
    /// How many frames were sent, for each link.
    frames: [Line<u8>; LINKS],
    activity: Line<u8>,
    /// The sender has done the first half of sending, on this link.
    sending: Option<usize>,
    sides: [Side; LINKS],
    watcher: Watcher,
    deaths: u8,
    /// The process looks for itself.
    looks: bool,
    /// The watcher was rung, and has not taken that.
    bell: bool,
    /// How long ago it was last rung.
    rung: Ago,
}

/// How long ago the watcher was rung.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Ago {
    /// It is not rung again.
    Lately,
    /// It is rung again, and does not nap yet.
    AWhile,
    Long,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Side {
    at: At,
    taken: u8,
    /// As the watcher sees it, and what is still in the store buffer.
    armed: bool,
    buffered: Option<bool>,
    rung: bool,
    /// It is among those that are said to be parked.
    parked: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum At {
    /// It looks for frames, and has found all so far.
    Work,
    /// It has found none, and has stored *armed*.
    Armed,
    /// It has fenced.
    Fenced,
    /// It is the first that parks, and has done half of saying so: it rings the watcher last.
    Rings,
    Asleep,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Watcher {
    Dead,
    /// What it has seen in the activity line.
    Waits(Option<u8>),
    /// The same, until it is rung.
    Naps(u8),
    /// It looks at this side next. Which sides were armed before, if it has looked first.
    Looks {
        seen: u8,
        next: usize,
        before: [bool; LINKS],
    },
}

/// What may happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// The sender does the first half of sending on this link.
    Begin(usize),
    /// It does the second.
    Finish,
    /// A side does its next step.
    Side(usize),
    /// The process looks at a side's link for itself.
    Look(usize),
    /// The watcher does its next step.
    Watch,
    /// The watcher has looked at *armed* already, and now looks at the activity line.
    WatchLate([bool; LINKS]),
    /// The watcher dies.
    Die,
    /// The process hears of that.
    Notice,
    /// There is a watcher again.
    Return,
    /// The process hears of that.
    HandOver,
    /// Time passes since the watcher was rung.
    Pass,
    /// A store leaves the store buffer.
    Drain(usize),
    /// A line is written back by itself: a link's, or the activity line.
    WriteBack(usize),
    /// A host forgets its copy of it.
    Forget(usize),
}

impl Wake {
    fn lacks(&self, fault: Fault) -> bool {
        self.fault == Some(fault)
    }

    /// Half of sending a frame: the frame itself, or the count.
    fn send(&self, state: &mut State, link: usize, frame: bool) {
        if frame {
            let publishes = !self.lacks(Fault::FrameNotPublished) && !self.lacks(Fault::LinesOutOfOrder);
            let sent = *state.frames[link].own() + 1;
            state.frames[link].write(sent, publishes);
        } else {
            let count = *state.activity.own() + 1;
            state.activity.write(count, !self.lacks(Fault::ActivityNotPublished));
        }
    }

    fn looks(&self, state: &mut State, link: usize) -> bool {
        state.frames[link].look(!self.lacks(Fault::FrameNotObserved)) > state.sides[link].taken
    }

    fn side(&self, state: &mut State, link: usize) {
        match state.sides[link].at {
            At::Work => {
                let found = self.looks(state, link);
                let side = &mut state.sides[link];
                if found {
                    side.taken += 1;
                } else {
                    side.at = At::Armed;
                    if !self.lacks(Fault::ArmedAfterLook) {
                        side.buffered = Some(true);
                    }
                }
            }
            At::Armed => {
                let side = &mut state.sides[link];
                side.at = At::Fenced;
                if self.lacks(Fault::ArmedAfterLook) {
                    side.buffered = Some(true);
                }
                if !self.lacks(Fault::NoFence) {
                    side.drain();
                }
            }
            At::Fenced => {
                let found = !self.lacks(Fault::ArmedAfterLook) && self.looks(state, link);
                if found {
                    state.sides[link].wake();
                } else {
                    self.park(state, link);
                }
            }
            At::Rings => {
                if self.lacks(Fault::RungBeforeParked) {
                    state.sides[link].parked = true;
                } else {
                    state.ring();
                }
                state.sides[link].at = At::Asleep;
            }
            At::Asleep => {
                if std::mem::take(&mut state.sides[link].rung) {
                    state.sides[link].wake();
                }
            }
        }
    }

    fn park(&self, state: &mut State, link: usize) {
        if !self.naps {
            state.sides[link].at = At::Asleep;
            return;
        }
        let is_first = !state.is_any_parked();
        let rings = is_first && state.rung != Ago::Lately && !self.lacks(Fault::WatcherNotRung);
        if rings && self.lacks(Fault::RungBeforeParked) {
            state.ring();
        } else {
            state.sides[link].parked = true;
        }
        state.sides[link].at = if rings { At::Rings } else { At::Asleep };
    }

    /// The watcher's look at the activity line, with what it has seen of *armed* if it looks there first.
    fn look_at_activity(&self, state: &mut State, before: [bool; LINKS]) {
        let Watcher::Waits(seen) = state.watcher else { return };
        let count = state.activity.look(!self.lacks(Fault::ActivityNotObserved));
        if seen.is_none() && self.lacks(Fault::ActivityInherited) {
            state.watcher = Watcher::Waits(Some(count));
        } else if seen != Some(count) {
            state.watcher = Watcher::Looks { seen: count, next: 0, before };
        } else if self.naps
            && !state.is_any_parked()
            && (state.rung == Ago::Long || self.lacks(Fault::NapsTooEarly))
        {
            state.watcher = Watcher::Naps(count);
        }
    }

    fn watch(&self, state: &mut State) {
        if let Watcher::Naps(seen) = state.watcher {
            if std::mem::take(&mut state.bell) {
                state.watcher = Watcher::Waits(Some(seen));
            }
            return;
        }
        let Watcher::Looks { seen, next, before } = state.watcher else {
            if !self.lacks(Fault::ArmedLoadedFirst) {
                self.look_at_activity(state, [false; LINKS]);
            }
            return;
        };
        let armed = if self.lacks(Fault::ArmedLoadedFirst) { before[next] } else { state.sides[next].armed };
        state.sides[next].rung |= armed;
        let ends = next + 1 == LINKS || armed && self.lacks(Fault::OneDoorbell);
        state.watcher =
            if ends { Watcher::Waits(Some(seen)) } else { Watcher::Looks { seen, next: next + 1, before } };
    }

    fn act(&self, state: &mut State, action: Action) {
        let frame_first = !self.lacks(Fault::ActivityBeforeFrame);
        match action {
            Action::Begin(link) => {
                self.send(state, link, frame_first);
                state.sending = Some(link);
            }
            Action::Finish => {
                if let Some(link) = state.sending.take() {
                    self.send(state, link, !frame_first);
                }
            }
            Action::Side(link) => self.side(state, link),
            Action::Look(link) => {
                if state.sides[link].at == At::Asleep && self.looks(state, link) {
                    state.sides[link].wake();
                }
            }
            Action::Watch => self.watch(state),
            Action::WatchLate(before) => self.look_at_activity(state, before),
            Action::Die => {
                state.watcher = Watcher::Dead;
                state.deaths += 1;
            }
            Action::Notice => state.looks = true,
            Action::Return => state.watcher = Watcher::Waits(None),
            Action::HandOver => state.looks = false,
            Action::Pass => {
                state.rung = if state.rung == Ago::Lately { Ago::AWhile } else { Ago::Long };
            }
            Action::Drain(link) => state.sides[link].drain(),
            Action::WriteBack(line) => {
                state.frames.get_mut(line).unwrap_or(&mut state.activity).write_back();
            }
            Action::Forget(line) => {
                state.frames.get_mut(line).unwrap_or(&mut state.activity).forget();
            }
        }
    }

    /// What the processes and the watcher go on to do, without anybody's help.
    fn work(&self, state: &State) -> Vec<Action> {
        let mut work = vec![Action::Finish, Action::Watch, Action::Pass];
        work.extend((0..LINKS).flat_map(|link| [Action::Side(link), Action::Drain(link)]));
        if self.lacks(Fault::ArmedLoadedFirst) {
            work.push(Action::WatchLate(state.sides.map(|side| side.armed)));
        }
        if state.looks || self.looks_rarely {
            work.extend((0..LINKS).map(Action::Look));
        }
        if self.lacks(Fault::LinesOutOfOrder) {
            work.extend((0..LINKS).map(Action::WriteBack));
        }
        if (state.watcher == Watcher::Dead) != state.looks && !self.lacks(Fault::NobodyLooksInstead) {
            work.push(if state.looks { Action::HandOver } else { Action::Notice });
        }
        work
    }

    fn is_at_rest(&self, state: &State) -> bool {
        self.work(state).into_iter().all(|action| self.next_state(state, action).is_none())
    }
}

impl State {
    fn ring(&mut self) {
        self.bell = true;
        self.rung = Ago::Lately;
    }

    fn is_any_parked(&self) -> bool {
        self.sides.iter().any(|side| side.parked)
    }
}

impl Side {
    fn drain(&mut self) {
        if let Some(armed) = self.buffered.take() {
            self.armed = armed;
        }
    }

    fn wake(&mut self) {
        self.at = At::Work;
        self.parked = false;
        self.buffered = Some(false);
        self.drain();
    }
}

impl Model for Wake {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        let side = Side { at: At::Work, taken: 0, armed: false, buffered: None, rung: false, parked: false };
        vec![State {
            frames: [const { 0 }; LINKS].map(Line::new),
            activity: Line::new(0),
            sending: None,
            sides: [side; LINKS],
            watcher: Watcher::Waits(None),
            deaths: 0,
            looks: false,
            bell: false,
            rung: Ago::Long,
        }]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        let sent: u8 = state.frames.iter().map(Line::own).sum();
        if state.sending.is_none() && sent < self.frames {
            actions.extend((0..LINKS).map(Action::Begin));
        }
        actions.extend(self.work(state));
        if self.lacks(Fault::ArmedLoadedFirst) {
            // What it has seen may be older than the look at the activity line.
            actions.push(Action::WatchLate([false; LINKS]));
        }
        match state.watcher {
            Watcher::Dead => actions.push(Action::Return),
            _ if state.deaths < DEATHS => actions.push(Action::Die),
            _ => {}
        }
        actions.extend((0..=LINKS).flat_map(|line| [Action::WriteBack(line), Action::Forget(line)]));
    }

    fn next_state(&self, state: &State, action: Action) -> Option<State> {
        let mut next = state.clone();
        self.act(&mut next, action);
        (next != *state).then_some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("no side sleeps while a frame waits for it", |model: &Self, state: &State| {
                let is_done = |link: usize| state.sides[link].taken == *state.frames[link].own();
                (0..LINKS).all(is_done) || !model.is_at_rest(state)
            }),
            Property::sometimes("a side is woken by the watcher", |_, state: &State| {
                state.sides.iter().any(|side| side.at == At::Asleep && side.rung)
            }),
            Property::sometimes("the watcher naps, and is rung", |model: &Self, state: &State| {
                !model.naps || matches!(state.watcher, Watcher::Naps(_)) && state.bell
            }),
            Property::sometimes(
                "all frames are taken while there is no watcher",
                |model: &Self, state: &State| {
                    let taken: u8 = state.sides.iter().map(|side| side.taken).sum();
                    state.watcher == Watcher::Dead && taken == model.frames
                },
            ),
        ]
    }
}
