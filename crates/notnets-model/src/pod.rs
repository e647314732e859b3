//! Lives of hosts and processes, and who may read which extent: `notnets_pod::agent`.
//!
//! The steps are records that agents write into their control areas, and what processes do. Each is allowed
//! under a *condition*, which states what an agent has to make sure of before it writes that record, and
//! not how. The checker shows that these conditions are enough: whatever the order of steps, nobody reads
//! an extent that has become another's. That real agents keep to the conditions is looked at step by step
//! in simulation (`tests/pods.rs`), by the same [`Pod::apply`].
//!
//! When a host is silent for so long that it may be marked dead is the business of [`lease`](crate::lease):
//! here any host can be, at any time. Records are seen as they were last published.

use std::collections::{BTreeMap, BTreeSet};

/// A process of the pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Id {
    /// Its host.
    pub host: u16,
    /// Its number there.
    pub process: u16,
    /// How often that was given.
    pub generation: u32,
}

/// What a process offers to others: an extent of its host, which it was granted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Offer {
    /// By whom.
    pub by: Id,
    /// Which one.
    pub extent: u16,
}

/// A message between processes of two hosts, on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mail {
    /// By whom.
    pub from: Id,
    /// To whom.
    pub to: Id,
    /// The extent that the receiver may read from now on.
    pub extent: Option<u16>,
    /// The lives of both hosts when it was sent. They seal it.
    pub lives: (u32, u32),
    /// Tells it from others.
    pub number: u64,
}

/// A pod: what the control areas show, and what is true of the processes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Pod {
    /// By their numbers.
    pub hosts: Vec<Host>,
    /// What nobody has received.
    pub mail: BTreeSet<Mail>,
    /// The condition that is left out.
    pub fault: Option<Fault>,
    /// What must never come to be, other than what the present state shows.
    pub wrong: Option<Wrong>,
}

/// A host.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Host {
    /// Its incarnation, by the order of them. It had none if 0.
    pub life: u32,
    /// What its record says that it does.
    pub phase: Phase,
    /// Its process epoch.
    pub epoch: u64,
    /// What it says of other hosts.
    pub about: Vec<About>,
    /// Its processes, by their numbers, as its table shows them.
    pub entries: Vec<Entry>,
    /// Its extents.
    pub extents: Vec<Extent>,
    /// The epoch with which it tells of a process's end, by the process's number and generation.
    pub ended: BTreeMap<(u16, u32), u64>,
    /// What is true: processes that run, in the pod or not any more, by number and generation.
    pub running: BTreeMap<(u16, u32), Running>,
}

/// What a host does, by its record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Phase {
    /// Nothing: it was never there, or has left.
    Away,
    /// It claims its number.
    Claiming,
    /// It is there.
    Running,
}

/// A host's record about another.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct About {
    /// The life that it accepts, or accepted last.
    pub known: u32,
    /// The one that it will never accept again.
    pub dead: u32,
    /// The process epoch up to which its own processes have let go.
    pub seen: u64,
    /// The fault: what was marked dead counts.
    again: bool,
}

/// A process's entry.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Entry {
    /// It counts.
    pub alive: bool,
    /// How often its number was given.
    pub generation: u32,
    /// The hosts with which it has exchanged anything.
    pub exposed: BTreeSet<u16>,
}

/// An extent's entry.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Extent {
    /// It is nobody's.
    Free,
    /// A process writes it: its number and generation.
    Granted(u16, u32),
    /// Others may still read what that one wrote.
    Kept {
        /// Which one.
        owner: (u16, u32),
        /// These may.
        exposed: BTreeSet<u16>,
        /// Until they have seen this epoch.
        epoch: u64,
    },
}

/// A process that runs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Running {
    /// The extents of its host that it writes.
    pub writes: BTreeSet<u16>,
    /// What it may read at any moment.
    pub reads: BTreeSet<Offer>,
}

/// What must never come to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Wrong {
    /// A process was given mail of a host's life that its own host had marked dead.
    BelievedTheDead,
    /// Mail came to another process than the one that it was for.
    WrongReceiver,
}

