//! When processes died, stood still and lost their links, and how soon those knew that they called or served.

use std::path::Path;
use std::time::Duration;

use notnets_core::clock::Timestamp;

use super::ended::{Delays, Ended, read_all};
use crate::Result;

/// What 99 of 100 need at most on a machine that is busy with all of the soak and more.
const ENOUGH: Duration = Duration::from_secs(1);

/// A process, as calls know it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Process {
    /// By the place of its name among all.
    Server(u64),
    /// By its number.
    Client(u64),
}

/// The end of a process's links.
#[derive(Clone, Copy, Debug)]
struct End {
    who: Process,
    at: Timestamp,
    /// When it was certainly over: on a busy machine one that dies may wait for a processor before it does.
    until: Timestamp,
}

/// What has happened to processes of one host.
#[derive(Debug, Default)]
pub struct Deaths {
    ends: Vec<End>,
    pauses: Vec<(u32, Timestamp, Timestamp)>,
}

impl Deaths {
    /// The links of a process have ended, with or without itself.
    pub fn add(&mut self, who: Process, at: Timestamp) {
        self.ends.push(End { who, at, until: at });
    }

    /// A process whose links ended as was added last is no more.
    pub fn is_over(&mut self, who: Process, now: Timestamp) {
        if let Some(end) = self.ends.iter_mut().rfind(|end| end.who == who) {
            end.until = end.until.max(now);
        }
    }

    /// A process stood still: what it noted meanwhile says nothing.
    pub fn add_pause(&mut self, process: u32, from: Timestamp, to: Timestamp) {
        self.pauses.push((process, from, to));
    }

    /// Prints how soon callers and servers knew, from what they have noted. `names` are those of this host.
    ///
    /// # Errors
    /// When they did not know soon, or something failed that no death explains.
    pub fn report(&self, notes: &Path, names: &[u64]) -> Result {
        let [failed, dropped, late] = ["failed", "dropped", "late"].map(|kind| read_all(notes, kind));
        let of_names = self.awake(failed?).filter(|ended| names.contains(&ended.name));
        let (mut callers, mut several, mut unexplained) = (Delays::default(), 0, Vec::new());
        for ended in of_names {
            let of_both = [Process::Server(ended.name), Process::Client(ended.client())];
            match self.within(ended, &of_both)[..] {
                // It was begun on a link whose end was not known yet.
                [] if self.was_before(ended, &of_both) => callers.add(ended.end - ended.begin),
                [] => unexplained.push(ended),
                [at] => callers.add(ended.end - at),
                // Of which one it knew can't be told.
                _ => several += 1,
            }
        }
        let mut servers = Delays::default();
        for ended in self.awake(dropped?) {
            // Others have cancelled their call.
            if let [at] = self.within(ended, &[Process::Client(ended.client())])[..] {
                servers.add(ended.end - at);
            }
        }
        let mut deadlines = Delays::default();
        self.awake(late?).for_each(|ended| deadlines.add(ended.end - ended.begin));
        println!("{several} calls failed amid several deaths, {} without one", unexplained.len());
        for (what, delays) in [
            ("calls of servers that died", &mut callers),
            ("handlers of clients that died", &mut servers),
            ("calls beyond their deadlines", &mut deadlines),
        ] {
            println!("{what} that ended: {delays}; {}", delays.soon());
            if delays.quantile(0.99) > ENOUGH {
                return Err(format!("{what} should end within {ENOUGH:?}").into());
            }
        }
        for ended in &unexplained {
            let of_both = [Process::Server(ended.name), Process::Client(ended.client())];
            println!("no death explains {ended:?}: before it {:?}", self.last_before(*ended, &of_both));
        }
        if unexplained.is_empty() { Ok(()) } else { Err("calls failed that no death explains".into()) }
    }

    /// What was noted by processes that did not stand still meanwhile.
    fn awake(&self, noted: Vec<(u32, Ended)>) -> impl Iterator<Item = Ended> {
        let stood_still = |process: u32, ended: &Ended| {
            self.pauses
                .iter()
                .any(|(paused, from, to)| *paused == process && *from <= ended.end && ended.begin <= *to)
        };
        noted
            .into_iter()
            .filter(move |(process, ended)| !stood_still(*process, ended))
            .map(|(_, ended)| ended)
    }

    /// Returns `true` if links of these processes ended soon before something began.
    fn was_before(&self, ended: Ended, of: &[Process]) -> bool {
        let begin = ended.begin.as_nanos();
        self.last_before(ended, of)
            .is_some_and(|end| begin.saturating_sub(end.until.as_nanos()) <= ENOUGH.as_nanos() as u64)
    }

    /// The last end of links of these processes before something began.
    fn last_before(&self, ended: Ended, of: &[Process]) -> Option<End> {
        let before = self.ends.iter().filter(|end| of.contains(&end.who) && end.at < ended.begin);
        before.max_by_key(|end| end.until).copied()
    }

    /// When links of these processes ended while something was going on.
    fn within(&self, ended: Ended, of: &[Process]) -> Vec<Timestamp> {
        let is_within = |end: &&End| ended.begin <= end.at && end.at <= ended.end;
        self.ends.iter().filter(|end| of.contains(&end.who)).filter(is_within).map(|end| end.at).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use super::*;

    fn at(millis: u64) -> Timestamp {
        Timestamp::from_nanos((100_000 + millis) * 1_000_000)
    }

    /// Of one call of name 0 by client 3, between these points in time.
    fn report(deaths: &Deaths, begin: u64, end: u64) -> Result {
        let directory = tempfile::tempdir().unwrap();
        let notes = File::create(directory.path().join("failed-17")).unwrap();
        Ended { id: 3 << 40, name: 0, begin: at(begin), end: at(end) }.note(&notes).unwrap();
        deaths.report(directory.path(), &[0])
    }

    #[test]
    fn a_call_fails_soon_after_a_death_of_either_side() {
        for who in [Process::Server(0), Process::Client(3)] {
            let mut deaths = Deaths::default();
            deaths.add(who, at(15));
            assert!(report(&deaths, 10, 20).is_ok());
            assert!(report(&deaths, 16, 20).is_ok(), "it was begun on a dead link");
            assert!(report(&deaths, 10, 2000).is_err(), "it is late");
            assert!(report(&deaths, 5016, 5020).is_err(), "the death was long before");
            deaths.is_over(who, at(4500));
            assert!(report(&deaths, 5016, 5020).is_ok(), "it took that long");
            deaths.add_pause(17, at(100), at(1900));
            assert!(report(&deaths, 10, 2000).is_ok(), "it was not awake");
        }
        for who in [Process::Server(1), Process::Client(0)] {
            let mut deaths = Deaths::default();
            deaths.add(who, at(15));
            assert!(report(&deaths, 10, 20).is_err(), "{who:?} is another");
        }
    }
}
