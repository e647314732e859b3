//! Encoded messages as pieces: what is large is not copied when a message is encoded.

use std::mem;

use bytes::buf::UninitSlice;
use bytes::{Buf, BufMut, Bytes, BytesMut};

/// Fields that are smaller are copied: a piece of their own costs more.
const SMALLEST_PIECE: usize = 16 << 10;

/// Room for as many bytes is made before it is known that most of the message will be copied.
const SMALL_TAIL: usize = 1 << 10;

/// Takes encoded messages. A large [`Bytes`] becomes a piece of its own, as it is; all else is copied.
///
/// ```
/// use bytes::{BufMut, Bytes};
/// use notnets_memory::Gather;
///
/// let picture = Bytes::from(vec![7; 1 << 20]);
/// let mut gather = Gather::default();
/// gather.put_u8(1);
/// gather.put(picture.clone());
/// assert_eq!(gather.pieces()[1].as_ptr(), picture.as_ptr());
/// ```
#[derive(Clone, Debug, Default)]
pub struct Gather {
    /// Those before `next` have been read.
    pieces: Vec<Bytes>,
    next: usize,
    /// Bytes behind them that were copied.
    tail: BytesMut,
    /// Bytes of the pieces that are left.
    in_pieces: usize,
    /// Bytes that are still expected.
    expected: usize,
}

impl Gather {
    /// Expects so many bytes more: room for those that are copied is made at once.
    pub fn expect(&mut self, bytes: usize) {
        self.expected = bytes;
    }

    /// The pieces, before the bytes of the [`tail`](Self::tail).
    pub fn pieces(&self) -> &[Bytes] {
        &self.pieces[self.next..]
    }

    /// The bytes behind the last large piece.
    pub fn tail(&self) -> &[u8] {
        &self.tail
    }

    /// Bytes of all together.
    pub fn len(&self) -> usize {
        self.in_pieces + self.tail.len()
    }

    /// Returns `true` if there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Adds a piece as it is, whatever its size.
    pub fn push(&mut self, piece: Bytes) {
        if !self.tail.is_empty() {
            let before = mem::take(&mut self.tail).freeze();
            self.in_pieces += before.len();
            self.pieces.push(before);
        }
        self.in_pieces += piece.len();
        self.pieces.push(piece);
    }

    /// Takes the next piece, or the bytes behind the last of them.
    pub fn pop(&mut self) -> Option<Bytes> {
        let Some(piece) = self.pieces.get_mut(self.next).map(mem::take) else {
            self.pieces.clear();
            self.next = 0;
            return (!self.tail.is_empty()).then(|| mem::take(&mut self.tail).freeze());
        };
        self.next += 1;
        self.in_pieces -= piece.len();
        Some(piece)
    }

    fn make_room(&mut self, bytes: usize) {
        let all = self.tail.len() + bytes;
        if self.tail.capacity() < all {
            // A few bytes may well stand before a large piece.
            let wanted = if all < SMALL_TAIL { SMALL_TAIL.min(self.expected) } else { self.expected };
            self.tail.reserve(bytes.max(wanted));
        }
    }

    fn count(&mut self, bytes: usize) {
        self.expected = self.expected.saturating_sub(bytes);
    }
}

// SAFETY: the bytes that are written are those of a `BytesMut`, to which this only delegates.
unsafe impl BufMut for Gather {
    fn remaining_mut(&self) -> usize {
        self.tail.remaining_mut()
    }

    unsafe fn advance_mut(&mut self, n: usize) {
        // SAFETY: the caller has initialised them in what `chunk_mut` returned, which is the tail's.
        unsafe { self.tail.advance_mut(n) };
        self.count(n);
    }

    fn chunk_mut(&mut self) -> &mut UninitSlice {
        self.make_room(1);
        self.tail.chunk_mut()
    }

