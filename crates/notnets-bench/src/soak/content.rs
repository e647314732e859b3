//! What calls carry: bytes that follow from the call's id, so that any other call's are noticed.

use std::collections::VecDeque;

use bytes::Bytes;
use notnets::SharedBytes;
use notnets_cli_common::random::Random;

/// The head of each message: the call's id, the message's number, how many answers are asked for, their size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// Of the call: no other has it.
    pub id: u64,
    /// Of the message in its direction.
    pub number: u64,
    /// The answers that a stream has.
    pub answers: u64,
    /// The bytes of each of them after the head.
    pub size: u64,
}

/// Random bytes of a message: they are repeated.
const BLOCK: usize = 2040;

/// Bytes of a head.
const HEAD: usize = 32;

/// A message with that head and `size` bytes that follow from it.
pub fn message(head: Head, size: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HEAD + size);
    for word in [head.id, head.number, head.answers, head.size] {
        bytes.extend(word.to_le_bytes());
    }
    let mut random = Random::new(head.id ^ head.number << 32);
    let words = size.min(BLOCK).div_ceil(8);
    let block: Vec<u8> = (0..words).flat_map(|_| random.bits().to_le_bytes()).collect();
    while bytes.len() < HEAD + size {
        // Blocks of one message differ in their first word: a debug build makes random words slowly.
        bytes.extend(random.bits().to_le_bytes());
        bytes.extend(&block);
    }
    bytes.truncate(HEAD + size);
    bytes
}

/// The head of a message whose bytes follow from it.
///
/// # Errors
/// When they don't, with what is wrong.
pub fn check(bytes: &[u8]) -> Result<Head, String> {
    let word =
        |at: usize| bytes.get(at..at + 8).map(|word| u64::from_le_bytes(word.try_into().expect("8 bytes")));
    let [Some(id), Some(number), Some(answers), Some(size)] = [word(0), word(8), word(16), word(24)] else {
        return Err(format!("a message of {} bytes has no head", bytes.len()));
    };
    let head = Head { id, number, answers, size };
    if bytes == message(head, bytes.len() - HEAD) {
        Ok(head)
    } else {
        Err(format!("the {} bytes of {head:?} are not what was sent", bytes.len()))
    }
}

/// A message in memory that peers read in place; in private memory if there is none of it.
pub fn shared(message: Vec<u8>) -> Bytes {
    SharedBytes::copy_from(&message).map_or_else(|_| message.into(), Bytes::from)
}

/// Messages that are kept at once.
const KEPT: usize = 4;

/// Received messages that lie in the memory of other processes, kept for so long that these may be dead.
#[derive(Debug, Default)]
pub struct Kept(VecDeque<(Head, Bytes)>);

impl Kept {
    /// Keeps a message for a while, if it is in shared memory, and looks at the oldest again. Returns `true`
    /// if it is kept.
    ///
    /// # Errors
    /// When the oldest is not what it was.
    pub fn keep(&mut self, head: Head, message: Bytes) -> Result<bool, String> {
        if !SharedBytes::holds(&message) {
            return Ok(false);
        }
        self.0.push_back((head, message));
        if self.0.len() > KEPT
            && let Some((head, message)) = self.0.pop_front()
            && check(&message) != Ok(head)
        {
            return Err(format!("the shared bytes of {head:?} have changed"));
        }
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_change_is_noticed() {
        let head = Head { id: 7, number: 1, answers: 2, size: 3 };
        for size in [0, 1, 7, 8, 1000] {
            let bytes = message(head, size);
            assert_eq!(check(&bytes), Ok(head));
            for at in [0, 9, bytes.len() - 1] {
                // Two fields are for the server only.
                if size > 0 || at < 16 {
                    let mut changed = bytes.clone();
                    changed[at] ^= 1;
                    assert!(check(&changed) != Ok(head), "{at} of {size}");
                }
            }
        }
        assert!(check(&[0; 31]).is_err());
    }

    #[test]
    fn what_is_kept_is_looked_at_again() {
        let head = Head { id: 7, number: 1, answers: 2, size: 3 };
        let mut kept = Kept::default();
        assert_eq!(kept.keep(head, message(head, 50_000).into()), Ok(false), "it is private");
        let wrong = shared(message(Head { id: 8, ..head }, 50_000));
        assert_eq!(kept.keep(head, wrong), Ok(true));
        for _ in 1..KEPT {
            assert_eq!(kept.keep(head, shared(message(head, 50_000))), Ok(true));
        }
        assert!(kept.keep(head, shared(message(head, 50_000))).is_err(), "the oldest is another");
        assert_eq!(kept.keep(head, shared(message(head, 50_000))), Ok(true));
    }
}
