//! Between messages and the bytes of a call: gRPC puts five bytes in front of each message, whether it is
//! compressed and its length, and whoever carries them may cut the whole anywhere.

use bytes::{Buf, Bytes};
use notnets_core::frame::PREFIX;
use notnets_memory::Gather;

use super::payload::add;
use super::{Code, Payload, Status, View};
use crate::message_prefix::{self, BadLength, Limit};
use crate::shared_bytes::has_shared;

/// A message of which more bytes are to come is put together in one piece.
const WORTH_GATHERING: usize = 32 << 10;

/// A message as it is sent.
pub(crate) trait FramedMessage {
    /// Prefix and message.
    fn len(&self) -> usize;

    /// Returns the rest of them after the first `sent` bytes.
    fn view(&self, sent: usize) -> View<'_>;
}

/// A message's bytes as they are sent.
#[derive(Debug)]
pub(crate) struct Framed {
    prefix: [u8; PREFIX],
    message: Payload,
}

impl Framed {
    /// A message with its prefix.
    ///
    /// # Errors
    /// When it is longer than gRPC can express.
    pub fn new(payload: Payload) -> Result<Self, Status> {
        let prefix = message_prefix::encode(payload.len(), payload.is_compressed())
            .map_err(|error| Status::from(BadMessage::Length(error)))?;
        Ok(Self { prefix, message: payload })
    }
}

impl FramedMessage for Framed {
    fn len(&self) -> usize {
        PREFIX + self.message.len()
    }

    fn view(&self, sent: usize) -> View<'_> {
        self.message.view(&self.prefix, sent)
    }
}

/// A call whose messages come in pieces.
pub(crate) trait Pieces {
    /// Puts a message of `total` bytes together in one piece, of which the `first` ones were taken.
    ///
    /// # Errors
    /// `first`, when the rest comes as all data do.
    fn gather(&self, first: Bytes, total: usize) -> Result<(), Bytes>;

    /// These bytes of a message were taken, and are kept until the rest is there.
    fn keep_unfinished(&self, bytes: usize);
}

/// Messages that come in pieces.
#[derive(Debug)]
pub(crate) struct Assembler {
    /// Longer messages are refused.
    limit: Limit,
    /// Bytes that were received and not looked at yet.
    piece: Bytes,
    prefix: [u8; PREFIX],
    /// Bytes of the prefix that have come.
    known: usize,
    /// The first pieces of a message that is not whole. Boxed, for most messages come in one.
    partial: Option<Box<Gather>>,
}

impl Assembler {
    pub fn new(limit: Limit) -> Self {
        Self { limit, piece: Bytes::new(), prefix: [0; PREFIX], known: 0, partial: None }
    }

    pub fn set_limit(&mut self, bytes: usize) {
        self.limit.bytes = bytes;
    }

    /// Adds the next piece. All messages of the one before must have been taken.
    pub fn push(&mut self, piece: Bytes) {
        debug_assert!(self.piece.is_empty());
        self.piece = piece;
    }

    /// Returns `true` if nothing of another message has come.
    pub fn is_between_messages(&self) -> bool {
        self.known == 0 && self.piece.is_empty()
    }

    /// The next message, once all of it is there.
    ///
    /// # Errors
    /// When it is over the limit, or has no prefix of gRPC's.
    pub fn next(&mut self) -> Result<Option<Payload>, BadMessage> {
        if self.known < PREFIX {
            if self.piece.is_empty() {
                return Ok(None);
            }
            let n = self.piece.len().min(PREFIX - self.known);
            self.prefix[self.known..self.known + n].copy_from_slice(&self.piece[..n]);
            self.piece.advance(n);
            self.known += n;
            if self.known < PREFIX {
                return Ok(None);
            }
        }
        let (compressed, len) = self.check_prefix()?;
        let left = len - self.partial.as_ref().map_or(0, |partial| partial.len());
        if self.piece.len() < left {
            let piece = std::mem::take(&mut self.piece);
            add(self.partial.get_or_insert_default(), piece, left);
            return Ok(None);
        }
        self.known = 0;
        let end = if left == self.piece.len() {
            std::mem::take(&mut self.piece)
        } else {
            self.piece.split_to(left)
        };
        let Some(mut pieces) = self.partial.take() else {
            return Ok(Some(Payload::received(end, compressed)));
        };
        add(&mut pieces, end, left);
        Ok(Some(Payload::of_pieces(pieces, compressed)))
    }

    /// Has the rest of a large message, of which a part has come, put together in one piece by its call, if
    /// that does. It knows what is kept here otherwise.
    #[inline]
    pub fn gather(&mut self, call: &impl Pieces) {
        if self.known == PREFIX && self.piece.is_empty() {
            self.gather_rest(call);
        }
    }

    fn gather_rest(&mut self, call: &impl Pieces) {
        let (_, len) = message_prefix::decode(self.prefix);
        let come = self.partial.as_ref().map_or(0, |partial| partial.len());
        // What is read in place stays there, and then the rest is in other pieces anyway.
        if len - come < WORTH_GATHERING || self.partial.as_deref().is_some_and(has_shared) {
            if come > 0 {
                call.keep_unfinished(come);
            }
            return;
        }
        let first = self.partial.take().map(|mut part| part.copy_to_bytes(come));
        if let Err(first) = call.gather(first.unwrap_or_default(), len)
            && !first.is_empty()
        {
            add(self.partial.get_or_insert_default(), first, len - come);
        }
    }

