//! Bytes that are written where they are sent from.
//!
//! A message is mostly made in private memory and copied into a block when it is sent. [`LoanedBytes`] are
//! blocks of this side's arena that the application fills itself. What it has written can be changed for as
//! long as it is the only one to refer to it; [frozen](LoanedBytes::freeze) it is [`Bytes`], and sending
//! these takes no copy: the connection knows its loans by their addresses.
//!
//! A block of a loan is used for something else once the peer has released it *and* the last of the `Bytes`
//! is dropped. So a loan is never changed that the peer may read, and never read here when it may be changed.
//!
//! | atomic | pairs with |
//! | --- | --- |
//! | `frozen`: `store(Release)` by its owner | `load(Acquire)` by the connection: the bytes are written |

use std::io;
use std::mem::MaybeUninit;
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;
use std::slice;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::buf::UninitSlice;
use bytes::{BufMut, Bytes};

use crate::Returns;
use crate::mapping::OwnBytes;

/// Bytes that are sent from where they are written: memory of a link, as far as there is some to spare.
///
/// It is used as a `Vec<u8>` is that can't grow: empty at first, filled by [`BufMut`], [`io::Write`] or
/// [`resize`](Self::resize), and read and changed as a slice. What was written becomes [`Bytes`] and can't be
/// changed any more; these are not copied when they are sent over that link for the first time, be it as a
/// message or as a field of one. Over other links, and when they are sent again, they are copied as any
/// others.
///
/// Where the link has no room for it, or there is no link, it is private memory, and is copied.
///
/// ```
/// use bytes::{BufMut, Bytes};
/// use notnets_memory::LoanedBytes;
///
/// let mut loan = LoanedBytes::private(100);
/// loan.put_slice(b"hello");
/// loan[0] = b'j';
/// assert_eq!((loan.len(), loan.capacity()), (5, 100));
/// assert_eq!(Bytes::from(loan), "jello");
/// ```
#[derive(Debug)]
#[must_use = "it is given back when it is dropped"]
pub struct LoanedBytes {
    place: Place,
    capacity: usize,
    /// Bytes that are written.
    len: usize,
}

#[derive(Debug)]
enum Place {
    Private(Box<[MaybeUninit<u8>]>),
    Blocks { bytes: OwnBytes, hold: Hold },
}

/// Keeps a connection from using a loan's blocks for something else.
#[derive(Debug)]
struct Hold {
    /// The address of its first byte, by which the connection knows it.
    start: usize,
    /// Nobody changes the bytes any more.
    frozen: Arc<AtomicBool>,
    returns: Arc<Returns>,
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.returns.end_loan(self.start);
    }
}

/// Bytes that can't be changed any more, in blocks.
struct Frozen {
    bytes: OwnBytes,
    len: usize,
    _hold: Hold,
}

impl AsRef<[u8]> for Frozen {
    fn as_ref(&self) -> &[u8] {
        // SAFETY: so many bytes were written, in memory that stays mapped, and nobody writes them for as long
        // as this lives: it has the only `OwnBytes` of them, and its hold keeps the connection from lending
        // their blocks anew.
        unsafe { slice::from_raw_parts(self.bytes.start().as_ptr(), self.len) }
    }
}

impl LoanedBytes {
    /// Private memory, for want of any of a link's.
    pub fn private(capacity: usize) -> Self {
        let memory = Box::new_uninit_slice(capacity);
        Self { place: Place::Private(memory), capacity, len: 0 }
    }

    /// These bytes of a connection's, which is told by `returns` when nothing refers to them any more.
    pub(crate) fn in_blocks(
        bytes: OwnBytes,
        capacity: usize,
        frozen: Arc<AtomicBool>,
        returns: Arc<Returns>,
    ) -> Self {
        debug_assert!(capacity <= bytes.len());
        let hold = Hold { start: bytes.start().as_ptr() as usize, frozen, returns };
        Self { place: Place::Blocks { bytes, hold }, capacity, len: 0 }
    }

    /// Returns `true` if it is memory of a link, so that it need not be copied.
    pub fn is_in_place(&self) -> bool {
        matches!(self.place, Place::Blocks { .. })
    }

    /// How many bytes there is room for in all.
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// Forgets all bytes behind the first `len`.
    pub fn truncate(&mut self, len: usize) {
        self.len = self.len.min(len);
    }

