//! What a small pod can come to by the steps of [`Pod`]: hosts that crash, or are taken for dead and go on,
//! processes that end, and extents that are granted, offered, kept back and free again.

use stateright::{Model, Property};

use crate::pod::{Action, Extent, Fault, Host, Id, Mail, Offer, Phase, Pod, Wrong};

/// The host that has an extent.
const OWNER: u16 = 0;

/// The model.
#[derive(Clone, Copy, Debug)]
pub struct Lives {
    /// How many hosts, each with one number for processes. The first has an extent, which its process
    /// offers to those of the others.
    pub hosts: u16,
    /// How often something happens that need not.
    pub budget: Budget,
    /// The condition that is left out.
    pub fault: Option<Fault>,
}

/// How often something happens that need not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Budget {
    /// A process comes.
    pub admissions: u8,
    /// One sends.
    pub mails: u8,
    /// One is killed.
    pub kills: u8,
    /// A host crashes.
    pub crashes: u8,
    /// A host is marked dead by another, whether it is or not.
    pub verdicts: u8,
}

/// A pod, and what may still happen to it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct State {
    pod: Pod,
    left: Budget,
    /// Hosts that nobody has started again.
    crashed: Vec<bool>,
    /// An extent has become free after it was offered.
    freed: bool,
}

/// What may happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// A step of the protocol.
    One(Action),
    /// A process sends: its entry shows that before.
    Send(Mail),
    /// A process is granted an extent, and hears of it.
    Grant(Offer),
    /// A process returns an extent.
    Return(Offer),
    /// A host crashes with all of its processes.
    Crash(u16),
    /// A host begins a new life: the table shows that its processes have ended.
    Begin(u16),
}

impl Lives {
    fn hosts(&self) -> impl Iterator<Item = u16> + use<> {
        0..self.hosts
    }

    fn peers(&self, host: u16) -> impl Iterator<Item = u16> + use<> {
        self.hosts().filter(move |peer| *peer != host)
    }