/// A condition that is left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fault {
    /// What a process wrote is free as soon as it has ended.
    NotKept,
    /// An extent is kept until an epoch of before its process's end.
    KeptTooEarly,
    /// A host's answer is believed without a look at the epoch that it is for.
    EpochNotCompared,
    /// A host says that its processes have let go before they have.
    SeenTooEarly,
    /// A process's entry does not show to which host it sends.
    NotExposed,
    /// What a silent host may read is free once that is marked dead.
    SilentNotWaitedFor,
    /// A life that was marked dead is accepted again.
    AcceptedAgain,
    /// A new life is accepted before all have let go of the one before.
    AcceptedEarly,
    /// A host that is there in a new life is not waited for, though processes of the one before may read.
    NewLifeNotWaitedFor,
    /// Others see by its number alone whether a process lives.
    GenerationNotChecked,
    /// Mail is delivered to whoever has the receiver's number.
    DeliveredByNumber,
    /// Mail of a process is delivered after its end was answered.
    DeliveredLate,
    /// Mail is delivered whichever lives it was sent in.
    LivesNotSealed,
    /// An extent is taken from a process that still writes it.
    TakenFromWriter,
    /// A host does not count the processes that have ended.
    EndNotCounted,
}

/// A step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// A host writes its record for a new life.
    Begin {
        /// Which one.
        host: u16,
    },
    /// Its new life runs.
    Run {
        /// Which one.
        host: u16,
    },
    /// It leaves in order.
    Leave {
        /// Which one.
        host: u16,
    },
    /// It counts processes that have ended.
    Count {
        /// Which one.
        host: u16,
    },
    /// A host accepts a life of another: the present one, or one of before that it still sees.
    Accept {
        /// Which one.
        host: u16,
        /// Whose life.
        peer: u16,
        /// Which life.
        life: u32,
        /// The epoch that it sees.
        epoch: u64,
    },
    /// A host marks the life of another dead that it had accepted.
    MarkDead {
        /// Which one.
        host: u16,
        /// Whose life.
        peer: u16,
    },
    /// A host says that its processes have let go of those of another that ended.
    Acknowledge {
        /// Which one.
        host: u16,
        /// Whose processes.
        peer: u16,
        /// Up to this epoch.
        epoch: u64,
    },
    /// A process comes.
    Admit(Id),
    /// A process's entry says that it counts no more.
    RecordEnd(Id),
    /// A process's entry shows that it exchanges something with a host.
    Expose(Id, u16),
    /// An extent is granted.
    Grant(Offer),
    /// The process hears of that, and writes it from now on.
    Hold(Offer),
    /// A process writes one of its extents no more.
    Drop(Offer),
    /// A process's word makes an extent free.
    TakeBack(Offer),
    /// An extent is kept back.
    Keep(Offer),
    /// A host need not be waited for any more.
    Forget {
        /// By which host.
        host: u16,
        /// For which of its extents.
        extent: u16,
        /// Which host.
        peer: u16,
    },
    /// An extent is free.
    Free {
        /// Of which host.
        host: u16,
        /// Which one.
        extent: u16,
    },
    /// A process sends to one elsewhere.
    Post(Mail),
    /// It is received.
    Deliver(Mail),
    /// A process reads nothing of another any more.
    LetGo(Id, Id),
    /// A process ends.
    End(Id),
}

/// Why a step is not allowed.
pub type Refusal = &'static str;

impl Pod {
    /// A pod in which nothing has happened.
    pub fn new(hosts: u16, processes: u16, extents: u16, fault: Option<Fault>) -> Self {
        let host = Host {
            life: 0,
            phase: Phase::Away,
            epoch: 0,
            about: vec![About::default(); hosts.into()],
            entries: vec![Entry::default(); processes.into()],
            extents: vec![Extent::Free; extents.into()],
            ended: BTreeMap::new(),
            running: BTreeMap::new(),
        };
        Self { hosts: vec![host; hosts.into()], mail: BTreeSet::new(), fault, wrong: None }
    }

    fn lacks(&self, fault: Fault) -> bool {
        self.fault == Some(fault)
    }

    /// Returns a host.
    pub fn host(&self, host: u16) -> &Host {
        &self.hosts[usize::from(host)]
    }

    fn host_mut(&mut self, host: u16) -> &mut Host {
        &mut self.hosts[usize::from(host)]
    }

    fn about(&self, host: u16, peer: u16) -> About {
        self.host(host).about[usize::from(peer)]
    }

    fn about_mut(&mut self, host: u16, peer: u16) -> &mut About {
        &mut self.host_mut(host).about[usize::from(peer)]
    }

    /// Returns `true` if a host takes mail of the other, and sends it some.
    pub fn is_up(&self, host: u16, peer: u16) -> bool {
        let About { known, dead, again, .. } = self.about(host, peer);
        self.host(host).phase == Phase::Running && known != 0 && (known != dead || again)
    }

    /// Returns `true` if a process counts, by the table of its host.
    pub fn is_alive(&self, id: Id) -> bool {
        let entry = &self.host(id.host).entries[usize::from(id.process)];
        entry.alive && entry.generation == id.generation
    }

