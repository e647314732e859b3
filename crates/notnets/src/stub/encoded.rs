//! A message as its bytes.

use bytes::buf::Chain;
use bytes::{Buf, BufMut, BytesMut};
use notnets_core::frame::{PREFIX, prefix};
use prost::Message;
use tonic::Status;

use crate::rpc::FramedMessage;

/// A message of no more bytes is encoded in place, without an allocation.
const IN_PLACE: usize = 128 - PREFIX;

/// A message's prefix and bytes.
pub(super) enum Encoded {
    Small { bytes: [u8; PREFIX + IN_PLACE], len: u8 },
    Large(Vec<u8>),
}

impl Encoded {
    /// Encodes a message, unless it is longer than this limit of tonic's.
    ///
    /// # Errors
    /// tonic's, for messages that are too long.
    #[inline]
    pub(super) fn new(message: &impl Message, limit: Option<usize>) -> Result<Self, Status> {
        let (len, prefix) = measure(message, limit)?;
        if len <= IN_PLACE {
            let mut bytes = [0; PREFIX + IN_PLACE];
            bytes[..PREFIX].copy_from_slice(&prefix);
            message.encode_raw(&mut &mut bytes[PREFIX..]);
            return Ok(Self::Small { bytes, len: (PREFIX + len) as u8 });
        }
        let mut bytes = Vec::with_capacity(PREFIX + len);
        bytes.extend_from_slice(&prefix);
        message.encode_raw(&mut bytes);
        Ok(Self::Large(bytes))
    }

    fn bytes(&self) -> &[u8] {
        match self {
            Self::Small { bytes, len } => &bytes[..usize::from(*len)],
            Self::Large(bytes) => bytes,
        }
    }
}

impl FramedMessage for Encoded {
    #[inline]
    fn len(&self) -> usize {
        self.bytes().len()
    }

    #[inline]
    fn view(&self, sent: usize) -> Chain<&[u8], &[u8]> {
        let rest = self.bytes().get(sent..).unwrap_or_default();
        rest.chain(&[][..])
    }
}

/// Encodes a message behind others.
///
/// # Errors
/// As [`Encoded::new`].
pub(super) fn append(
    bytes: &mut BytesMut,
    message: &impl Message,
    limit: Option<usize>,
) -> Result<(), Status> {
    let (len, prefix) = measure(message, limit)?;
    bytes.reserve(PREFIX + len);
    bytes.put_slice(&prefix);
    message.encode_raw(bytes);
    Ok(())
}

/// Returns a message's length and prefix.
#[inline]
fn measure(message: &impl Message, limit: Option<usize>) -> Result<(usize, [u8; PREFIX]), Status> {
    let len = message.encoded_len();
    match u32::try_from(len) {
        Ok(short) if limit.is_none_or(|limit| len <= limit) => Ok((len, prefix(short))),
        _ => Err(too_long(len, limit)),
    }
}

#[cold]
fn too_long(len: usize, limit: Option<usize>) -> Status {
    match limit.filter(|limit| len > *limit) {
        Some(limit) => Status::out_of_range(format!(
            "Error, encoded message length too large: found {len} bytes, the limit is: {limit} bytes"
        )),
        None => Status::resource_exhausted(format!(
            "Cannot return body with more than 4GB of data but got {len} bytes"
        )),
    }
}