    fn take(&self, state: &mut State, step: Step) -> Result<(), &'static str> {
        let State { pod, left, .. } = state;
        match step {
            Step::One(action) => {
                match action {
                    Action::Admit(_) => left.admissions -= 1,
                    Action::End(_) => left.kills -= 1,
                    Action::MarkDead { .. } => left.verdicts -= 1,
                    Action::Free { .. } => state.freed = true,
                    _ => {}
                }
                pod.apply(action)
            }
            Step::Send(mail) => {
                left.mails -= 1;
                if self.fault != Some(Fault::NotExposed) {
                    pod.apply(Action::Expose(mail.from, mail.to.host))?;
                }
                pod.apply(Action::Post(mail))
            }
            Step::Grant(offer) => {
                pod.apply(Action::Grant(offer))?;
                pod.apply(Action::Hold(offer))
            }
            Step::Return(offer) => {
                pod.apply(Action::Drop(offer))?;
                pod.apply(Action::TakeBack(offer))
            }
            Step::Crash(host) => {
                left.crashes -= 1;
                state.crashed[usize::from(host)] = true;
                running(pod, host).into_iter().try_for_each(|id| pod.apply(Action::End(id)))
            }
            Step::Begin(host) => {
                state.crashed[usize::from(host)] = false;
                counted(pod, host).into_iter().try_for_each(|id| pod.apply(Action::RecordEnd(id)))?;
                pod.apply(Action::Begin { host })
            }
        }
    }

    /// What need not happen.
    fn events(&self, state: &State) -> Vec<Step> {
        let State { pod, left, crashed, .. } = state;
        let mut events = Vec::new();
        for host in self.hosts().filter(|host| !crashed[usize::from(*host)]) {
            let of = pod.host(host);
            let is_idle = running(pod, host).is_empty() && of.phase == Phase::Running;
            if left.admissions > 0 && is_idle && !of.entries[0].alive {
                let generation = of.entries[0].generation + 1;
                events.push(Step::One(Action::Admit(Id { host, process: 0, generation })));
            }
            if left.crashes > 0 {
                events.push(Step::Crash(host));
            }
            for by in running(pod, host) {
                if left.kills > 0 {
                    events.push(Step::One(Action::End(by)));
                }
                if host == OWNER {
                    let offer = Offer { by, extent: 0 };
                    events.extend([Step::Grant(offer), Step::Return(offer)]);
                }
            }
            for peer in self.peers(host).filter(|peer| pod.is_up(host, *peer)) {
                if left.verdicts > 0 {
                    events.push(Step::One(Action::MarkDead { host, peer }));
                }
                if left.mails > 0 && host == OWNER {
                    events.extend(mails(pod, host, peer).map(Step::Send));
                }
            }
        }
        events.extend(pod.mail.iter().map(|mail| Step::One(Action::Deliver(*mail))));
        events
    }

    /// What agents and processes do, sooner or later.
    fn work(&self, state: &State) -> Vec<Step> {
        let State { pod, crashed, .. } = state;
        let mut work = Vec::new();
        for host in self.hosts() {
            let of = pod.host(host);
            let is_buried = |peer: &u16| {
                let about = pod.host(*peer).about[usize::from(host)];
                about.dead == of.life
            };
            if crashed[usize::from(host)] || self.peers(host).any(|peer| is_buried(&peer)) {
                work.push(Step::Begin(host));
            }
            if !crashed[usize::from(host)] {
                work.extend(self.agent(pod, host).into_iter().map(Step::One));
            }
        }
        work.extend(self.told(pod).map(Step::One));
        work
    }

    fn agent(&self, pod: &Pod, host: u16) -> Vec<Action> {
        let of = pod.host(host);
        let mut work = vec![Action::Run { host }];
        let has_ended = |id: &Id| !of.running.contains_key(&(id.process, id.generation));
        work.extend(counted(pod, host).into_iter().filter(has_ended).map(Action::RecordEnd));
        if of.ended.values().any(|end| *end > of.epoch) && self.fault != Some(Fault::EndNotCounted) {
            work.push(Action::Count { host });
        }
        match of.extents[0] {
            Extent::Granted(process, generation) => {
                let by = Id { host, process, generation };
                let offer = Offer { by, extent: 0 };
                if !pod.is_alive(by) {
                    work.push(Action::Keep(offer));
                }
            }
            Extent::Kept { ref exposed, .. } => {
                work.push(Action::Free { host, extent: 0 });
                work.extend(exposed.iter().map(|peer| Action::Forget { host, extent: 0, peer: *peer }));
            }
            Extent::Free => {}
        }
        for peer in self.peers(host) {
            let epoch = pod.host(peer).epoch;
            if !is_there(pod, host, peer) {
                work.push(accept(pod, host, peer));
            } else if of.about[usize::from(peer)].seen != epoch {
                work.push(Action::Acknowledge { host, peer, epoch });
            }
        }
        work
    }

    /// What processes do that were told of an end, or of that of their own host's life.
    fn told<'a>(&self, pod: &'a Pod) -> impl Iterator<Item = Action> + use<'a> {
        let over = |id: Id| !pod.is_alive(id);
        let let_go = pod.readers().filter(move |(id, Offer { by, .. })| {
            over(*id) || !pod.looks_alive(*by) || !is_there(pod, id.host, by.host)
        });
        let drop = (0..pod.hosts.len() as u16).flat_map(|host| running(pod, host));
        let drop = drop.filter(move |id| over(*id)).map(|by| Action::Drop(Offer { by, extent: 0 }));
        let_go.map(|(id, Offer { by, .. })| Action::LetGo(id, by)).chain(drop)
    }

    /// Nothing more happens by itself, and every host is there for every other.
    fn is_at_rest(&self, state: &State) -> bool {
        let State { pod, crashed, .. } = state;
        let sees_all = |host: u16| self.peers(host).all(|peer| is_there(pod, host, peer));
        self.hosts().all(|host| !crashed[usize::from(host)] && sees_all(host))
            && self.work(state).into_iter().all(|step| self.next_state(state, step).is_none())
    }
}