    /// Returns `true` if other hosts take a process for living.
    pub fn looks_alive(&self, id: Id) -> bool {
        let entry = &self.host(id.host).entries[usize::from(id.process)];
        self.is_alive(id) || entry.alive && self.lacks(Fault::GenerationNotChecked)
    }

    /// Returns `true` if a host has said that it lets go of all that ended with this process.
    fn is_seen(&self, host: u16, id: Id) -> bool {
        let seen = self.about(host, id.host).seen;
        self.host(id.host).ended.get(&(id.process, id.generation)).is_some_and(|end| *end <= seen)
    }

    /// Who reads, and what.
    pub fn readers(&self) -> impl Iterator<Item = (Id, Offer)> {
        (0u16..).zip(&self.hosts).flat_map(|(host, of)| {
            of.running.iter().flat_map(move |((process, generation), running)| {
                let id = Id { host, process: *process, generation: *generation };
                running.reads.iter().map(move |offer| (id, *offer))
            })
        })
    }

    fn reads_of(&self, host: u16, peer: u16) -> impl Iterator<Item = &Offer> {
        let reads = self.host(host).running.values().flat_map(|running| &running.reads);
        reads.filter(move |offer| offer.by.host == peer)
    }

    /// Takes a step.
    ///
    /// # Errors
    /// With the condition that is not met. Then nothing has changed.
    pub fn apply(&mut self, action: Action) -> Result<(), Refusal> {
        match action {
            Action::Begin { host } => {
                let host = self.host_mut(host);
                host.life += 1;
                host.epoch += 1;
                host.phase = Phase::Claiming;
            }
            Action::Run { host } => {
                let of = self.host_mut(host);
                require(of.phase == Phase::Claiming, "a host runs that has not claimed its number")?;
                of.phase = Phase::Running;
            }
            Action::Leave { host } => self.host_mut(host).phase = Phase::Away,
            Action::Count { host } => self.host_mut(host).epoch += 1,
            Action::Accept { host, peer, life, epoch } => self.accept(host, peer, life, epoch)?,
            Action::MarkDead { host, peer } => {
                let about = self.about_mut(host, peer);
                require(about.known != 0, "a life that was never accepted is marked dead")?;
                about.dead = about.known;
            }
            Action::Acknowledge { host, peer, epoch } => self.acknowledge(host, peer, epoch)?,
            Action::Admit(id) => self.admit(id)?,
            Action::RecordEnd(id) => self.record_end(id)?,
            Action::Expose(id, peer) => {
                let entry = &mut self.host_mut(id.host).entries[usize::from(id.process)];
                entry.exposed.insert(peer);
            }
            Action::Grant(offer) => {
                require(self.is_alive(offer.by), "an extent is granted to a process that does not count")?;
                let Offer { by: Id { host, process, generation }, extent } = offer;
                let extent = &mut self.host_mut(host).extents[usize::from(extent)];
                require(*extent == Extent::Free, "an extent is granted that is not free")?;
                *extent = Extent::Granted(process, generation);
            }
            Action::Hold(offer) => {
                require(self.is_granted(offer), "a process hears of a grant that is none")?;
                self.running(offer.by)?.writes.insert(offer.extent);
            }
            Action::Drop(offer) => {
                self.running(offer.by)?.writes.remove(&offer.extent);
            }
            Action::TakeBack(offer) => self.take_back(offer)?,
            Action::Keep(offer) => self.keep(offer)?,
            Action::Forget { host, extent, peer } => self.forget(host, extent, peer)?,
            Action::Free { host, extent } => {
                let not_kept = self.lacks(Fault::NotKept);
                let extent = &mut self.host_mut(host).extents[usize::from(extent)];
                let is_clear =
                    matches!(extent, Extent::Kept { exposed, .. } if exposed.is_empty() || not_kept);
                require(is_clear, "an extent is free that some host may still read")?;
                *extent = Extent::Free;
            }
            Action::Post(mail) => self.post(mail)?,
            Action::Deliver(mail) => self.deliver(mail)?,
            Action::LetGo(id, of) => {
                self.running(id)?.reads.retain(|offer| offer.by != of);
            }
            Action::End(id) => {
                let ended = self.host_mut(id.host).running.remove(&(id.process, id.generation));
                require(ended.is_some(), "a process ends that does not run")?;
            }
        }
        Ok(())
    }

    fn running(&mut self, id: Id) -> Result<&mut Running, Refusal> {
        let running = self.host_mut(id.host).running.get_mut(&(id.process, id.generation));
        running.ok_or("a process does something that does not run")
    }

    fn is_granted(&self, Offer { by, extent }: Offer) -> bool {
        self.host(by.host).extents[usize::from(extent)] == Extent::Granted(by.process, by.generation)
    }