    /// Makes it so long, with this value in the bytes that are new.
    ///
    /// # Panics
    /// When it has less room.
    pub fn resize(&mut self, len: usize, value: u8) {
        assert!(len <= self.capacity, "a loan of {} bytes does not grow", self.capacity);
        if len > self.len {
            self.put_bytes(value, len - self.len);
        }
        self.len = len;
    }

    /// What was written, which can't be changed any more.
    ///
    /// A child that is forked while these bytes lie in a link's memory does not have them: it must neither
    /// read them nor send them. It may drop them.
    pub fn freeze(self) -> Bytes {
        let Self { place, capacity, len } = self;
        match place {
            _ if len == 0 => Bytes::new(),
            Place::Private(memory) => {
                // SAFETY: of memory that a `Vec` can own, `len` bytes of `capacity` are initialised.
                let written = unsafe { Vec::from_raw_parts(Box::into_raw(memory).cast(), len, capacity) };
                written.into()
            }
            Place::Blocks { bytes, hold } => {
                // Pairs with the load in `Run::find`.
                hold.frozen.store(true, Ordering::Release);
                Bytes::from_owner(Frozen { bytes, len, _hold: hold })
            }
        }
    }

    /// # Panics
    /// In a forked child, where the blocks are not mapped.
    #[inline]
    fn start(&self) -> NonNull<u8> {
        match &self.place {
            Place::Private(memory) => NonNull::from(&**memory).cast(),
            Place::Blocks { bytes, .. } => {
                assert!(!bytes.is_forked_child(), "a loan was made before the process forked");
                bytes.start()
            }
        }
    }

    #[inline]
    fn start_mut(&mut self) -> NonNull<u8> {
        match &mut self.place {
            Place::Private(memory) => NonNull::from(&mut **memory).cast(),
            Place::Blocks { .. } => self.start(),
        }
    }
}

impl Deref for LoanedBytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: so many bytes were written, in memory that only this refers to. Peers only read it.
        unsafe { slice::from_raw_parts(self.start().as_ptr(), self.len) }
    }
}

impl DerefMut for LoanedBytes {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `deref`, and it is borrowed exclusively.
        unsafe { slice::from_raw_parts_mut(self.start_mut().as_ptr(), self.len) }
    }
}

impl From<LoanedBytes> for Bytes {
    fn from(loan: LoanedBytes) -> Self {
        loan.freeze()
    }
}

// SAFETY: `chunk_mut` returns what lies behind the bytes that are written, up to the end of the memory, which
// stays where it is.
unsafe impl BufMut for LoanedBytes {
    fn remaining_mut(&self) -> usize {
        self.capacity - self.len
    }

    unsafe fn advance_mut(&mut self, n: usize) {
        assert!(n <= self.remaining_mut(), "a loan of {} bytes does not grow", self.capacity);
        // The caller has initialised them.
        self.len += n;
    }

    fn chunk_mut(&mut self) -> &mut UninitSlice {
        let (len, left) = (self.len, self.remaining_mut());
        // SAFETY: within the memory, which has `capacity` bytes.
        let start = unsafe { self.start_mut().add(len) };
        // SAFETY: as above; only this refers to it, and it is borrowed exclusively.
        unsafe { UninitSlice::from_raw_parts_mut(start.as_ptr(), left) }
    }
}

impl io::Write for LoanedBytes {
    /// Writes as many bytes as there is room for.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let n = bytes.len().min(self.remaining_mut());
        self.put_slice(&bytes[..n]);
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn it_is_filled_as_a_vector_that_does_not_grow() {
        let mut loan = LoanedBytes::private(8);
        loan.put_slice(b"abc");
        assert_eq!(loan.write(b"defghij").unwrap(), 5);
        assert_eq!(loan.write(b"k").unwrap(), 0);
        assert!(loan.write_all(b"k").is_err());
        loan[7] = b'!';
        assert_eq!((&*loan, loan.remaining_mut()), (&b"abcdefg!"[..], 0));
        loan.truncate(2);
        loan.truncate(5);
        loan.resize(4, b'-');
        assert_eq!(&*loan, b"ab--");
        loan.resize(1, 0);
        assert_eq!(loan.freeze(), "a");
        assert_eq!(LoanedBytes::private(0).freeze(), "");
        assert_eq!(LoanedBytes::private(5).freeze(), "");
    }

    #[test]
    #[should_panic(expected = "does not grow")]
    fn more_than_there_is_room_for_is_a_bug() {
        LoanedBytes::private(3).resize(4, 0);
    }
}