/// A host accepts another as it is.
fn accept(pod: &Pod, host: u16, peer: u16) -> Action {
    let Host { life, epoch, .. } = *pod.host(peer);
    Action::Accept { host, peer, life, epoch }
}

/// Returns `true` if a host takes the present life of another for living.
fn is_there(pod: &Pod, host: u16, peer: u16) -> bool {
    pod.is_up(host, peer) && pod.host(host).about[usize::from(peer)].known == pod.host(peer).life
}

/// The processes that run on a host.
fn running(pod: &Pod, host: u16) -> Vec<Id> {
    let id = |(process, generation): &(u16, u32)| Id { host, process: *process, generation: *generation };
    pod.host(host).running.keys().map(id).collect()
}

/// The processes that count, by its table.
fn counted(pod: &Pod, host: u16) -> Vec<Id> {
    let entries = (0u16..).zip(&pod.host(host).entries).filter(|(_, entry)| entry.alive);
    entries.map(|(process, entry)| Id { host, process, generation: entry.generation }).collect()
}

/// What the processes of a host may send to those of another. One that has an extent offers it.
fn mails(pod: &Pod, host: u16, peer: u16) -> impl Iterator<Item = Mail> {
    let of = pod.host(host);
    let known = of.about[usize::from(peer)].known;
    running(pod, host).into_iter().flat_map(move |from| {
        let writes = &of.running[&(from.process, from.generation)].writes;
        let extent = writes.first().copied();
        let mail = move |to| Mail { from, to, extent, lives: (of.life, known), number: 0 };
        counted(pod, peer).into_iter().map(mail)
    })
}

impl Model for Lives {
    type State = State;
    type Action = Step;

    fn init_states(&self) -> Vec<State> {
        let mut pod = Pod::new(self.hosts, 1, 1, self.fault);
        for host in self.hosts() {
            let Host { life, phase, .. } = &mut pod.hosts[usize::from(host)];
            (*life, *phase) = (1, Phase::Running);
        }
        for host in self.hosts() {
            for peer in self.peers(host) {
                pod.apply(accept(&pod, host, peer)).expect("all run");
            }
        }
        let crashed = vec![false; self.hosts.into()];
        vec![State { pod, left: self.budget, crashed, freed: false }]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Step>) {
        actions.extend(self.events(state));
        actions.extend(self.work(state));
    }

    fn next_state(&self, state: &State, step: Step) -> Option<State> {
        let mut next = state.clone();
        self.take(&mut next, step).ok()?;
        (next != *state).then_some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("nobody reads what has become another's", |_, state: &State| {
                state.pod.reads_are_safe()
            }),
            Property::always("nobody writes what it was not granted", |_, state: &State| {
                state.pod.writes_are_safe()
            }),
            Property::always("nothing is believed of the dead", |_, state: &State| {
                state.pod.wrong != Some(Wrong::BelievedTheDead)
            }),
            Property::always("mail comes to whom it is for", |_, state: &State| {
                state.pod.wrong != Some(Wrong::WrongReceiver)
            }),
            Property::always("nothing is kept for ever of what has ended", |model: &Self, state: &State| {
                let is_used = |host: &Host| match host.extents[0] {
                    Extent::Free => true,
                    Extent::Granted(process, generation) => host.running.contains_key(&(process, generation)),
                    Extent::Kept { .. } => false,
                };
                !model.is_at_rest(state) || state.pod.hosts.iter().all(is_used)
            }),
            Property::sometimes("an extent that was offered is granted again", |_, state: &State| {
                let is_granted = |host: &Host| matches!(host.extents[0], Extent::Granted(_, 2..));
                state.freed && state.pod.hosts.iter().any(is_granted)
            }),
        ]
    }
}