    fn accept(&mut self, host: u16, peer: u16, life: u32, epoch: u64) -> Result<(), Refusal> {
        let of = self.host(peer);
        let is_past = life < of.life;
        require(
            is_past || life == of.life && of.phase == Phase::Running,
            "a host is accepted that does not run",
        )?;
        require(epoch <= of.epoch, "a host is accepted with an epoch that has not come")?;
        let About { known, dead, .. } = self.about(host, peer);
        require(life != dead || self.lacks(Fault::AcceptedAgain), "a life is accepted that was marked dead")?;
        require(life >= known, "a life is accepted of before the last")?;
        if life == known {
            // It was there before this agent began.
            self.about_mut(host, peer).again = life == dead;
            return Ok(());
        }
        let reads = self.reads_of(host, peer).next().is_some();
        require(
            !reads || self.lacks(Fault::AcceptedEarly),
            "a new life is accepted, and not all have let go of the one before",
        )?;
        *self.about_mut(host, peer) = About { known: life, dead, seen: epoch, again: life == dead };
        Ok(())
    }

    fn acknowledge(&mut self, host: u16, peer: u16, epoch: u64) -> Result<(), Refusal> {
        let of = self.host(peer);
        require(epoch <= of.epoch, "an epoch is acknowledged that has not come")?;
        let unaware = self.reads_of(host, peer).any(|Offer { by, .. }| {
            let ended = of.ended.get(&(by.process, by.generation)).is_some_and(|end| *end <= epoch);
            ended && !self.looks_alive(*by)
        });
        require(
            !unaware || self.lacks(Fault::SeenTooEarly),
            "an end is acknowledged, and a process has not let go",
        )?;
        self.about_mut(host, peer).seen = epoch;
        Ok(())
    }

    fn admit(&mut self, id: Id) -> Result<(), Refusal> {
        let host = self.host_mut(id.host);
        let entry = &mut host.entries[usize::from(id.process)];
        require(!entry.alive, "a number is given to a second process")?;
        require(id.generation > entry.generation, "a number is given again without another generation")?;
        *entry = Entry { alive: true, generation: id.generation, exposed: BTreeSet::new() };
        host.running.insert((id.process, id.generation), Running::default());
        Ok(())
    }

    fn record_end(&mut self, id: Id) -> Result<(), Refusal> {
        let host = self.host_mut(id.host);
        let entry = &mut host.entries[usize::from(id.process)];
        require(
            entry.alive && entry.generation == id.generation,
            "the end of a process that does not count",
        )?;
        entry.alive = false;
        host.ended.insert((id.process, id.generation), host.epoch + 1);
        Ok(())
    }

    fn take_back(&mut self, offer: Offer) -> Result<(), Refusal> {
        require(self.is_granted(offer), "an extent is taken back from whom it is not granted to")?;
        let is_offered = |mail: &Mail| {
            let arrives = mail.lives.1 == self.host(mail.to.host).life && self.is_alive(mail.to);
            mail.from == offer.by && mail.extent == Some(offer.extent) && arrives
        };
        let is_used = self.readers().any(|(_, read)| read == offer) || self.mail.iter().any(is_offered);
        require(!is_used, "a process returns an extent that others read")?;
        let Offer { by, extent } = offer;
        let running = self.host(by.host).running.get(&(by.process, by.generation));
        let writes = running.is_some_and(|running| running.writes.contains(&extent));
        require(!writes, "a process returns an extent that it writes")?;
        self.host_mut(by.host).extents[usize::from(extent)] = Extent::Free;
        Ok(())
    }

    fn keep(&mut self, offer: Offer) -> Result<(), Refusal> {
        let Offer { by, extent } = offer;
        require(self.is_granted(offer), "an extent is kept back that is not granted")?;
        let host = self.host(by.host);
        let end = host.ended.get(&(by.process, by.generation));
        let counted = end.is_some_and(|end| *end <= host.epoch);
        require(
            counted || self.lacks(Fault::KeptTooEarly),
            "an extent is kept back until an epoch of before its process's end",
        )?;
        let running = host.running.get(&(by.process, by.generation));
        let writes = running.is_some_and(|running| running.writes.contains(&extent));
        require(
            !writes || self.lacks(Fault::TakenFromWriter),
            "an extent is kept back that is still written",
        )?;
        let entry = &host.entries[usize::from(by.process)];
        let exposed = if entry.generation == by.generation {
            entry.exposed.clone()
        } else {
            // Nothing is known of it.
            let accepted = |peer: &u16| host.about[usize::from(*peer)].known != 0;
            (0..self.hosts.len() as u16).filter(|peer| *peer != by.host).filter(accepted).collect()
        };
        let epoch = host.epoch;
        let kept = Extent::Kept { owner: (by.process, by.generation), exposed, epoch };
        self.host_mut(by.host).extents[usize::from(extent)] = kept;
        Ok(())
    }

