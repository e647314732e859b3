//! Each model keeps its promises, and each fault in it breaks the promise that it should.

use std::fmt::Debug;
use std::hash::Hash;
use std::time::Instant;

use notnets_model::check::check;
use notnets_model::claims::{self, Claims};
use notnets_model::lease::{self, Lease};
use notnets_model::lives::{Budget, Lives};
use notnets_model::mailbox::{self, Mailbox};
use notnets_model::pod;
use notnets_model::wake::{self, Wake};
use stateright::Model;

/// Checks the model as it is.
fn holds<M>(name: &str, model: M)
where
    M: Model + Send + Sync + 'static,
    M::State: Clone + Debug + Hash + PartialEq + Send + Sync + 'static,
    M::Action: Clone + Debug + PartialEq + Send + Sync + 'static,
{
    let begin = Instant::now();
    let report = check(model);
    println!("{name}: {} states in {:.1?}", report.states, begin.elapsed());
    assert!(report.broken.is_none(), "{name}: {:#?}", report.broken);
}

/// Checks it with a fault: that breaks this property.
fn breaks<M>(fault: impl Debug, model: M, property: &str)
where
    M: Model + Send + Sync + 'static,
    M::State: Clone + Debug + Hash + PartialEq + Send + Sync + 'static,
    M::Action: Clone + Debug + PartialEq + Send + Sync + 'static,
{
    let report = check(model);
    let broken = report.broken.unwrap_or_else(|| panic!("nobody finds {fault:?}"));
    println!("{fault:?}: {} steps, {} states: {}", broken.steps.len(), report.states, broken.property);
    assert_eq!(broken.property, property, "{fault:?}: {:#?}", broken.steps);
}

#[test]
fn mailbox() {
    use mailbox::Fault::*;
    holds("mailbox", Mailbox::default());
    for (fault, property) in [
        (SlotNotPublished, "no packet stays behind"),
        (SlotNotObserved, "no packet stays behind"),
        (TakenNotPublished, "no packet stays behind"),
        (TakenNotObserved, "no packet stays behind"),
        (LifeNotSealed, "nothing of a former life is believed"),
        (TakenNotAwaited, "no packet stays behind"),
        (TakenBeforeWhole, "no packet stays behind"),
    ] {
        breaks(fault, Mailbox { fault: Some(fault) }, property);
    }
}

#[test]
fn wake() {
    use wake::Fault::*;
    let wake = Wake { frames: 3, ..Wake::default() };
    holds("wake", wake);
    let property = "no side sleeps while a frame waits for it";
    for fault in [
        FrameNotPublished,
        FrameNotObserved,
        ActivityNotPublished,
        ActivityNotObserved,
        ActivityBeforeFrame,
        LinesOutOfOrder,
        ArmedAfterLook,
        NoFence,
        ArmedLoadedFirst,
        OneDoorbell,
        ActivityInherited,
        NobodyLooksInstead,
    ] {
        breaks(fault, Wake { fault: Some(fault), ..wake }, property);
    }
    let naps = Wake { naps: true, frames: 2, ..wake };
    holds("wake, with naps", naps);
    for fault in [WatcherNotRung, RungBeforeParked, NapsTooEarly] {
        breaks(fault, Wake { fault: Some(fault), ..naps }, property);
    }
    // Where memory does not keep lines in order, a rare look makes up for it.
    holds(
        "wake, out of order",
        Wake { fault: Some(LinesOutOfOrder), looks_rarely: true, frames: 2, naps: false },
    );
}

#[test]
fn lives() {
    use pod::Fault::*;
    let budget = Budget { admissions: 3, mails: 2, kills: 1, crashes: 1, verdicts: 1 };
    let lives = Lives { hosts: 2, budget, fault: None };
    holds("lives", lives);
    for (fault, property) in [
        (NotKept, "nobody reads what has become another's"),
        (KeptTooEarly, "nobody reads what has become another's"),
        (EpochNotCompared, "nobody reads what has become another's"),
        (SeenTooEarly, "nobody reads what has become another's"),
        (NotExposed, "nobody reads what has become another's"),
        (SilentNotWaitedFor, "nobody reads what has become another's"),
        (AcceptedAgain, "nothing is believed of the dead"),
        (AcceptedEarly, "nobody reads what has become another's"),
        (NewLifeNotWaitedFor, "nobody reads what has become another's"),
        (GenerationNotChecked, "nobody reads what has become another's"),
        (DeliveredByNumber, "mail comes to whom it is for"),
        (DeliveredLate, "nobody reads what has become another's"),
        (LivesNotSealed, "nothing is believed of the dead"),
        (TakenFromWriter, "nobody writes what it was not granted"),
        (EndNotCounted, "nothing is kept for ever of what has ended"),
    ] {
        breaks(fault, Lives { fault: Some(fault), ..lives }, property);
    }
}

#[test]
fn lease() {
    use lease::Fault::*;
    holds("lease", Lease::default());
    for (fault, property) in [
        (MarkedEarly, "who beats in time is not marked dead"),
        (JudgedBeforeLook, "who beats in time is not marked dead"),
        (BeatNotPublished, "who has been silent is marked dead"),
        (BeatNotObserved, "who has been silent is marked dead"),
        (AcceptedAgain, "a life that was marked dead is never accepted again"),
        (FateNotRead, "who was marked dead begins a new life"),
        (FateNotPublished, "who was marked dead begins a new life"),
        (AcceptedUnseen, "nobody is taken for living whose heart was not seen to beat"),
    ] {
        breaks(fault, Lease { fault: Some(fault) }, property);
    }
}

#[test]
fn claims() {
    use claims::Fault::*;
    holds("claims", Claims::default());
    for (fault, property) in [
        (ClaimNotPublished, "no extent is free in which somebody reads"),
        (ClaimNotObserved, "no extent is free in which somebody reads"),
        (OneLook, "no extent is free in which somebody reads"),
        (ChangesNotCounted, "no extent is free in which somebody reads"),
        (ReadBeforeClaim, "no extent is free in which somebody reads"),
        (LetGoEarly, "no extent is free in which somebody reads"),
        (ClaimEndsWithReader, "no extent is free in which somebody reads"),
        (ClaimsNotInherited, "no extent is free in which somebody reads"),
    ] {
        breaks(fault, Claims { fault: Some(fault) }, property);
    }
}
