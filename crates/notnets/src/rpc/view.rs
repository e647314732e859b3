//! What is left to send of a message, piece by piece.

use std::io::IoSlice;

use bytes::{Buf, Bytes};

/// Bytes that are read in this order, and are never empty in front.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct View<'a> {
    first: &'a [u8],
    second: &'a [u8],
    pieces: &'a [Bytes],
    last: &'a [u8],
    /// Bytes of all but the first.
    behind: usize,
}

impl<'a> View<'a> {
    /// Two slices.
    #[inline]
    pub(crate) fn of_two(first: &'a [u8], second: &'a [u8]) -> Self {
        Self { first, second, pieces: &[], last: &[], behind: second.len() }.ready()
    }

    /// Two slices, pieces, and another slice.
    pub(crate) fn of_pieces([first, second]: [&'a [u8]; 2], pieces: &'a [Bytes], last: &'a [u8]) -> Self {
        let in_pieces: usize = pieces.iter().map(Bytes::len).sum();
        Self { first, second, pieces, last, behind: second.len() + in_pieces + last.len() }.ready()
    }

    /// The rest of them after the first `sent` bytes.
    pub(crate) fn from(mut self, sent: usize) -> Self {
        self.advance(sent);
        self
    }

    #[inline]
    fn ready(mut self) -> Self {
        if self.first.is_empty() && self.behind > 0 {
            self.go_on();
        }
        self
    }

    fn go_on(&mut self) {
        while self.first.is_empty() && self.behind > 0 {
            self.first = if !self.second.is_empty() {
                std::mem::take(&mut self.second)
            } else if let Some((piece, pieces)) = self.pieces.split_first() {
                self.pieces = pieces;
                piece
            } else {
                std::mem::take(&mut self.last)
            };
            self.behind -= self.first.len();
        }
    }
}

impl Buf for View<'_> {
    #[inline]
    fn remaining(&self) -> usize {
        self.first.len() + self.behind
    }

    #[inline]
    fn chunk(&self) -> &[u8] {
        self.first
    }

    fn chunks_vectored<'b>(&'b self, into: &mut [IoSlice<'b>]) -> usize {
        let pieces = self.pieces.iter().map(|piece| &**piece);
        let slices = [self.first, self.second].into_iter().chain(pieces).chain([self.last]);
        let slices = slices.filter(|slice| !slice.is_empty());
        into.iter_mut().zip(slices).map(|(into, slice)| *into = IoSlice::new(slice)).count()
    }

    #[inline]
    fn advance(&mut self, mut n: usize) {
        while n >= self.first.len() && self.behind > 0 {
            n -= self.first.len();
            self.first = &[];
            self.go_on();
        }
        self.first = &self.first[n..];
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Whatever the parts are, they are read as one.
        #[test]
        fn parts_are_read_as_one(
            slices in prop::array::uniform3(prop::collection::vec(any::<u8>(), 0..5)),
            pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..5), 0..4),
            reads in prop::collection::vec(0usize..6, 0..9),
        ) {
            let pieces: Vec<Bytes> = pieces.into_iter().map(Bytes::from).collect();
            let [a, b, c] = &slices;
            let views = [
                (View::of_two(a, b), [&a[..], b].concat()),
                (View::of_pieces([a, b], &pieces, c), [a, b, &pieces.concat()[..], c].concat()),
            ];
            for (mut view, whole) in views {
                let mut rest = &whole[..];
                for n in &reads {
                    prop_assert_eq!(view.remaining(), rest.len());
                    prop_assert_eq!(view.chunk().is_empty(), rest.is_empty());
                    let mut into = [IoSlice::new(&[]); 16];
                    let count = view.chunks_vectored(&mut into);
                    let seen: Vec<u8> = into[..count].iter().flat_map(|slice| slice.to_vec()).collect();
                    prop_assert_eq!(seen, rest);
                    let sent = whole.len() - rest.len();
                    let n = (*n).min(rest.len());
                    view.advance(n);
                    rest = &rest[n..];
                    prop_assert_eq!(view.remaining(), whole.len() - sent - n);
                }
            }
        }
    }
}
