//! A message as its bytes.

use bytes::BufMut;
use notnets_core::frame::{PREFIX, prefix};
use notnets_memory::Gather;
use prost::Message;
use tonic::Status;

use crate::rpc::{FramedMessage, View};

/// A message of no more bytes is encoded in place, without an allocation.
const IN_PLACE: usize = 128 - PREFIX;

/// Fields of longer messages may be large: those that are [`bytes::Bytes`] are sent from where they are.
const IN_PIECES: usize = 16 << 10;

/// A message's prefix and bytes.
pub(super) enum Encoded {
    Small {
        bytes: [u8; PREFIX + IN_PLACE],
        len: u8,
    },
    Large(Vec<u8>),
    /// Boxed, for an answer is moved about with its future, and most are small.
    Pieces(Box<Gather>),
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
        if len >= IN_PIECES {
            return Ok(Self::pieces(message, len, prefix));
        }
        let mut bytes = Vec::with_capacity(PREFIX + len);
        bytes.extend_from_slice(&prefix);
        message.encode_raw(&mut bytes);
        Ok(Self::Large(bytes))
    }

    #[cold]
    fn pieces(message: &impl Message, len: usize, prefix: [u8; PREFIX]) -> Self {
        let mut gather = Box::<Gather>::default();
        put(&mut gather, message, len, prefix);
        Self::Pieces(gather)
    }
}

impl FramedMessage for Encoded {
    #[inline]
    fn len(&self) -> usize {
        match self {
            Self::Small { len, .. } => usize::from(*len),
            Self::Large(bytes) => bytes.len(),
            Self::Pieces(gather) => gather.len(),
        }
    }

    #[inline]
    fn view(&self, sent: usize) -> View<'_> {
        let bytes = match self {
            Self::Small { bytes, len } => &bytes[..usize::from(*len)],
            Self::Large(bytes) => bytes,
            Self::Pieces(gather) => return view(gather).from(sent),
        };
        View::of_two(bytes.get(sent..).unwrap_or_default(), &[])
    }
}

/// Encodes a message behind others.
///
/// # Errors
/// As [`Encoded::new`].
pub(super) fn append(
    gather: &mut Gather,
    message: &impl Message,
    limit: Option<usize>,
) -> Result<(), Status> {
    let (len, prefix) = measure(message, limit)?;
    put(gather, message, len, prefix);
    Ok(())
}

fn put(gather: &mut Gather, message: &impl Message, len: usize, prefix: [u8; PREFIX]) {
    // A large field is most of a large message.
    gather.expect(if len < IN_PIECES { PREFIX + len } else { PREFIX });
    gather.put_slice(&prefix);
    gather.expect(len);
    message.encode_raw(gather);
}

/// Returns what is in it.
pub(super) fn view(gather: &Gather) -> View<'_> {
    View::of_pieces([&[], &[]], gather.pieces(), gather.tail())
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
