//! Bytes that are published once and read by many processes in place.

use std::fmt;
use std::ops::Deref;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use bytes::Bytes;
use notnets_memory::Sealed;
use notnets_memory::sealed::quota;

use crate::Error;
use crate::error::Cause;

/// Bytes that are sent without being copied, as often as you like and to any number of peers.
///
/// They lie in memory of their own that the kernel keeps everybody from changing, also the process that made
/// them (a memfd with all seals). So a peer can read them in place, in safe code and without trust. A peer is
/// given that memory once; from then on a message with these bytes takes as long as a message of a few bytes,
/// however many there are. For what is sent again and again, or passed on: catalogues, pictures, tensors,
/// weights.
///
/// As [`Bytes`], all of them or a [slice](Bytes::slice), they can be a field of any message whose type has
/// `bytes` fields of `Bytes` (`prost_build::Config::bytes(["."])`), and the message of a
/// [`rpc`](crate::rpc) call. What is received in this way is such `Bytes` as well: put into another message
/// it goes on by reference, to any peer.
///
/// It works where stubs of `notnets-build`, the blocking API or [`rpc`](crate::rpc) send the message. tonic's
/// own stubs copy what they send. Data below 16 KiB, and what is beyond a peer's limit
/// ([`max_shared_bytes`](crate::Endpoint::max_shared_bytes), 256 at a time) are copied as always: the peer
/// sees no difference.
///
/// No kernel seals the region of a pod. There they are put into the region when they are sent for the first
/// time, and peers on other hosts read them there if they
/// [trust](crate::Endpoint::trust_peer_memory) whoever can write it; else they get copies. So do they of what
/// is longer than an extent of the region, and while the region has no room for it.
///
/// Each takes a file descriptor and a mapping, on either side, for as long as anything refers to it: share
/// few large ones, and slices of them, rather than many small ones.
///
/// ```
/// use bytes::Bytes;
/// use notnets::SharedBytes;
///
/// let pictures: Bytes = SharedBytes::copy_from(&[7; 1 << 20])?.into();
/// let one = pictures.slice(100_000..200_000); // a field of a message
/// assert!(SharedBytes::holds(&one));
/// assert!(!SharedBytes::holds(&Bytes::from(vec![7; 1 << 20])));
/// # Ok::<(), notnets::Error>(())
/// ```
#[derive(Clone)]
pub struct SharedBytes(Sealed);

impl SharedBytes {
    /// Shares a copy of these bytes.
    ///
    /// # Errors
    /// When there are none of them, or no memory or file descriptor for them.
    pub fn copy_from(bytes: &[u8]) -> Result<Self, Error> {
        Ok(Self(Sealed::copy_of(bytes).map_err(Cause::from)?))
    }

    /// Shares `len` bytes that `fill` writes: it gets zeroes. For what is made, read or decoded in place.
    ///
    /// ```
    /// use std::io::Read;
    /// use notnets::SharedBytes;
    ///
    /// let mut file: &[u8] = b"as if it were a file";
    /// let mut read = Ok(());
    /// let shared = SharedBytes::build(file.len(), |bytes| read = file.read_exact(bytes))?;
    /// read?;
    /// assert_eq!(&*shared, b"as if it were a file");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// When `len` is 0, or there is no memory or file descriptor for them.
    pub fn build(len: usize, fill: impl FnOnce(&mut [u8])) -> Result<Self, Error> {
        Ok(Self(Sealed::filled_by(len, fill).map_err(Cause::from)?))
    }

    /// Shares a memfd that another library or process has filled and sealed: with `F_SEAL_WRITE`,
    /// `F_SEAL_SHRINK`, `F_SEAL_GROW` and `F_SEAL_SEAL`, all of its pages written.
    ///
    /// # Errors
    /// When it is not such a file, or can't be mapped.
    pub fn from_memfd(file: OwnedFd) -> Result<Self, Error> {
        Ok(Self(Sealed::from_descriptor(file).map_err(Cause::from)?))
    }

    /// Sets how many bytes of its peers' shared memory this process reads in place at a time, over all of its
    /// links. What is beyond is copied. 16 GiB unless set; each link has a limit of its own
    /// ([`max_shared_bytes`](crate::Endpoint::max_shared_bytes)).
    pub fn limit_received(bytes: u64) {
        quota::set_limit(bytes);
    }

    /// How many bytes count against [that limit](Self::limit_received) at the moment.
    pub fn received() -> u64 {
        quota::held()
    }

    /// Returns `true` if these bytes are all in memory that is shared, made here or received: they are sent
    /// by reference if there are enough of them.
    pub fn holds(bytes: &[u8]) -> bool {
        Sealed::find(bytes).is_some()
    }
}

/// Returns `true` if a piece of a message is shared.
#[cfg(any(feature = "blocking", feature = "client", feature = "server"))]
pub(crate) fn has_shared(message: &notnets_memory::Gather) -> bool {
    message.pieces().iter().any(|piece| SharedBytes::holds(piece))
}

impl Deref for SharedBytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.0.as_slice()
    }
}

impl AsRef<[u8]> for SharedBytes {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl From<SharedBytes> for Bytes {
    fn from(shared: SharedBytes) -> Self {
        Self::from_owner(shared.0)
    }
}

impl AsFd for SharedBytes {
    /// The memfd, for other means of passing it on.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.descriptor().expect("it is made of a file")
    }
}

impl fmt::Debug for SharedBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedBytes").field("len", &self.len()).finish()
    }
}