    fn forget(&mut self, host: u16, extent: u16, peer: u16) -> Result<(), Refusal> {
        let Extent::Kept { epoch, .. } = self.host(host).extents[usize::from(extent)] else {
            return Err("an extent that is not kept back waits for nobody");
        };
        let said = self.about(peer, host);
        let has_answered =
            said.known == self.host(host).life && (said.seen >= epoch || self.lacks(Fault::EpochNotCompared));
        let About { known, dead, .. } = self.about(host, peer);
        let of = self.host(peer);
        let is_new = of.life != known && of.phase == Phase::Running && self.lacks(Fault::NewLifeNotWaitedFor);
        let is_given_up = self.lacks(Fault::SilentNotWaitedFor) && known == dead;
        require(has_answered || is_new || is_given_up, "a host is not waited for that may still read")?;
        if let Extent::Kept { exposed, .. } = &mut self.host_mut(host).extents[usize::from(extent)] {
            exposed.remove(&peer);
        }
        Ok(())
    }

    fn post(&mut self, mail: Mail) -> Result<(), Refusal> {
        let Mail { from, to, extent, lives, .. } = mail;
        require(self.is_alive(from), "a process sends that does not count")?;
        require(self.is_up(from.host, to.host), "mail goes to a host that is not there")?;
        let entry = &self.host(from.host).entries[usize::from(from.process)];
        require(
            entry.exposed.contains(&to.host) || self.lacks(Fault::NotExposed),
            "mail goes to a host before the sender's entry shows it",
        )?;
        let offers = extent.is_none_or(|extent| self.is_granted(Offer { by: from, extent }));
        require(offers, "a process offers what it does not have")?;
        let are = (self.host(from.host).life, self.about(from.host, to.host).known);
        require(lives == are, "mail is sealed with other lives")?;
        self.mail.insert(mail);
        Ok(())
    }

    fn deliver(&mut self, mail: Mail) -> Result<(), Refusal> {
        let Mail { from, to, extent, lives, .. } = mail;
        require(self.mail.contains(&mail), "mail comes that nobody sent, or comes again")?;
        let About { known, dead, .. } = self.about(to.host, from.host);
        require(
            lives == (known, self.host(to.host).life) || self.lacks(Fault::LivesNotSealed),
            "mail comes that was sent in another life",
        )?;
        require(
            self.is_up(to.host, from.host) || self.lacks(Fault::LivesNotSealed),
            "mail comes from a host that was marked dead",
        )?;
        require(
            !self.is_seen(to.host, from) || self.lacks(Fault::DeliveredLate),
            "mail comes from a process whose end was acknowledged",
        )?;
        let mut receiver = to;
        if self.lacks(Fault::DeliveredByNumber) {
            receiver.generation = self.host(to.host).entries[usize::from(to.process)].generation;
        }
        require(self.is_alive(receiver), "mail comes to a process that does not count")?;
        let running = self.running(receiver)?;
        running.reads.extend(extent.map(|extent| Offer { by: from, extent }));
        self.mail.remove(&mail);
        if receiver != to {
            self.wrong = Some(Wrong::WrongReceiver);
        }
        if lives.0 <= dead {
            self.wrong = Some(Wrong::BelievedTheDead);
        }
        Ok(())
    }

    /// Returns `true` if nobody reads what is another's by now, or nobody's.
    pub fn reads_are_safe(&self) -> bool {
        self.readers().all(|(_, Offer { by, extent })| {
            let owner = (by.process, by.generation);
            match &self.host(by.host).extents[usize::from(extent)] {
                Extent::Free => false,
                Extent::Granted(process, generation) => (*process, *generation) == owner,
                Extent::Kept { owner: of, .. } => *of == owner,
            }
        })
    }

    /// Returns `true` if nobody writes what it was not granted.
    pub fn writes_are_safe(&self) -> bool {
        (0u16..).zip(&self.hosts).all(|(host, of)| {
            of.running.iter().all(|((process, generation), running)| {
                let by = Id { host, process: *process, generation: *generation };
                running.writes.iter().all(|extent| self.is_granted(Offer { by, extent: *extent }))
            })
        })
    }
}

fn require(met: bool, otherwise: Refusal) -> Result<(), Refusal> {
    if met { Ok(()) } else { Err(otherwise) }
}
