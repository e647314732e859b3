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

/// What has happened to processes of one host.
#[derive(Debug, Default)]
pub struct Deaths {
    ends: Vec<(Process, Timestamp)>,
    pauses: Vec<(u32, Timestamp, Timestamp)>,
}

impl Deaths {
    /// The links of a process have ended, with or without itself.
    pub fn add(&mut self, who: Process, at: Timestamp) {
        self.ends.push((who, at));
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
        match unexplained.first() {
            Some(ended) => Err(format!("no death explains {ended:?}").into()),
            None => Ok(()),
        }
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
        let (from, to) = (ended.begin.as_nanos() - ENOUGH.as_nanos() as u64, ended.begin.as_nanos());
        let mut ends = self.ends.iter().filter(|(who, _)| of.contains(who));
        ends.any(|(_, at)| (from..to).contains(&at.as_nanos()))
    }

    /// When links of these processes ended while something was going on.
    fn within(&self, ended: Ended, of: &[Process]) -> Vec<Timestamp> {
        let ends =
            self.ends.iter().filter(|(who, at)| of.contains(who) && ended.begin <= *at && *at <= ended.end);
        ends.map(|(_, at)| *at).collect()
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
