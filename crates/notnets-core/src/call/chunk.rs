//! Data of one frame, as they wait for the application.

use bytes::Bytes;

use crate::frame::{INLINE, PREFIX, prefix};

/// Mostly bytes. A message that came in a descriptor stays as small as it came until somebody wants it.
#[derive(Debug)]
pub(super) enum Chunk {
    /// A whole message without its prefix.
    Message(Small),
    /// Anything.
    Bytes(Bytes),
}

/// A message that is no larger than what a descriptor holds.
#[derive(Debug)]
pub(super) struct Small {
    bytes: [u8; INLINE],
    len: u8,
}

impl Small {
    /// What is left of a descriptor's payload behind its head. Neither is longer than the payload.
    #[inline]
    pub fn new(bytes: &[u8; INLINE], head: usize, len: usize) -> Self {
        let mut message = Self { bytes: *bytes, len: (len - head) as u8 };
        if head > 0 {
            message.bytes.copy_within(head..len, 0);
        }
        message
    }

    /// The message.
    #[inline]
    pub fn as_slice(&self) -> &[u8] {
        &self.bytes[..self.len as usize]
    }
}

impl Chunk {
    /// How many bytes it is, with a prefix.
    #[inline]
    pub fn len(&self) -> usize {
        match self {
            Self::Message(message) => message.len as usize + PREFIX,
            Self::Bytes(bytes) => bytes.len(),
        }
    }
}

impl From<Chunk> for Bytes {
    #[inline]
    fn from(chunk: Chunk) -> Self {
        match chunk {
            Chunk::Message(message) => with_prefix(message.as_slice(), 0).into(),
            Chunk::Bytes(bytes) => bytes,
        }
    }
}

/// Head and message of a frame, as they were before the message's prefix was left out.
#[inline]
pub(super) fn with_prefix(bytes: &[u8], head: usize) -> Vec<u8> {
    let (head, message) = bytes.split_at(head);
    let mut whole = Vec::with_capacity(bytes.len() + PREFIX);
    whole.extend_from_slice(head);
    // It is within the windows, which are numbers of 32 bits.
    whole.extend_from_slice(&prefix(message.len() as u32));
    whole.extend_from_slice(message);
    whole
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_small_message_gets_its_prefix_back() {
        let bytes: [u8; INLINE] = std::array::from_fn(|nth| nth as u8);
        for len in 0..=INLINE {
            for head in 0..=len {
                let small = || Small::new(&bytes, head, len);
                assert_eq!(small().as_slice(), &bytes[head..len]);
                let (chunk, whole) = (Chunk::Message(small()), with_prefix(&bytes[..len], head));
                assert_eq!((chunk.len(), &Bytes::from(chunk)[..]), (whole.len() - head, &whole[head..]));
            }
        }
    }
}
