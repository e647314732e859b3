//! Messages as their bytes.

use std::fmt;

use bytes::{Buf, Bytes};

/// One message: its encoded bytes, and whether they are compressed. To be read through [`Buf`], for it may be
/// made of several pieces; today it is always of one, in private memory.
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
    bytes: Bytes,
    compressed: bool,
}

impl Payload {
    /// A message of no bytes.
    pub const fn new() -> Self {
        Self { bytes: Bytes::new(), compressed: false }
    }

    /// A message whose bytes are compressed, by the `grpc-encoding` among the metadata.
    pub fn compressed(bytes: impl Into<Bytes>) -> Self {
        Self { bytes: bytes.into(), compressed: true }
    }

    /// Returns `true` if the bytes are compressed, by the `grpc-encoding` among the metadata. Nothing is
    /// compressed or decompressed here.
    pub fn is_compressed(&self) -> bool {
        self.compressed
    }

    /// How many bytes are left to read.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Returns `true` if no bytes are left to read.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// All bytes that are left to read, in one piece. They are copied only if there are several.
    pub fn into_bytes(self) -> Bytes {
        self.bytes
    }

    pub(super) fn received(bytes: Bytes, compressed: bool) -> Self {
        Self { bytes, compressed }
    }
}

impl Buf for Payload {
    fn remaining(&self) -> usize {
        self.bytes.len()
    }

    fn chunk(&self) -> &[u8] {
        &self.bytes
    }

    fn advance(&mut self, n: usize) {
        self.bytes.advance(n);
    }

    fn copy_to_bytes(&mut self, len: usize) -> Bytes {
        self.bytes.copy_to_bytes(len)
    }
}

impl From<Bytes> for Payload {
    fn from(bytes: Bytes) -> Self {
        Self { bytes, compressed: false }
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
        self.bytes == other
    }
}

impl fmt::Debug for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Payload").field("len", &self.len()).field("compressed", &self.compressed).finish()
    }
}