    fn check_prefix(&self) -> Result<(bool, usize), BadMessage> {
        let (flag, len) = message_prefix::decode(self.prefix);
        if flag > 1 {
            return Err(BadMessage::Flag(flag));
        }
        message_prefix::check(len, self.limit)?;
        Ok((flag == 1, len))
    }
}

/// A message that is not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BadMessage {
    /// Its prefix says neither that it is compressed nor that it is not.
    #[error("the peer sent a message with the unknown flag {0}")]
    Flag(u8),
    /// Its length.
    #[error(transparent)]
    Length(#[from] BadLength),
}

impl From<BadMessage> for Status {
    #[cold]
    fn from(error: BadMessage) -> Self {
        let code = match error {
            BadMessage::Flag(_) => Code::INTERNAL,
            BadMessage::Length(_) => Code::RESOURCE_EXHAUSTED,
        };
        Self::new(code, error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use notnets_core::call::Role;
    use proptest::prelude::*;

    use super::*;

    fn assembler(bytes: usize) -> Assembler {
        Assembler::new(Limit { receiver: Role::Server, bytes })
    }

    fn take_all(assembler: &mut Assembler, piece: &[u8]) -> Result<Vec<(Bytes, bool)>, Code> {
        assembler.push(Bytes::copy_from_slice(piece));
        let next = || assembler.next().map_err(|error| Status::from(error).code()).transpose();
        std::iter::from_fn(next)
            .map(|next| next.map(|p| (p.clone().into_bytes(), p.is_compressed())))
            .collect()
    }

    proptest! {
        /// However the bytes are cut, the same messages come out.
        #[test]
        fn messages_may_be_cut_anywhere(
            messages in prop::collection::vec((prop::collection::vec(any::<u8>(), 0..20), any::<bool>()), 0..6),
            cuts in prop::collection::vec(1usize..9, 0..100),
        ) {
            let mut sent = Vec::new();
            for (message, compressed) in &messages {
                let bytes = Bytes::from(message.clone());
                let payload = if *compressed { Payload::compressed(bytes) } else { bytes.into() };
                let framed = Framed::new(payload).unwrap();
                let whole = framed.view(0).copy_to_bytes(framed.len());
                for sent in 0..=framed.len() {
                    let mut rest = framed.view(sent);
                    prop_assert_eq!(rest.copy_to_bytes(rest.remaining()), whole.slice(sent..));
                }
                sent.extend_from_slice(&whole);
            }
            let (mut assembler, mut received, mut rest) = (assembler(20), Vec::new(), &sent[..]);
            for cut in cuts.into_iter().chain([usize::MAX]) {
                let (piece, later) = rest.split_at(cut.min(rest.len()));
                received.extend(take_all(&mut assembler, piece).unwrap());
                rest = later;
            }
            let expected: Vec<_> = messages.into_iter().map(|(message, compressed)| (message.into(), compressed)).collect();
            prop_assert_eq!(received, expected);
            prop_assert!(assembler.is_between_messages());
        }

        #[test]
        fn wild_bytes_do_no_harm(pieces in prop::collection::vec(any::<Vec<u8>>(), 0..20)) {
            let mut assembler = assembler(100);
            for piece in pieces {
                if take_all(&mut assembler, &piece).is_err() {
                    break;
                }
            }
        }
    }

    /// A call that is not to put anything together.
    struct Gathers;

    impl Pieces for Gathers {
        fn gather(&self, _: Bytes, _: usize) -> Result<(), Bytes> {
            panic!("the message is copied");
        }

        fn keep_unfinished(&self, _: usize) {}
    }

    #[test]
    #[cfg(not(miri))]
    fn what_is_shared_is_not_copied_when_more_of_its_message_comes_later() {
        let shared: Bytes = crate::SharedBytes::copy_from(&[7; WORTH_GATHERING]).unwrap().into();
        let framed = Framed::new(Payload::from(vec![1; 2 * WORTH_GATHERING + 10])).unwrap();
        let mut assembler = assembler(usize::MAX);
        for piece in [Bytes::copy_from_slice(&framed.prefix), vec![1; 10].into(), shared.clone()] {
            assembler.push(piece);
            assert!(assembler.next().unwrap().is_none());
        }
        assembler.gather(&Gathers);
        assembler.push(shared.clone());
        let pieces: Vec<Bytes> = assembler.next().unwrap().unwrap().into_pieces().collect();
        assert_eq!(pieces.len(), 3);
        assert!(pieces[1..].iter().all(|piece| piece.as_ptr() == shared.as_ptr()));
    }

    #[test]
    fn what_is_no_message_is_refused() {
        assert_eq!(take_all(&mut assembler(3), &[0, 0, 0, 0, 4]), Err(Code::RESOURCE_EXHAUSTED));
        assert_eq!(take_all(&mut assembler(3), &[2, 0, 0, 0, 0]), Err(Code::INTERNAL));
        let mut assembler = assembler(3);
        assert_eq!(take_all(&mut assembler, &[0, 0, 0, 0, 3, 7]), Ok(vec![]));
        assert!(!assembler.is_between_messages());
    }
}