    fn put<T: Buf>(&mut self, mut from: T) {
        while from.has_remaining() {
            let n = from.chunk().len();
            if n >= SMALLEST_PIECE {
                // Of a `Bytes` that is no copy.
                let piece = from.copy_to_bytes(n);
                self.push(piece);
                self.count(n);
            } else {
                self.put_slice(from.chunk());
                from.advance(n);
            }
        }
    }

    fn put_slice(&mut self, from: &[u8]) {
        self.make_room(from.len());
        self.tail.extend_from_slice(from);
        self.count(from.len());
    }
}

impl Buf for Gather {
    fn remaining(&self) -> usize {
        self.len()
    }

    fn copy_to_bytes(&mut self, len: usize) -> Bytes {
        let is_whole =
            self.pieces().first().is_none_or(|first| first.len() == len) && self.chunk().len() == len;
        if is_whole && len > 0 {
            return self.pop().unwrap_or_default();
        }
        let mut copy = BytesMut::with_capacity(len);
        copy.put(self.take(len));
        copy.freeze()
    }

    fn chunk(&self) -> &[u8] {
        self.pieces().first().map_or(&*self.tail, |piece| piece)
    }

    fn chunks_vectored<'a>(&'a self, into: &mut [std::io::IoSlice<'a>]) -> usize {
        let tail = (!self.tail.is_empty()).then_some(&*self.tail);
        let slices = self.pieces().iter().map(|piece| &**piece).chain(tail);
        let filled = into.iter_mut().zip(slices).map(|(into, slice)| *into = std::io::IoSlice::new(slice));
        filled.count()
    }

    fn advance(&mut self, mut n: usize) {
        while let Some(piece) = self.pieces.get_mut(self.next) {
            let taken = n.min(piece.len());
            piece.advance(taken);
            self.in_pieces -= taken;
            n -= taken;
            if !piece.is_empty() {
                return;
            }
            // Nothing is kept that was read.
            *piece = Bytes::new();
            self.next += 1;
        }
        self.pieces.clear();
        self.next = 0;
        self.tail.advance(n);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// However bytes are put in and taken out, they stay in order.
        #[test]
        fn is_a_queue_of_bytes(steps in prop::collection::vec((0u8..4, 0usize..3 * SMALLEST_PIECE), 0..20)) {
            let (mut gather, mut model, mut value) = (Gather::default(), Vec::new(), 0);
            for (step, n) in steps {
                value += 1;
                match step {
                    0 => gather.put_slice(&vec![value; n % 100]),
                    1 => gather.put(Bytes::from(vec![value; n])),
                    2 => gather.put(&vec![value; n][..]),
                    _ => {
                        let n = n.min(model.len());
                        gather.advance(n);
                        model.drain(..n);
                    }
                }
                if step < 3 {
                    let n = if step == 0 { n % 100 } else { n };
                    model.extend(std::iter::repeat_n(value, n));
                }
                prop_assert_eq!((gather.len(), gather.has_remaining()), (model.len(), !model.is_empty()));
                prop_assert_eq!([gather.pieces().concat(), gather.tail().to_vec()].concat(), &model[..]);
                let mut slices = [std::io::IoSlice::new(&[]); 64];
                let count = gather.chunks_vectored(&mut slices);
                let seen: Vec<u8> = slices[..count].iter().flat_map(|slice| slice.to_vec()).collect();
                prop_assert_eq!(&seen, &model);
            }
            prop_assert_eq!(gather.copy_to_bytes(model.len()), model);
        }
    }

    #[test]
    fn only_what_is_large_stays_where_it_is() {
        let (large, small) = (Bytes::from(vec![1; SMALLEST_PIECE]), Bytes::from(vec![2; SMALLEST_PIECE - 1]));
        let mut gather = Gather::default();
        gather.put(small);
        gather.put(large.clone());
        assert_eq!(gather.pieces().len(), 2);
        assert_eq!(gather.pieces()[1].as_ptr(), large.as_ptr());
    }
}
