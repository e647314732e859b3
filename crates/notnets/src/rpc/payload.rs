//! Messages as their bytes.

use std::fmt;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use notnets_memory::{Gather, LoanedBytes};

use super::View;
use crate::message_prefix::MAX_RESERVED;

/// Pieces of a message that are smaller are put together: each takes memory of its own beside its bytes.
const SMALLEST_PIECE: usize = if cfg!(test) { 4 } else { 4096 };

/// One message: its encoded bytes, and whether they are compressed. To be read through [`Buf`], for a large
/// one that was received may be made of several pieces.
///
/// A piece that was received is [`Bytes`], which are clones of it or slices when they are taken out. They
/// hold the memory that they lie in for as long as they live: the peer's, if it is
/// [shared](crate::SharedBytes), or if the peer is [trusted](crate::TrustPeerMemory); else private memory,
/// into which they were copied once. [`into_pieces`](Self::into_pieces) takes them out as they are. A peer's
/// block is the peer's again when the last of them is dropped; so keep a [copy](Bytes::copy_from_slice) of
/// what is to be kept for long.
///
/// ```
/// use bytes::Buf;
/// use notnets::rpc::Payload;
///
/// let mut payload = Payload::from(&b"hello"[..]);
/// assert_eq!(payload.get_u8(), b'h');
/// assert_eq!(payload.into_bytes(), "ello");
/// ```
#[derive(Clone, Default)]
pub struct Payload {
    /// The first piece. It is empty only if all is.
    bytes: Bytes,
    /// Those after it. Boxed, for most messages have none.
    more: Option<Box<Gather>>,
    compressed: bool,
}

/// Adds a piece to the part of a message that has come. With it, `to_come` bytes are still to come.
pub(super) fn add(part: &mut Gather, piece: Bytes, to_come: usize) {
    if piece.len() < SMALLEST_PIECE {
        part.expect(to_come.min(MAX_RESERVED));
        part.put_slice(&piece);
    } else {
        part.push(piece);
    }
}

impl Payload {
    /// A message of no bytes.
    pub const fn new() -> Self {
        Self { bytes: Bytes::new(), more: None, compressed: false }
    }

    /// A message whose bytes are compressed, by the `grpc-encoding` among the metadata.
    pub fn compressed(bytes: impl Into<Bytes>) -> Self {
        Self { bytes: bytes.into(), more: None, compressed: true }
    }

    /// Returns `true` if the bytes are compressed, by the `grpc-encoding` among the metadata. Nothing is
    /// compressed or decompressed here.
    pub fn is_compressed(&self) -> bool {
        self.compressed
    }

    /// How many bytes are left to read.
    pub fn len(&self) -> usize {
        self.bytes.len() + self.more.as_ref().map_or(0, |more| more.len())
    }

    /// Returns `true` if no bytes are left to read.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// All bytes that are left to read, in one piece. They are copied only if there are several.
    #[inline]
    pub fn into_bytes(self) -> Bytes {
        if self.more.is_none() { self.bytes } else { self.join() }
    }

    /// All bytes that are left to read, in the pieces in which they are. Nothing is copied.
    ///
    /// ```
    /// use bytes::Bytes;
    /// use notnets::rpc::Payload;
    ///
    /// let pieces: Vec<Bytes> = Payload::from(&b"hello"[..]).into_pieces().collect();
    /// assert_eq!(pieces, ["hello"]);
    /// ```
    pub fn into_pieces(mut self) -> impl Iterator<Item = Bytes> {
        std::iter::from_fn(move || {
            let piece = std::mem::take(&mut self.bytes);
            self.next_piece();
            (!piece.is_empty()).then_some(piece)
        })
    }

    #[cold]
    fn join(mut self) -> Bytes {
        self.copy_to_bytes(self.len())
    }

    /// The rest of a prefix and the message after the first `sent` bytes of both.
    #[inline]
    pub(super) fn view<'a>(&'a self, prefix: &'a [u8], sent: usize) -> View<'a> {
        match &self.more {
            None => {
                let message = self.bytes.get(sent.saturating_sub(prefix.len())..).unwrap_or_default();
                View::of_two(prefix.get(sent..).unwrap_or_default(), message)
            }
            Some(more) => View::of_pieces([prefix, &self.bytes], more.pieces(), more.tail()).from(sent),
        }
    }

    /// A message that has come in pieces.
    pub(super) fn of_pieces(pieces: Box<Gather>, compressed: bool) -> Self {
        let mut payload = Self { bytes: Bytes::new(), more: Some(pieces), compressed };
        payload.next_piece();
        payload
    }

