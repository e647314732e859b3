//! The data that a stream has received and the application has not taken.

use std::collections::VecDeque;

use bytes::Bytes;

use crate::frame::{INLINE, PREFIX, prefix};
use crate::limits::charge;

/// Data in the order they came. Most streams never hold more than one piece of them: that one needs no
/// allocation, and if it is a message that came in a descriptor, it stays as small as it came until it is
/// taken.
#[derive(Debug, Default)]
pub(super) struct Queue {
    small: Option<Small>,
    first: Option<Piece>,
    /// `None` for most: there is nothing to drop then.
    rest: Option<VecDeque<Piece>>,
    /// The small message, without its prefix. It is never moved.
    bytes: Words,
}

/// Data that came in one frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Piece {
    pub bytes: Bytes,
    /// What it took of the peer's credit.
    pub cost: u64,
}

/// Where it is in the queue's own bytes.
#[derive(Clone, Copy, Debug)]
struct Small {
    from: u8,
    to: u8,
}

/// Aligned as the words of a descriptor are, so that it is copied in pieces as large as these.
#[derive(Debug, Default)]
#[repr(align(8))]
struct Words([u8; INLINE]);

impl Piece {
    /// Data that were copied out of the peer's memory.
    #[inline]
    pub fn copied(bytes: Bytes) -> Self {
        let cost = charge(bytes.len());
        Self { bytes, cost }
    }

    /// Returns `true` unless the bytes are where the peer has put them.
    pub fn is_copied(&self) -> bool {
        self.cost >= self.bytes.len() as u64
    }
}

impl Queue {
    /// Appends data.
    #[inline]
    pub fn push(&mut self, data: Piece) {
        if self.is_empty() {
            self.first = Some(data);
        } else {
            self.rest.get_or_insert_default().push_back(data);
        }
    }

    /// Appends a whole message without its prefix: what is left of a descriptor's payload behind its head.
    #[inline]
    pub fn push_message(&mut self, payload: &[u8; INLINE], head: usize, len: usize) {
        if self.is_empty() {
            self.bytes.0 = *payload;
            self.small = Some(Small { from: head as u8, to: len as u8 });
        } else {
            self.push(Piece::copied(with_prefix(&payload[head..len], 0).into()));
        }
    }

    /// The next data.
    #[inline]
    pub fn pop(&mut self) -> Option<Piece> {
        if self.first.is_some() {
            return self.first.take();
        }
        if let Some(message) = self.message() {
            let whole = Piece::copied(with_prefix(message, 0).into());
            self.small = None;
            return Some(whole);
        }
        let next = self.rest.as_mut()?.pop_front();
        self.rest.take_if(|rest| rest.is_empty());
        next
    }

    /// The next data, if they are a small message, without its prefix.
    #[inline]
    pub fn message(&self) -> Option<&[u8]> {
        let Small { from, to } = self.small?;
        self.bytes.0.get(from.into()..to.into())
    }

    /// It was taken from where it is.
    #[inline]
    pub fn pop_message(&mut self) {
        self.small = None;
    }

    /// Returns `true` if none of the data is where the peer has put it.
    pub fn is_copied(&self) -> bool {
        self.first.iter().chain(self.rest.iter().flatten()).all(Piece::is_copied)
    }

    pub fn bytes(&self) -> usize {
        let small = self.small.map_or(0, |Small { from, to }| usize::from(to - from) + PREFIX);
        small
            + self
                .first
                .iter()
                .chain(self.rest.iter().flatten())
                .map(|piece| piece.bytes.len())
                .sum::<usize>()
    }

    #[inline]
    pub fn is_empty(&self) -> bool {
        self.small.is_none() && self.first.is_none() && self.rest.is_none()
    }

    #[inline]
    pub fn clear(&mut self) {
        // One by one: a tuple of them would be made and then moved.
        self.small = None;
        self.first = None;
        self.rest = None;
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
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// However data are pushed and taken, they are what a list of bytes with all prefixes would have
        /// been.
        #[test]
        fn is_a_queue(steps in prop::collection::vec((0u8..4, any::<[u8; INLINE]>(), 0..=INLINE, 0..=INLINE), 0..40)) {
            let (mut queue, mut model) = (Queue::default(), VecDeque::new());
            for (step, bytes, a, b) in steps {
                let (head, len) = (a.min(b), a.max(b));
                match step {
                    0 => {
                        queue.push_message(&bytes, head, len);
                        model.push_back(with_prefix(&bytes[head..len], 0));
                    }
                    1 => {
                        queue.push(Piece::copied(Bytes::copy_from_slice(&bytes[..len])));
                        model.push_back(bytes[..len].to_vec());
                    }
                    2 => prop_assert_eq!(queue.pop().map(|piece| piece.bytes), model.pop_front().map(Bytes::from)),
                    _ => {
                        if let Some(message) = queue.message() {
                            let whole = with_prefix(message, 0);
                            queue.pop_message();
                            prop_assert_eq!(Some(whole), model.pop_front());
                        }
                    }
                }
                prop_assert_eq!(queue.is_empty(), model.is_empty());
                prop_assert_eq!(queue.bytes(), model.iter().map(Vec::len).sum::<usize>());
            }
            queue.clear();
            prop_assert!(queue.is_empty() && queue.pop().is_none());
        }
    }
}
