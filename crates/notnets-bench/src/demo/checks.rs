//! Checks that replies are what they must be.

use std::fmt::Debug;

use serde::{Deserialize, Serialize};
use tonic::Status;

/// How many replies were looked at, and what was wrong with them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checks {
    /// Replies compared with what they must be.
    pub checked: u64,
    /// Those that were something else, or did not come.
    pub wrong: u64,
    /// The fault of the first of them.
    pub first_wrong: Option<String>,
}

impl Checks {
    /// Compares a reply with what it must be.
    pub fn expect<T: PartialEq + Debug>(&mut self, reply: &T, wanted: &T) {
        self.checked += 1;
        if reply != wanted {
            self.wrong(|| format!("got {}, wanted {}", brief(reply), brief(wanted)));
        }
    }

    /// Compares a large reply, of which a message does not show the bytes.
    pub fn expect_bytes(&mut self, reply: &[u8], wanted: &[u8]) {
        self.checked += 1;
        if reply != wanted {
            let alike = reply.iter().zip(wanted).take_while(|(a, b)| a == b).count();
            self.wrong(|| {
                let got = reply.len();
                let wanted = wanted.len();
                format!("got {got} bytes, wanted {wanted}; they differ from byte {alike} on")
            });
        }
    }

    /// Compares the replies of a stream one by one; a missing one is wrong, and so is one too many.
    pub fn expect_all<T: PartialEq + Debug>(&mut self, replies: &[T], wanted: &[T]) {
        for nth in 0..replies.len().max(wanted.len()) {
            self.expect(&replies.get(nth), &wanted.get(nth));
        }
    }

    /// Counts a call that ended without a reply.
    pub fn failed(&mut self, what: &str, status: &Status) {
        self.checked += 1;
        self.wrong(|| format!("{what} failed: {:?}: {}", status.code(), status.message()));
    }

    /// Adds the findings of another.
    pub fn add(&mut self, other: Self) {
        self.checked += other.checked;
        self.wrong += other.wrong;
        self.first_wrong = self.first_wrong.take().or(other.first_wrong);
    }

    fn wrong(&mut self, why: impl FnOnce() -> String) {
        self.wrong += 1;
        self.first_wrong.get_or_insert_with(why);
    }
}

/// As much of a message as fits in a line or two.
fn brief(message: &impl Debug) -> String {
    let mut text = format!("{message:?}");
    if let Some((cut, _)) = text.char_indices().nth(300) {
        text.truncate(cut);
        text.push('…');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_must_be_complete() {
        let mut checks = Checks::default();
        checks.expect_all(&[1, 2, 3], &[1, 2, 3]);
        assert_eq!((checks.checked, checks.wrong), (3, 0));
        checks.expect_all(&[1, 3], &[1, 2, 3]);
        assert_eq!((checks.checked, checks.wrong), (6, 2), "one swapped, one missing");
        checks.expect_all(&[1, 1], &[1]);
        assert_eq!((checks.checked, checks.wrong), (8, 3), "one too many");
    }

    #[test]
    fn says_where_bytes_differ() {
        let mut checks = Checks::default();
        checks.expect_bytes(b"abc", b"abd");
        let why = checks.first_wrong.unwrap();
        assert!(why.contains("from byte 2 on"), "{why}");
    }
}
