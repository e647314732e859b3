//! Where gRPC's messages end in the bytes of a call, which may be cut anywhere.

use crate::frame::PREFIX;

/// Follows the messages in one direction of a call by the prefixes in front of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Messages {
    /// Between two messages.
    #[default]
    Between,
    /// Some bytes of a prefix have passed, not all.
    Prefix {
        /// Those bytes.
        bytes: [u8; PREFIX - 1],
        /// How many they are.
        known: u8,
    },
    /// A part of a message has passed, and more is to come.
    Message {
        /// Bytes that have passed.
        come: u32,
        /// Bytes that are to come.
        left: u32,
    },
    /// These are no messages of gRPC's, or nobody asks.
    Unknown,
}

impl Messages {
    /// These bytes pass. Returns how many messages have ended with them.
    #[inline]
    pub fn after(&mut self, data: &[u8]) -> u64 {
        match (&*self, data) {
            // Mostly they are one message.
            (Self::Between, data) if is_one(data, data.len()) => 1,
            // A flag that gRPC does not have.
            (Self::Between, [flag, ..]) if *flag > 1 => {
                *self = Self::Unknown;
                0
            }
            (Self::Unknown, _) => 0,
            _ => self.after_any(data),
        }
    }

    /// Returns `true` if `len` bytes that begin with these are one message that is not compressed.
    #[inline]
    pub fn are_one(&self, first: &[u8], len: usize) -> bool {
        matches!(self, Self::Between) && is_one(first, len)
    }

    /// Bytes of a message that have passed, if not all of it has.
    #[inline]
    pub fn unfinished(&self) -> usize {
        if let Self::Message { come, .. } = self { *come as usize } else { 0 }
    }

    #[cold]
    fn after_any(&mut self, mut data: &[u8]) -> u64 {
        let mut ended = 0;
        while let Some((first, rest)) = data.split_first() {
            match self {
                Self::Unknown => break,
                Self::Between if *first > 1 => *self = Self::Unknown,
                Self::Between => *self = Self::Prefix { bytes: [0; PREFIX - 1], known: 0 },
                Self::Prefix { bytes, known } => {
                    data = rest;
                    if let Some(next) = bytes.get_mut(usize::from(*known)) {
                        *next = *first;
                        *known += 1;
                        continue;
                    }
                    let [_, a, b, c] = *bytes;
                    *self = match u32::from_be_bytes([a, b, c, *first]) {
                        0 => Self::Between,
                        left => Self::Message { come: 0, left },
                    };
                    ended += u64::from(*self == Self::Between);
                }
                Self::Message { come, left } => {
                    let now = data.len().min(*left as usize);
                    data = &data[now..];
                    *come += now as u32;
                    *left -= now as u32;
                    if *left == 0 {
                        *self = Self::Between;
                        ended += 1;
                    }
                }
            }
        }
        ended
    }
}

/// Returns `true` if `len` bytes that begin with these are one message that is not compressed.
#[inline]
fn is_one(first: &[u8], len: usize) -> bool {
    match first {
        [0, a, b, c, d, ..] => len == PREFIX + u32::from_be_bytes([*a, *b, *c, *d]) as usize,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// However a body is cut, messages are counted where they end, and what is unfinished is what has
        /// passed of the last one.
        #[test]
        fn messages_may_be_cut_anywhere(lengths in prop::collection::vec(0usize..20, 1..6), cuts in prop::collection::vec(1usize..9, 0..100)) {
            let (mut sent, mut expected) = (Vec::new(), vec![(0, 0)]);
            for (number, length) in lengths.into_iter().enumerate() {
                let number = number as u64;
                sent.push((length % 2) as u8);
                sent.extend_from_slice(&(length as u32).to_be_bytes());
                sent.resize(sent.len() + length, 7);
                expected.extend([(number, 0); PREFIX]);
                expected.extend((1..=length).map(|come| (number, come)));
                *expected.last_mut().unwrap() = (number + 1, 0);
            }
            let (mut messages, mut ended, mut at) = (Messages::default(), 0, 0);
            for cut in cuts.into_iter().chain([usize::MAX]) {
                let end = at + cut.min(sent.len() - at);
                ended += messages.after(&sent[at..end]);
                prop_assert_eq!((ended, messages.unfinished()), expected[end]);
                at = end;
            }
        }
    }

    #[test]
    fn what_has_no_messages_is_not_counted() {
        let mut messages = Messages::default();
        assert_eq!(messages.after(b"{\"a json\": \"object\"}"), 0);
        assert_eq!((messages.after(&[0, 0, 0, 0, 9, 1]), messages.unfinished()), (0, 0));
    }
}
