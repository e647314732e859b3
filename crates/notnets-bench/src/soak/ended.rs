//! Calls that did not end well, as clients and servers note them, and how long after a death that was.

use std::fmt;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;
use std::time::Duration;

use notnets_core::clock::Timestamp;

use crate::Result;

/// What is aimed at for those whose peer dies.
const AIM: Duration = Duration::from_millis(10);

/// A call that has failed, or a handler that was dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ended {
    /// The call's id, in which its client's number is.
    pub id: u64,
    /// The place of the name that was called among all that are.
    pub name: u64,
    /// Since when it was expected.
    pub begin: Timestamp,
    /// When the caller knew.
    pub end: Timestamp,
}

impl Ended {
    /// In place of a name, by servers.
    pub const NO_NAME: u64 = u64::MAX;

    /// Adds it to a file.
    ///
    /// # Errors
    /// When there is no room for it.
    pub fn note(&self, mut notes: &File) -> io::Result<()> {
        let words = [self.id, self.name, self.begin.as_nanos(), self.end.as_nanos()];
        notes.write_all(&words.map(u64::to_le_bytes).concat())
    }

    /// The number of the call's client.
    pub fn client(&self) -> u64 {
        (self.id & !(1 << 63)) >> 40
    }

    fn read(bytes: &[u8]) -> Self {
        let word = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().expect("8 bytes"));
        let [begin, end] = [16, 24].map(|at| Timestamp::from_nanos(word(at)));
        Self { id: word(0), name: word(8), begin, end }
    }
}

/// All that processes have noted in files of that kind, with the processes' ids.
///
/// # Errors
/// When a file can't be read.
pub fn read_all(notes: &Path, kind: &str) -> Result<Vec<(u32, Ended)>> {
    let mut all = Vec::new();
    for file in fs::read_dir(notes)? {
        let file = file?;
        let name = file.file_name();
        let Some(process) = name.to_str().and_then(|name| name.strip_prefix(kind)?.strip_prefix('-')) else {
            continue;
        };
        let (process, bytes) = (process.parse()?, fs::read(file.path())?);
        all.extend(bytes.chunks_exact(32).map(|bytes| (process, Ended::read(bytes))));
    }
    Ok(all)
}

/// How long things took that should take no time.
#[derive(Debug, Default)]
pub struct Delays(Vec<Duration>);

impl Delays {
    pub fn add(&mut self, delay: Duration) {
        self.0.push(delay);
    }

    /// The time that this part of them did not exceed.
    pub fn quantile(&mut self, part: f64) -> Duration {
        self.0.sort_unstable();
        let index = (self.0.len() as f64 * part) as usize;
        self.0.get(index.min(self.0.len().saturating_sub(1))).copied().unwrap_or_default()
    }

    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// How many are not longer than that.
    fn within(&self, most: Duration) -> usize {
        self.0.iter().filter(|delay| **delay <= most).count()
    }

    /// Which part of them is as short as is aimed at.
    pub fn soon(&self) -> String {
        let soon = self.within(AIM) * 1000 / self.count().max(1);
        format!("{} % within {AIM:?}", soon as f64 / 10.0)
    }
}

impl fmt::Display for Delays {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut sorted = Self(self.0.clone());
        let [half, p90, p99, most] = [0.5, 0.9, 0.99, 1.0].map(|part| sorted.quantile(part));
        write!(f, "{}: p50 {half:.1?}, p90 {p90:.1?}, p99 {p99:.1?}, at most {most:.1?}", self.count())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_noted_is_read() {
        let directory = tempfile::tempdir().unwrap();
        let file = File::create(directory.path().join("failed-17")).unwrap();
        let [begin, end] = [5, 9].map(Timestamp::from_nanos);
        let ended = Ended { id: 3 << 40 | 7 | 1 << 63, name: 2, begin, end };
        ended.note(&file).unwrap();
        ended.note(&file).unwrap();
        assert_eq!(read_all(directory.path(), "failed").unwrap(), [(17, ended), (17, ended)]);
        assert_eq!(read_all(directory.path(), "late").unwrap(), []);
        assert_eq!(ended.client(), 3);
    }

    #[test]
    fn quantiles_are_those_of_all() {
        let mut delays = Delays::default();
        assert_eq!((delays.quantile(0.5), delays.count()), (Duration::ZERO, 0));
        (1..=100).rev().map(Duration::from_millis).for_each(|delay| delays.add(delay));
        assert_eq!(delays.quantile(0.5), Duration::from_millis(51));
        assert_eq!(delays.quantile(1.0), Duration::from_millis(100));
        assert_eq!((delays.count(), delays.within(Duration::from_millis(10))), (100, 10));
    }
}
