//! One message in a call's body: what gRPC puts in front of it, and putting it together from its parts.

use bytes::{Buf, BufMut, Bytes};
use notnets_core::call::{Connection, StreamId};
use notnets_core::code::Code;
use notnets_core::frame::PREFIX;
use notnets_memory::Gather;

use super::Status;
use crate::message_prefix::{self, BadLength, Limit, MAX_RESERVED};
use crate::shared_bytes::has_shared;

/// A message of which more bytes are to come is put together where they are copied out of the peer's memory.
const WORTH_GATHERING: usize = 32 << 10;

/// Parts that are smaller are copied: to hold one costs more.
const SMALLEST_PART: usize = 4096;

/// Where the parts of a message are put.
pub trait Parts {
    /// Makes room for so many bytes.
    fn reserve(&mut self, bytes: usize);

    /// Adds the next part.
    fn add(&mut self, part: Bytes);
}

/// All of them are copied.
impl Parts for Vec<u8> {
    fn reserve(&mut self, bytes: usize) {
        self.reserve(bytes);
    }

    #[inline]
    fn add(&mut self, part: Bytes) {
        self.extend_from_slice(&part);
    }
}

/// Those that are large stay where they are.
impl Parts for Gather {
    fn reserve(&mut self, bytes: usize) {
        self.expect(bytes);
    }

    fn add(&mut self, part: Bytes) {
        if part.len() < SMALLEST_PART { self.put_slice(&part) } else { self.push(part) }
    }
}

/// All bytes, in one piece: they are copied only if they are in several.
pub fn into_bytes(mut parts: Gather) -> Bytes {
    let len = parts.len();
    parts.copy_to_bytes(len)
}

/// The message in data that are just one, not compressed: mostly they are.
#[inline]
pub fn whole(data: &[u8]) -> Option<&[u8]> {
    let (prefix, message) = data.split_first_chunk()?;
    (message_prefix::decode(*prefix) == (0, message.len())).then_some(message)
}

/// The prefix of a message that is sent.
///
/// # Errors
/// When it is longer than gRPC can say.
pub fn prefix_of(message: &[u8]) -> Result<[u8; PREFIX], Status> {
    message_prefix::encode(message.len(), false).map_err(bad_length)
}

/// A message that comes in parts.
#[derive(Debug, Default)]
pub struct Assembler {
    prefix: [u8; PREFIX],
    /// Bytes of the prefix that have come.
    known: usize,
    /// Bytes of the message that have not.
    left: usize,
}

impl Assembler {
    /// All of the message has come already.
    #[inline]
    pub fn done() -> Self {
        Self { known: PREFIX, ..Self::default() }
    }

    /// Adds what is in the next data to the message, up to the limit.
    ///
    /// # Errors
    /// When it is compressed or too long, or when another one follows.
    pub fn push(&mut self, mut data: Bytes, message: &mut impl Parts, limit: Limit) -> Result<(), Status> {
        while !data.is_empty() {
            let wanted = if self.known < PREFIX { PREFIX - self.known } else { self.left };
            let now = wanted.min(data.len());
            if self.known < PREFIX {
                self.prefix[self.known..self.known + now].copy_from_slice(&data[..now]);
                self.known += now;
                // Splitting them would take an allocation.
                data.advance(now);
                if self.known == PREFIX {
                    self.left = length(self.prefix, limit)?;
                    message.reserve(self.left.min(MAX_RESERVED));
                }
            } else if self.left == 0 {
                return Err(Status::new(
                    Code::UNIMPLEMENTED,
                    "a second message on a call that has one each way: streams are not for the blocking API",
                ));
            } else {
                self.left -= now;
                message.add(if now == data.len() { std::mem::take(&mut data) } else { data.split_to(now) });
            }
        }
        Ok(())
    }

    /// Has the rest of a large message put together by the calls of its link, in one piece with the parts
    /// that have come. They know what is kept here otherwise. Returns how many bytes were given back, to come
    /// again.
    pub fn gather(&mut self, parts: &mut Gather, calls: &mut Connection<()>, stream: StreamId) -> usize {
        let come = parts.len();
        // What is read in place stays there.
        if self.known < PREFIX || self.left < WORTH_GATHERING || has_shared(parts) {
            if self.left > 0 && come > 0 {
                calls.keep_unfinished(stream, come);
            }
            return 0;
        }
        let first = parts.copy_to_bytes(come);
        match calls.gather(stream, first, come + self.left) {
            Ok(()) => {
                self.left += come;
                return come;
            }
            Err(first) if first.is_empty() => {}
            Err(first) => parts.push(first),
        }
        0
    }

    /// Returns `true` if all of a message has come.
    pub fn is_whole(&self) -> bool {
        self.known == PREFIX && self.left == 0
    }
}

fn length(prefix: [u8; PREFIX], limit: Limit) -> Result<usize, Status> {
    let (flag, length) = message_prefix::decode(prefix);
    if flag != 0 {
        let text = "a compressed message: this side has no compression";
        return Err(Status::new(Code::UNIMPLEMENTED, text));
    }
    message_prefix::check(length, limit).map_err(bad_length)?;
    Ok(length)
}

fn bad_length(error: BadLength) -> Status {
    Status::new(Code::RESOURCE_EXHAUSTED, error.to_string())
}

#[cfg(test)]
mod tests {
    use notnets_core::call::Role;
    use notnets_core::frame::prefix;

    use super::*;

    const LIMIT: Limit = Limit { receiver: Role::Server, bytes: 100 };

    fn assemble(parts: &[&[u8]]) -> Result<Option<Vec<u8>>, Code> {
        let (mut assembler, mut message) = (Assembler::default(), Vec::new());
        for part in parts {
            let part = Bytes::copy_from_slice(part);
            assembler.push(part, &mut message, LIMIT).map_err(|status| status.code)?;
        }
        Ok(assembler.is_whole().then_some(message))
    }

    #[test]
    fn a_message_may_be_cut_anywhere() {
        for len in [0, 1, 100] {
            let message: Vec<u8> = (0..len).collect();
            let sent = [&prefix_of(&message).unwrap()[..], &message].concat();
            assert_eq!(whole(&sent), Some(&*message));
            for cut in 0..=sent.len() {
                let (a, b) = sent.split_at(cut);
                assert_eq!(assemble(&[a, b]), Ok(Some(message.clone())));
                assert_eq!(assemble(&[a]), Ok((cut == sent.len()).then(|| message.clone())));
            }
            let bytes: Vec<&[u8]> = sent.chunks(1).collect();
            assert_eq!(assemble(&bytes), Ok(Some(message)));
        }
    }

    #[test]
    fn what_is_not_one_message_is_refused() {
        assert_eq!(assemble(&[&prefix(101)]), Err(Code::RESOURCE_EXHAUSTED));
        assert_eq!(assemble(&[&[1, 0, 0, 0, 0]]), Err(Code::UNIMPLEMENTED));
        assert_eq!(assemble(&[&prefix(0), &prefix(0)]), Err(Code::UNIMPLEMENTED));
        assert_eq!(assemble(&[&prefix(1), &[7, 7]]), Err(Code::UNIMPLEMENTED));
        assert_eq!(assemble(&[]), Ok(None));
    }
}
