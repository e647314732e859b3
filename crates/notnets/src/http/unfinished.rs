//! Which bytes of a body belong to a message of which the rest has not come: whoever reads it keeps them.

use notnets_core::frame::PREFIX;

use crate::message_prefix;

/// Looks at the data of a body as they are taken.
#[derive(Debug)]
pub(crate) enum Unfinished {
    /// Between two messages.
    Between,
    /// Some bytes of a prefix have come.
    Prefix { bytes: [u8; PREFIX], known: usize },
    /// A part of a message has come, and another one not yet.
    Message { come: usize, left: usize },
    /// These are no messages of gRPC's, or somebody else counts.
    Unknown,
}

impl Unfinished {
    /// Returns how many bytes of a message that is not whole there are after these data.
    #[inline]
    pub(crate) fn after(&mut self, data: &[u8]) -> usize {
        // Mostly they are one message.
        if let Self::Between = self
            && let Some((prefix, message)) = data.split_first_chunk()
            && message_prefix::decode(*prefix) == (0, message.len())
        {
            return 0;
        }
        self.after_any(data)
    }

    #[cold]
    fn after_any(&mut self, mut data: &[u8]) -> usize {
        while !data.is_empty() {
            match self {
                Self::Unknown => return 0,
                Self::Between => *self = Self::Prefix { bytes: [0; PREFIX], known: 0 },
                Self::Prefix { bytes, known } => {
                    let (now, rest) = data.split_at(data.len().min(PREFIX - *known));
                    bytes[*known..*known + now.len()].copy_from_slice(now);
                    *known += now.len();
                    data = rest;
                    if *known == PREFIX {
                        *self = match message_prefix::decode(*bytes) {
                            (0 | 1, 0) => Self::Between,
                            (0 | 1, left) => Self::Message { come: 0, left },
                            _ => Self::Unknown,
                        };
                    }
                }
                Self::Message { come, left } => {
                    let now = data.len().min(*left);
                    *come += now;
                    *left -= now;
                    data = &data[now..];
                    if *left == 0 {
                        *self = Self::Between;
                    }
                }
            }
        }
        if let Self::Message { come, .. } = self { *come } else { 0 }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// However a body is cut, what is counted is what its messages have in front of the cut.
        #[test]
        fn messages_may_be_cut_anywhere(lengths in prop::collection::vec(0usize..20, 1..6), cuts in prop::collection::vec(1usize..9, 0..100)) {
            let (mut sent, mut expected) = (Vec::new(), vec![0]);
            for length in lengths {
                sent.extend_from_slice(&message_prefix::encode(length, length % 2 == 1).unwrap());
                sent.resize(sent.len() + length, 7);
                expected.extend([0; PREFIX]);
                expected.extend(1..length);
                expected.extend((length > 0).then_some(0));
            }
            let (mut unfinished, mut at) = (Unfinished::Between, 0);
            for cut in cuts.into_iter().chain([usize::MAX]) {
                let end = at + cut.min(sent.len() - at);
                prop_assert_eq!(unfinished.after(&sent[at..end]), expected[end]);
                at = end;
            }
        }
    }

    #[test]
    fn what_has_no_messages_is_not_counted() {
        let mut unfinished = Unfinished::Between;
        assert_eq!(unfinished.after(b"{\"a json\": \"object\"}"), 0);
        assert_eq!(unfinished.after(&[0, 0, 0, 0, 9, 1]), 0);
    }
}