    pub(super) fn received(bytes: Bytes, compressed: bool) -> Self {
        Self { bytes, more: None, compressed }
    }

    /// Goes on to the next piece, if there is one.
    fn next_piece(&mut self) {
        match self.more.as_mut().and_then(|more| more.pop()) {
            Some(next) => self.bytes = next,
            None => self.more = None,
        }
    }
}

impl Buf for Payload {
    #[inline]
    fn remaining(&self) -> usize {
        self.len()
    }

    fn chunk(&self) -> &[u8] {
        &self.bytes
    }

    #[inline]
    fn advance(&mut self, mut n: usize) {
        while n >= self.bytes.len() && self.more.is_some() {
            n -= self.bytes.len();
            self.bytes.clear();
            self.next_piece();
        }
        self.bytes.advance(n);
    }

    fn copy_to_bytes(&mut self, len: usize) -> Bytes {
        if len < self.bytes.len() || self.more.is_none() {
            return self.bytes.copy_to_bytes(len);
        }
        if len == self.bytes.len() {
            let bytes = std::mem::take(&mut self.bytes);
            self.next_piece();
            return bytes;
        }
        assert!(len <= self.len(), "a payload has fewer bytes");
        let mut copy = BytesMut::with_capacity(len);
        while copy.len() < len {
            let n = self.bytes.len().min(len - copy.len());
            copy.extend_from_slice(&self.bytes[..n]);
            self.advance(n);
        }
        copy.freeze()
    }
}

impl From<Bytes> for Payload {
    fn from(bytes: Bytes) -> Self {
        Self { bytes, more: None, compressed: false }
    }
}

impl From<LoanedBytes> for Payload {
    fn from(loan: LoanedBytes) -> Self {
        loan.freeze().into()
    }
}

impl From<Vec<u8>> for Payload {
    fn from(bytes: Vec<u8>) -> Self {
        Bytes::from(bytes).into()
    }
}

impl From<&'static [u8]> for Payload {
    fn from(bytes: &'static [u8]) -> Self {
        Bytes::from_static(bytes).into()
    }
}

impl From<String> for Payload {
    fn from(text: String) -> Self {
        text.into_bytes().into()
    }
}

impl From<&'static str> for Payload {
    fn from(text: &'static str) -> Self {
        text.as_bytes().into()
    }
}

impl PartialEq<[u8]> for Payload {
    fn eq(&self, other: &[u8]) -> bool {
        let (mut view, mut rest) = (self.view(&[], 0), other);
        while let Some((first, after)) = rest.split_at_checked(view.chunk().len())
            && first == view.chunk()
            && view.has_remaining()
        {
            view.advance(first.len());
            rest = after;
        }
        rest.is_empty() && !view.has_remaining()
    }
}

impl fmt::Debug for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Payload").field("len", &self.len()).field("compressed", &self.compressed).finish()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn payload(pieces: &[Vec<u8>]) -> Payload {
        let mut all = Box::<Gather>::default();
        let len: usize = pieces.iter().map(Vec::len).sum();
        for piece in pieces {
            let to_come = len - all.len();
            add(&mut all, piece.clone().into(), to_come);
        }
        Payload::of_pieces(all, false)
    }

    proptest! {
        /// Whatever the pieces are, they are read as one.
        #[test]
        fn pieces_are_read_as_one(
            pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..9), 0..6),
            reads in prop::collection::vec((any::<bool>(), 0usize..9), 0..20),
        ) {
            let whole = pieces.concat();
            let (mut payload, mut rest) = (payload(&pieces), &whole[..]);
            prop_assert!(payload == whole[..] && payload != [&whole[..], b"x"].concat()[..]);
            prop_assert!(whole.is_empty() || payload != whole[1..]);
            for (as_bytes, n) in reads {
                prop_assert_eq!((payload.len(), payload.is_empty()), (rest.len(), rest.is_empty()));
                prop_assert_eq!(payload.chunk().is_empty(), rest.is_empty());
                let (read, after) = rest.split_at(n.min(rest.len()));
                rest = after;
                if as_bytes {
                    prop_assert_eq!(payload.copy_to_bytes(read.len()), read);
                } else {
                    let mut copy = vec![0; read.len()];
                    payload.copy_to_slice(&mut copy);
                    prop_assert_eq!(copy, read);
                }
            }
            prop_assert_eq!(payload.clone().into_pieces().collect::<Vec<_>>().concat(), rest);
            prop_assert_eq!(payload.into_bytes(), rest);
        }
    }
}
